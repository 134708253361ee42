"""The reference engines: hand-counted cycles and events, an independent oracle, the formulas of the contract."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from h2sim.activity import Actions
from h2sim.arch.schema import (
    MODES,
    BackwardBuffers,
    BackwardEngine,
    Buffer,
    ForwardBuffers,
    ForwardEngine,
    TileSize,
    WeightUpdateBuffers,
    WeightUpdateEngine,
)
from h2sim.reference import (
    average_pool,
    average_pool_transpose,
    backward_conv,
    backward_fc,
    encode_forward,
    encode_weight_gradient,
    forward_conv,
    forward_fc,
    grad,
    soma,
    weight_update_conv,
    weight_update_fc,
)
from h2sim.reference.acc import AccTree
from h2sim.reference.finder import OutputFinder, PairFinder
from h2sim.reference.lut import LutPe, SubLut
from h2sim.reference.result import Bench, Tally
from h2sim.shapes import ConvShape, FcShape, Tile

BUFFER = Buffer(bytes=1024, word_bits=64, banks=1)


def forward_engine(**changes: Any) -> ForwardEngine:
    buffers = ForwardBuffers(spikes=BUFFER, weights=BUFFER, psum=BUFFER, output=BUFFER)
    return ForwardEngine(
        **{"rows": 3, "columns": 2, "parallelism": 2, "sub_luts": 3, "sub_lut_size": 8, "buffers": buffers} | changes
    )


def update_engine(**changes: Any) -> WeightUpdateEngine:
    buffers = WeightUpdateBuffers(gradients=BUFFER, spikes=BUFFER, weight_gradients=BUFFER)
    return WeightUpdateEngine(
        **{"rows": 2, "columns": 2, "parallelism": 4, "sub_luts": 2, "sub_lut_size": 4, "buffers": buffers} | changes
    )


def backward_engine(**changes: Any) -> BackwardEngine:
    buffers = BackwardBuffers(gradients=BUFFER, weights=BUFFER, psum=BUFFER, state=BUFFER, output=BUFFER)
    return BackwardEngine(**{"rows": 2, "columns": 2, "parallelism": 2, "buffers": buffers} | changes)


def tile_size(height: int, width: int) -> TileSize:
    return TileSize(height=height, width=width)


def conv_shape(t: int, n: int, c_in: int, size: int, c_out: int, k: int, stride: int, padding: int) -> ConvShape:
    out = (size + 2 * padding - k) // stride + 1
    return ConvShape(t, n, c_in, size, size, c_out, out, out, (k, k), (stride, stride), (padding, padding))


# T, N, C_in, H = W, C_out, k, stride, padding and the tile: T is no multiple of the rows, P divides nothing,
# channels leave edge groups and tiles edge tiles
SHAPES = {
    "3x3": (conv_shape(3, 1, 4, 5, 3, 3, 1, 1), tile_size(3, 2)),
    "3x3 stride 2": (conv_shape(1, 3, 2, 6, 3, 3, 2, 1), tile_size(2, 2)),
    "5x5": (conv_shape(3, 1, 2, 5, 2, 5, 1, 2), tile_size(3, 4)),
    "1x1 stride 2": (conv_shape(3, 1, 5, 4, 3, 1, 2, 0), tile_size(2, 1)),
    "2x2 unpadded": (conv_shape(2, 2, 3, 4, 1, 2, 1, 0), tile_size(8, 8)),
    "3x2 oblong": (ConvShape(2, 1, 2, 4, 7, 3, 4, 4, (3, 2), (1, 2), (1, 1)), tile_size(2, 3)),
}
every_shape = pytest.mark.parametrize(("shape", "tile"), SHAPES.values(), ids=SHAPES)


def bits(rng: np.random.Generator, shape: tuple[int, ...], density: float = 0.4) -> np.ndarray:
    return (rng.random(shape) < density).astype(np.uint8)


def values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def maps(shape: ConvShape) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes of the input map, the output map and the weight."""
    lead = (shape.timesteps, shape.batch)
    return (
        (*lead, shape.in_channels, shape.in_height, shape.in_width),
        (*lead, shape.out_channels, shape.out_height, shape.out_width),
        (shape.out_channels, shape.in_channels, *shape.kernel),
    )


def patches(shape: ConvShape, x: np.ndarray) -> np.ndarray:
    """Oracle: x (T, N, Cin, H, W) as (T, N, Cin, Ho, Wo, kh, kw) float64, every window of the padded map."""
    (ph, pw), (sh, sw) = shape.padding, shape.stride
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape.kernel, axis=(3, 4))
    return windows[:, :, :, ::sh, ::sw]


def convolution(shape: ConvShape, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.einsum("tncyxij,ocij->tnoyx", patches(shape, x), weight) + bias[:, None, None]


def weight_gradient(shape: ConvShape, x: np.ndarray, dm: np.ndarray) -> np.ndarray:
    return np.einsum("tncyxij,tnoyx->ocij", patches(shape, x), dm)


def transposed_convolution(shape: ConvShape, dm: np.ndarray, weight: np.ndarray) -> np.ndarray:
    (ph, pw), (sh, sw), (kh, kw) = shape.padding, shape.stride, shape.kernel
    t, n, c, h, w = maps(shape)[0]
    ds = np.zeros((t, n, c, h + 2 * ph, w + 2 * pw))
    for y, x in product(range(shape.out_height), range(shape.out_width)):
        ds[..., y * sh : y * sh + kh, x * sw : x * sw + kw] += np.einsum("tno,ocij->tncij", dm[..., y, x], weight)
    return ds[..., ph : ph + h, pw : pw + w]


def c(a: int, b: int) -> int:
    return -(-a // b)


def cuts(length: int, size: int) -> list[int]:
    """Lengths of the pieces that a length is cut into."""
    return [min(size, length - start) for start in range(0, length, size)]


def output_tiles(shape: ConvShape, tile: TileSize) -> list[tuple[int, int]]:
    return list(product(cuts(shape.out_height, tile.height), cuts(shape.out_width, tile.width)))


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
    shape = ConvShape(1, 1, 2, 1, 2, 1, 1, 2, (1, 1), (1, 1), (0, 0))
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
    shape = ConvShape(1, 1, 3, 1, 2, 1, 1, 2, (1, 1), (1, 1), (0, 0))
    engine = forward_engine(rows=1, columns=1, parallelism=1, sub_luts=1, sub_lut_size=4, lut_double_buffered=True)
    spikes, weight = np.ones((1, 1, 3, 1, 2), np.uint8), np.array([1, 2, 4], np.float32).reshape(1, 3, 1, 1)
    run = forward_conv(engine, tile_size(8, 8), shape, spikes, weight, None)
    # 4 to program channel 0; 2 windows hide under 4 cycles of channel 1, then of channel 2; its 2 windows
    assert run.iteration_cycles == [4 + 4, 4, 2]
    assert run.values.ravel().tolist() == [7, 7]


def test_forward_conv_adds_row_groups_in_channel_order() -> None:
    shape = ConvShape(1, 1, 3, 1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0))
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
    shape = ConvShape(3, 1, 1, 1, 6, 1, 1, 5, (1, 2), (1, 1), (0, 0))
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


def test_backward_conv_cycles_and_events_match_a_hand_count() -> None:
    # 1x4 map, 1x3 kernel, padding 1; gradient bits 1 1 0 0; position x is fed by outputs x+1, x, x-1 (taps 0, 1, 2)
    #   x = 0: outputs 1, 0 -> 2 pairs; x = 1: 2, 1, 0 -> 2 pairs; x = 2: 3, 2, 1 -> 1; x = 3: 3, 2 -> 0 (empty)
    # window 1 1 0 1: positions 0, 1, 3 dealt: PE 0 gets 0 and 3, PE 1 gets 1
    #   cycle  PE 0                PE 1
    #   1      x0 tap0 (output 1)  x1 tap1 (output 1)
    #   2      x0 tap1 (output 0)  x1 tap2 (output 0)
    #   3      x3 empty            done
    #   4-7    sync
    shape = ConvShape(1, 1, 1, 1, 4, 1, 1, 4, (1, 3), (1, 1), (0, 1))
    mask = np.array([1, 1, 0, 0], np.uint8).reshape(1, 1, 1, 1, 4)
    window = np.array([1, 1, 0, 1], np.uint8).reshape(1, 1, 1, 1, 4)
    dm = np.array([2, 3, 0, 0], np.float32).reshape(1, 1, 1, 1, 4)
    weight = np.array([1, 10, 100], np.float32).reshape(1, 1, 1, 3)
    run = backward_conv(backward_engine(), tile_size(8, 8), shape, mask, window, dm, weight)
    assert run.iteration_cycles == [3 + 4]
    assert run.values.ravel().tolist() == [3 + 20, 30 + 200, 0, 0]
    assert run.pe_array == Actions(fp16_multiply=4, fp16_add=4, register_access=16, priority_encode=5)
    assert run.acc == Actions(fp16_add=3)


@pytest.mark.parametrize(
    ("mode", "cycles", "pairs", "encodes", "dealt"),
    [
        # positions 0..3 cost 2 2 1 1(empty) with the gradient mask, 2 3 3 2 without
        ("dense", 2 + 3, 10, 0, 4),  # PE 0: x0, x2; PE 1: x1, x3
        ("input_only", 2 + 1, 5, 6, 4),
        ("output_only", 2 + 2, 7, 7, 3),  # PE 0: x0, x3; PE 1: x1
        ("dual", 2 + 1, 4, 5, 3),
    ],
)
def test_each_mode_takes_the_masks_it_ignores_as_all_ones(
    mode: str, cycles: int, pairs: int, encodes: int, dealt: int
) -> None:
    shape = ConvShape(1, 1, 1, 1, 4, 1, 1, 4, (1, 3), (1, 1), (0, 1))
    mask = np.array([1, 1, 0, 0], np.uint8).reshape(1, 1, 1, 1, 4)
    window = np.array([1, 1, 0, 1], np.uint8).reshape(1, 1, 1, 1, 4)
    run = backward_conv(backward_engine(mode=mode, tile_sync_cycles=0), tile_size(8, 8), shape, mask, window)
    assert run.cycles == cycles
    assert run.pe_array == Actions(
        fp16_multiply=pairs, fp16_add=pairs, register_access=4 * pairs, priority_encode=encodes
    )
    assert run.acc == Actions(fp16_add=dealt)


def contract_backward(
    engine: BackwardEngine, tile: TileSize, shape: ConvShape, mask: np.ndarray, window: np.ndarray
) -> tuple[list[int], int, int]:
    """Cycles per iteration, pairs and empty tags: counts per position by pushing every output's bit down its taps."""
    mask = np.ones_like(mask) if engine.mode in ("dense", "output_only") else mask
    window = np.ones_like(window) if engine.mode in ("dense", "input_only") else window
    t, n, c_in, h, w = window.shape
    (kh, kw), (sh, sw), (ph, pw) = shape.kernel, shape.stride, shape.padding
    count = np.zeros((t, n, shape.out_channels, h + 2 * ph, w + 2 * pw), int)
    for y, x in product(range(shape.out_height), range(shape.out_width)):
        count[..., y * sh : y * sh + kh, x * sw : x * sw + kw] += mask[..., y, x][..., None, None]
    count = count[..., ph : ph + h, pw : pw + w]
    iterations, pairs, empty = [], 0, 0
    for c0, y0, x0, r0 in product(
        range(0, c_in, engine.columns),
        range(0, h, tile.height),
        range(0, w, tile.width),
        range(0, shape.out_channels, engine.rows),
    ):
        cycles = 0
        box = np.s_[..., y0 : y0 + tile.height, x0 : x0 + tile.width]
        for ti, ni in product(range(t), range(n)):
            worst = 0
            for ci in range(c0, min(c0 + engine.columns, c_in)):
                valid = window[ti, ni, ci][box].ravel().astype(bool)
                for r in range(r0, min(r0 + engine.rows, shape.out_channels)):
                    costs = count[ti, ni, r][box].ravel()[valid]
                    pairs, empty = pairs + int(costs.sum()), empty + int((costs == 0).sum())
                    held = np.maximum(costs, engine.empty_window_cycles)
                    worst = max(
                        [worst] + [int(held[pe :: engine.parallelism].sum()) for pe in range(engine.parallelism)]
                    )
            cycles += worst + engine.tile_sync_cycles
        iterations.append(cycles)
    return iterations, pairs, empty


@every_shape
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("density", "empty"), [(0.0, 1), (1.0, 1), (0.3, 1), (0.3, 0), (0.3, 3)])
def test_backward_conv_agrees_with_the_contract_and_the_oracle(
    shape: ConvShape, tile: TileSize, mode: str, density: float, empty: int
) -> None:
    rng = np.random.default_rng(5)
    engine = backward_engine(mode=mode, empty_window_cycles=empty, tile_sync_cycles=2, parallelism=3)
    in_map, out_map, kernels = maps(shape)
    mask, window = bits(rng, out_map, density), bits(rng, in_map, density)
    dm, weight = values(rng, out_map) * mask, values(rng, kernels)
    run = backward_conv(engine, tile, shape, mask, window, dm, weight)
    kept = window if mode in ("dual", "output_only") else np.ones_like(window)
    np.testing.assert_allclose(run.values, transposed_convolution(shape, dm, weight) * kept, rtol=1e-4, atol=1e-5)

    iterations, pairs, empty_tags = contract_backward(engine, tile, shape, mask, window)
    assert run.iteration_cycles == iterations
    assert run.cycles == sum(iterations)
    assert run.pe_array == Actions(
        fp16_multiply=pairs,
        fp16_add=pairs,
        register_access=4 * pairs,
        priority_encode=0 if mode == "dense" else pairs + empty_tags,
    )
    assert run.acc == Actions(fp16_add=int(kept.sum()) * shape.out_channels)


def test_backward_conv_without_values_counts_the_same() -> None:
    rng = np.random.default_rng(6)
    shape, tile = SHAPES["3x3"]
    in_map, out_map, kernels = maps(shape)
    mask, window = bits(rng, out_map), bits(rng, in_map)
    bare = backward_conv(backward_engine(), tile, shape, mask, window)
    full = backward_conv(
        backward_engine(), tile, shape, mask, window, values(rng, out_map) * mask, values(rng, kernels)
    )
    assert (bare.iteration_cycles, bare.pe_array, bare.acc) == (full.iteration_cycles, full.pe_array, full.acc)
    assert not bare.values.any()


def test_backward_fc_agrees_with_the_contract_and_the_oracle() -> None:
    rng = np.random.default_rng(7)
    dm, weight = values(rng, (3, 1, 5)), values(rng, (5, 7))
    run = backward_fc(backward_engine(), FcShape(3, 1, 7, 5), dm, weight)
    np.testing.assert_allclose(run.values, np.einsum("tno,oi->tni", dm, weight), rtol=1e-4, atol=1e-5)
    assert run.iteration_cycles == [c(3, 2)] * (c(7, 2) * c(5, 2))
    assert run.cycles == c(5, 2) * c(7, 2) * c(3, 2)
    assert run.pe_array == Actions(fp16_multiply=3 * 5 * 7, register_access=2 * 3 * 5 * 7)
    assert run.acc == Actions(fp16_add=3 * 5 * 7)


@every_shape
def test_the_encoding_layer_agrees_with_the_contract_and_the_oracle(shape: ConvShape, tile: TileSize) -> None:
    rng = np.random.default_rng(8)
    engine = backward_engine(tile_sync_cycles=3)
    in_map, out_map, kernels = maps(shape)
    analog, weight, bias, dm = (values(rng, size) for size in (in_map, kernels, kernels[:1], out_map))
    forward = encode_forward(engine, tile, shape, analog, weight, bias)
    update = encode_weight_gradient(engine, tile, shape, analog, dm)
    np.testing.assert_allclose(forward.values, convolution(shape, analog, weight, bias), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(update.values, weight_gradient(shape, analog, dm), rtol=1e-4, atol=1e-4)

    taps = shape.kernel[0] * shape.kernel[1]
    rows, columns, tiles = c(shape.in_channels, 2), c(shape.out_channels, 2), output_tiles(shape, tile)
    per_tile = [shape.samples * (c(p * q, 2) * taps + 3) for p, q in tiles]
    assert forward.iteration_cycles == update.iteration_cycles == [x for x in per_tile for _ in range(rows)] * columns
    assert forward.cycles == rows * columns * sum(per_tile)
    results = shape.samples * shape.out_height * shape.out_width * shape.in_channels * shape.out_channels
    macs = results * taps
    assert forward.pe_array == Actions(fp16_multiply=macs, fp16_add=macs, register_access=4 * macs)
    assert update.pe_array == forward.pe_array
    assert forward.acc == Actions(fp16_add=results)
    assert update.acc == Actions(fp16_add=shape.samples * len(tiles) * shape.in_channels * shape.out_channels * taps)


def test_the_encoding_layer_cycles_match_a_hand_count() -> None:
    # 1x3 map, 1x2 kernel, P = 2: positions (0, 1) for taps 0 and 1, position 2 for taps 0 and 1, 4 cycles of sync
    shape = ConvShape(2, 1, 1, 1, 4, 1, 1, 3, (1, 2), (1, 1), (0, 0))
    analog = np.arange(8, dtype=np.float32).reshape(2, 1, 1, 1, 4)
    weight = np.array([1, 10], np.float32).reshape(1, 1, 1, 2)
    run = encode_forward(backward_engine(), tile_size(8, 8), shape, analog, weight, None)
    assert run.iteration_cycles == [2 * (4 + 4)]
    assert run.values.ravel().tolist() == [10, 21, 32, 54, 65, 76]


def test_soma_fires_resets_and_masks_as_in_the_equations() -> None:
    x = np.array([0.5, 0.25, 1.0, 0.0], np.float32).reshape(4, 1, 1)
    results = {reset: soma(x, 0.5, 0.5, (0.125, 0.75), reset) for reset in ("zero", "subtract", "none")}
    assert results["zero"][1].ravel().tolist() == [0.5, 0.25, 1.125, 0.0]
    assert results["subtract"][1].ravel().tolist() == [0.5, 0.25, 1.125, 0.3125]
    assert results["none"][1].ravel().tolist() == [0.5, 0.5, 1.25, 0.625]
    spikes, _, window = results["zero"]
    assert spikes.ravel().tolist() == [1, 0, 1, 0]
    assert window.ravel().tolist() == [1, 1, 0, 0]
    assert spikes.dtype == window.dtype == np.uint8


def test_the_window_is_open_at_both_ends() -> None:
    x = np.array([0.25, 0.5, 0.75], np.float32).reshape(1, 1, 3)
    assert soma(x, 0.5, 0.0, (0.25, 0.75), "zero")[2].ravel().tolist() == [0, 1, 0]


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_grad_is_the_derivative_of_soma_with_the_surrogate(reset: Any, detach_reset: bool) -> None:
    """Oracle: forward-mode differentiation, neuron by neuron and input by input."""
    rng = np.random.default_rng(9)
    steps, alpha, eta, threshold = 5, 0.5, 0.75, 0.4
    x, ds = rng.random((steps, 2, 6)).astype(np.float32), values(rng, (steps, 2, 6))
    s, m, window = soma(x, threshold, alpha, (0.1, 0.9), reset)
    dm = grad(ds, m, s, window, alpha, eta, reset, detach_reset, threshold)
    for source in range(steps):
        slope, expected = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
        spike_slope = np.zeros(x.shape[1:])
        for t in range(source, steps):
            kept = slope * (1.0 - s[t - 1] if reset == "zero" else 1.0) if t > source else 0.0 * slope
            height = {"zero": m[t - 1], "subtract": threshold, "none": 0.0}[reset] if t > source else 0.0
            dropped = 0.0 if detach_reset else spike_slope * height
            slope = alpha * (kept - dropped) + (t == source)
            spike_slope = eta * window[t] * slope
            expected += ds[t] * spike_slope
        np.testing.assert_allclose(dm[source], expected, rtol=1e-4, atol=1e-5)


def test_grad_needs_no_membrane_outside_the_window() -> None:
    """Decompressed potentials (0 where Soma kept none) give the same: eq. 2.4 only counts inside the window."""
    rng = np.random.default_rng(10)
    x, ds = rng.random((4, 1, 20)).astype(np.float32), values(rng, (4, 1, 20))
    s, m, window = soma(x, 0.4, 0.5, (0.2, 0.6), "zero")
    full = grad(ds, m, s, window, 0.5, 1.0, "zero", False)
    np.testing.assert_array_equal(grad(ds, m * window, s, window, 0.5, 1.0, "zero", False), full)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 0)), ((2, 2), (3, 3), (0, 0))]
)
def test_pooling_and_its_transpose_are_adjoint(kernel: Any, stride: Any, padding: Any) -> None:
    rng = np.random.default_rng(11)
    spikes = bits(rng, (2, 1, 2, 5, 7))
    current = average_pool(spikes, kernel, stride, padding)
    assert current.shape == (
        2,
        1,
        2,
        (5 + 2 * padding[0] - kernel[0]) // stride[0] + 1,
        (7 - kernel[1]) // stride[1] + 1,
    )
    y0 = stride[0] - padding[0]
    first = spikes[..., y0 : y0 + kernel[0], : kernel[1]].astype(np.float64).mean(axis=(-2, -1))
    np.testing.assert_allclose(current[..., 1, 0], first)
    dm = values(rng, current.shape)
    below = average_pool_transpose(dm, kernel, stride, padding, (5, 7))
    np.testing.assert_allclose((below * spikes).sum(), (dm * current).sum(), rtol=1e-4)
    assert below.shape == spikes.shape


def test_wrong_inputs_are_refused_by_name() -> None:
    shape, tile = SHAPES["3x3"]
    in_map, out_map, kernels = maps(shape)
    spikes, weight, mask = np.zeros(in_map, np.uint8), np.zeros(kernels), np.zeros(out_map, np.uint8)
    with pytest.raises(ValueError, match=r"^spikes: expected shape \(3, 1, 4, 5, 5\); got \(3, 4, 5, 5\)$"):
        forward_conv(forward_engine(), tile, shape, spikes[:, 0], weight, None)
    with pytest.raises(ValueError, match=r"^spikes: expected only 0 and 1; got values from 2 to 2$"):
        forward_conv(forward_engine(), tile, shape, spikes + 2, weight, None)
    with pytest.raises(ValueError, match=r"^bias: expected shape \(3,\); got \(1,\)$"):
        forward_conv(forward_engine(), tile, shape, spikes, weight, np.zeros(1))
    with pytest.raises(ValueError, match=r"^grad, weight: expected both or neither; got one$"):
        backward_conv(backward_engine(), tile, shape, mask, spikes, weight=weight)
    with pytest.raises(ValueError, match=r"^reset: expected 'zero', 'subtract' or 'none'; got 'hard'$"):
        soma(np.zeros((1, 1, 1)), 1.0, 0.5, (0.0, 1.0), "hard")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^threshold: expected a value for reset 'subtract' without detach_reset; got None$"
    ):
        grad(*[np.zeros((1, 1, 1))] * 4, 0.5, 1.0, "subtract", False)
