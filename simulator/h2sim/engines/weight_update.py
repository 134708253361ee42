"""Weight Update Engine (section 3.2.2), fast form: exact cycles and events in closed form.

The stepped twin is h2sim.reference.weight_update; property tests hold the two equal.
"""

from __future__ import annotations

import numpy as np

from h2sim.activity import Actions
from h2sim.arch.schema import Latency, TileSize, WeightUpdateEngine
from h2sim.arrays import Ints
from h2sim.engines.work import EngineWork, programmed_late
from h2sim.shapes import ConvShape, FcShape, ceil_div, tiles_of


def conv(engine: WeightUpdateEngine, tile: TileSize, shape: ConvShape, planes: int = 1) -> EngineWork:
    """The weight gradient of a convolution (figure 3.4).

    The n sub-LUTs of a PE hold the sums of a segment of n*v gradients, v each. All kh * kw * C_in offsets of the spikes
    then pass by, P a cycle. A segment takes z cycles of programming and ceil(offsets / P) cycles of work, for
    z = sub_lut_size (0 without LUTs); if lut_double_buffered, the larger of both. Where lanes take channels only
    (engine.lanes), the work is kh * kw * ceil(C_in / P) cycles. planes: B, the bits of counts [A]: all offsets pass
    once a plane. Groups of channels share a pass (ConvShape.passes) [A]: all their offsets pass by, and a column reads
    those of its own.
    """
    one, v = shape.group, engine.sub_lut_inputs
    offsets = one.in_channels * shape.kernel[0] * shape.kernel[1]
    packed = shape.passes((0, 0), (one.out_channels, engine.columns))
    tiles = tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    segments = np.array([t.height * ceil_div(t.width, engine.sub_luts * v) for t in tiles], np.int64)
    sub_luts_used = sum(t.height * _sub_luts_of_width(engine, t.width) for t in tiles)
    passes = shape.batch * ceil_div(shape.timesteps, engine.rows)
    program = engine.sub_lut_size if engine.lut else 0
    work = np.repeat(
        [planes * _turns(engine, shape.kernel, len(ins)) for ins, _ in packed],
        [ceil_div(len(outs), engine.columns) for _, outs in packed],
    )  # of a segment, by column group
    hidden = engine.lut and engine.lut_double_buffered
    each = np.maximum(work, program) if hidden else work + program
    cycles: Ints = passes * segments[None, :, None] * each[:, None, None]
    if hidden:
        cycles.flat[0] += program
        cycles.flat[-1] -= each[-1] - work[-1]
    segment_sets = shape.samples * shape.out_channels
    used = segment_sets * sub_luts_used
    passed = planes * offsets
    pe_array, acc = _conv_actions(engine, shape, passed, used, segment_sets * int(segments.sum()))
    slots = engine.sub_luts if engine.lut else engine.sub_luts * v
    useful = used * passed if engine.lut else segment_sets * shape.out_height * shape.out_width * passed
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=pe_array,
        acc=acc,
        useful_operations=useful,
        peak_operations=_peak(engine, cycles, slots),
    )


def _turns(engine: WeightUpdateEngine, kernel: tuple[int, int], channels: int) -> int:
    """Cycles in which the P lanes take all offsets of so many input channels."""
    taps = kernel[0] * kernel[1]
    if engine.lanes == "channels":
        return taps * ceil_div(channels, engine.parallelism)
    return ceil_div(taps * channels, engine.parallelism)


def _sub_luts_of_width(engine: WeightUpdateEngine, width: int) -> int:
    """How many sub-LUTs a row of `width` gradients fills, over all its segments of n*v gradients."""
    full, rest = divmod(width, engine.sub_luts * engine.sub_lut_inputs)
    return full * engine.sub_luts + ceil_div(rest, engine.sub_lut_inputs)


def _conv_actions(
    engine: WeightUpdateEngine, shape: ConvShape, offsets: int, used: int, segments: int
) -> tuple[Actions, Actions]:
    """Events of a convolution, of the PE array and of Acc.

    offsets: of all planes. used: sub-LUTs that are filled, and segments: segments that are loaded, over all samples,
    channels and tiles. Each is read once per offset.
    """
    acc_adds = segments * offsets
    if not engine.lut:
        values = shape.samples * shape.out_channels * shape.out_height * shape.out_width * offsets
        return Actions(register_access=values, fp16_add=values - acc_adds), Actions(fp16_add=acc_adds)
    z, v, reads = engine.sub_lut_size, engine.sub_lut_inputs, used * offsets
    pe_array = Actions(lut_read=reads, lut_write=used * z, fp16_add=reads - acc_adds)
    return pe_array, Actions(fp16_add=acc_adds + used * (z - 1 - v))


def fc(engine: WeightUpdateEngine, shape: FcShape, input_spikes: int, planes: int = 1) -> EngineWork:
    """The weight gradient of a fully connected layer: a PE holds one gradient and gives it, or 0, to each input.

    input_spikes: set bits of the input (T, N, in), of all planes; each makes a gradient of every output be read.
    planes: of counts, as in `conv`.
    """
    column_groups = ceil_div(shape.out_features, engine.columns)
    passes = shape.batch * ceil_div(shape.timesteps, engine.rows)
    turns = planes * ceil_div(shape.in_features, engine.parallelism)
    cycles = np.full((column_groups, 1, 1), passes * (1 + turns), np.int64)
    reads, loads = input_spikes * shape.out_features, shape.samples * shape.out_features
    events = dict(lut_read=reads, lut_write=loads) if engine.lut else dict(register_access=reads + loads)
    adds = planes * shape.samples * shape.in_features * shape.out_features
    slots = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=Actions(**events),
        acc=Actions(fp16_add=adds),
        useful_operations=adds,
        peak_operations=_peak(engine, cycles, slots),
    )


def _peak(engine: WeightUpdateEngine, cycles: Ints, slots: int) -> int:
    return int(cycles.sum()) * engine.rows * engine.columns * engine.parallelism * slots


def fill_cycles(engine: WeightUpdateEngine, latency: Latency) -> int:
    """Depth of the pipeline in cycles (figure 3.4).

    programmed_late + lut_read + fp16_add x (levels of the adders in a PE + levels of the Acc tree over the rows, which
    are timesteps + 1 for the partial sum).
    """
    inputs = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    levels = (inputs - 1).bit_length() + (engine.rows - 1).bit_length() + 1
    return programmed_late(engine, latency) + latency.lut_read + levels * latency.fp16_add
