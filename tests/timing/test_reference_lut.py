"""The reference LUT engines: hand-counted cycles and events, an independent oracle, the contract's formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from h2sim.activity import Actions
from h2sim.arch.schema import (
    TileSize,
)
from h2sim.reference import (
    forward_conv,
    forward_fc,
    weight_update_conv,
    weight_update_fc,
)
from h2sim.reference.acc import AccTree
from h2sim.reference.finder import OutputFinder, PairFinder
from h2sim.reference.lut import LutPe, SubLut
from h2sim.reference.result import Bench, Tally
from h2sim.shapes import ConvShape, FcShape, Tile
from tests.helpers.oracles import (
    bits,
    c,
    convolution,
    cuts,
    every_shape,
    forward_engine,
    maps,
    output_tiles,
    tile_size,
    update_engine,
    values,
    weight_gradient,
)


def test_a_sub_lut_holds_every_sum_and_adds_only_where_no_copy_does() -> None:
    bench = Bench()
    lut = SubLut(3, bench)
    lut.load(np.array([1, 2, 4], dtype=np.float32))
    assert [lut.program_entry() for _ in range(9)] == [True] * 8 + [False]
    assert lut.active == [0] * 8  # the shadow bank is not read before the swap
    lut.swap()
    assert [float(lut.read(address)) for address in range(8)] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert bench.pe_array == Tally(lut_read=8, lut_write=8)
    assert bench.acc == Tally(fp16_add=8 - 1 - 3)


def test_a_lut_pe_sums_its_used_sub_luts_from_the_left() -> None:
    bench = Bench()
    pe = LutPe(3, 2, bench)
    pe.load([np.array([1e8, 0], np.float32), np.array([1, 2], np.float32)])
    while pe.program_entry():
        pass
    pe.swap()
    assert pe.read([1, 3]) == np.float32(1e8) + np.float32(3)
    assert (bench.pe_array.lut_read, bench.pe_array.lut_write, bench.pe_array.fp16_add) == (2, 8, 1)


def test_the_adder_tree_pairs_neighbours_and_passes_an_odd_one_through() -> None:
    tally = Tally()
    big, one = np.float32(2.0**24), np.float32(1)  # big + 1 rounds to big, big + 3 to big + 4
    tree = AccTree(5, tally)
    assert tree.reduce([one, one, big, one, -big]) == 2  # ((1 + 1) + (big + 1)) - big; from the left it is 4
    assert tree.reduce([one, one, big, one, one]) == big + 4  # (2 + big) + 1: the fifth joins last
    assert tally.fp16_add == 4 + 4
    assert tree.accumulate(one, [one, one]) == 3
    assert tally.fp16_add == 8 + 1 + 1  # absent rows do not count


def test_the_output_finder_deals_valid_positions_in_raster_order() -> None:
    window = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1]])
    assert OutputFinder(2).deal(window, Tile(0, 2, 0, 3)) == [[(0, 0), (1, 0)], [(0, 2), (1, 1)]]
    assert OutputFinder(3).deal(window, Tile(1, 3, 1, 3)) == [[(1, 1)], [(2, 1)], [(2, 2)]]


@pytest.mark.parametrize(
    ("empty_window_cycles", "steps"),
    [
        (0, [("a", 1), ("a", 3), ("c", 0)]),
        (1, [("a", 1), ("a", 3), None, ("c", 0)]),
        (3, [("a", 1), ("a", 3), None, None, None, None, ("c", 0), None, None]),
    ],
)
def test_the_pair_finder_emits_the_lowest_bit_first_and_stays_at_least_the_empty_window_cycles(
    empty_window_cycles: int, steps: list[Any]
) -> None:
    tags: dict[Any, int] = {"a": 0b1010, "b": 0, "c": 1}
    tally = Tally()
    finder = PairFinder(list(tags), tags.__getitem__, empty_window_cycles, True, tally)
    seen = []
    while not finder.done:
        seen.append(finder.step())
    assert seen == steps
    assert tally.priority_encode == 3 + 1


def test_forward_conv_cycles_and_events_match_a_hand_count() -> None:
    # 1 sample, 2 channels on 1 row, 1x2 map, 1x1 kernel, z = 2 (v = 1), 1 output column group of 1:
    # cycle 1-2 program channel 0, 3-4 its two windows, 5-6 program channel 1, 7-8 its two windows
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=2,
        in_height=1,
        in_width=2,
        out_channels=1,
        out_height=1,
        out_width=2,
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
    )
    engine = forward_engine(rows=1, columns=1, parallelism=1, sub_luts=1, sub_lut_size=2)
    spikes = np.array([[1, 0], [1, 1]], np.uint8).reshape(1, 1, 2, 1, 2)
    weight = np.array([3, 5], np.float32).reshape(1, 2, 1, 1)
    run = forward_conv(engine, tile_size(8, 8), shape, spikes, weight, np.array([0.5], np.float32))
    assert run.iteration_cycles == [2 + 2, 2 + 2]
    assert run.cycles == 8
    assert run.values.tolist() == [[[[[8.5, 5.5]]]]]
    assert run.pe_array == Actions(lut_read=4, lut_write=4)
    assert run.acc == Actions(fp16_add=4)  # one row: only the psum adder; z - 1 - v = 0
    assert run.neuron == Actions()


def test_double_buffered_programming_shows_once_and_where_it_is_longer_than_the_work() -> None:
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=3,
        in_height=1,
        in_width=2,
        out_channels=1,
        out_height=1,
        out_width=2,
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
    )
    engine = forward_engine(rows=1, columns=1, parallelism=1, sub_luts=1, sub_lut_size=4, lut_double_buffered=True)
    spikes, weight = np.ones((1, 1, 3, 1, 2), np.uint8), np.array([1, 2, 4], np.float32).reshape(1, 3, 1, 1)
    run = forward_conv(engine, tile_size(8, 8), shape, spikes, weight, None)
    # 4 to program channel 0; 2 windows hide under 4 cycles of channel 1, then of channel 2; its 2 windows
    assert run.iteration_cycles == [4 + 4, 4, 2]
    assert run.values.ravel().tolist() == [7, 7]


def test_forward_conv_adds_row_groups_in_channel_order() -> None:
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=3,
        in_height=1,
        in_width=1,
        out_channels=1,
        out_height=1,
        out_width=1,
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
    )
    engine, spikes = forward_engine(rows=1), np.ones((1, 1, 3, 1, 1), np.uint8)
    for weights, total in (([2**24, 1, 1], 2**24), ([1, 1, 2**24], 2**24 + 2)):
        weight = np.array(weights, np.float32).reshape(1, 3, 1, 1)
        assert forward_conv(engine, tile_size(1, 1), shape, spikes, weight, None).values.item() == total


@every_shape
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("lut", [True, False])
def test_forward_conv_agrees_with_the_contract_and_the_oracle(
    shape: ConvShape, tile: TileSize, lut: bool, double: bool
) -> None:
    rng = np.random.default_rng(1)
    engine = forward_engine(lut=lut, lut_double_buffered=double)
    in_map, out_map, kernels = maps(shape)
    spikes, weight, bias = bits(rng, in_map), values(rng, kernels), values(rng, kernels[:1])
    run = forward_conv(engine, tile, shape, spikes, weight, bias)
    np.testing.assert_allclose(run.values, convolution(shape, spikes, weight, bias), rtol=1e-5, atol=1e-5)
    assert run.values.shape == out_map
    assert run.values.dtype == np.float32

    (kh, kw), n, z, v = shape.kernel, 3, 8 if lut else 0, 3
    rows = shape.in_channels * c(kh, n) * c(kw, v)
    row_groups, columns = c(rows, engine.rows), c(shape.out_channels, engine.columns)
    work = [
        c(shape.samples, engine.parallelism) * p * q for p, q in output_tiles(shape, tile) for _ in range(row_groups)
    ]
    work *= columns
    if double and lut:
        expected = [max(w, z) for w in work[:-1]] + work[-1:]
        expected[0] += z
    else:
        expected = [z + w for w in work]
    assert run.iteration_cycles == expected
    assert run.cycles == sum(expected)
    if not double or not lut:
        tiles = sum(z + c(shape.samples, engine.parallelism) * p * q for p, q in output_tiles(shape, tile))
        assert run.cycles == row_groups * columns * tiles

    windows = shape.samples * shape.out_height * shape.out_width * shape.out_channels
    pe_windows, weights = windows * rows, windows * shape.in_channels * kh * kw
    sub_luts = shape.in_channels * c(kw, v) * kh * shape.out_channels * len(output_tiles(shape, tile))
    reads = windows * shape.in_channels * c(kw, v) * kh
    if lut:
        assert run.pe_array == Actions(lut_read=reads, lut_write=sub_luts * z, fp16_add=reads - pe_windows)
        assert run.acc == Actions(fp16_add=pe_windows + sub_luts * (z - 1 - v))
    else:
        assert run.pe_array == Actions(register_access=weights, fp16_add=weights - pe_windows)
        assert run.acc == Actions(fp16_add=pe_windows)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("lut", [True, False])
@pytest.mark.parametrize("in_features", [5, 24, 61])
def test_forward_fc_agrees_with_the_contract_and_the_oracle(in_features: int, lut: bool, double: bool) -> None:
    rng = np.random.default_rng(2)
    shape = FcShape(3, 1, in_features, 5)
    engine = forward_engine(rows=2, sub_luts=3, sub_lut_size=4, lut=lut, lut_double_buffered=double)
    spikes, weight, bias = bits(rng, (3, 1, in_features)), values(rng, (5, in_features)), values(rng, (5,))
    run = forward_fc(engine, shape, spikes, weight, bias)
    oracle = np.einsum("tni,oi->tno", spikes.astype(np.float64), weight) + bias
    np.testing.assert_allclose(run.values, oracle, rtol=1e-5, atol=1e-5)

    row_words = 3 if lut else 3 * 2
    per_cycle = 2 * row_words
    groups = cuts(in_features, per_cycle * (4 if lut else 1))
    assert run.iteration_cycles == [c(g, per_cycle) * (1 + c(3, 2)) for _ in range(c(5, 2)) for g in groups]
    assert run.cycles == sum(run.iteration_cycles)
    reads, loads = int(spikes.sum()) * 5, in_features * 5
    row_cycles = sum(c(entry, row_words) for g in groups for entry in cuts(g, per_cycle)) * 3 * 5
    adds = 3 * 5 * in_features - row_cycles
    if lut:
        assert run.pe_array == Actions(lut_read=reads, lut_write=loads, fp16_add=adds)
    else:
        assert run.pe_array == Actions(register_access=reads + loads, fp16_add=adds)
    assert run.acc == Actions(fp16_add=row_cycles)


def test_forward_fc_cycles_match_a_hand_count() -> None:
    # 1 row x 2 sub-LUTs x 2 entries; 5 features: group of 4 (load 2, pass 2 per lane group), group of 1 (1, 1)
    engine = forward_engine(rows=1, columns=4, parallelism=2, sub_luts=2, sub_lut_size=2)
    spikes = np.array([[1, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.uint8).reshape(3, 1, 5)
    run = forward_fc(engine, FcShape(3, 1, 5, 1), spikes, np.array([[1, 2, 4, 8, 16]], np.float32), None)
    assert run.iteration_cycles == [2 + 2 * 2, 1 + 2 * 1]
    assert run.values.ravel().tolist() == [29, 0, 31]
    assert run.pe_array == Actions(lut_read=9, lut_write=5, fp16_add=3 * 2)  # words (0, 1) and (2, 3)
    assert run.acc == Actions(fp16_add=3 * 3)  # three entries


def test_weight_update_conv_cycles_match_a_hand_count() -> None:
    # 3 timesteps on 2 rows: 2 passes; a 1x5 tile: segments of 4 and 1; z = 4; 1 channel x 1x2 taps: 1 cycle.
    shape = ConvShape(
        timesteps=3,
        batch=1,
        in_channels=1,
        in_height=1,
        in_width=6,
        out_channels=1,
        out_height=1,
        out_width=5,
        kernel=(1, 2),
        stride=(1, 1),
        padding=(0, 0),
    )
    spikes = np.ones((3, 1, 1, 1, 6), np.uint8)
    dm = np.arange(15, dtype=np.float32).reshape(3, 1, 1, 1, 5)
    run = weight_update_conv(update_engine(), tile_size(8, 8), shape, spikes, dm)
    assert run.iteration_cycles == [2 * 2 * (4 + 1)]
    assert run.values.ravel().tolist() == [105, 105]
    # sub-LUTs programmed: 3 timesteps x (2 + 1); read: the same for each of 2 taps; in-PE adds: segments of 4 only
    assert run.pe_array == Actions(lut_read=3 * 3 * 2, lut_write=3 * 3 * 4, fp16_add=3 * 2)
    assert run.acc == Actions(fp16_add=3 * 2 * 2 + 3 * 3 * (4 - 1 - 2))
    hidden = weight_update_conv(update_engine(lut_double_buffered=True), tile_size(8, 8), shape, spikes, dm)
    assert hidden.iteration_cycles == [4 + 3 * 4 + 1]
    adders = weight_update_conv(update_engine(lut=False), tile_size(8, 8), shape, spikes, dm)
    assert adders.iteration_cycles == [4]
    assert adders.pe_array == Actions(register_access=3 * 5 * 2, fp16_add=3 * 3 * 2)
    assert adders.acc == Actions(fp16_add=3 * 2 * 2)


@every_shape
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("lut", [True, False])
def test_weight_update_conv_agrees_with_the_contract_and_the_oracle(
    shape: ConvShape, tile: TileSize, lut: bool, double: bool
) -> None:
    rng = np.random.default_rng(3)
    engine = update_engine(lut=lut, lut_double_buffered=double)
    in_map, out_map, kernels = maps(shape)
    spikes, dm = bits(rng, in_map), values(rng, out_map)
    run = weight_update_conv(engine, tile, shape, spikes, dm)
    np.testing.assert_allclose(run.values, weight_gradient(shape, spikes, dm), rtol=1e-4, atol=1e-5)
    assert run.values.shape == kernels

    (kh, kw), z, v, nv = shape.kernel, 4 if lut else 0, 2, 4
    passes, columns = shape.batch * c(shape.timesteps, engine.rows), c(shape.out_channels, engine.columns)
    pairs = shape.in_channels * kh * kw
    work = c(pairs, engine.parallelism)
    tiles = output_tiles(shape, tile)
    n_segments = [passes * p * c(q, nv) for p, q in tiles] * columns
    if double and lut:
        expected = [n * max(work, z) for n in n_segments]
        expected[0] += z
        expected[-1] += work - max(work, z)
    else:
        expected = [n * (z + work) for n in n_segments]
    assert run.iteration_cycles == expected

    used = [[c(seg, v) for seg in cuts(q, nv)] for p, q in tiles for _ in range(p)]
    per_pe = shape.samples * shape.out_channels
    sub_luts, segments = per_pe * sum(map(sum, used)), per_pe * sum(map(len, used))
    elements = per_pe * shape.out_height * shape.out_width
    if lut:
        adds = (sub_luts - segments) * pairs
        assert run.pe_array == Actions(lut_read=sub_luts * pairs, lut_write=sub_luts * z, fp16_add=adds)
        assert run.acc == Actions(fp16_add=segments * pairs + sub_luts * (z - 1 - v))
    else:
        assert run.pe_array == Actions(register_access=elements * pairs, fp16_add=(elements - segments) * pairs)
        assert run.acc == Actions(fp16_add=segments * pairs)


@pytest.mark.parametrize("lut", [True, False])
@pytest.mark.parametrize(("t", "n"), [(3, 1), (2, 2), (5, 2)])
def test_weight_update_fc_agrees_with_the_contract_and_the_oracle(t: int, n: int, lut: bool) -> None:
    rng = np.random.default_rng(4)
    engine, shape = update_engine(lut=lut), FcShape(t, n, 9, 5)
    spikes, dm = bits(rng, (t, n, 9)), values(rng, (t, n, 5))
    run = weight_update_fc(engine, shape, spikes, dm)
    np.testing.assert_allclose(
        run.values, np.einsum("tni,tno->oi", spikes, dm.astype(np.float64)), rtol=1e-4, atol=1e-5
    )
    assert run.iteration_cycles == [n * c(t, 2) * (1 + c(9, 4))] * 3
    assert run.cycles == n * c(t, 2) * c(5, 2) * (1 + c(9, 4))
    reads, loads = int(spikes.sum()) * 5, t * n * 5
    expected = Actions(lut_read=reads, lut_write=loads) if lut else Actions(register_access=reads + loads)
    assert run.pe_array == expected
    assert run.acc == Actions(fp16_add=t * n * 9 * 5)
