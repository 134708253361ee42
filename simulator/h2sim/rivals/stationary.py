"""Output-stationary arrays: the bytes of a layer's iterations, by the loading rules that such machines share [A].

An iteration is a fold of `own` (position, timestep) pairs times `columns` channels; it reads a region of pairs. Weights
of a group of columns are loaded once if half of their buffer holds them, else with every fold. Spikes are bits, packed
to whole bytes per iteration; values take `value_bytes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h2sim.activity import BufferTraffic, JobKey, Phase
from h2sim.arch.schema import Buffer
from h2sim.arrays import Ints
from h2sim.memory.job import Job
from h2sim.memory.traffic import Traffic, bits_to_bytes, halves
from h2sim.rivals.machine import ARRAY
from h2sim.rivals.maps import before
from h2sim.shapes import ConvShape, ceil_div, groups_of
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Memories:
    """The buffers of such a machine by what they hold, each with its name: (name, buffer)."""

    weights: tuple[str, Buffer]
    spikes: tuple[str, Buffer]
    values: tuple[str, Buffer]
    output: tuple[str, Buffer]
    value_bytes: int

    def stays(self, values: int) -> bool:
        """Whether so many gradients stay on chip: half of the buffer of values holds them."""
        return values * self.value_bytes <= self.values[1].half_bytes


@dataclass(frozen=True, eq=False)
class Folds:
    """What each fold holds and reads: int64 (folds,) of (position, timestep) pairs; columns: int64 (groups,).

    passes: how often the weights stream past a fold.
    """

    own: Ints
    region: Ints
    columns: Ints
    passes: int = 1

    @property
    def grid(self) -> tuple[int, int, int]:
        """(column groups, folds, 1)."""
        return len(self.columns), len(self.own), 1


def widths(channels: int, columns: int) -> Ints:
    """Channels of each group of columns."""
    return np.array([len(group) for group in groups_of(channels, columns)], np.int64)


def forward_traffic(
    m: Memories, shape: ConvShape, folds: Folds, *, analog: bool, spiking: bool, keeps: bool
) -> Traffic:
    """Spikes (or analog values) and weights in; spikes out, or a readout's values.

    keeps: for the backward pass membranes and the window's bits leave too.
    """
    weights = math.prod(shape.kernel) * shape.in_channels * folds.columns * m.value_bytes
    loaded_weights = weight_loads(weights, len(folds.own), m.weights[1])
    elements = folds.region * shape.in_channels
    operands = elements * m.value_bytes if analog else bits_to_bytes(elements)
    results = folds.own * folds.columns[:, None]
    masks = bits_to_bytes(results) * (spiking * (1 + keeps))
    values = results * (m.value_bytes * (keeps or not spiking))
    per_pair = math.prod(shape.kernel) * shape.in_channels
    streamed = int(folds.own.sum()) * per_pair * len(folds.columns)
    read = streamed * m.value_bytes if analog else ceil_div(streamed, 8)
    return _traffic(
        reads=loaded_weights + operands,
        writes=masks + values,
        held=((m.weights[1], loaded_weights), (m.spikes[1], operands), (m.output[1], masks), (m.values[1], values)),
        buffers=(
            BufferTraffic(m.weights[0], int(weights.sum()) * len(folds.own) * folds.passes, int(loaded_weights.sum())),
            BufferTraffic(m.spikes[0], read, int(operands.sum()) * len(folds.columns)),
            BufferTraffic(m.values[0], int(values.sum()), int(values.sum())),
            BufferTraffic(m.output[0], int(masks.sum()), int(masks.sum())),
        ),
    )


def backward_traffic(m: Memories, shape: ConvShape, folds: Folds) -> Traffic:
    """Gradients of the outputs, weights, and the input neurons' membranes, spikes and window in; their gradients out.

    Gradients that half of their buffer holds for the whole layer stay on chip.
    """
    per_pair = math.prod(shape.kernel) * shape.out_channels
    weights = per_pair * folds.columns * m.value_bytes
    loaded_weights = weight_loads(weights, len(folds.own), m.weights[1])
    above = folds.region * shape.out_channels * m.value_bytes
    n_above = shape.samples * shape.out_channels * shape.out_height * shape.out_width
    moved_above = above * (not m.stays(n_above))
    own = folds.own * folds.columns[:, None]
    masks, membranes = 2 * bits_to_bytes(own), own * m.value_bytes
    n_below = shape.samples * shape.in_channels * shape.in_height * shape.in_width
    results = own * m.value_bytes
    moved_below = results * (not m.stays(n_below))
    streamed = int(folds.own.sum()) * per_pair * len(folds.columns) * m.value_bytes
    state = int(membranes.sum())
    return _traffic(
        reads=loaded_weights + moved_above + masks + membranes,
        writes=moved_below,
        held=((m.weights[1], loaded_weights), (m.spikes[1], masks), (m.values[1], moved_above + membranes)),
        buffers=(
            BufferTraffic(m.weights[0], int(weights.sum()) * len(folds.own) * folds.passes, int(loaded_weights.sum())),
            BufferTraffic(m.spikes[0], int(masks.sum()), int(masks.sum())),
            BufferTraffic(
                m.values[0],
                streamed + state + int(moved_below.sum()),
                int(moved_above.sum()) * len(folds.columns) + state + int(results.sum()),
            ),
        ),
    )


def neurons_job(
    layer: Layer,
    trace: Trace,
    graph: Graph,
    phase: Phase,
    m: Memories,
    lanes: int,
    cycles_each: int,
    *,
    keeps: bool = True,
) -> Job:
    """A layer of neurons alone (pool, add), sample after sample; a pool's sums take no cycles [A].

    Forward: what it reads in, spikes out, and for the backward pass window and membranes. Backward: its own gradient,
    membranes and both masks in, the gradient of what it reads out; gradients may stay on chip.
    keeps: whether the machine trains.
    """
    n, elements = trace.meta.batch, layer.neurons * trace.meta.timesteps
    cycles = np.full((1, n, 1), ceil_div(elements, lanes) * cycles_each, np.int64)
    spikes, values = ceil_div(elements, 8), elements * m.value_bytes
    inputs = trace.meta.timesteps * math.prod(layer.in_chw)
    keeps = keeps and "backward" in trace.meta.phases
    if phase == "forward":
        reads = ceil_div(inputs, 8) if layer.kind == "pool" else len(layer.inputs) * inputs * m.value_bytes
        writes = spikes * (1 + keeps) + values * keeps
    else:
        reads = 2 * spikes + values + values * (not m.stays(n * elements))
        writes = inputs * m.value_bytes * (not m.stays(n * inputs))
    moved = _traffic(
        reads=np.full((1, n), reads, np.int64),
        writes=np.full((1, n), writes, np.int64),
        held=((m.values[1], np.full((1, n), reads)), (m.output[1], np.full((1, n), writes))),
        buffers=(BufferTraffic(m.values[0], n * reads, n * reads), BufferTraffic(m.output[0], n * writes, n * writes)),
    )
    return make_job(layer.name, phase, cycles, 0, moved, before(graph, layer, phase))


def make_job(
    layer: str, phase: Phase, cycles: Ints, fill_cycles: int, traffic: Traffic, after: tuple[JobKey, ...]
) -> Job:
    """A job of the only engine: one external memory takes all of its bytes."""
    return Job(
        layer=layer,
        phase=phase,
        engine=ARRAY,
        side="forward",
        cycles=cycles,
        fill_cycles=fill_cycles,
        traffic=traffic,
        after=after,
    )


def weight_loads(weights: Ints, n_folds: int, buffer: Buffer) -> Ints:
    """int64 (groups, folds): a group's weights with its first fold, or with every one that cannot keep them."""
    loaded = np.repeat(weights[:, None], n_folds, axis=1)
    if int(weights.max()) <= buffer.half_bytes:
        loaded[:, 1:] = 0
    return loaded


def _traffic(
    *, reads: Ints, writes: Ints, held: tuple[tuple[Buffer, Ints], ...], buffers: tuple[BufferTraffic, ...]
) -> Traffic:
    """reads, writes, held: int64 (groups, folds) or what broadcasts to it; row groups are 1."""
    shape = np.broadcast_shapes(reads.shape, writes.shape)
    pieces = np.ones(shape, np.int64)
    for buffer, needed in held:
        pieces = np.maximum(pieces, halves(buffer, needed))
    return one_memory(reads, writes, pieces, buffers)


def one_memory(reads: Ints, writes: Ints, pieces: Ints, buffers: tuple[BufferTraffic, ...]) -> Traffic:
    """Traffic of a machine with one external memory, of arrays that broadcast to (groups, folds) or (groups, folds,
    parts)."""
    shape = np.broadcast_shapes(reads.shape, writes.shape, pieces.shape)
    full = [np.ascontiguousarray(np.broadcast_to(a, shape)) for a in (reads, writes, pieces)]
    grid = [a if a.ndim == 3 else a[:, :, None] for a in full]
    zero = np.zeros_like(grid[0])
    return Traffic(
        reads=grid[0], writes=grid[1], gradient_reads=zero, gradient_writes=zero, pieces=grid[2], buffers=buffers
    )


def channels_of(spans: Sequence[range], taps: int) -> Ints:
    """Input channels that each span of weight rows (channel, tap) touches, int64 (spans,)."""
    return np.array([(s.stop - 1) // taps - s.start // taps + 1 for s in spans], np.int64)
