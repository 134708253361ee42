"""Backward Engine (section 3.2.3), fast form: exact cycles of the dual-sparsity convolution from the two masks.

The stepped twin is h2sim.reference.backward; property tests hold the two equal.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from h2sim.activity import Actions
from h2sim.arch.schema import BackwardEngine, Latency, TileSize
from h2sim.arrays import Bytes, Ints
from h2sim.engines.pairs import PairCounts, PairsKey, count_pairs, pairs_of, side_by_side, slowest_of
from h2sim.engines.work import EngineWork, exposed_sweep, sweep_cycles
from h2sim.shapes import ConvShape, FcShape, Tile, ceil_div, groups_of, tiles_of
from h2sim.trace.maps import Maps

OPERAND_READ, REGISTER = 1, 1  # cycles of these pipeline stages, as built in RTL (reports/rtl.md)
REGISTERS_PER_PAIR = 4  # gradient read, weight read, partial sum read and write [A]


def conv(engine: BackwardEngine, tile: TileSize, shape: ConvShape, grad: Bytes, window: Bytes) -> EngineWork:
    """The gradient of a convolution to its input neurons (figure 3.6), counted from its two masks.

    grad: packed dm~ of the outputs, uint8 (T*N, ceil(C_out*H_out*W_out / 8)); window: packed ds~ of the inputs,
    uint8 (T*N, ceil(C_in*H*W / 8)).
    """
    if shape.groups > 1:
        return conv_of(engine, tile, shape, _grouped_pairs(engine, tile, shape, grad, window))
    return conv_of(engine, tile, shape, count_pairs(PairsKey.of(engine, tile, shape), shape, grad, window))


def counts_of(
    engine: BackwardEngine, tile: TileSize, shape: ConvShape, maps: Maps, layer: str, source: str
) -> PairCounts:
    """The counts of a layer of an open trace against its input `source`, from what the trace keeps or counted now."""
    key = PairsKey.of(engine, tile, shape)
    if shape.groups == 1:
        return pairs_of(maps, key, shape, layer, source)
    make = partial(_grouped_pairs, engine, tile, shape, maps.packed(layer, "grad"), maps.packed(source, "needed"))
    return maps.kept.get(("pairs of groups", layer, source, key, engine.rows, engine.columns), make)


def conv_of(engine: BackwardEngine, tile: TileSize, shape: ConvShape, counts: PairCounts) -> EngineWork:
    """The same from its counts, those of this engine's rows and columns, of groups those of its passes."""
    column_groups, row_groups = blocks_of(engine, shape)
    cycles, repeats = counts.cycles, shape.samples // counts.cycles.shape[0]
    summed = cycles.sum(axis=0, dtype=np.int64) * repeats + shape.samples * engine.tile_sync_cycles
    per_iteration = np.broadcast_to(summed, (column_groups, summed.shape[1], row_groups)).copy()
    last_group = cycles[:, :, :, -1].astype(np.int64) + engine.tile_sync_cycles
    exposed = _exposed(engine, tile, shape, per_iteration, last_group)
    return _work(engine, shape, per_iteration, (counts.pairs, counts.empty, counts.dealt), exposed)


def blocks_of(engine: BackwardEngine, shape: ConvShape) -> tuple[int, int]:
    """Column groups over all passes, and row groups of each: those of a layer's gradient to its inputs."""
    one = shape.group
    packed = shape.passes((one.out_channels, engine.rows), (one.in_channels, engine.columns))
    (ins, outs), *_ = packed
    return len(packed) * ceil_div(len(ins), engine.columns), ceil_div(len(outs), engine.rows)


def _grouped_pairs(engine: BackwardEngine, tile: TileSize, shape: ConvShape, grad: Bytes, window: Bytes) -> PairCounts:
    """The counts of a convolution of groups: of each group alone, and those of a pass wait for the slowest [A]."""
    one = shape.group
    key, found = PairsKey.of(engine, tile, one), []
    for ins, outs in shape.passes((one.out_channels, engine.rows), (one.in_channels, engine.columns)):
        together = [
            count_pairs(
                key,
                one,
                _channels(grad, range(first, first + one.out_channels), shape.out_height * shape.out_width),
                _channels(window, range(other, other + one.in_channels), shape.in_height * shape.in_width),
            )
            for first, other in zip(outs[:: one.out_channels], ins[:: one.in_channels], strict=True)
        ]
        slowest = slowest_of(together)
        by_column = (slowest.cycles.shape[0], ceil_div(len(ins), engine.columns), *slowest.cycles.shape[2:])
        found.append(replace(slowest, cycles=np.broadcast_to(slowest.cycles, by_column)))
    return side_by_side(found)


def _channels(packed: Bytes, channels: range, positions: int) -> Bytes:
    """Some channels of a packed mask (samples, bytes), packed anew."""
    bits = np.unpackbits(packed, axis=-1)[:, channels.start * positions : channels.stop * positions]
    return np.packbits(bits, axis=-1)


def _exposed(engine: BackwardEngine, tile: TileSize, shape: ConvShape, per_iteration: Ints, last_group: Ints) -> int:
    """Cycles that Grad still sweeps after the array's last one.

    last_group: cycles of the last row group, tile_sync_cycles included, (samples or 1, column groups or 1, tiles).
    Samples pass in the order of falling timesteps.
    """
    blocks = per_iteration.shape[0] * per_iteration.shape[1]
    steps = np.broadcast_to(last_group, (shape.samples, *per_iteration.shape[:2]))
    steps = steps.reshape(shape.timesteps, shape.batch, blocks)[::-1].reshape(shape.samples, blocks)
    tiles = tiles_of(shape.in_height, shape.in_width, tile.height, tile.width)
    sweep = np.tile(sweep_cycles(tiles, engine.parallelism), per_iteration.shape[0])
    return exposed_sweep(per_iteration, np.cumsum(steps, axis=0).T, sweep[:, None])


def _work(
    engine: BackwardEngine, shape: ConvShape, cycles: Ints, events: tuple[int, int, int], exposed: int
) -> EngineWork:
    """events: pairs, empty tags and dealt positions; every dealt position costs Acc an addition per output channel."""
    pairs, empty, dealt = events
    finders = pairs + empty if engine.mode != "dense" else 0
    pe_array = Actions(
        fp16_multiply=pairs, fp16_add=pairs, register_access=REGISTERS_PER_PAIR * pairs, priority_encode=finders
    )
    acc = Actions(fp16_add=dealt * shape.group.out_channels)
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=pe_array,
        acc=acc,
        useful_operations=pairs,
        peak_operations=_peak(engine, cycles),
        neuron_cycles=exposed,
    )


def fc(engine: BackwardEngine, shape: FcShape, steps: int = 1) -> EngineWork:
    """The gradient of a fully connected layer to its inputs. It is dense: the finders are off.

    steps: for how many timesteps Grad uses each result; of a mean over time `shape` has one timestep and steps is T.
    """
    groups = ceil_div(shape.in_features, engine.columns), ceil_div(shape.out_features, engine.rows)
    cycles = np.full((groups[0], 1, groups[1]), ceil_div(shape.samples, engine.parallelism), np.int64)
    return _dense_fc(engine, shape, cycles, steps)


def _dense_fc(engine: BackwardEngine, shape: FcShape, cycles: Ints, steps: int = 1) -> EngineWork:
    """Every product is made once, and Acc alone adds; the neuron unit takes the samples of each turn of the lanes."""
    macs = shape.samples * shape.in_features * shape.out_features
    pe_array = Actions(fp16_multiply=macs, register_access=2 * macs)
    lanes = np.array([len(g) for g in groups_of(shape.samples, engine.parallelism)], np.int64)
    exposed = exposed_sweep(cycles, np.tile(np.arange(1, len(lanes) + 1), (cycles.shape[0], 1)), steps * lanes)
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=pe_array,
        acc=Actions(fp16_add=macs),
        useful_operations=macs,
        peak_operations=_peak(engine, cycles),
        neuron_cycles=exposed,
    )


def encode_forward(engine: BackwardEngine, tile: TileSize, shape: ConvShape, steps: int = 1) -> EngineWork:
    """The encoding layer, forward: a dense convolution of an analog input at every timestep of `shape`.

    steps: for how many timesteps Soma uses each current. With encode_once `shape` has one timestep and steps is T.
    """
    cycles, macs = _encode_cycles(engine, tile, shape)
    outputs = shape.samples * shape.out_height * shape.out_width * shape.out_channels
    acc = Actions(fp16_add=outputs * shape.group.in_channels)
    tiles = tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    sweep = np.tile(sweep_cycles(tiles, engine.parallelism), cycles.shape[0])
    per_sample = cycles[:, :, -1].reshape(-1, 1) // shape.samples
    exposed = exposed_sweep(cycles, per_sample * np.arange(1, shape.samples + 1), steps * sweep[:, None])
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=_mac_actions(macs),
        acc=acc,
        useful_operations=macs,
        peak_operations=_peak(engine, cycles),
        neuron_cycles=exposed,
    )


def encode_weight_gradient(engine: BackwardEngine, tile: TileSize, shape: ConvShape) -> EngineWork:
    """The weight gradient of the encoding layer: the loop of `encode_forward` with gradients in place of weights."""
    cycles, macs = _encode_cycles(engine, tile, shape)
    weights = shape.kernel[0] * shape.kernel[1] * shape.group.in_channels * shape.out_channels
    acc = Actions(fp16_add=shape.samples * cycles.shape[1] * weights)
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=_mac_actions(macs),
        acc=acc,
        useful_operations=macs,
        peak_operations=_peak(engine, cycles),
    )


def analog_fc_forward(engine: BackwardEngine, shape: FcShape) -> EngineWork:
    """A fully connected layer of analog inputs, forward [A]: dense; rows are inputs, columns outputs."""
    groups = ceil_div(shape.out_features, engine.columns), ceil_div(shape.in_features, engine.rows)
    cycles = np.full((groups[0], 1, groups[1]), ceil_div(shape.samples, engine.parallelism), np.int64)
    return _dense_fc(engine, shape, cycles)


def analog_fc_weight_gradient(engine: BackwardEngine, shape: FcShape) -> EngineWork:
    """The weight gradient of a fully connected layer of analog inputs [A]: the loop of `analog_fc_forward`.

    The P products of a group are added one after the other to one partial sum, which Acc adds to dw at the end.
    """
    groups = ceil_div(shape.out_features, engine.columns), ceil_div(shape.in_features, engine.rows)
    cycles = np.full((groups[0], 1, groups[1]), ceil_div(shape.samples, engine.parallelism), np.int64)
    macs = shape.samples * shape.in_features * shape.out_features
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=_mac_actions(macs),
        acc=Actions(fp16_add=shape.in_features * shape.out_features),
        useful_operations=macs,
        peak_operations=_peak(engine, cycles),
    )


def _encode_cycles(engine: BackwardEngine, tile: TileSize, shape: ConvShape) -> tuple[Ints, int]:
    """Cycles of every grid iteration, int64 (column groups, tiles, row groups), and the products of the whole layer.

    A tile takes samples * (ceil(positions / parallelism) * kh * kw + tile_sync_cycles) cycles.
    """
    tiles: list[Tile] = tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    offsets = shape.kernel[0] * shape.kernel[1]
    per_tile = np.array(
        [ceil_div(t.positions, engine.parallelism) * offsets + engine.tile_sync_cycles for t in tiles], np.int64
    )
    one = shape.group
    packed = shape.passes((one.in_channels, engine.rows), (one.out_channels, engine.columns))
    (ins, outs), *_ = packed
    groups = len(packed) * ceil_div(len(outs), engine.columns), ceil_div(len(ins), engine.rows)
    cycles = np.broadcast_to((shape.samples * per_tile)[None, :, None], (groups[0], len(tiles), groups[1])).copy()
    outputs = shape.samples * shape.out_height * shape.out_width * shape.out_channels
    return cycles, outputs * one.in_channels * offsets


def _mac_actions(macs: int) -> Actions:
    return Actions(fp16_multiply=macs, fp16_add=macs, register_access=REGISTERS_PER_PAIR * macs)


def _peak(engine: BackwardEngine, cycles: Ints) -> int:
    return int(cycles.sum()) * engine.rows * engine.columns * engine.parallelism


def depth_cycles(engine: BackwardEngine, latency: Latency, neuron_cycles: int) -> int:
    """Cycles from the issue of a pair to its result (figure 3.6): the whole fill of an FC layer.

    operand read + multiply + add x (accumulate + levels of the Acc tree over the rows + partial sum) + register +
    neuron_cycles, the depth of Grad or Soma, 0 where neither follows.
    """
    levels = 1 + (engine.rows - 1).bit_length() + 1
    return OPERAND_READ + latency.fp16_multiply + levels * latency.fp16_add + REGISTER + neuron_cycles


def fill_cycles(engine: BackwardEngine, latency: Latency, neuron_cycles: int) -> int:
    """Cycles of fill of a convolution or encoding layer: max(0, finder + depth_cycles - tile_sync_cycles).

    The sync of the last tile passes while its last results are still on their way. What the neuron unit still sweeps
    comes on top (EngineWork.neuron_cycles).
    """
    return max(0, latency.finder + depth_cycles(engine, latency, neuron_cycles) - engine.tile_sync_cycles)
