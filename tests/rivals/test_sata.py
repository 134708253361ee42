"""SATA: the specification's examples by hand, the stepped twin, and what must hold of any machine that trains."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.energy import load_energy_table
from h2sim.rivals.registry import run_rival
from h2sim.rivals.sata import RIVAL, jobs, stepped
from h2sim.trace import load_trace, write_trace
from tests.helpers.convs import NAME, conv_trace, drawn, shape_for
from tests.helpers.traces import parts

MACHINE, TABLE = h2sim.load_machine("sata"), load_energy_table("28nm")
PHASES = ("forward", "backward", "weight_update")


def rows(trace, machine=MACHINE, **options):
    """Rows of the layer of interest, by phase."""
    found = run_rival(machine, trace, TABLE, **options).to_rows()
    return {row.phase: row for row in found if row.layer == NAME}


def sized(rows_of_pes, columns):
    """The machine with another array."""
    array = MACHINE.array.model_copy(update={"rows": rows_of_pes, "columns": columns})
    return MACHINE.model_copy(update={"array": array})


def at(shape, *places):
    bits = np.zeros(shape, np.uint8)
    for t, c, y, x in places:
        bits[t, 0, c, y, x] = 1
    return bits


@pytest.fixture
def example(tmp_path):
    """Layer X of the specification."""
    shape = shape_for(2, 1, (2, 5), (3, 3), 3, 1, 1)
    spikes = at((2, 1, 2, 3, 3), (0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 2, 2), (1, 0, 1, 1), (1, 1, 1, 1), (1, 1, 0, 2))
    window = at((2, 1, 2, 3, 3), (0, 0, 0, 1), (0, 1, 1, 1), (1, 1, 2, 1))
    grads = at((2, 1, 5, 3, 3), (0, 0, 0, 0), (0, 3, 1, 1), (1, 4, 2, 2))
    return conv_trace(tmp_path / "x.npz", shape, spikes, window, grads)


def test_the_example_is_counted_as_by_hand(example):
    found = rows(example)
    counts = {name: n for row in found.values() for name, n in row.operations.items()}
    # 4 + 9 + 4 + 9 + 9 + 4 = 39 (spike, tap) pairs x 5 channels; 17 (gradient, tap) pairs x 2 channels
    assert (counts["lif"], counts["pgu"], counts["mac_fwd"], counts["mac_wup"]) == (90, 90, 195, 195)
    assert (counts["mac_bwd"], counts["mac_bwd_dual"], counts["mac_wup_both"]) == (34, 5, 7)


def test_the_example_takes_the_cycles_of_its_folds(example):
    found = rows(example)
    # 2 timesteps x (9 or 45 or 18-in-two-folds elements + 16 + 8 - 2); fill stands apart
    assert [found[phase].cycles.compute for phase in PHASES] == [80, 134, 124]


def test_the_closed_form_holds_where_the_border_is_empty(tmp_path):
    shape = shape_for(1, 1, (3, 5), (8, 8), 3, 1, 1)
    spikes, window, grads = drawn(np.random.default_rng(3), shape, 0.4)
    spikes[..., [0, -1], :] = spikes[..., :, [0, -1]] = 0
    found = rows(conv_trace(tmp_path / "t.npz", shape, spikes, window, grads))
    assert found["forward"].operations["mac_fwd"] == 9 * spikes.sum() * 5 > 0


shapes = st.builds(
    shape_for,
    st.integers(1, 3), st.integers(1, 2), st.tuples(st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(5, 6), st.integers(5, 7)), st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(0, 2),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 5), st.integers(1, 3), st.floats(0, 1), st.integers(0, 1000))
def test_the_fast_count_is_the_stepped_machine(shape, rows_of_pes, columns, density, seed):
    spikes, window, grads = drawn(np.random.default_rng(seed), shape, density)
    with tempfile.TemporaryDirectory() as folder:
        found = rows(conv_trace(Path(folder) / "t.npz", shape, spikes, window, grads), sized(rows_of_pes, columns))
    arrays = {phase: stepped.SteppedArray(rows_of_pes, columns) for phase in PHASES}
    stepped.forward(arrays["forward"], shape, spikes)
    stepped.backward(arrays["backward"], shape, grads, window)
    stepped.weight_update(arrays["weight_update"], shape, spikes, grads)
    events = {phase: array.events for phase, array in arrays.items()}
    assert {phase: found[phase].cycles.compute for phase in PHASES} == {p: a.cycles for p, a in arrays.items()}
    forward, backward, update = (found[phase].operations for phase in PHASES)
    assert (forward["mac_fwd"], forward["lif"]) == (events["forward"]["spike"], events["forward"]["lif"])
    assert backward["mac_bwd_dual"] == events["backward"]["window"]
    assert backward["mac_bwd"] == events["backward"]["window"] + events["backward"]["gradient"]
    assert backward["pgu"] == events["backward"]["pgu"]
    assert update["mac_wup"] == events["weight_update"]["spike"] + events["weight_update"]["both"]
    assert update["mac_wup_both"] == events["weight_update"]["both"]


@pytest.mark.parametrize(("mode", "count"), [("dual", "mac_bwd_dual"), ("input_only", "mac_bwd")])
def test_gradient_products_are_those_of_the_backward_engine(mode, count):
    trace = load_trace("mnist-digits")
    theirs = {(row.layer, row.phase): row for row in run_rival(MACHINE, trace, TABLE).to_rows()}
    arch = h2sim.load_arch("h2learn")
    ours = h2sim.simulate(arch, trace, TABLE, mode=mode).activity.layers
    pairs = [
        (row.pe_array.fp16_multiply, theirs[row.layer, row.phase].operations[count])
        for row in ours
        if row.phase == "backward" and trace.meta.layer(row.layer).kind == "conv"
    ]
    assert len(pairs) == 2
    assert all(mine == other > 0 for mine, other in pairs)


def test_a_layer_that_reads_the_input_has_no_backward_row_and_its_neurons_gradients_are_in_its_update(tmp_path):
    meta, members = parts("4C3-AP2-10FC")
    write_trace(tmp_path / "t.npz", meta, members)
    trace = load_trace(tmp_path / "t.npz")
    found = {(row.layer, row.phase): row.operations for row in run_rival(MACHINE, trace, TABLE).to_rows()}
    assert ("conv1", "backward") not in found
    assert found["conv1", "weight_update"]["pgu"] == found["conv1", "forward"]["lif"] > 0


def test_an_encoding_layer_multiplies_at_every_value(tmp_path):
    meta, members = parts("4C3(Encoding)-10FC", (2, 4, 4), timesteps=3, batch=2)
    write_trace(tmp_path / "t.npz", meta, members)
    found = run_rival(MACHINE, load_trace(tmp_path / "t.npz"), TABLE).to_rows()[0]
    taps = 4 * 4 + 8 * 6 + 4 * 9  # corners, edges, inside
    assert found.operations["mac_fwd"] == found.operations["encode_multiply"] == 3 * 2 * 2 * 4 * taps


def test_weights_of_a_group_are_read_once_where_half_their_buffer_holds_them(example):
    row = rows(example)["forward"]
    weights, spikes, results = 18 * 5 * 2, 5, 9 * 5 * 2  # bytes; 9 positions x 2 channels x 2 timesteps of bits
    assert row.offchip_read_bytes == weights + spikes
    assert row.offchip_write_bytes == results * 2 + 2 * 12  # membranes; spikes and window, 90 bits each
    few = MACHINE.buffers.model_copy(update={"w": MACHINE.buffers.w.model_copy(update={"bytes": 128, "banks": 1})})
    small = MACHINE.model_copy(update={"buffers": few})
    array = small.array.model_copy(update={"rows": 3})
    row = rows(example, small.model_copy(update={"array": array}))["forward"]
    assert row.offchip_read_bytes == 3 * weights + sum(-(-n * 2 * 2 // 8) for n in (6, 9, 6))


def test_gradients_that_fit_half_their_buffer_stay_on_chip(example):
    row = rows(example)["backward"]
    weights, state = 45 * 2 * 2, 9 * 2 * 2 * 2 + 2 * 5
    assert (row.offchip_read_bytes, row.offchip_write_bytes) == (weights + state, 0)
    few = MACHINE.buffers.model_copy(update={"u": MACHINE.buffers.u.model_copy(update={"bytes": 128, "banks": 1})})
    row = rows(example, MACHINE.model_copy(update={"buffers": few}))["backward"]
    assert row.offchip_read_bytes == weights + state + 9 * 5 * 2 * 2
    assert row.offchip_write_bytes == 9 * 2 * 2 * 2  # positions x channels x timesteps x bytes


def test_an_update_reads_and_writes_weights_once_beside_their_gradients(example):
    row = rows(example)["weight_update"]
    weights = 18 * 5 * 2
    assert row.offchip_read_bytes == 2 * -(-18 // 8) + weights  # a map of 18 bits a timestep
    assert row.offchip_write_bytes == 2 * weights


def test_without_spikes_and_gradients_nothing_is_added_and_with_all_of_them_everything(tmp_path):
    shape = shape_for(2, 2, (3, 4), (5, 5), 3, 1, 1)
    pairs = 2 * 2 * 3 * 4 * (4 * 4 + 6 * 12 + 9 * 9)  # images, channels, taps that corners, edges and the inside feed
    for density, expected in ((0.0, 0), (1.0, pairs)):
        trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, density))
        counts = {name: n for row in rows(trace).values() for name, n in row.operations.items()}
        names = ("mac_fwd", "mac_bwd", "mac_bwd_dual", "mac_wup", "mac_wup_both")
        assert [counts[name] for name in names] == [expected] * 5


def test_row_folds_that_would_be_too_many_share_an_iteration_and_move_the_same(tmp_path, monkeypatch):
    shape = shape_for(2, 1, (4, 9), (4, 4), 3, 1, 1)
    trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, 0.5))
    each = rows(trace, ideal_memory=True)["weight_update"]
    monkeypatch.setattr(jobs, "MOST_ITERATIONS", 5)
    shared = rows(trace, ideal_memory=True)["weight_update"]
    assert (shared.cycles.compute, shared.operations) == (each.cycles.compute, each.operations)
    assert (shared.buffers, shared.offchip_read_bytes, shared.offchip_write_bytes) == (
        each.buffers, each.offchip_read_bytes, each.offchip_write_bytes
    )  # fmt: skip


def test_leakage_is_most_of_the_energy_for_the_reasons_that_the_notes_give():
    trace, shares = load_trace("mnist-digits"), {}
    for name in ("28nm", "28nm-lstp"):
        result = run_rival(MACHINE, trace, load_energy_table(name))
        totals = result.totals()
        shares[name] = totals.energy_by_component_j["leakage"] / totals.energy_j
        told = any(note.startswith("leakage is ") for note in result.assumptions)
        assert told == (shares[name] > 0.5)
    assert {name: round(100 * share) for name, share in shares.items()} == {"28nm": 92, "28nm-lstp": 25}
    nine = MACHINE.buffers.model_copy(update={"w": MACHINE.buffers.w.model_copy(update={"banks": 9})})
    exact = MACHINE.model_copy(update={"buffers": nine})
    watts, less = (1e3 * RIVAL.prices(machine, TABLE).leakage_w for machine in (MACHINE, exact))
    buffers = RIVAL.prices(MACHINE, TABLE).buffers
    assert (round(watts), round(watts - less)) == (99, 17)
    assert [round(1e3 * each) for each in (sum(b.leakage_w for b in buffers.values()), buffers["u"].leakage_w)] == [
        97,
        40,
    ]
