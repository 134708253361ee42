"""Turns layers of the LUT engines into what the RTL sees: configuration registers and buffer images."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import ForwardEngine, TileSize, WeightUpdateEngine
from h2sim.arrays import Array
from h2sim.reference.forward import array_rows
from h2sim.rtl.bench import Case, Image
from h2sim.rtl.fixed import FixedNeuron
from h2sim.rtl.images import (
    ONE_POSITION,
    cut,
    lane_counts,
    over,
    packed,
    padded_to,
    planes_of,
    sweep_shape,
    tile_counts,
)
from h2sim.shapes import ConvShape, FcShape, ceil_div


def forward_conv(
    engine: ForwardEngine,
    tile: TileSize,
    shape: ConvShape,
    spikes: Array,
    weight: Array,
    bias: Array,
    neuron: FixedNeuron,
    planes: int = 1,
) -> Case:
    """The case of a convolution, with the arguments of reference.forward.forward_conv as integers."""
    s, n, v = shape, engine.sub_luts, engine.sub_lut_inputs
    rows = array_rows(engine, s.kernel, range(s.in_channels))
    row_groups, column_groups = ceil_div(len(rows), engine.rows), ceil_div(s.out_channels, engine.columns)
    operands = np.zeros((column_groups * engine.columns, row_groups * engine.rows, n, v), np.int64)
    windows = np.zeros((s.samples, s.out_height, s.out_width, row_groups * engine.rows, n * v), np.int64)
    (ph, pw), (sh, sw) = s.padding, s.stride
    maps = np.pad(spikes.reshape(s.samples, *spikes.shape[2:]), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    for r, row in enumerate(rows):
        for j, ky in enumerate(row.kernel_rows):
            for i, kx in enumerate(row.kernel_columns):
                operands[: s.out_channels, r, j, i] = weight[:, row.channel, ky, kx]
                seen = maps[:, row.channel, ky : ky + sh * s.out_height : sh, kx : kx + sw * s.out_width : sw]
                windows[:, :, :, r, j * v + i] = seen[:, : s.out_height, : s.out_width]
    operands = operands.reshape(column_groups, engine.columns, row_groups, engine.rows, n, v)
    lanes = operands.transpose(0, 2, 5, 3, 1, 4).reshape(column_groups, row_groups, v, -1)
    words = packed(planes_of(windows, planes)).transpose(0, 1, 4, 2, 3)
    tiles = cut(words, tile)  # (plane, samples, rows, tiles y, tiles x, y, x)
    counts = tile_counts(tile, s.out_height, s.out_width)
    lane_groups = lane_counts(s.samples, engine.parallelism)
    groups = lane_groups["lane_groups"]
    tiles = padded_to(tiles, planes, groups * engine.parallelism, *tiles.shape[2:])
    tiles = tiles.reshape(planes, groups, engine.parallelism, row_groups, engine.rows, *tiles.shape[3:])
    # tiles y, tiles x, row group, lane group, plane, y, x | row, lane
    by_lane = tiles.transpose(5, 6, 3, 1, 0, 7, 8, 4, 2)
    by_lane = by_lane.reshape(*by_lane.shape[:7], -1)
    images = {
        "operands": Image(over(lanes, {1: counts["tiles_y"], 2: counts["tiles_x"]})),
        "spikes": Image(over(by_lane, {0: column_groups})),
        "bias": Image(padded_to(bias, column_groups * engine.columns).reshape(column_groups, -1)),
    }
    config = counts | lane_groups | neuron.registers() | {"buffer_mode": 0, "batch": s.batch, "timesteps": s.timesteps}
    config |= {"column_groups": column_groups, "row_groups": row_groups, "planes": planes}
    config |= {"entries": engine.sub_lut_size, "edge_entries": engine.sub_lut_size}
    return Case(config, images, sweep_shape(column_groups, tile, counts, s, engine.parallelism))


def forward_fc(
    engine: ForwardEngine,
    shape: FcShape,
    spikes: Array,
    weight: Array,
    bias: Array,
    neuron: FixedNeuron,
    planes: int = 1,
) -> Case:
    """The case of a fully connected layer, with the arguments of reference.forward.forward_fc as integers."""
    s, n, p = shape, engine.sub_luts, engine.parallelism
    per_entry, entries = engine.rows * n, engine.sub_lut_size
    row_groups, column_groups = ceil_div(s.in_features, per_entry * entries), ceil_div(s.out_features, engine.columns)
    features = row_groups * entries * per_entry
    words = padded_to(weight, column_groups * engine.columns, features)
    words = words.reshape(column_groups, engine.columns, row_groups, entries, engine.rows, n)
    lanes = words.transpose(0, 2, 3, 4, 1, 5).reshape(column_groups, row_groups, entries, -1)
    lane_groups = lane_counts(s.samples, p)
    groups = lane_groups["lane_groups"]
    bits = planes_of(padded_to(spikes.reshape(s.samples, -1), groups * p, features), planes)
    bits = bits.reshape(planes, groups, p, row_groups, entries, engine.rows, n)
    spread = np.zeros((*bits.shape, engine.sub_lut_inputs), np.int64)
    spread[..., 0] = bits  # a sub-LUT's spike is the lowest bit of what would be its address
    sent = packed(spread.reshape(*bits.shape[:-1], -1)).transpose(3, 1, 0, 4, 5, 2)
    sent = sent.reshape(row_groups, groups, planes, entries, -1)
    images = {
        "operands": Image(over(lanes, {1: 1, 2: 1})),
        "spikes": Image(over(sent, {0: column_groups, 1: 1, 2: 1, 6: 1})),
        "bias": Image(padded_to(bias, column_groups * engine.columns).reshape(column_groups, -1)),
    }
    last = ceil_div(s.in_features - (row_groups - 1) * per_entry * entries, per_entry)
    config = ONE_POSITION | lane_groups | neuron.registers() | {"buffer_mode": 1, "batch": s.batch}
    config |= {"timesteps": s.timesteps, "column_groups": column_groups, "row_groups": row_groups, "planes": planes}
    config |= {"entries": entries, "edge_entries": last}
    return Case(config, images, (column_groups, 1, 1, s.timesteps, s.batch, 1))


def weight_update_conv(
    engine: WeightUpdateEngine, tile: TileSize, shape: ConvShape, spikes: Array, grad: Array, planes: int = 1
) -> Case:
    """The case of a convolution, with the arguments of reference.weight_update.weight_update_conv as integers."""
    s, n, v, p = shape, engine.sub_luts, engine.sub_lut_inputs, engine.parallelism
    step_groups, column_groups = ceil_div(s.timesteps, engine.rows), ceil_div(s.out_channels, engine.columns)
    counts = tile_counts(tile, s.out_height, s.out_width)
    segments = ceil_div(tile.width, n * v)
    values = cut(
        padded_to(grad, step_groups * engine.rows, s.batch, column_groups * engine.columns, *grad.shape[3:]), tile
    )
    values = _segments(values, segments, n, v)  # (t, n, c, tiles y, tiles x, y, segment, sub-LUT, input)
    shape_of = values.shape
    values = values.reshape(step_groups, engine.rows, s.batch, column_groups, engine.columns, *shape_of[3:])
    # column group, tiles y, tiles x, sample, step group, y, segment, input | row, column, sub-LUT
    lanes = values.transpose(3, 5, 6, 2, 0, 7, 8, 10, 1, 4, 9)
    lanes = lanes.reshape(*lanes.shape[:8], -1)
    maps = np.zeros((s.timesteps, s.batch, s.in_channels, *s.kernel, s.out_height, s.out_width), np.int64)
    (ph, pw), (sh, sw) = s.padding, s.stride
    padded = np.pad(spikes, ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    for ky, kx in np.ndindex(*s.kernel):
        seen = padded[..., ky : ky + sh * s.out_height : sh, kx : kx + sw * s.out_width : sw]
        maps[:, :, :, ky, kx] = seen[..., : s.out_height, : s.out_width]
    offsets = s.in_channels * s.kernel[0] * s.kernel[1]
    offset_groups = ceil_div(offsets, p)
    flat = maps.reshape(s.timesteps, s.batch, offsets, s.out_height, s.out_width)
    flat = padded_to(flat, step_groups * engine.rows, s.batch, offset_groups * p, *flat.shape[3:])
    seen = _segments(cut(flat, tile), segments, n, v).reshape(*flat.shape[:3], *shape_of[3:7], n * v)
    words = packed(planes_of(seen, planes))
    words = words.reshape(planes, step_groups, engine.rows, s.batch, offset_groups, p, *words.shape[4:])
    # tiles y, tiles x, sample, step group, y, segment, plane, offset group | row, lane
    sent = words.transpose(6, 7, 3, 1, 8, 9, 0, 4, 2, 5)
    sent = sent.reshape(*sent.shape[:8], -1)
    images = {"operands": Image(lanes), "spikes": Image(over(sent, {0: column_groups}))}
    config = {name: counts[name] for name in ("tiles_y", "tiles_x", "height", "edge_height")}
    config |= {"segments": segments, "edge_segments": ceil_div(counts["edge_width"], n * v), "buffer_mode": 0}
    config |= {"planes": planes}
    config |= {"batch": s.batch, "column_groups": column_groups, "step_groups": step_groups}
    config |= {"offset_groups": offset_groups, "entries": engine.sub_lut_size}
    return Case(config, images, (column_groups, offset_groups))


def _segments(tiles: Array, segments: int, sub_luts: int, inputs: int) -> Array:
    """The last axis of tiles cut into (segment, sub-LUT, input), with zeros beyond the tile."""
    wide = padded_to(tiles, *tiles.shape[:-1], segments * sub_luts * inputs)
    return wide.reshape(*tiles.shape[:-1], segments, sub_luts, inputs)


def weight_update_fc(engine: WeightUpdateEngine, shape: FcShape, spikes: Array, grad: Array, planes: int = 1) -> Case:
    """The case of an FC layer, with the arguments of reference.weight_update.weight_update_fc as integers."""
    s, p = shape, engine.parallelism
    step_groups, column_groups = ceil_div(s.timesteps, engine.rows), ceil_div(s.out_features, engine.columns)
    offset_groups = ceil_div(s.in_features, p)
    values = padded_to(grad, step_groups * engine.rows, s.batch, column_groups * engine.columns)
    values = values.reshape(step_groups, engine.rows, s.batch, column_groups, engine.columns)
    first = np.zeros((column_groups, s.batch, step_groups, engine.rows, engine.columns, engine.sub_luts), np.int64)
    first[..., 0] = values.transpose(3, 2, 0, 1, 4)
    lanes = first.reshape(column_groups, s.batch, step_groups, -1)
    bits = planes_of(padded_to(spikes, step_groups * engine.rows, s.batch, offset_groups * p), planes)
    bits = bits.reshape(planes, step_groups, engine.rows, s.batch, offset_groups, p).transpose(3, 1, 0, 4, 2, 5)
    sent = bits.reshape(s.batch, step_groups, planes, offset_groups, -1)
    images = {
        "operands": Image(over(lanes, {1: 1, 2: 1, 5: 1, 6: 1, 7: 1})),
        "spikes": Image(over(sent, {0: column_groups, 1: 1, 2: 1, 5: 1, 6: 1})),
    }
    names = ("tiles_y", "tiles_x", "height", "edge_height", "segments", "edge_segments", "entries", "buffer_mode")
    config = dict.fromkeys(names, 1) | {"batch": s.batch, "column_groups": column_groups}
    config |= {"step_groups": step_groups, "offset_groups": offset_groups, "planes": planes}
    return Case(config, images, (column_groups, offset_groups))
