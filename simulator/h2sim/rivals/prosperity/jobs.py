"""Prosperity's jobs: the forward pass in tiles of rows and columns of im2col, adds and finding counted tile by tile."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from h2sim.activity import BufferTraffic
from h2sim.arrays import Ints
from h2sim.errors import BaselineError, at
from h2sim.kernels import product_sparsity as kernel
from h2sim.memory.schedule import MOST_PIECES
from h2sim.memory.traffic import Traffic, bits_to_bytes, halves
from h2sim.rivals.clocked import Work
from h2sim.rivals.maps import before, refuses_currents, region_of, shape_of
from h2sim.rivals.prices import Count
from h2sim.rivals.prosperity.schema import Prosperity
from h2sim.rivals.stationary import make_job, neurons_job, weight_loads, widths
from h2sim.shapes import ConvShape, ceil_div, groups_of
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph

READOUT_BYTES = 2


def refuses(graph: Graph, layer: Layer) -> str | None:
    """Why the machine cannot run a layer: it adds weights of spikes."""
    if layer.kind == "encode":
        return "analog input: the machine takes spikes only"
    return refuses_currents(graph, layer)


def layer_work(machine: Prosperity, trace: Trace, graph: Graph, layer: Layer) -> Work:
    """The forward pass of one layer."""
    a = machine.array
    neurons = layer.spiking * layer.neurons * trace.meta.timesteps * trace.meta.batch
    if not layer.has_weights:
        job = neurons_job(layer, trace, graph, "forward", machine.memories, a.lif_units, a.lif_cycles, keeps=False)
        return Work(job, (Count("lif", "lif", neurons),))
    tiles = Tiles.of(machine, trace, layer)
    job = make_job(
        layer.name, "forward", tiles.cycles(), tiles.fill(layer.spiking), tiles.traffic(layer.spiking),
        before(graph, layer, "forward"),
    )  # fmt: skip
    return Work(job, (*tiles.counts(), Count("lif", "lif", neurons)))


def _check_tiles(machine: Prosperity, layer: Layer, shape: ConvShape) -> None:
    """Raises BaselineError for tiles so small that their counts would not fit in this computer's memory."""
    a = machine.array
    rows = ceil_div(shape.out_height * shape.out_width * shape.timesteps, a.tile_rows) * shape.batch
    columns = ceil_div(shape.in_channels * math.prod(shape.kernel), a.tile_columns)
    tiles = rows * columns * ceil_div(shape.out_channels, a.lanes)
    if tiles > MOST_PIECES:
        wanted = f"tiles of which a layer has at most {MOST_PIECES:,}"
        raise BaselineError(at(machine.name, "array", wanted, f"{tiles:,} in {layer.name}"))


@dataclass(frozen=True, eq=False)
class Tiles:
    """A layer's tiles. found: int64 (row tiles of all samples, column tiles, kernel.COLUMNS)."""

    machine: Prosperity
    shape: ConvShape
    found: Ints

    @classmethod
    def of(cls, machine: Prosperity, trace: Trace, layer: Layer) -> Tiles:
        """Those of an open trace; samples one after another."""
        shape, source, a = shape_of(trace.meta, layer), layer.inputs[0], machine.array
        packed = trace.input_spikes() if source == "input" else trace.mask(source, "spikes")
        _check_tiles(machine, layer, shape)
        chw = (shape.in_channels, shape.in_height, shape.in_width)
        window = (*shape.kernel, *shape.stride, *shape.padding)
        found = []
        for n in range(shape.batch):
            bits = np.ascontiguousarray(packed[:, n])
            words = kernel.im2col_words(bits, chw, (shape.out_height, shape.out_width), window, a.tile_columns)
            found.append(kernel.tile_counts(words, a.tile_rows, a.sparsity == "product"))
        return cls(machine, shape, np.concatenate(found))

    @property
    def columns(self) -> Ints:
        """Output channels of each group."""
        return widths(self.shape.out_channels, self.machine.array.lanes)

    @property
    def adds(self) -> Ints:
        """Cycles of the adders, (row tiles, column tiles): residual spikes, and one for each row that is taken over."""
        return self.found[..., kernel.RESIDUALS] + self.found[..., kernel.EXACT]

    @property
    def finding(self) -> Ints:
        """Cycles of the finder: a search each, after all rows' spikes are counted; none without product sparsity."""
        if self.machine.array.sparsity == "bit":
            return np.zeros_like(self.adds)
        return self.found[..., kernel.SEARCHED] + -(-self.found[..., kernel.ROWS] // self.machine.array.popcounts)

    def cycles(self) -> Ints:
        """int64 (groups, row tiles, column tiles): a tile's adds, or the next tile's finding where that is longer."""
        groups = len(self.columns)
        adds, finding = (np.tile(a.ravel(), groups) for a in (self.adds, self.finding))
        if self.machine.array.overlap == "tile":
            adds[:-1] = np.maximum(adds[:-1], finding[1:])
        else:
            late = max(0, int(self.finding.sum() - self.adds.sum()))
            adds.reshape(groups, -1)[:, -1] += late
        return adds.reshape(groups, *self.adds.shape)

    def fill(self, spiking: bool) -> int:
        """Finding before the first add, and the last tile's neurons."""
        a, steps = self.machine.array, self.shape.timesteps
        first = int(self.finding.flat[0]) if a.overlap == "tile" else 0
        neurons = int(self.found[-1, 0, kernel.ROWS]) * int(self.columns[-1])
        return first + spiking * a.lif_cycles * steps * ceil_div(ceil_div(neurons, steps), a.lif_units)

    def counts(self) -> tuple[Count, ...]:
        """Events of all groups; each group finds its prefixes anew."""
        sums = self.found.sum(axis=(0, 1))
        groups, channels = len(self.columns), self.shape.out_channels
        cells = (
            self.found[..., kernel.SEARCHED] * self.found[..., kernel.ROWS]
        ).sum() * self.machine.array.tile_columns
        taken_over = int(sums[kernel.EXACT] + sums[kernel.PARTIAL])
        finds = self.machine.array.sparsity == "product"
        return (
            Count("lanes", "lane_add", int(sums[kernel.RESIDUALS]) * channels),
            Count("lanes", "weight_row", int(sums[kernel.RESIDUALS]) * groups),
            Count("lanes", "spike", int(sums[kernel.ONES])),
            Count("lanes", "prefix_sum", taken_over * channels),
            Count("finder", "tcam_search", int(sums[kernel.SEARCHED]) * groups),
            Count("finder", "tcam_cell", int(cells) * groups),
            Count("finder", "popcount", finds * int(sums[kernel.ROWS]) * groups),
        )

    def traffic(self, spiking: bool) -> Traffic:
        """Weights once a group if half of their buffer holds them, else with every tile; spikes of a row tile's region
        once if half of theirs does, else its channels with every tile; results with the last column tile."""
        m, shape, columns = self.machine, self.shape, self.columns
        taps, groups = math.prod(shape.kernel), len(columns)
        spans = groups_of(shape.in_channels * taps, m.array.tile_columns)
        size = (groups, *self.adds.shape)
        of_tile = columns[:, None] * np.array([len(s) for s in spans]) * m.weight_bytes  # (groups, column tiles)
        held = weight_loads(of_tile.sum(axis=1), size[1], m.buffers.weights) > 0
        weights = np.where(held[:, :, None], of_tile[:, None], 0)
        spikes = self._spikes(spans)
        reads, writes = weights + spikes, np.zeros(size, np.int64)
        rows = self.found[:, 0, kernel.ROWS]
        values = rows * columns[:, None]
        results = bits_to_bytes(values) if spiking else values * READOUT_BYTES
        writes[:, :, -1] = results
        pieces = np.maximum(halves(m.buffers.weights, weights), halves(m.buffers.spikes, spikes))
        pieces[:, :, -1] = np.maximum(pieces[:, :, -1], halves(m.buffers.outputs, results))
        sums = self.found.sum(axis=(0, 1))
        read_rows = int(sums[kernel.RESIDUALS]) * int(columns.sum()) * m.weight_bytes
        updated = int(sums[kernel.ACTIVE]) * int(columns.sum()) * m.sum_bytes
        taken_over = int(sums[kernel.EXACT] + sums[kernel.PARTIAL]) * int(columns.sum()) * m.sum_bytes
        streamed = int(rows.sum()) * shape.in_channels * taps * groups
        buffers = (
            BufferTraffic("spikes", ceil_div(streamed, 8), int(spikes.sum()) * groups),
            BufferTraffic("weights", read_rows, int(weights.sum())),
            BufferTraffic("outputs", updated + taken_over + int(results.sum()), updated),
        )
        zero = np.zeros(size, np.int64)
        return Traffic(
            reads=reads, writes=writes, gradient_reads=zero, gradient_writes=zero, pieces=pieces, buffers=buffers
        )

    def _spikes(self, spans: list[range]) -> Ints:
        """int64 (row tiles, column tiles): bytes of spikes that each tile loads."""
        m, shape, steps = self.machine, self.shape, self.shape.timesteps
        taps = math.prod(shape.kernel)
        tiles = groups_of(shape.out_height * shape.out_width * steps, m.array.tile_rows)
        regions = [
            region_of(t.start // steps, (t.stop - 1) // steps + 1, shape.out_width, shape.input_region) for t in tiles
        ]
        region = np.tile(np.array(regions, np.int64) * steps, shape.batch)
        whole = bits_to_bytes(region * shape.in_channels)
        channels = np.array([(s.stop - 1) // taps - s.start // taps + 1 for s in spans], np.int64)
        found = bits_to_bytes(region[:, None] * channels)
        fits = whole <= m.buffers.spikes.half_bytes
        found[fits] = 0
        found[fits, 0] = whole[fits]
        return found
