"""Prosperity's jobs: the forward pass in tiles of rows and columns of im2col, adds and finding counted tile by tile."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from h2sim.activity import BufferTraffic
from h2sim.arrays import Ints
from h2sim.kernels import product_sparsity as kernel
from h2sim.memory.traffic import Traffic, bits_to_bytes
from h2sim.rivals.clocked import Counted
from h2sim.rivals.im2col import input_bits, input_rows
from h2sim.rivals.maps import region_of, shape_of
from h2sim.rivals.prices import Count
from h2sim.rivals.prosperity.schema import Prosperity
from h2sim.rivals.stationary import channels_of, widths
from h2sim.rivals.tiles import inputs_of, refuse_more, result_bytes, spike_loads, tile_traffic
from h2sim.shapes import ConvShape, ceil_div, groups_of
from h2sim.trace import Layer, Trace


@dataclass(frozen=True, eq=False)
class Tiles:
    """A layer's tiles. found: int64 (row tiles of all samples, column tiles, kernel.COLUMNS)."""

    machine: Prosperity
    shape: ConvShape
    found: Ints

    @classmethod
    def of(cls, machine: Prosperity, trace: Trace, layer: Layer) -> Tiles:
        """Those of an open trace; samples one after another."""
        shape, bits, a = shape_of(trace.meta, layer), input_bits(trace, layer), machine.array
        rows = ceil_div(shape.out_height * shape.out_width * shape.timesteps, a.tile_rows) * shape.batch
        columns = ceil_div(inputs_of(shape), a.tile_columns)
        refuse_more(machine, layer, "tiles", rows * columns * ceil_div(shape.out_channels, a.lanes))
        found = [
            kernel.tile_counts(input_rows(bits, shape, n, a.tile_columns), a.tile_rows, a.sparsity == "product")
            for n in range(shape.batch)
        ]
        return cls(machine, shape, np.concatenate(found))

    def counted(self, spiking: bool) -> Counted:
        """The layer's iterations and events."""
        return Counted(self.cycles(), self.fill(spiking), self.traffic(spiking), self.counts())

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
        """By the rules of rivals/tiles.py; partial sums stay on chip."""
        m, shape, columns = self.machine, self.shape, self.columns
        spans = groups_of(inputs_of(shape), m.array.tile_columns)
        weights = columns[:, None] * np.array([len(s) for s in spans]) * m.weight_bytes
        rows, sums, channels = self.found[:, 0, kernel.ROWS], self.found.sum(axis=(0, 1)), shape.out_channels
        results = result_bytes(rows * columns[:, None], spiking)
        updated = int(sums[kernel.ACTIVE]) * channels * m.sum_bytes
        taken_over = int(sums[kernel.EXACT] + sums[kernel.PARTIAL]) * channels * m.sum_bytes
        outputs = BufferTraffic("outputs", updated + taken_over + int(results.sum()), updated)
        streamed = ceil_div(int(rows.sum()) * inputs_of(shape) * len(columns), 8)
        read = streamed, int(sums[kernel.RESIDUALS]) * channels * m.weight_bytes
        return tile_traffic(m.memories, weights, self._spikes(spans), results, read=read, more=(outputs,))

    def _spikes(self, spans: list[range]) -> Ints:
        """int64 (row tiles, column tiles): bytes of spikes that each tile loads."""
        shape, steps = self.shape, self.shape.timesteps
        tiles = groups_of(shape.out_height * shape.out_width * steps, self.machine.array.tile_rows)
        regions = [
            region_of(t.start // steps, (t.stop - 1) // steps + 1, shape.out_width, shape.input_region) for t in tiles
        ]
        region = np.tile(np.array(regions, np.int64) * steps, shape.batch)
        channels = channels_of(spans, math.prod(shape.kernel))
        whole, each = bits_to_bytes(region * shape.in_channels), bits_to_bytes(region[:, None] * channels)
        return spike_loads(whole, each, self.machine.buffers.spikes)
