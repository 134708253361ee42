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
from h2sim.rivals.clocked import Work
from h2sim.rivals.maps import Masks, before, has_rows, region_of
from h2sim.rivals.prices import Count
from h2sim.rivals.sata.schema import Sata
from h2sim.rivals.stationary import Folds, backward_traffic, forward_traffic, make_job, neurons_job, widths
from h2sim.shapes import ConvShape, Tile, ceil_div, groups_of
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph

PES = "pes"
MOST_ITERATIONS = 1 << 17  # of one job
GATES = 3  # of a lif: two multiplexers and a shifter; of a pgu: one and two


def layer_work(machine: Sata, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work | None:
    """One layer in one phase; None where there is nothing to do."""
    if not has_rows(layer, phase):
        return None
    if not layer.has_weights:
        return _neurons(machine, trace, graph, layer, phase)
    masks = Masks.of(trace, layer)
    work = {"forward": _forward, "backward": _backward, "weight_update": _update}[phase]
    return work(machine, trace, graph, layer, masks)


def _forward(m: Sata, trace: Trace, graph: Graph, layer: Layer, masks: Masks) -> Work:
    shape, analog = masks.shape, masks.spikes is None
    positions = shape.out_height * shape.out_width
    folds = _folds(m, shape, positions, shape.out_channels, shape.out_width, shape.input_region)
    cycles = shape.timesteps * (_k_in(shape) + m.skew_cycles)
    traffic = forward_traffic(
        m.memories, shape, folds, analog=analog, spiking=layer.spiking, keeps="backward" in trace.meta.phases
    )
    job = make_job(
        layer.name, "forward", np.full(folds.grid, cycles, np.int64), m.array.lif_cycles * layer.spiking, traffic,
        before(graph, layer, "forward"),
    )  # fmt: skip
    macs = masks.forward_pairs * shape.out_channels
    return Work(job, (*_updates("lif", _neurons_of(layer, shape)), *_macs("mac_fwd", macs, analog)))


def _backward(m: Sata, trace: Trace, graph: Graph, layer: Layer, masks: Masks) -> Work:
    shape = masks.shape
    positions = shape.in_height * shape.in_width
    folds = _folds(m, shape, positions, shape.in_channels, shape.in_width, shape.output_region)
    cycles = shape.timesteps * (shape.out_channels * math.prod(shape.kernel) + m.skew_cycles)
    job = make_job(
        layer.name, "backward", np.full(folds.grid, cycles, np.int64), m.array.pgu_cycles,
        backward_traffic(m.memories, shape, folds), before(graph, layer, "backward"),
    )  # fmt: skip
    fed = masks.gradients()
    dual = int((fed * masks.window()).sum())
    counts = (
        *_updates("pgu", _neurons_of(layer, shape)),
        Count(PES, "mac_bwd", int(fed.sum()) * shape.in_channels),
        Count(PES, "mac_bwd_dual", dual),
        Count(PES, "scratchpad_word", dual),
    )
    return Work(job, counts)


def _update(m: Sata, trace: Trace, graph: Graph, layer: Layer, masks: Masks) -> Work:
    shape, analog = masks.shape, masks.spikes is None
    columns = widths(shape.out_channels, m.array.columns)
    rows = _row_groups(m, shape, len(columns))
    folds = np.array([ceil_div(len(group), m.array.rows) for group in rows], np.int64)
    each = folds * (shape.out_height * shape.out_width + m.skew_cycles)
    cycles = np.ascontiguousarray(np.broadcast_to(each, (len(columns), shape.samples, len(rows))))
    traffic = _update_traffic(m, shape, columns, rows, analog)
    job = make_job(layer.name, "weight_update", cycles, 0, traffic, before(graph, layer, "weight_update"))
    macs = masks.forward_pairs * shape.out_channels
    counts = _macs("mac_wup", macs, analog)
    if masks.spikes is not None:
        counts += (Count(PES, "mac_wup_both", int((masks.gradients() * masks.spikes).sum())),)
    if not has_rows(layer, "backward"):  # its gradient is formed before the only row that needs it
        counts += _updates("pgu", _neurons_of(layer, shape))
    return Work(job, counts)


def _neurons(m: Sata, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work:
    """A layer of neurons alone: one update each, on all PEs."""
    name, each = ("lif", m.array.lif_cycles) if phase == "forward" else ("pgu", m.array.pgu_cycles)
    job = neurons_job(layer, trace, graph, phase, m.memories, m.pes, each)
    return Work(job, _updates(name, layer.neurons * trace.meta.timesteps * trace.meta.batch))


def _updates(name: str, neurons: int) -> tuple[Count, ...]:
    """lif or pgu: each update passes multiplexers and shifters, which no source prices."""
    return Count(PES, name, neurons), Count(PES, "gate", GATES * neurons)


def _macs(name: str, macs: int, analog: bool) -> tuple[Count, ...]:
    """Products of spikes are gated additions; those of an analog input take a multiplier too."""
    counts = (Count(PES, name, macs), Count(PES, "scratchpad_word", macs), Count(PES, "gate", macs))
    return (*counts, Count(PES, "encode_multiply", macs)) if analog else counts


def _k_in(shape: ConvShape) -> int:
    return shape.in_channels * math.prod(shape.kernel)


def _neurons_of(layer: Layer, shape: ConvShape) -> int:
    """Updates of the layer's own neurons; a layer that passes its current on has none."""
    return layer.spiking * shape.samples * shape.out_channels * shape.out_height * shape.out_width


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
    folds = ceil_div(_k_in(shape), m.array.rows)
    several = ceil_div(n_columns * shape.samples * folds, MOST_ITERATIONS)
    return groups_of(_k_in(shape), m.array.rows * min(several, folds))


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
    streamed = _k_in(shape) * positions * shape.samples * len(columns)
    passed = int(weights.sum()) * shape.samples
    loaded = int(operands.sum()) * len(columns) * (shape.samples if operands.shape[0] == 1 else 1)
    du = int(gradients.sum()) * shape.samples
    through = int(weights.sum()) * 2
    buffers = (
        BufferTraffic("w", passed + through, passed + through),
        BufferTraffic("s", streamed * value if analog else ceil_div(streamed, 8), loaded),
        BufferTraffic("u", du * ceil_div(_k_in(shape), m.array.rows), 0 if on_chip else du),
    )
    zero = np.zeros(size, np.int64)
    full = np.ascontiguousarray(np.broadcast_to(pieces, size))
    return Traffic(reads=reads, writes=writes, gradient_reads=zero, gradient_writes=zero, pieces=full, buffers=buffers)


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
        loads = [of((r.stop - 1) // taps - r.start // taps + 1) for r in rows]
    return np.array(loads, np.int64).reshape(1, 1, -1)
