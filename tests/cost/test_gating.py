"""Power gating: what leaks when, against a plain count of every cycle; and never more with more of it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.activity import ENGINES, NO_ACTIONS, Activity, BufferTraffic, LayerActivity, MemorySlice, Stalls
from h2sim.arch import arch_sha256, parse_arch
from h2sim.compare.ratios import measurement_of
from h2sim.compare.stored import stored
from h2sim.energy import area, price
from h2sim.energy.gating import cycles_within, leaking_spans, united
from h2sim.energy.sram import price_buffers
from h2sim.errors import ArchError
from h2sim.pipeline.step import record_step
from tests.helpers.traces import tiny_trace

ARCH, TABLE = h2sim.load_arch("h2learn"), h2sim.load_energy_table("28nm")
GATINGS = ("none", "engine", "buffer")
ALL = tuple(ARCH.with_({"power_gating": gating}) for gating in GATINGS)
BUFFERS = {engine: tuple(price_buffers(ARCH, engine, TABLE)) for engine in ENGINES}


def row(name, start, end, dependency=0, engine="forward", buffers=()) -> LayerActivity:
    return LayerActivity(
        layer=name,
        phase=engine,
        engine=engine,
        start_cycle=start,
        end_cycle=end,
        compute_cycles=end - start - dependency,
        fill_cycles=0,
        stalls=Stalls(dependency=dependency),
        pe_array=NO_ACTIONS,
        acc=NO_ACTIONS,
        neuron=NO_ACTIONS,
        buffers=tuple(BufferTraffic(name, 0, 8 * (name in buffers)) for name in BUFFERS[engine]),
        offchip_read_bytes=0,
        offchip_write_bytes=0,
        useful_operations=1,
        peak_operations=1,
    )


def moved(name, start, end, phase="forward") -> MemorySlice:
    return MemorySlice(memory="Mem 0", layer=name, phase=phase, start_cycle=start, end_cycle=end, busy_cycles=1)


def step(rows, slices, cycles) -> Activity:
    return Activity(
        layers=tuple(rows),
        memory=tuple(slices),
        first_cycles=cycles,
        steady_cycles=cycles,
        batch_cycles=cycles,
        update_cycles=0,
        sub_batches=1,
        samples=1,
    )


def leaked(activity, arch, engine) -> dict[tuple[int, str], tuple[int, float]]:
    """(row, action) -> (cycles, pJ of one) of all that leaks."""
    charges = [c for c in price(activity, arch, TABLE).charges if c.group == "leakage" and c.engine == engine]
    return {(c.row, c.action): (c.count, c.unit_pj) for c in charges}


# --- by hand ---------------------------------------------------------------------------------------------------------

# The first job computes to cycle 100 and writes until 130. The second reads from 140 on, waits for others until 150,
# and its results are in memory at 310. So the engine is held in 0 to 130 and in 140 to 310 of 400.
HAND = step(
    [row("a", 0, 100, buffers=("spikes", "output")), row("b", 100, 300, dependency=50, buffers=("weights", "output"))],
    [moved("a", 5, 130), moved("b", 140, 310)],
    400,
)


def test_an_engine_leaks_while_a_job_holds_it():
    pj = area(ARCH, TABLE).leakage_w("forward") * 1e12 / 800e6
    assert leaking_spans(HAND, "forward", "engine") == ((0, 130), (140, 310))
    none, engine, _ = (leaked(HAND, arch, "forward") for arch in ALL)
    assert none == {(0, "cycle"): (100, pj), (1, "cycle"): (200, pj), (-1, "cycle"): (100, pj)}
    assert engine == {(0, "cycle"): (100, pj), (1, "cycle"): (30 + 160, pj), (-1, "cycle"): (10, pj)}
    others = [leaked(HAND, ALL[1], engine) for engine in ("weight_update", "backward")]
    assert [count for found in others for count, _ in found.values()] == [0, 0]


def test_a_buffer_leaks_while_a_job_uses_it():
    found, macros = leaked(HAND, ALL[2], "forward"), price_buffers(ARCH, "forward", TABLE)
    cycles = {"logic": 300, "spikes": 130, "weights": 170, "psum": 0, "output": 300}
    for part, expected in cycles.items():
        mine = {row: charge for (row, action), charge in found.items() if action == f"{part} cycle"}
        assert sum(count for count, _ in mine.values()) == expected
        watts = area(ARCH, TABLE).logic_leakage_w("forward") if part == "logic" else macros[part].leakage_w
        assert {pj for _, pj in mine.values()} == {watts * 1e12 / 800e6}
    assert {row: found[row, "spikes cycle"][0] for row in (0, 1, -1)} == {0: 100, 1: 30, -1: 0}
    assert {row: found[row, "weights cycle"][0] for row in (0, 1, -1)} == {0: 0, 1: 160, -1: 10}


@pytest.mark.parametrize("gating", GATINGS)
def test_engines_that_are_busy_all_the_time_leak_all_the_time(gating):
    rows = [row("a", 0, 70, engine=e, buffers=BUFFERS[e]) for e in ENGINES]
    rows += [row("b", 70, 100, engine=e, buffers=BUFFERS[e]) for e in ENGINES]
    full, found = (price(step(rows, (), 100), arch, TABLE) for arch in (ARCH, ARCH.with_({"power_gating": gating})))
    assert found.idle_leakage_pj == 0
    assert found.energy_j == pytest.approx(full.energy_j, rel=1e-12)
    assert found.leakage_j == pytest.approx(found.leakage_w * 100 / 800e6, rel=1e-12)


# --- every step ------------------------------------------------------------------------------------------------------

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@given(spans, st.integers(0, 60), st.integers(0, 60))
def test_united_spans_hold_the_cycles_of_all_each_once(drawn, start, end):
    cycles = np.zeros(60, bool)
    for first, last in drawn:
        cycles[first:last] = True
    found = united(drawn)
    assert all(a < b < c < d for (a, b), (c, d) in pairwise(found))
    assert sum(b - a for a, b in found) == cycles.sum()
    assert cycles_within(found, start, end) == cycles[start:end].sum()


@st.composite
def steps(draw) -> Activity:
    """Jobs of all engines one after another, some waiting, with transfers before, within and after them."""
    rows, slices = [], []
    for engine in ENGINES:
        now = 0
        for number in range(draw(st.integers(0, 4))):
            held, waited = draw(st.integers(0, 30)), draw(st.integers(0, 9))
            used = draw(st.lists(st.sampled_from(BUFFERS[engine]), unique=True))
            rows.append(row(f"l{number}", now, now + waited + held, waited, engine, used))
            if draw(st.booleans()):
                begun = max(0, now + waited - draw(st.integers(0, 20)))
                slices.append(moved(f"l{number}", begun, now + waited + held + draw(st.integers(0, 20)), engine))
            now += waited + held
    end = max([0, *(r.end_cycle for r in rows), *(s.end_cycle for s in slices)])
    return step(rows, slices, end + draw(st.integers(0, 9)))


def plain_cycles(activity: Activity, engine: str, buffer: str | None) -> np.ndarray:
    """Cycle by cycle: whether a job holds the engine (and uses the buffer)."""
    on = np.zeros(activity.steady_cycles, bool)
    for layer in activity.layers:
        if layer.engine == engine and (
            buffer is None or any(b.buffer == buffer and b.write_bytes for b in layer.buffers)
        ):
            mine = [s for s in activity.memory if (s.layer, s.phase) == (layer.layer, layer.phase)]
            start, end = layer.start_cycle + layer.stalls.dependency, layer.end_cycle
            on[min([start, *(s.start_cycle for s in mine)]) : max([end, *(s.end_cycle for s in mine)])] = True
    return on


@settings(max_examples=60, deadline=None)
@given(steps())
def test_what_leaks_is_what_a_count_of_every_cycle_gives(activity):
    machine, seconds = area(ARCH, TABLE), 1 / 800e6
    for engine in ENGINES:
        on = plain_cycles(activity, engine, None).sum() * seconds
        parts = [(name, cost.leakage_w) for name, cost in price_buffers(ARCH, engine, TABLE).items()]
        buffers = math.fsum(plain_cycles(activity, engine, name).sum() * seconds * watts for name, watts in parts)
        expected = (
            activity.steady_cycles * seconds * machine.leakage_w(engine),
            on * machine.leakage_w(engine),
            on * machine.logic_leakage_w(engine) + buffers,
        )
        for arch, joules in zip(ALL, expected, strict=True):
            found = price(activity, arch, TABLE).engine_energy_j(engine)["leakage"]
            assert found == pytest.approx(joules, rel=1e-12)
    for index, layer in enumerate(activity.layers):
        on = plain_cycles(activity, layer.engine, None)[layer.start_cycle : layer.end_cycle].sum()
        assert leaked(activity, ALL[1], layer.engine)[index, "cycle"][0] == on


@settings(max_examples=60, deadline=None)
@given(steps())
def test_more_gating_never_leaks_more(activity):
    none, engine, buffer = (price(activity, arch, TABLE) for arch in ALL)
    assert none.leakage_j >= engine.leakage_j >= buffer.leakage_j * (1 - 1e-12)
    for cost in (none, engine, buffer):
        bill = cost.reconcile()
        assert 1e-12 * math.fsum(line.count * line.unit_pj for line in bill) == pytest.approx(cost.energy_j, rel=1e-14)
        assert all(line.count >= 0 for line in bill)


# --- through the simulator -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return h2sim.load_trace(tiny_trace(tmp_path_factory.mktemp("gating")))


@pytest.fixture(scope="module")
def results(trace):
    return [h2sim.simulate(arch, trace) for arch in ALL]


def test_a_job_holds_its_engine_from_its_first_to_its_last_interval(trace):
    """Against the schedule's own books: all that engines did, but for waiting for others, and all transfers."""
    activity, books = record_step(ARCH, trace)
    work, transfers = books.engine_intervals(), books.memory_intervals()
    for engine in ENGINES:
        expected = []
        for number, job in enumerate(books.jobs):
            mine = (work.job == number) & (work.what > 0), transfers.job == number
            starts = np.concatenate([work.start[mine[0]], transfers.start[mine[1]]])
            ends = np.concatenate([work.end[mine[0]], transfers.end[mine[1]]])
            if job.engine == engine and len(starts):
                expected.append((int(starts.min()), int(ends.max())))
        assert leaking_spans(activity, engine, "engine") == united(expected)
        assert expected


def test_gating_changes_leakage_and_nothing_else(results):
    none, engine, buffer = results
    assert none.activity == engine.activity == buffer.activity
    assert none.cost.leakage_j > engine.cost.leakage_j > buffer.cost.leakage_j > 0
    for found in (engine, buffer):
        assert found.cost.energy_j - found.cost.leakage_j == pytest.approx(none.cost.energy_j - none.cost.leakage_j)
        assert found.cost.area == none.cost.area


def test_documents_reconcile_and_name_their_gating(results):
    for result, gating in zip(results, GATINGS, strict=True):
        document = stored(result.to_dict(), "here")
        assert document.machine().power_gating == gating
        assert document.bill_energy_j == pytest.approx(document.step.energy_j, rel=1e-14)
        rows = [energy for line in document.layers for energy in line.energy_pj.values()]
        idle = result.cost.idle_leakage_pj
        assert 1e-12 * math.fsum([*rows, idle]) == pytest.approx(document.step.energy_j, rel=1e-14)


def test_beyond_the_steady_states_only_what_is_not_gated_leaks(results):
    none, *gated = results
    extra_s = none.activity.batch_cycles / 800e6 - none.activity.sub_batches * none.steady_seconds
    assert extra_s > 0
    steady_j = none.activity.sub_batches * none.cost.energy_j
    found = measurement_of(none.to_dict(), "none")
    assert found.energy_j == pytest.approx(steady_j + none.cost.leakage_w * extra_s)
    for result in gated:
        document = result.to_dict()
        found, n = measurement_of(document, "here"), result.activity.sub_batches
        assert found.energy_j == pytest.approx(n * result.cost.energy_j)
        for part, line in zip(found.parts, document["layers"], strict=True):
            assert part.energy_j == pytest.approx(n * 1e-12 * sum(line["energy_pj"].values()))


def test_chips_that_wait_leak_only_without_gating(trace):
    for arch in ALL:
        points = h2sim.simulate(arch, trace, chips=24).chips.strong.points
        waiting = points[23].energy_j - points[15].energy_j  # from the 17th on, a chip has no sub-batch
        watts = price(record_step(arch, trace)[0], arch, TABLE).leakage_w if arch.power_gating == "none" else 0
        assert waiting == pytest.approx(watts * 8 * points[15].cycles / 800e6, rel=1e-9, abs=1e-15)


def test_engines_that_a_step_does_not_use_stop_leaking():
    none, engine, _ = (price(HAND, arch, TABLE) for arch in ALL)
    for name in ("weight_update", "backward"):
        assert engine.engine_energy_j(name)["leakage"] == 0 < none.engine_energy_j(name)["leakage"]


def test_a_machine_without_gating_is_the_one_before_there_was_any():
    old = {key: value for key, value in ARCH.model_dump(mode="json").items() if key != "power_gating"}
    assert parse_arch(old, "old").power_gating == "none"
    assert len({arch_sha256(arch) for arch in ALL}) == 3
    assert arch_sha256(ARCH) == arch_sha256(ALL[0])
    with pytest.raises(ArchError, match=r"power_gating: expected 'none', 'engine' or 'buffer'; got 'off'$"):
        ARCH.with_({"power_gating": "off"})


def test_rows_that_overlap_share_what_leaks():
    crowded = replace(HAND, layers=(*HAND.layers, replace(HAND.layers[1], layer="c")))
    found = leaked(crowded, ALL[1], "forward")
    pj = area(ARCH, TABLE).leakage_w("forward") * 1e12 / 800e6
    assert sum(count * unit for count, unit in found.values()) == pytest.approx(300 * pj)
