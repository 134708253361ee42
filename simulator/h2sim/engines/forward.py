"""Forward Engine (section 3.2.1), fast form: exact cycles and events in closed form.

The stepped twin is h2sim.reference.forward; property tests hold the two equal.
"""

from __future__ import annotations

import numpy as np

from h2sim.activity import Actions
from h2sim.arch.schema import ForwardEngine, Latency, TileSize
from h2sim.arrays import Ints
from h2sim.engines.work import EngineWork, exposed_sweep, programmed_late, sweep_cycles, with_programming
from h2sim.shapes import ConvShape, FcShape, ceil_div, groups_of, tiles_of


def sub_kernels(engine: ForwardEngine, kernel: tuple[int, int]) -> int:
    """Array rows that one input channel takes: ceil(kh / n) * ceil(kw / v), for n sub-LUTs of v spikes in a PE."""
    return ceil_div(kernel[0], engine.sub_luts) * ceil_div(kernel[1], engine.sub_lut_inputs)


def conv(engine: ForwardEngine, tile: TileSize, shape: ConvShape, planes: int = 1) -> EngineWork:
    """A convolution of spikes through LUTs (figure 3.3).

    A PE takes one window per lane and cycle. A grid iteration takes B * L * positions cycles, and z more for
    programming its weights, with z = sub_lut_size (0 without LUTs). The P lanes take L = ceil(T*N / P) turns over batch
    and time, or T * ceil(N / P) over the samples of one timestep (engine.lanes).

    planes: B, the bits of counts [A]. In each turn they pass plane after plane, lowest first, each as binary windows;
    what a column sums is shifted by the number of its plane. LUTs are programmed once for all planes. Groups of
    channels lie side by side on the array's diagonal (ConvShape.passes) [A].
    """
    one = shape.group
    rows = one.in_channels * sub_kernels(engine, shape.kernel)
    packed = shape.passes((rows, engine.rows), (one.out_channels, engine.columns))
    together = len(packed[0][0]) // one.in_channels
    tiles = tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    positions = np.array([t.positions for t in tiles], np.int64)
    row_groups = ceil_div(together * rows, engine.rows)
    column_groups = len(packed) * ceil_div(together * one.out_channels, engine.columns)
    lanes = len(_lane_samples(engine, shape))
    turn = planes * positions
    streaming = np.broadcast_to((lanes * turn)[None, :, None], (column_groups, len(positions), row_groups))
    program = engine.sub_lut_size if engine.lut else 0
    hidden = engine.lut and engine.lut_double_buffered
    cycles = with_programming(streaming, program, hidden)
    windows = shape.samples * shape.out_height * shape.out_width * shape.out_channels
    pe_array, acc = _conv_actions(engine, one, planes * windows, rows, len(positions) * shape.out_channels)
    slots = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    used = shape.kernel[0] * (ceil_div(shape.kernel[1], engine.sub_lut_inputs) if engine.lut else shape.kernel[1])
    peak = _peak(engine, cycles, slots)
    group = np.tile(turn, column_groups)[:, None]
    completed = group * np.arange(1, lanes + 1) + (0 if hidden else program)
    if hidden and row_groups == 1:  # the first iteration begins with the only programming that shows
        completed[0] += program
    sweep = np.tile(sweep_cycles(tiles, engine.parallelism), column_groups)[:, None] * _lane_samples(engine, shape)
    exposed = exposed_sweep(cycles, completed, sweep)
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=pe_array,
        acc=acc,
        useful_operations=planes * windows * one.in_channels * used,
        peak_operations=peak,
        neuron_cycles=exposed,
    )


def _lane_samples(engine: ForwardEngine, shape: ConvShape | FcShape) -> Ints:
    """Samples that the P lanes take at a time, int64 (turns,): P in each turn, in the last one what is left."""
    if engine.lanes == "samples":
        turn = np.array([len(g) for g in groups_of(shape.batch, engine.parallelism)], np.int64)
        return np.tile(turn, shape.timesteps)
    return np.array([len(g) for g in groups_of(shape.samples, engine.parallelism)], np.int64)


def _conv_actions(
    engine: ForwardEngine, shape: ConvShape, windows: int, rows: int, kernels: int
) -> tuple[Actions, Actions]:
    """Events of a convolution, of the PE array and of Acc.

    shape: of one group. windows: of all planes and output channels; kernels: that are programmed, tile by tile.

    Every value that a sub-LUT gives is added once: in the PE to those of its other sub-LUTs, the PE's sum in Acc.
    Programming a sub-LUT of z entries and v weights takes z writes and z - 1 - v additions, which Acc makes.
    """
    kh, kw = shape.kernel
    acc_adds = windows * rows
    if not engine.lut:
        weights = windows * shape.in_channels * kh * kw
        return Actions(register_access=weights, fp16_add=weights - acc_adds), Actions(fp16_add=acc_adds)
    sub_luts = shape.in_channels * kh * ceil_div(kw, engine.sub_lut_inputs)
    reads, programmed = windows * sub_luts, kernels * sub_luts
    z, v = engine.sub_lut_size, engine.sub_lut_inputs
    pe_array = Actions(lut_read=reads, lut_write=programmed * z, fp16_add=reads - acc_adds)
    return pe_array, Actions(fp16_add=acc_adds + programmed * (z - 1 - v))


def fc_group_features(engine: ForwardEngine) -> int:
    """Input features whose weights one column of the array holds at a time: rows x weights that a PE holds."""
    entries = engine.sub_lut_size if engine.lut else 1
    per_entry = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    return engine.rows * per_entry * entries


def fc(engine: ForwardEngine, shape: FcShape, input_spikes: int, planes: int = 1) -> EngineWork:
    """A fully connected layer. Its sub-LUTs are plain weight buffers: each gives one weight, or 0, per lane and cycle.

    input_spikes: set bits of the input (T, N, in), of all planes; each makes a weight of every output be read.
    planes: of counts, as in `conv`. A group of features takes entries * (1 + B * L) cycles.
    """
    per_entry = fc_group_features(engine) // (engine.sub_lut_size if engine.lut else 1)
    groups = groups_of(shape.in_features, fc_group_features(engine))
    lanes = len(_lane_samples(engine, shape))
    entries = np.array([ceil_div(len(g), per_entry) for g in groups], np.int64)
    column_groups = ceil_div(shape.out_features, engine.columns)
    cycles = np.broadcast_to((entries * (1 + planes * lanes))[None, None, :], (column_groups, 1, len(groups))).copy()
    passed = planes * shape.samples * shape.out_features
    acc_adds, all_adds = passed * sum(_present_rows(engine, len(g)) for g in groups), passed * shape.in_features
    reads, loads = input_spikes * shape.out_features, shape.in_features * shape.out_features
    events = dict(lut_read=reads, lut_write=loads) if engine.lut else dict(register_access=reads + loads)
    pe_array = Actions(fp16_add=all_adds - acc_adds, **events)
    slots = per_entry // engine.rows
    completed = entries[-1] * (1 + planes * np.arange(1, lanes + 1))
    exposed = exposed_sweep(cycles, np.tile(completed, (column_groups, 1)), _lane_samples(engine, shape))
    return EngineWork(
        iteration_cycles=cycles,
        pe_array=pe_array,
        acc=Actions(fp16_add=acc_adds),
        useful_operations=all_adds,
        peak_operations=_peak(engine, cycles, slots),
        neuron_cycles=exposed,
    )


def _present_rows(engine: ForwardEngine, features: int) -> int:
    """How often a row of a column sends a value to Acc for one sample of an FC layer with `features` inputs.

    Feature i sits at entry i // (R*m) of slot i % (R*m), with R rows of m slots each. The entries are read one after
    the other; a row sends a value for every entry in which it has at least one weight.
    """
    slots = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    full, rest = divmod(features, engine.rows * slots)
    return full * engine.rows + ceil_div(rest, slots)


def _peak(engine: ForwardEngine, cycles: Ints, slots: int) -> int:
    return int(cycles.sum()) * engine.rows * engine.columns * engine.parallelism * slots


def fill_cycles(engine: ForwardEngine, latency: Latency) -> int:
    """Depth of the pipeline in cycles (figure 3.3).

    programmed_late + lut_read + fp16_add x (levels of the adders in a PE + levels of the Acc tree over the rows + 1 for
    the partial sum) + soma. What Soma still sweeps comes on top (EngineWork.neuron_cycles).
    """
    inputs = engine.sub_luts if engine.lut else engine.sub_luts * engine.sub_lut_inputs
    levels = (inputs - 1).bit_length() + (engine.rows - 1).bit_length() + 1
    return programmed_late(engine, latency) + latency.lut_read + levels * latency.fp16_add + latency.soma
