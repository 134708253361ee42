"""SpinalFlow's jobs: each layer of a trace as grid iterations with their bytes, for h2sim's own schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from h2sim.activity import BufferTraffic
from h2sim.memory.job import Job
from h2sim.memory.traffic import Traffic, halves
from h2sim.rivals.machine import ARRAY
from h2sim.rivals.maps import shape_of
from h2sim.rivals.operands import unknown_operand
from h2sim.rivals.spinalflow.engine import SpikeMap, SpineEvents, SpineWork, conv, pool, row_segments
from h2sim.rivals.spinalflow.schema import SpinalFlow
from h2sim.shapes import ConvShape, Tile, groups_of
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph

LOAD_SLOTS = 2  # before a pass: an empty one, so that weights arrive when the pass before is done; then the weights


@dataclass(frozen=True)
class LayerWork:
    """One layer: what the schedule takes and what its events are."""

    job: Job
    kind: str
    events: SpineEvents


def unsupported(graph: Graph, layer: Layer) -> str | None:
    """Why SpinalFlow cannot run a layer, or None: it takes spikes and sends spikes (or a last layer's potentials)."""
    if why := unknown_operand(graph.meta, layer):
        return why
    if layer.kind == "encode":
        return "analog input: the machine takes spikes only"
    if layer.kind == "add":
        return "a sum of currents: the machine has no place for it"
    if not all(graph.spiking(name) for name in layer.inputs):
        return "its input is a current, not spikes"
    if not layer.spiking and (graph.consumers(layer.name) or layer.kind == "pool"):
        return "its output is a current, not spikes"
    return None


def layer_work(machine: SpinalFlow, trace: Trace, graph: Graph, layer: Layer) -> LayerWork:
    """Cycles, events and bytes of one supported layer over all samples and timesteps of the trace."""
    shape = shape_of(trace.meta, layer)
    single = machine.coding == "first_spike"
    source = layer.inputs[0]
    packed = trace.input_spikes() if source == "input" else trace.mask(source, "spikes")
    inputs = SpikeMap(packed, (shape.in_channels, shape.in_height, shape.in_width), single)
    outputs = None
    if layer.spiking:
        outputs = SpikeMap(trace.mask(layer.name, "spikes"), layer.out_chw, single)
    if layer.kind == "pool":
        assert outputs is not None
        work = pool(machine.spines, shape, inputs, outputs)
    else:
        work = conv(machine.spines, shape, inputs, outputs)
    traffic = _Bytes(
        machine=machine, shape=shape, inputs=inputs, work=work, is_pool=layer.kind == "pool", readout=outputs is None
    ).traffic()
    loads = np.zeros((*work.iteration_cycles.shape[:2], LOAD_SLOTS), np.int64)
    job = Job(
        layer=layer.name,
        phase="forward",
        engine=ARRAY,
        side="forward",
        cycles=np.concatenate([loads, work.iteration_cycles], axis=2),
        fill_cycles=machine.array.pipeline_cycles + work.tail_cycles,
        traffic=traffic,
        useful_operations=work.events.updates,
        peak_operations=int(work.iteration_cycles.sum()) * machine.array.pes,
        after=graph.producers(layer),
    )
    return LayerWork(job, layer.kind, work.events)


@dataclass(frozen=True, eq=False)
class _Bytes:
    """Bytes of a layer's iterations: int64 (channel groups, row segments, load slots + N * out_height)."""

    machine: SpinalFlow
    shape: ConvShape
    inputs: SpikeMap
    work: SpineWork
    is_pool: bool
    readout: bool

    def traffic(self) -> Traffic:
        """Weights before a pass, spines per output row, results after the last segment, partial sums between them."""
        m, work = self.machine, self.work
        spines, written, spilled = self._spines(), self._results(), self._spills()
        weights = self._weights()
        reads, writes = spines.copy(), np.zeros_like(spines)
        writes[:, -1] += written
        reads[:, 1:] += spilled
        writes[:, :-1] += spilled
        pieces = np.maximum(halves(m.buffers.input, spines), halves(m.buffers.output, writes))
        slots = np.zeros((*spines.shape[:2], LOAD_SLOTS), np.int64)
        first = slots.copy()
        first[:, :, -1] = weights
        with_slots = [np.concatenate(pair, axis=2) for pair in ((first, reads), (slots, writes), (slots + 1, pieces))]
        zero = np.zeros_like(with_slots[0])
        through = int(writes.sum()) + int((reads - spines).sum())  # what leaves, and the sums that come back
        rows = 0 if self.is_pool else sum(len(r) for r in row_segments(m.spines, self.shape))
        buffers = (
            BufferTraffic("filter", work.events.filter_rows * m.row_bytes, rows * len(weights) * m.row_bytes),
            BufferTraffic("input", work.events.sorted_spikes * m.spike_bytes, int(spines.sum())),
            BufferTraffic("output", through, through),
        )
        return Traffic(
            reads=with_slots[0],
            writes=with_slots[1],
            gradient_reads=zero,
            gradient_writes=zero,
            pieces=with_slots[2],
            buffers=buffers,
        )

    def _groups(self) -> list[range]:
        return groups_of(self.shape.out_channels, self.machine.array.pes)

    def _weights(self) -> np.ndarray:
        """int64 (groups, segments): the weights of a pass, each loaded once for all samples and positions [A]."""
        widths = np.array([len(g) for g in self._groups()], np.int64)
        if self.is_pool:
            return np.zeros((len(widths), 1), np.int64)
        rows = np.array([len(r) for r in row_segments(self.machine.spines, self.shape)], np.int64)
        return widths[:, None] * rows[None, :] * self.machine.weight_bytes

    def _results(self) -> np.ndarray:
        """int64 (groups, N * Ho): output spikes, or the potentials of a readout."""
        if not self.readout:
            return self.work.output_spikes * self.machine.spike_bytes
        widths = np.array([len(g) for g in self._groups()], np.int64)[:, None]
        return np.broadcast_to(
            widths * self.shape.out_width * self.machine.potential_bytes, self.work.output_spikes.shape
        )

    def _spills(self) -> np.ndarray:
        """int64 (groups, 1, 1): partial sums of one output row, all timesteps."""
        widths = np.array([len(g) for g in self._groups()], np.int64)[:, None, None]
        return widths * self.shape.timesteps * self.shape.out_width * self.machine.potential_bytes

    def _spines(self) -> np.ndarray:
        """int64 (groups, segments, N * Ho): spikes loaded for an output row, each once if its spines stay.

        They stay along a row if a window's spines have a buffer each, the fullest fits it, and one pass takes whole
        spines; else every position loads its receptive field [A].
        """
        held = np.stack([self._held(g) for g in self._channels()]) if self._stay() else None
        if held is None:
            return self.work.sorted_spikes * self.machine.spike_bytes
        return np.broadcast_to(held[:, None] * self.machine.spike_bytes, self.work.sorted_spikes.shape)

    def _channels(self) -> list[range]:
        """Input channels that each group of output channels reads."""
        groups = self._groups()
        return groups if self.is_pool else [range(self.shape.in_channels)] * len(groups)

    def _stay(self) -> bool:
        buffer, buffers = self.machine.buffers.input, self.machine.array.spine_buffers
        fullest = max(int(self.inputs.counts(c).sum(axis=0).max(initial=0)) for c in self._channels())
        whole = self.work.iteration_cycles.shape[1] == 1
        return (
            whole
            and math.prod(self.shape.kernel) <= buffers
            and (fullest * self.machine.spike_bytes * buffers <= buffer.bytes)
        )

    def _held(self, channels: range) -> np.ndarray:
        """int64 (N * Ho,): spikes in the input region of each output row."""
        spikes = self.inputs.counts(channels).sum(axis=0)
        found = []
        for y in range(self.shape.out_height):
            region = self.shape.input_region(Tile(y, y + 1, 0, self.shape.out_width))
            found.append(spikes[:, region.y0 : region.y1, region.x0 : region.x1].sum(axis=(1, 2)))
        return np.stack(found, axis=1).ravel()
