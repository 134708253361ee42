"""PTB: the specification's lines and layer by hand, the stepped twin, placements and paddings, bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.errors import BaselineError
from h2sim.kernels.line_packing import packed_lines
from h2sim.rivals.ptb.stepped import SteppedArray, pack
from h2sim.rivals.registry import run_rival
from tests.helpers.convs import (
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

MACHINE = h2sim.load_machine("ptb")
LINES = ("100", "000", "110", "011", "111", "001", "010")


def test_the_lines_of_the_specification_take_four_slots():
    lines = [tuple(map(int, line)) for line in LINES]
    assert [tuple(LINES[k] for k in slot) for slot in pack(lines)] == [
        ("100", "011"), ("110", "001"), ("111",), ("010",),
    ]  # fmt: skip
    columns = np.array([[sum(line[c] << k for k, line in enumerate(lines))] for c in range(3)], np.uint64)
    assert packed_lines(columns, np.array([[0, 1, 2]])).tolist() == [[4, 6]]


@pytest.mark.parametrize(("window", "slots", "cycles"), [(2, 15, 15 * 3 * 2 + 36), (1, 21, 21 * 3 * 1 + 36)])
def test_layer_x_takes_what_the_specification_says(window, slots, cycles, tmp_path):
    row = row_of(array_of(MACHINE, window=window, columns=4, rows=2, lif_cycles=0), layer_x(tmp_path / "x.npz"))
    assert (row.operations["slot"], row.cycles.compute, row.cycles.fill) == (slots, cycles, 0)
    assert row.operations["accumulate"] == 39 * 5
    assert row.operations["cycles_strided_window"] == cycles


CASES = st.tuples(any_shape(9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=25, deadline=None)
@given(CASES, st.sampled_from(["strided", "contiguous"]), st.sampled_from(["window", "power_of_two"]), st.floats(0, 1),
       st.integers(0, 99))  # fmt: skip
def test_the_fast_count_is_the_stepped_machine(case, placement, padding, density, seed):
    shape, rows, columns, window = case
    rng = np.random.default_rng(seed)
    spikes, mask, grads = drawn(rng, shape, density)
    machine = array_of(MACHINE, rows=rows, columns=columns, window=window, placement=placement, padding=padding)
    with tempfile.TemporaryDirectory() as folder:
        row = row_of(machine, conv_trace(Path(folder) / "t.npz", shape, spikes, mask, grads))
    array = SteppedArray(rows, columns, window)
    steps = shape.timesteps if padding == "window" else 2 ** int(np.ceil(np.log2(shape.timesteps)))
    weights = rng.integers(-9, 9, (shape.out_channels, shape.in_channels * shape.kernel[0] * shape.kernel[1]))
    for n in range(shape.batch):
        inputs = plain_rows(shape, spikes[:, n]).transpose(1, 0, 2).astype(np.int64)
        sums = array.run(inputs, weights, -(-steps // window), placement == "strided")
        assert (sums == np.einsum("ok,tlk->otl", weights, inputs)).all()
    found = row.operations
    assert row.cycles.compute == array.cycles == found[f"cycles_{placement}_{padding}"]
    assert (found["accumulate"], found["weight_read"]) == (array.accumulates, array.weight_reads)
    assert found["idle_pe_slot"] == array.idle


def test_a_word_boundary_parts_no_lines(tmp_path):
    shape, rng = shape_for(4, 1, (9, 3), (5, 5), 5, 1, 2), np.random.default_rng(5)  # 225 inputs: four words
    for density in (0.05, 0.3, 0.7):
        spikes, mask, grads = drawn(rng, shape, density)
        row = row_of(array_of(MACHINE, window=1), conv_trace(tmp_path / "t.npz", shape, spikes, mask, grads))
        array = SteppedArray(16, 8, 1)
        array.run(
            plain_rows(shape, spikes[:, 0]).transpose(1, 0, 2).astype(np.int64), np.ones((3, 225), np.int64), 4, True
        )
        assert row.cycles.compute == array.cycles


def test_a_fully_connected_layer_packs_the_windows_of_an_input(tmp_path):
    spikes = np.zeros((8, 1, 6), np.uint8)
    spikes[0, 0, 0] = spikes[7, 0, 1] = spikes[2, 0, 2] = spikes[5, 0, 2] = 1  # lines 10, 01, 11 and three empty ones
    row = run_rival(MACHINE, fc_trace(tmp_path / "t.npz", spikes, 10), TABLE).to_rows()[0]
    assert row.operations["slot"] == 2  # the first two share one
    assert row.cycles.compute == 2 * 4 + 32
    one = run_rival(array_of(MACHINE, window=8), fc_trace(tmp_path / "t.npz", spikes, 10), TABLE).to_rows()[0]
    assert one.operations["slot"] == 3  # one window: every input that fires


def test_the_range_over_placement_and_padding_stands_beside_the_figure(tmp_path):
    shape = shape_for(5, 2, (3, 4), (5, 5), 3, 1, 1)
    trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(3), shape, 0.2))
    totals = {}
    for placement in ("strided", "contiguous"):
        for padding in ("window", "power_of_two"):
            result = run_rival(array_of(MACHINE, window=2, placement=placement, padding=padding), trace, TABLE)
            totals[placement, padding] = sum(r.cycles.compute for r in result.rows)
            (line,) = [note for note in result.assumptions if "placement and padding" in note]
            assert f"here {totals[placement, padding]:,}" in line
    assert len(set(totals.values())) == 3  # 5 timesteps are 3 windows or 4; of neighbours an empty one changes nothing
    assert f"{min(totals.values()):,} to {max(totals.values()):,}" in line


def test_bytes_of_a_layer_by_hand(tmp_path):
    machine = array_of(MACHINE, window=2, columns=4, rows=2)
    row = row_of(machine, layer_x(tmp_path / "x.npz"))
    # strided: batch b holds positions b, b + 3 and b + 6, a column of the map: each reads 4 to 9
    spikes = sum(-(-(4 + 6 + 4 if b != 1 else 6 + 9 + 6) * 4 // 8) for b in range(3))
    assert row.offchip_read_bytes == 18 * 5 + 3 * spikes
    assert row.offchip_write_bytes == 3 * (1 + 1 + 1) + 3 + 3  # 3 positions x 2 timesteps x 2 channels in whole bytes
    near = row_of(array_of(machine, placement="contiguous"), layer_x(tmp_path / "x.npz"))
    # positions 0 to 3 read all 9, 4 to 7 too, 8 reads 4
    assert near.offchip_read_bytes == 18 * 5 + 3 * (5 + 5 + 2)


def test_no_spike_takes_the_cold_start_alone_and_all_of_them_every_line(tmp_path):
    shape = shape_for(4, 2, (3, 4), (5, 5), 1, 1, 0)
    for density, slots in ((0.0, 0), (1.0, 2 * 4 * 3)):
        trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(0), shape, density))
        row = row_of(MACHINE, trace)
        assert (
            row.operations["slot"] == slots
        )  # 25 pairs in batches of 8: four for each sample, a line an input channel
        assert row.cycles.compute == slots * 4 + 32 * 2 * 25
        assert row.operations["accumulate"] == (density == 1.0) * 4 * 2 * 25 * 3 * 4


def test_an_array_too_small_for_this_computer_is_refused(tmp_path):
    shape = shape_for(9, 1, (1, 4000), (16, 16), 1, 1, 0)
    spikes = np.zeros((9, 1, 1, 16, 16), np.uint8)
    trace = conv_trace(tmp_path / "t.npz", shape, spikes, spikes, np.zeros((9, 1, 4000, 16, 16), np.uint8))
    wanted = r"^PTB: array: expected batches of which a layer has at most 2,000,000; got 9,216,000 in conv2$"
    with pytest.raises(BaselineError, match=wanted):
        run_rival(array_of(MACHINE, rows=1, columns=1, window=1), trace, TABLE)
