"""Several chips: the ring by hand and step by step, one chip as ever, what stops scaling, and the command."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.arch import Arch, arch_sha256, load_arch, parse_arch
from h2sim.cli import main
from h2sim.errors import ArchError, H2SimError
from h2sim.facade import simulate
from h2sim.pipeline.chips import AllReduce, all_reduce, check_chips, group_run, stepped_all_reduce
from h2sim.report.keys import KEYS
from h2sim.result import ChipsPoint, Scaling
from h2sim.trace import load_trace
from tests.helpers.look import inference_trace
from tests.helpers.traces import changed, tiny_trace


def linked(link_bytes_per_s=25_000_000_000, hop_cycles=10, energy_pj_per_bit=5.5) -> Arch:
    """h2learn (800 MHz, memories of 160 B a cycle) with other links."""
    links = {
        "link_bytes_per_s": link_bytes_per_s,
        "hop_cycles": hop_cycles,
        "energy_pj_per_bit": energy_pj_per_bit,
    }
    return changed("interconnect", links)


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return load_trace(tiny_trace(tmp_path_factory.mktemp("chips")))


@pytest.fixture(scope="module")
def on_chips(trace):
    """A step of the small trace, and what 40 chips make of its group of 16 sub-batches."""
    return simulate(linked(), trace, chips=40)


def test_a_memory_bound_ring_by_hand():
    # 10 values on 3 chips: chunks of 4 values, 8 B: 1 cycle of a link or of Mem 2
    # reduce-scatter: 2 steps of (read, read, write) and a hop; all-gather: 2 of (read, write) and a hop
    assert all_reduce(linked(), 10, 3) == AllReduce(
        cycles=2 * (3 + 10) + 2 * (2 + 10),
        link_bytes=4 * 3 * 8,
        memory_bytes=(2 * 3 + 2 * 2) * 3 * 8,
        additions=2 * 3 * 4,
    )


def test_a_link_bound_ring_by_hand():
    # 1,000,000 values on 4 chips: chunks of 500,000 B: 16,000 cycles at 31.25 B a cycle; 3 times in Mem 2: 9,375
    assert all_reduce(linked(), 1_000_000, 4).cycles == 6 * (16_000 + 10)
    assert all_reduce(linked(link_bytes_per_s=10**15), 1_000_000, 4).cycles == 3 * (9_375 + 10) + 3 * (6_250 + 10)


def test_one_chip_or_nothing_to_add_needs_no_ring():
    assert all_reduce(linked(), 1000, 1) == all_reduce(linked(), 0, 7) == AllReduce()
    values, counts = stepped_all_reduce(linked(), np.ones((1, 5), np.int64))
    assert values.tolist() == [[1] * 5]
    assert counts == AllReduce()


machines = st.builds(
    lambda link, hop, bandwidth, first: (linked(link, hop), bandwidth, first),
    st.integers(1, 10**13), st.integers(0, 5000), st.integers(10**6, 10**13), st.integers(0, 100),
)  # fmt: skip


def with_memory(arch: Arch, bandwidth: int, first: int) -> Arch:
    data = arch.model_dump()
    data["memory"] = {"bandwidth_bytes_per_s": bandwidth, "first_access_cycles": first}
    return parse_arch(data, "machine")


@settings(max_examples=60)
@given(machines, st.integers(1, 9), st.integers(0, 40), st.booleans(), st.integers(0, 2**31))
def test_the_closed_form_is_the_ring_in_steps_and_every_chip_ends_with_the_sum(machine, chips, values, ideal, seed):
    arch = with_memory(*machine)
    gradients = np.random.default_rng(seed).integers(-(2**40), 2**40, (chips, values))
    sums, counts = stepped_all_reduce(arch, gradients, ideal)
    assert np.array_equal(sums, np.broadcast_to(gradients.sum(axis=0), gradients.shape))
    assert counts == all_reduce(arch, values, chips, ideal)


def test_in_float16_all_chips_still_hold_the_same_bits():
    gradients = np.random.default_rng(0).standard_normal((7, 33)).astype(np.float16)
    sums, _ = stepped_all_reduce(linked(), gradients)
    assert np.array_equal(sums, np.broadcast_to(sums[0], sums.shape))
    assert np.allclose(sums[0], gradients.astype(np.float64).sum(axis=0), atol=0.02)


def test_one_chip_is_what_it_was(trace, on_chips):
    alone = simulate(linked(), trace)
    for scaling in (on_chips.chips.strong, on_chips.chips.weak):
        point = scaling.points[0]
        assert point.cycles == alone.activity.batch_cycles
        assert (point.working_chips, point.all_reduce_cycles, point.idle_chip_cycles, point.link_bytes) == (1, 0, 0, 0)
        assert (point.speedup, point.efficiency, point.link_energy_j) == (1.0, 1.0, 0.0)
    document = on_chips.to_dict()
    del document["chips"]
    assert document == alone.to_dict()


def dealt(sub_batches: int, chips: int) -> list[int]:
    """Sub-batches of each chip, dealt out one by one."""
    return [len(range(chip, sub_batches, chips)) for chip in range(chips)]


@pytest.mark.parametrize("chips", [1, 3, 5, 16, 23])
def test_the_chips_cycles_add_up(on_chips, chips):
    activity, arch = on_chips.activity, linked()
    run = group_run(arch, activity, 1000, chips, 16)
    shares = [share for share in dealt(16, chips) if share]
    end = all_reduce(arch, 1000, len(shares)).cycles + activity.update_cycles
    busy = [activity.first_cycles + (share - 1) * activity.steady_cycles + end for share in shares]
    assert run.cycles == max(busy)
    assert run.idle_chip_cycles == chips * run.cycles - sum(busy)
    assert (run.working, run.sub_batches_per_chip) == (len(shares), shares[0])
    assert run.update_bytes == len(shares) * (2 + 2 + 4) * 1000


def test_without_hops_and_with_links_for_everything_only_sub_batches_stop_scaling(trace):
    result = simulate(linked(10**15, 0), trace, chips=20, ideal_memory=True)
    a = result.activity
    for point in result.chips.strong.points:
        assert point.all_reduce_cycles <= 2 * (point.working_chips - 1)  # a cycle a step: time is whole cycles
        ideal = a.first_cycles + (-(-16 // point.n_chips) - 1) * a.steady_cycles + a.update_cycles
        assert point.cycles - point.all_reduce_cycles == ideal
    for point in result.chips.weak.points:
        assert point.cycles - point.all_reduce_cycles == a.batch_cycles


@settings(max_examples=40)
@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(2, 64), st.integers(1, 10**7))
def test_more_bandwidth_is_never_slower(one, other, chips, values):
    slow, fast = (all_reduce(linked(rate), values, chips) for rate in sorted((one, other)))
    assert fast.cycles <= slow.cycles
    assert (fast.link_bytes, fast.additions) == (slow.link_bytes, slow.additions)


def test_chips_without_work_stay_out_of_the_ring_and_leak(on_chips):
    full, more = (on_chips.chips.strong.points[n - 1] for n in (16, 40))
    assert (full.working_chips, more.working_chips) == (16, 16)
    assert (more.cycles, more.link_bytes, more.offchip_energy_j) == (
        full.cycles,
        full.link_bytes,
        full.offchip_energy_j,
    )
    leakage = on_chips.cost.leakage_w * 24 * full.cycles / on_chips.arch.clock_hz
    assert more.energy_j - full.energy_j == pytest.approx(leakage)
    assert more.idle_chip_cycles - full.idle_chip_cycles == 24 * full.cycles
    assert on_chips.chips.strong.fastest.n_chips <= 16


def test_a_groups_energy_is_its_parts(on_chips):
    table, cost, a = on_chips.energy_table, on_chips.cost, on_chips.activity
    point = on_chips.chips.weak.points[3]
    values = on_chips.chips.gradient_bytes // 2
    ring = all_reduce(linked(), values, 4)
    leakage = sum(c.energy_pj for c in cost.charges if c.action == "cycle")
    work = 64 * (cost.energy_j - 1e-12 * leakage)
    waiting = cost.leakage_w * 4 * point.cycles / 800e6
    assert point.energy_j == pytest.approx(work + waiting + 1e-12 * ring.additions * table.actions.fp16_add.energy_pj)
    moved = ring.memory_bytes + 4 * 4 * 2 * values  # on each chip: w and dw read, w written twice
    assert point.offchip_energy_j == pytest.approx(
        64 * cost.offchip_energy_j + 8e-12 * moved * table.offchip.energy_pj_per_bit
    )
    assert point.link_energy_j == pytest.approx(8e-12 * ring.link_bytes * 5.5)
    assert point.samples == 64 * a.samples


def test_gradients_are_all_weights_and_biases(trace, on_chips):
    kernels, outputs = 4 * 2 * 9 + 6 * 4 * 9 + 10 * 6 * 4 * 4, 4 + 6 + 10
    assert [layer.weight_shape for layer in trace.meta.layers if layer.weight_shape][-1] == (10, 6 * 4 * 4)
    assert on_chips.chips.gradient_bytes == 2 * (kernels + outputs)


def curve(*throughputs: float) -> Scaling:
    points = [
        ChipsPoint(
            n_chips=n,
            working_chips=n,
            sub_batches_per_chip=1,
            samples=1,
            cycles=1,
            all_reduce_cycles=0,
            idle_chip_cycles=0,
            link_bytes=0,
            samples_per_second=rate,
            speedup=rate / throughputs[0],
            efficiency=rate / throughputs[0] / n,
            energy_j=0,
            offchip_energy_j=0,
            link_energy_j=0,
        )
        for n, rate in enumerate(throughputs, start=1)
    ]
    return Scaling(tuple(points), 0.5)


def test_where_it_stops_paying():
    scaling = curve(10, 19, 18, 26, 24, 26)
    assert scaling.fastest.n_chips == 4  # 6 are as fast
    assert scaling.last_worth.n_chips == 4
    assert [point.n_chips for point in scaling.shown] == [1, 2, 4, 6]
    assert curve(10, 9).last_worth.n_chips == curve(10, 9).fastest.n_chips == 1
    # 3 chips are efficient enough, and outrun by 2: not worth it
    assert curve(10, 19, 18).last_worth.n_chips == 2
    assert curve(10, 19, 29, 15).last_worth.n_chips == 3


def test_inference_needs_no_ring(tmp_path):
    result = simulate(linked(), load_trace(inference_trace(tmp_path)), chips=8)
    assert result.chips.gradient_bytes == 0
    assert result.chips.weak.points[-1].efficiency == 1.0
    assert result.chips.strong.points[-1].link_bytes == 0


def test_a_machine_without_links_is_one_machine_as_ever(trace):
    lone = changed("interconnect", None)
    assert arch_sha256(lone) == arch_sha256(load_arch("h2learn")) == arch_sha256(linked())
    assert simulate(lone, trace, chips=1).to_dict()["chips"]["interconnect"] is None
    with pytest.raises(ArchError, match=r"h2learn: interconnect: expected link_bytes_per_s, .*; got none"):
        simulate(lone, trace, chips=2)


@pytest.mark.parametrize("chips", [0, -1, 1025, True, 2.0])
def test_a_number_of_chips_that_cannot_be_is_refused(trace, chips):
    with pytest.raises(H2SimError, match=rf"--chips: number of chips: expected an integer from 1 to 1024; got {chips}"):
        simulate(linked(), trace, chips=chips)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_an_efficiency_that_cannot_be_is_refused(trace, share):
    with pytest.raises(H2SimError, match=rf"--least-efficiency: share: .* at most 1; got {share}"):
        simulate(linked(), trace, chips=2, least_efficiency=share)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("link_bytes_per_s", 0, "expected greater than or equal to 1; got 0"),
        ("link_bytes_per_s", 2.5, "expected a valid integer; got 2.5"),
        ("hop_cycles", -1, "expected greater than or equal to 0; got -1"),
        ("energy_pj_per_bit", -1.0, "expected greater than or equal to 0; got -1.0"),
        ("energy_pj_per_bit", float("nan"), "expected a finite number; got nan"),
        ("hop_cycle", 3, "unknown field; did you mean 'hop_cycles'?"),
    ],
)
def test_wrong_links_are_named(field, value, message):
    with pytest.raises(ArchError, match="^" + re.escape(f"changed: interconnect.{field}: {message}") + "$"):
        changed(f"interconnect.{field}", value)


def run(*arguments):
    return CliRunner().invoke(main, ["run", "h2learn", *map(str, arguments)])


def test_the_command_prints_both_tables_and_where_it_stops_paying(trace):
    done = run(trace.path, "--chips", 6, "--least-efficiency", "0.9")
    assert done.exit_code == 0, done.output
    for text in (
        "ring all-reduce of 0.003 MB",
        "25 GB/s each way, 1,440 cycles a hop, 5.5 pJ/bit",
        "Strong scaling",
        "Weak scaling",
        "highest throughput:",
        "efficiency of at least 90%: up to",
    ):
        assert text in done.stdout
    chips = [line.split()[0] for line in done.stdout.splitlines() if line[:5].strip().isdecimal()]
    assert chips == ["1", "2", "4", "6"] * 2


def test_the_document_has_chips_only_where_asked_and_every_key_is_explained(trace):
    plain, several = (json.loads(run(trace.path, "--json", "-", *x).stdout) for x in ((), ("--chips", 3)))
    chips = several.pop("chips")
    command = plain.pop("provenance")["command"]
    assert several.pop("provenance")["command"] == f"{command} --chips 3"
    assert several == plain
    assert [point["n_chips"] for point in chips["strong"]["points"]] == [1, 2, 3]
    assert chips["interconnect"] == load_arch("h2learn").interconnect.model_dump()
    names = {"chips", *chips, *chips["interconnect"], *chips["weak"], *chips["weak"]["points"][0]}
    assert names <= set(KEYS)


def test_the_picture_is_drawn_twice_with_the_same_bytes(trace, tmp_path):
    pictures = []
    for name in ("a", "b"):
        assert run(trace.path, "--chips", 5, "--plots", tmp_path / name).exit_code == 0
        pictures.append((tmp_path / name / "scaling.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--chips", "0"], "h2sim: --chips: number of chips: expected an integer from 1 to 1024; got 0"),
        (["--chips", "1025"], "h2sim: --chips: number of chips: expected an integer from 1 to 1024; got 1025"),
        (
            ["--chips", "2", "--least-efficiency", "2"],
            "h2sim: --least-efficiency: share: expected a number above 0 and at most 1; got 2.0",
        ),
        (["--least-efficiency", "0.5"], "Error: --least-efficiency needs --chips"),
        (["--chips", "many"], "Error: Invalid value for '--chips': 'many' is not a valid integer."),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(trace, arguments, line):
    done = run(trace.path, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == line


def test_a_link_takes_a_whole_cycle_for_the_bytes_that_are_left():
    # 34 values on 2 chips: chunks of 34 B; 31.25 B a cycle: 2 cycles, not 1; Mem 2: 1 cycle, 3 and 2 times
    assert all_reduce(linked(hop_cycles=0), 34, 2).cycles == 3 + 2
    # 8 B a cycle: 34 B take 5 cycles, more than Mem 2
    assert all_reduce(linked(link_bytes_per_s=6_400_000_000, hop_cycles=0), 34, 2).cycles == 2 * 5


def test_the_number_of_chips_is_checked_before_anything_is_simulated():
    lone = changed("interconnect", None)
    check_chips(lone, 1)
    check_chips(linked(), 1024)  # the most there can be
    for chips in (2, 3):
        with pytest.raises(ArchError, match=r"^h2learn: interconnect: expected .* for several chips; got none$"):
            check_chips(lone, chips)
