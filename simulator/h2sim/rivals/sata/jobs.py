"""SATA's jobs: every phase of a layer as grid iterations with their bytes, and its events counted over the real bits.

Cycles are dense [A]: every fold takes its whole reduction and its skew at every timestep, whatever the bits are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from h2sim.activity import BufferTraffic, Phase
from h2sim.arrays import Ints
from h2sim.memory.traffic import Traffic, bits_to_bytes, halves
from h2sim.rivals.clocked import Counted
from h2sim.rivals.maps import Masks, region_of
from h2sim.rivals.prices import Count
from h2sim.rivals.sata.schema import Sata
from h2sim.rivals.stationary import Folds, backward_traffic, channels_of, forward_traffic, one_memory, widths
from h2sim.rivals.tiles import inputs_of
from h2sim.shapes import ConvShape, Tile, ceil_div, groups_of
from h2sim.trace import Layer, Trace

PES = "pes"
MOST_ITERATIONS = 1 << 17  # of one job
GATES = 3  # of a lif: two multiplexers and a shifter; of a pgu: one and two


def layer_work(machine: Sata, trace: Trace, layer: Layer, phase: Phase) -> Counted:
    """One layer with weights in one phase."""
    masks = Masks.of(trace, layer)
    if phase == "forward":
        keeps = "backward" in trace.meta.phases
        return _forward(machine, layer, masks, keeps)
    return _backward(machine, masks) if phase == "backward" else _update(machine, masks)


def _forward(m: Sata, layer: Layer, masks: Masks, keeps: bool) -> Counted:
    shape, analog = masks.shape, masks.spikes is None
    positions = shape.out_height * shape.out_width
    folds = _folds(m, shape, positions, shape.out_channels, shape.out_width, shape.input_region)
    cycles = np.full(folds.grid, shape.timesteps * (inputs_of(shape) + m.skew_cycles), np.int64)
    traffic = forward_traffic(m.memories, shape, folds, analog=analog, spiking=layer.spiking, keeps=keeps)
    macs = _macs("mac_fwd", masks.forward_pairs * shape.out_channels, analog)
    return Counted(cycles, m.array.lif_cycles * layer.spiking, traffic, macs)


def _backward(m: Sata, masks: Masks) -> Counted:
    shape = masks.shape
    positions = shape.in_height * shape.in_width
    folds = _folds(m, shape, positions, shape.in_channels, shape.in_width, shape.output_region)
    each = shape.timesteps * (shape.out_channels * math.prod(shape.kernel) + m.skew_cycles)
    fed = masks.gradients()
    dual = int((fed * masks.window()).sum())
    counts = (
        Count(PES, "mac_bwd", int(fed.sum()) * shape.in_channels),
        Count(PES, "mac_bwd_dual", dual),
        Count(PES, "scratchpad_word", dual),
    )
    traffic = backward_traffic(m.memories, shape, folds)
    return Counted(np.full(folds.grid, each, np.int64), m.array.pgu_cycles, traffic, counts)


def _update(m: Sata, masks: Masks) -> Counted:
    shape, analog = masks.shape, masks.spikes is None
    columns = widths(shape.out_channels, m.array.columns)
    rows = _row_groups(m, shape, len(columns))
    folds = np.array([ceil_div(len(group), m.array.rows) for group in rows], np.int64)
    each = folds * (shape.out_height * shape.out_width + m.skew_cycles)
    cycles = np.ascontiguousarray(np.broadcast_to(each, (len(columns), shape.samples, len(rows))))
    counts = _macs("mac_wup", masks.forward_pairs * shape.out_channels, analog)
    if masks.spikes is not None:
        counts += (Count(PES, "mac_wup_both", int((masks.gradients() * masks.spikes).sum())),)
    return Counted(cycles, 0, _update_traffic(m, shape, columns, rows, analog), counts)


def neuron_updates(name: str, neurons: int) -> tuple[Count, ...]:
    """lif or pgu: each update passes multiplexers and shifters, which no source prices."""
    return Count(PES, name, neurons), Count(PES, "gate", GATES * neurons)


def _macs(name: str, macs: int, analog: bool) -> tuple[Count, ...]:
    """Products of spikes are gated additions; those of an analog input take a multiplier too."""
    counts = (Count(PES, name, macs), Count(PES, "scratchpad_word", macs), Count(PES, "gate", macs))
    return (*counts, Count(PES, "encode_multiply", macs)) if analog else counts


def _folds(
    m: Sata, shape: ConvShape, positions: int, channels: int, width: int, region: Callable[[Tile], Tile]
) -> Folds:
    """Folds of positions of one sample, which hold all timesteps; samples one after another."""
    spans = groups_of(positions, m.array.rows)
    own = np.array([len(span) for span in spans], np.int64)
    read = np.array([region_of(s.start, s.stop, width, region) for s in spans], np.int64)
    steps, n = shape.timesteps, shape.batch
    columns = widths(channels, m.array.columns)
    return Folds(np.tile(own * steps, n), np.tile(read * steps, n), columns, steps)


def _row_groups(m: Sata, shape: ConvShape, n_columns: int) -> list[range]:
    """Weight rows of each iteration: a fold, or several folds one after the other where they would be too many [A]."""
    folds = ceil_div(inputs_of(shape), m.array.rows)
    several = ceil_div(n_columns * shape.samples * folds, MOST_ITERATIONS)
    return groups_of(inputs_of(shape), m.array.rows * min(several, folds))


def _update_traffic(m: Sata, shape: ConvShape, columns: Ints, rows: list[range], analog: bool) -> Traffic:
    """Spikes and gradients of one timestep of one sample in; dw stays if half of its buffer holds a group's.

    At the end a group's dw leaves once, and its weights are read and written.
    """
    memories, value = m.memories, m.value_bytes
    size = (len(columns), shape.samples, len(rows))
    positions, inputs = shape.out_height * shape.out_width, shape.in_height * shape.in_width
    reads, writes = np.zeros(size, np.int64), np.zeros(size, np.int64)
    operands = _operand_bytes(m, shape, rows, inputs, analog)
    gradients = columns * positions * value
    on_chip = memories.stays(shape.samples * shape.out_channels * positions)
    reads += operands
    reads[:, :, 0] += 0 if on_chip else gradients[:, None]
    weights = columns[:, None] * np.array([len(r) for r in rows]) * value  # (groups, row groups)
    if int(weights.sum(axis=1).max()) > memories.weights[1].half_bytes:
        reads[:, 1:] += weights[:, None]
        writes[:, :-1] += weights[:, None]
    reads[:, -1] += weights
    writes[:, -1] += 2 * weights
    pieces = np.maximum(halves(memories.spikes[1], operands), halves(memories.values[1], gradients)[:, None, None])
    pieces = np.maximum(pieces, halves(memories.weights[1], weights)[:, None])
    streamed = inputs_of(shape) * positions * shape.samples * len(columns)
    passed = int(weights.sum()) * shape.samples
    loaded = int(operands.sum()) * len(columns) * (shape.samples if operands.shape[0] == 1 else 1)
    du = int(gradients.sum()) * shape.samples
    through = int(weights.sum()) * 2
    buffers = (
        BufferTraffic("w", passed + through, passed + through),
        BufferTraffic("s", streamed * value if analog else ceil_div(streamed, 8), loaded),
        BufferTraffic("u", du * ceil_div(inputs_of(shape), m.array.rows), 0 if on_chip else du),
    )
    return one_memory(reads, writes, pieces, buffers)


def _operand_bytes(m: Sata, shape: ConvShape, rows: list[range], inputs: int, analog: bool) -> Ints:
    """int64 (1, 1, row groups): what each row group loads of a timestep's input: all of it first, or its channels."""
    taps = math.prod(shape.kernel)

    def of(channels: int) -> Ints:
        elements = np.array(channels * inputs, np.int64)
        return elements * m.value_bytes if analog else bits_to_bytes(elements)

    whole = of(shape.in_channels)
    if int(whole) <= m.buffers.s.half_bytes:
        loads = [whole, *[np.int64(0)] * (len(rows) - 1)]
    else:
        loads = [of(int(channels)) for channels in channels_of(rows, taps)]
    return np.array(loads, np.int64).reshape(1, 1, -1)
