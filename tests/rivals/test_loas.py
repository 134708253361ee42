"""LoAS: the specification's row by hand, the stepped twin, pruned weights of a trace, sparsities, bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.kernels.inner_join import group_costs
from h2sim.rivals.loas import jobs
from h2sim.rivals.loas.stepped import SteppedArray
from h2sim.rivals.registry import run_rival
from h2sim.trace import load_trace, write_trace
from tests.helpers.convs import (
    NAME,
    TABLE,
    any_shape,
    array_of,
    conv_trace,
    drawn,
    fc_trace,
    layer_x,
    plain_rows,
    row_of,
    shape_for,
)  # fmt: skip

MACHINE = h2sim.load_machine("loas")


def pruned(trace, name, weights):
    """The trace with the weights of a layer, in its own file."""
    with np.load(trace.path) as file:
        members = {key: file[key] for key in file.files}
    meta = trace.meta.model_dump(mode="json", exclude_unset=True)
    members.pop("meta")
    write_trace(trace.path, meta, members | {f"{name}.weight": weights.astype(np.float32)})
    return load_trace(trace.path)


def test_the_row_of_the_specification_takes_two_cycles():
    live, kept = np.array([[0b1101]], np.uint64), np.array([[0b1011], [0b0010]], np.uint64)  # the first input lowest
    assert group_costs(live, kept, 2, 2).tolist() == [[2]]
    assert group_costs(live, kept, 2, 1).tolist() == [[2], [1]]  # no match still costs the chunk's cycle


def test_the_row_of_the_specification_in_a_trace(tmp_path):
    spikes = np.zeros((4, 1, 4), np.uint8)
    spikes[0, 0, 0] = spikes[3, 0, 2] = spikes[1:, 0, 3] = 1
    trace = pruned(fc_trace(tmp_path / "t.npz", spikes, 2), "fc1", np.array([[1, 1, 0, 1], [0, 1, 0, 0]]))
    (row,) = run_rival(MACHINE, trace, TABLE).to_rows()
    found = row.operations
    assert row.cycles.compute == 2
    assert (found["match"], found["add"]) == (2, 1 + 3)
    assert (found["input_neuron"], found["silent_neuron"], found["live_word"]) == (4, 1, 3)
    assert (found["weight"], found["kept_weight"]) == (8, 4)
    one = array_of(MACHINE, tppes=1)
    assert run_rival(one, trace, TABLE).to_rows()[0].cycles.compute == 3  # one output after the other


@settings(max_examples=20, deadline=None)
@given(any_shape(9), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.floats(0, 1), st.integers(0, 99))
def test_the_fast_count_is_the_stepped_machine(shape, tppes, timesteps, prunes, density, seed):
    rng = np.random.default_rng(seed)
    spikes, mask, grads = drawn(rng, shape, density)
    inputs = shape.in_channels * shape.kernel[0] * shape.kernel[1]
    weights = rng.integers(1, 9, (shape.out_channels, inputs))
    with tempfile.TemporaryDirectory() as folder:
        trace = conv_trace(Path(folder) / "t.npz", shape, spikes, mask, grads)
        if prunes:
            weights *= rng.random(weights.shape) < 0.3
            trace = pruned(trace, NAME, weights.reshape(shape.out_channels, shape.in_channels, *shape.kernel))
        row = row_of(array_of(MACHINE, tppes=tppes, timesteps=timesteps, chunk=64), trace)
    array = SteppedArray(tppes, timesteps, 64)
    for n in range(shape.batch):
        each = plain_rows(shape, spikes[:, n]).transpose(1, 0, 2).astype(np.int64)
        assert (array.run(each, weights) == np.einsum("ok,tlk->otl", weights, each)).all()
    found = row.operations
    assert (row.cycles.compute, found["add"], found["match"]) == (array.cycles, array.adds, array.matches)
    assert found["chunk"] == array.chunks


def test_sparsities_are_told_and_all_weights_are_said_to_be_unlike_the_design(tmp_path):
    shape, rng = shape_for(6, 2, (3, 4), (5, 5), 3, 1, 1), np.random.default_rng(3)
    spikes, mask, grads = drawn(rng, shape, 0.2)
    trace = conv_trace(tmp_path / "t.npz", shape, spikes, mask, grads)
    result = run_rival(MACHINE, trace, TABLE)
    row = row_of(MACHINE, trace)
    assert row.operations["silent_neuron"] == (spikes.sum(axis=0) == 0).sum() > 0
    assert row.operations["live_word"] == (spikes[:4].any(axis=0)).sum() + spikes[4:].any(axis=0).sum()
    notes = "\n".join(result.assumptions)
    assert "weights kept" in notes
    assert f"all weights of conv1, {NAME} are present" in notes
    assert "is not used as designed" in notes
    weights = rng.random((4, 3, 3, 3)) < 0.02
    notes = "\n".join(run_rival(MACHINE, pruned(trace, NAME, weights), TABLE).assumptions)
    assert "all weights of conv1 are present" in notes


def test_bytes_of_a_layer_by_hand(tmp_path):
    trace = layer_x(tmp_path / "x.npz")
    row = row_of(MACHINE, trace)  # a pass: five neurons fire, 4 bits each; a bit for each of 18; once
    assert row.offchip_read_bytes == 90 + -(-90 // 8) + -(-(5 * 4 + 18) // 8)
    assert row.offchip_write_bytes == -(-9 * 2 * 5 // 8)
    small = MACHINE.buffers.spikes.model_copy(update={"bytes": 64, "banks": 1, "word_bits": 8})
    few = MACHINE.buffers.weights.model_copy(update={"bytes": 128, "banks": 1})
    machine = MACHINE.model_copy(update={"buffers": MACHINE.buffers.model_copy(update={"weights": few})})
    assert row_of(machine, trace).offchip_read_bytes == 9 * (90 + 12) + 5  # weights anew at each position
    shape = shape_for(1, 1, (64, 2), (4, 4), 1, 1, 0)
    full = np.ones((1, 1, 64, 4, 4), np.uint8)
    trace = conv_trace(tmp_path / "t.npz", shape, full, full, np.zeros((1, 1, 2, 4, 4), np.uint8))
    machine = MACHINE.model_copy(update={"buffers": MACHINE.buffers.model_copy(update={"spikes": small})})
    assert row_of(machine, trace).offchip_read_bytes == 128 + 16 + 16 * (64 * 5 // 8)  # spikes at each position too


def test_rows_that_would_be_too_many_share_an_iteration_and_cost_the_same(tmp_path, monkeypatch):
    shape = shape_for(5, 2, (4, 9), (5, 5), 3, 2, 1)
    trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, 0.5))
    each = row_of(MACHINE, trace, ideal_memory=True)
    monkeypatch.setattr(jobs, "MOST_ITERATIONS", 8)
    shared = row_of(MACHINE, trace, ideal_memory=True)
    assert (shared.cycles.compute, shared.operations, shared.offchip_read_bytes) == (
        each.cycles.compute, each.operations, each.offchip_read_bytes
    )  # fmt: skip


def test_no_spike_takes_a_cycle_a_chunk(tmp_path):
    shape = shape_for(4, 2, (3, 20), (5, 5), 1, 1, 0)
    for density, cost in ((0.0, 1), (1.0, 3)):
        trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, density))
        row = row_of(MACHINE, trace)
        assert row.cycles.compute == 2 * 25 * 2 * cost  # samples, positions, groups of 16 outputs
        assert row.operations["add"] == density * 4 * 2 * 25 * 3 * 20
