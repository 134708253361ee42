"""The dense array's jobs: every phase of a layer is a product of two matrices, (m, k) by (k, n), nothing skipped.

Forward m = positions x timesteps x samples, k = inputs of a neuron, n = output channels; backward the same over input
positions and channels; weight update m = inputs of a neuron, k = positions x timesteps x samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from h2sim.activity import BufferTraffic, Phase
from h2sim.memory.traffic import Traffic, bits_to_bytes, halves
from h2sim.rivals.clocked import Counted
from h2sim.rivals.dense_array.schema import VALUE_BYTES, DenseArray
from h2sim.rivals.maps import region_of, shape_of
from h2sim.rivals.prices import Count
from h2sim.rivals.stationary import Folds, backward_traffic, channels_of, forward_traffic, one_memory, widths
from h2sim.shapes import ConvShape, Tile, ceil_div, groups_of
from h2sim.trace import Layer, Trace

UNITS = "units"


def layer_work(machine: DenseArray, trace: Trace, layer: Layer, phase: Phase) -> Counted:
    """One layer with weights in one phase."""
    a, shape = machine.array, shape_of(trace.meta, layer)
    m, k, n = matrices(shape, phase)
    folds = _folds(machine, shape, phase)
    cycles = np.full(folds.grid, k + (0 if a.overlap_skew else machine.skew_cycles), np.int64)
    fill = a.overlap_skew * machine.skew_cycles + a.neuron_cycles * (phase != "weight_update")
    counts = (
        Count(UNITS, "multiply_accumulate", m * k * n),
        Count(UNITS, "register_access", a.register_accesses * m * k * n),
    )
    return Counted(cycles, fill, _traffic(machine, trace, layer, shape, phase, folds), counts)


def matrices(shape: ConvShape, phase: Phase) -> tuple[int, int, int]:
    """(m, k, n) of a phase."""
    taps = math.prod(shape.kernel)
    outputs = shape.out_height * shape.out_width * shape.samples
    if phase == "forward":
        return outputs, shape.in_channels * taps, shape.out_channels
    if phase == "backward":
        return shape.in_height * shape.in_width * shape.samples, shape.out_channels * taps, shape.in_channels
    return shape.in_channels * taps, outputs, shape.out_channels


def _folds(machine: DenseArray, shape: ConvShape, phase: Phase) -> Folds:
    """Folds of m, which may begin in one image and end in another; of a weight update they are weight rows."""
    m, _, n = matrices(shape, phase)
    spans = groups_of(m, machine.array.rows)
    own = np.array([len(span) for span in spans], np.int64)
    columns = widths(n, machine.array.columns)
    if phase == "weight_update":
        return Folds(own, channels_of(spans, math.prod(shape.kernel)), columns)
    if phase == "forward":
        size, region = (shape.out_height, shape.out_width), shape.input_region
    else:
        size, region = (shape.in_height, shape.in_width), shape.output_region
    return Folds(own, np.array(_regions(spans, size, region), np.int64), columns)


def _regions(spans: list[range], size: tuple[int, int], region: Callable[[Tile], Tile]) -> list[int]:
    """Positions that each span of positions reads; images of `size` stand one after the other."""
    positions = math.prod(size)

    @cache
    def of(start: int, stop: int) -> int:
        return region_of(start, stop, size[1], region)

    def across(span: range) -> int:
        first, last = span.start // positions, (span.stop - 1) // positions
        if first == last:
            return of(span.start % positions, (span.stop - 1) % positions + 1)
        ends = of(span.start % positions, positions) + of(0, (span.stop - 1) % positions + 1)
        return ends + (last - first - 1) * of(0, positions)

    return [across(span) for span in spans]


def _traffic(machine: DenseArray, trace: Trace, layer: Layer, shape: ConvShape, phase: Phase, folds: Folds) -> Traffic:
    if phase == "forward":
        keeps = "backward" in trace.meta.phases
        analog = layer.kind == "encode"
        return forward_traffic(machine.memories, shape, folds, analog=analog, spiking=layer.spiking, keeps=keeps)
    if phase == "backward":
        return backward_traffic(machine.memories, shape, folds)
    return _update_traffic(machine, shape, folds, layer.kind == "encode")


def _update_traffic(machine: DenseArray, shape: ConvShape, folds: Folds, analog: bool) -> Traffic:
    """Channels of spikes that a fold of weight rows reads, at all timesteps of all samples; gradients of the columns,
    once a group if half of their buffer holds them, else with every fold; dw once."""
    m = machine.memories
    elements = folds.region * shape.in_height * shape.in_width * shape.samples
    operands = elements * VALUE_BYTES if analog else bits_to_bytes(elements)
    outputs = shape.out_height * shape.out_width * shape.samples
    gradients = folds.columns * outputs * VALUE_BYTES
    loaded = np.repeat(gradients[:, None], len(folds.own), axis=1)
    if m.stays(outputs * shape.out_channels):
        loaded[:] = 0
    elif int(gradients.max()) <= m.values[1].half_bytes:
        loaded[:, 1:] = 0
    dw = folds.own * folds.columns[:, None] * VALUE_BYTES
    reads, writes = operands + loaded, dw
    pieces = np.maximum(halves(m.spikes[1], operands), halves(m.values[1], loaded))
    pieces = np.maximum(pieces, halves(machine.buffers.weight_gradients, dw))
    streamed = int(folds.own.sum()) * outputs * len(folds.columns)
    buffers = (
        BufferTraffic("spikes", streamed * VALUE_BYTES if analog else ceil_div(streamed, 8),
                      int(operands.sum()) * len(folds.columns)),
        BufferTraffic("values", int(gradients.sum()) * len(folds.own), int(loaded.sum())),
        BufferTraffic("weight_gradients", int(dw.sum()), int(dw.sum())),
    )  # fmt: skip
    return one_memory(reads, writes, pieces, buffers)
