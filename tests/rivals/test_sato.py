"""SATO: the specification's dispatch and layer by hand, the stepped twin, readings of fully connected layers, bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.kernels.dispatch import loads
from h2sim.rivals.registry import run_rival
from h2sim.rivals.sato.stepped import run
from tests.helpers import convs
from tests.helpers.convs import TABLE, array_of, conv_trace, drawn, layer_x, plain_rows, row_of, shape_for

MACHINE = h2sim.load_machine("sato")


@pytest.mark.parametrize(
    ("work", "pes", "found"), [([3, 1, 4, 1, 5], 2, [9, 5]), ([3, 1, 4, 1, 5], 3, [3, 7, 4]), ([7], 4, [7, 0, 0, 0])]
)
def test_rows_are_dealt_as_in_the_specification(work, pes, found):
    assert loads(np.array(work), pes).tolist() == found


def test_layer_x_takes_what_the_specification_says(tmp_path):
    row = row_of(array_of(MACHINE, pes=4), layer_x(tmp_path / "x.npz"))
    assert (row.cycles.compute, row.cycles.fill) == (55, 2)  # load 11, five channels; two timesteps: log 1, and 1
    assert row.operations == {"add": 195, "weight_read": 195, "comparison": 45 * 2}


def inputs_of(shape, spikes):
    return [plain_rows(shape, spikes[:, n]).transpose(1, 0, 2).astype(np.int64) for n in range(shape.batch)]


@settings(max_examples=20, deadline=None)
@given(convs.any_shape(9), st.integers(1, 6), st.booleans(), st.floats(0, 1), st.integers(0, 99))
def test_the_fast_count_is_the_stepped_machine(shape, pes, longest_first, density, seed):
    rng = np.random.default_rng(seed)
    spikes, mask, grads = drawn(rng, shape, density)
    machine = array_of(MACHINE, pes=pes, dispatch="sorted" if longest_first else "arrival")
    with tempfile.TemporaryDirectory() as folder:
        row = row_of(machine, conv_trace(Path(folder) / "t.npz", shape, spikes, mask, grads))
    cycles = adds = 0
    for inputs in inputs_of(shape, spikes):
        weights = rng.integers(-9, 9, (shape.out_channels, inputs.shape[2]))
        sums, took, added = run(inputs, weights, pes, longest_first, spread=False)
        assert (sums == np.einsum("ok,tlk->otl", weights, inputs)).all()
        cycles, adds = cycles + took, adds + added
    assert (row.cycles.compute, row.operations["add"]) == (cycles, adds)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(1, 2), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_both_readings_of_a_fully_connected_layer_are_the_stepped_machine(steps, batch, outputs, pes, seed):
    rng = np.random.default_rng(seed)
    spikes, weights = (rng.random((steps, batch, 12)) < 0.4).astype(np.uint8), rng.integers(-9, 9, (outputs, 12))
    wanted = {
        spread: sum(run(spikes[:, n, None].astype(np.int64), weights, pes, False, spread)[1] for n in range(batch))
        for spread in (False, True)
    }
    with tempfile.TemporaryDirectory() as folder:
        trace = convs.fc_trace(Path(folder) / "t.npz", spikes, outputs)
        rows = {
            fc: run_rival(array_of(MACHINE, pes=pes, fc=fc), trace, TABLE).to_rows()[0] for fc in ("rows", "spread")
        }
    for fc, row in rows.items():
        assert row.cycles.compute == wanted[fc == "spread"]
        assert (row.operations["cycles_fc_rows"], row.operations["cycles_fc_spread"]) == (wanted[False], wanted[True])


def test_both_readings_are_told(tmp_path):
    trace = convs.fc_trace(tmp_path / "t.npz", np.ones((2, 1, 12), np.uint8), 64)
    result = run_rival(MACHINE, trace, TABLE)
    (line,) = [note for note in result.assumptions if note.startswith("compute cycles of fully connected layers: ")]
    assert "768 where a PE takes a row" in line  # 64 channels of 12 spikes
    assert "12 where all outputs' rows are dealt out" in line  # 128 rows on 128 PEs


def test_bytes_of_a_layer_by_hand(tmp_path):
    row = row_of(MACHINE, layer_x(tmp_path / "x.npz"))
    assert row.offchip_read_bytes == 5 * 18 + 5  # a channel's weights; 36 bits of the sample, once
    assert row.offchip_write_bytes == 5 * 3  # 18 bits a channel
    shape = shape_for(2, 2, (2, 3), (16, 16), 1, 1, 0)
    trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, 0.5))
    small = MACHINE.buffers.spikes.model_copy(update={"bytes": 128})
    machine = MACHINE.model_copy(update={"buffers": MACHINE.buffers.model_copy(update={"spikes": small})})
    assert row_of(MACHINE, trace).offchip_read_bytes == 3 * 2 + 2 * 128
    assert row_of(machine, trace).offchip_read_bytes == 3 * 2 + 3 * 2 * 128


def test_no_spike_takes_no_cycle_and_the_search_tree_is_listed_without_a_price(tmp_path):
    shape = shape_for(4, 2, (3, 4), (5, 5), 1, 1, 0)
    for density in (0.0, 1.0):
        trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, density))
        row = row_of(array_of(MACHINE, pes=8), trace)
        assert row.operations["add"] == density * 4 * 2 * 25 * 3 * 4
        assert row.cycles.compute == density * 4 * 2 * -(-100 // 8) * 3  # 100 rows of three spikes on 8 PEs
        assert row.cycles.fill == 3
    result = run_rival(MACHINE, trace, TABLE)
    assert [(u.component, u.action) for u in result.unpriced] == [("tree", "comparison")]
    assert result.published["energy_j"] == 0.3195 * result.seconds
