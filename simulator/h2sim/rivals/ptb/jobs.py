"""PTB's jobs: batches of (time window, position) pairs, whose lines of inputs are packed and streamed past the array.

A line is an input of the receptive field: a bit for each column in whose window it fires. Empty lines vanish, lines
that share no column go in pairs; what is left takes a slot of `window` cycles for each group of output channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.line_packing import packed_lines
from h2sim.memory.traffic import Traffic, bits_to_bytes
from h2sim.rivals.clocked import Counted
from h2sim.rivals.im2col import in_time_windows, input_bits, input_rows, ones
from h2sim.rivals.maps import region_of, shape_of
from h2sim.rivals.prices import Count
from h2sim.rivals.ptb.schema import PADDINGS, PLACEMENTS, Padding, Placement, Ptb
from h2sim.rivals.stationary import widths
from h2sim.rivals.tiles import inputs_of, refuse_more, result_bytes, spread, tile_traffic
from h2sim.shapes import ConvShape, ceil_div
from h2sim.trace import Layer, Trace

VARIANTS: list[tuple[Placement, Padding]] = [(placement, padding) for placement in PLACEMENTS for padding in PADDINGS]


def variant(placement: Placement, padding: Padding) -> str:
    """The count that holds a layer's cycles with pairs and T so placed and padded."""
    return f"cycles_{placement}_{padding}"


def layer_work(machine: Ptb, trace: Trace, layer: Layer) -> Counted:
    """One layer with weights; its cycles with every placement and padding stand among its counts."""
    shape, bits, a = shape_of(trace.meta, layer), input_bits(trace, layer), machine.array
    grids = {v: Grid.of(machine, shape, *v) for v in VARIANTS}
    mine = grids[a.placement, a.padding]
    refuse_more(machine, layer, "batches", mine.batches * shape.batch * len(mine.groups))
    found: dict[Grid, list[Ints]] = {grid: [] for grid in grids.values()}
    spikes = window_bits = 0
    for n in range(shape.batch):
        rows = input_rows(bits, shape, n)
        windows = in_time_windows(rows, shape, a.window).reshape(-1, rows.shape[1])
        spikes, window_bits = spikes + int(ones(rows).sum()), window_bits + int(ones(windows).sum())
        for grid, slots in found.items():
            slots.append(packed_lines(windows, grid.rows_of(len(windows))))
    packed = {grid: np.concatenate(each) for grid, each in found.items()}
    slots, lines = packed[mine].T
    counts = (
        Count("array", "accumulate", spikes * shape.out_channels),
        Count("array", "slot", int(slots.sum())),
        Count("array", "window_bit", window_bits),
        Count("array", "idle_pe_slot", int(slots.sum()) * a.columns * a.window - window_bits),
        Count("array", "weight_read", int(lines.sum()) * len(mine.groups)),
        *(Count("array", variant(*v), int(grid.cycles(packed[grid][:, 0]).sum())) for v, grid in grids.items()),
    )
    fill = layer.spiking * a.window * a.lif_cycles
    return Counted(mine.cycles(slots), fill, mine.traffic(int(lines.sum()), layer.spiking), counts)


@dataclass(frozen=True)
class Grid:
    """A layer's batches, with T cut into so many windows and pairs so placed in the array's columns."""

    machine: Ptb
    shape: ConvShape
    windows: int
    columns: int
    placement: Placement

    @classmethod
    def of(cls, machine: Ptb, shape: ConvShape, placement: Placement, padding: Padding) -> Grid:
        """A fully connected layer has a pair for each window, and packs over no more columns than that."""
        steps = shape.timesteps if padding == "window" else 1 << (shape.timesteps - 1).bit_length()
        windows, a = ceil_div(steps, machine.array.window), machine.array
        fc = shape.in_height * shape.in_width == shape.out_height * shape.out_width == 1
        return cls(machine, shape, windows, min(a.columns, windows) if fc else a.columns, placement)

    @property
    def positions(self) -> int:
        """Output positions, L."""
        return self.shape.out_height * self.shape.out_width

    @property
    def batches(self) -> int:
        """Batches of one sample."""
        return ceil_div(self.windows * self.positions, self.columns)

    @property
    def groups(self) -> Ints:
        """Output channels of each group."""
        return widths(self.shape.out_channels, self.machine.array.rows)

    def pairs(self) -> Ints:
        """int64 (batches, columns): the pair, window * L + position, that each column of a batch holds."""
        each = np.arange(self.batches * self.columns)
        return each.reshape(self.columns, -1).T if self.placement == "strided" else each.reshape(-1, self.columns)

    def rows_of(self, n: int) -> Ints:
        """The pairs, but for those that only padding holds: -1."""
        pairs = self.pairs()
        return np.ascontiguousarray(np.where(pairs < n, pairs, -1))

    def cycles(self, slots: Ints) -> Ints:
        """int64 (groups, batches of all samples, 1): slots, and an equal share of the layer's cold start [A]."""
        groups, a = len(self.groups), self.machine.array
        cold = spread(2 * a.rows * self.positions * self.shape.batch, groups * len(slots))
        return (np.tile(slots * a.window, groups) + cold).reshape(groups, -1, 1)

    def traffic(self, lines: int, spiking: bool) -> Traffic:
        """Weights of a group by the common rule; each batch's regions, halos included; what its pairs complete."""
        m, shape, a = self.machine, self.shape, self.machine.array
        weights = inputs_of(shape) * self.groups[:, None] * m.weight_bytes
        loaded, completed = self._moved()
        results = result_bytes(np.tile(completed, shape.batch) * self.groups[:, None], spiking)
        streamed = ceil_div(lines * a.columns * a.window, 8) * len(self.groups)
        through = streamed, lines * shape.out_channels * m.weight_bytes
        return tile_traffic(m.memories, weights, np.tile(loaded, shape.batch)[:, None], results, read=through)

    def _moved(self) -> tuple[Ints, Ints]:
        """Of each batch of a sample: bytes of spikes that it reads, and (position, timestep) pairs that it completes.

        Neighbouring positions of one window share their halos.
        """
        shape, length = self.shape, self.machine.array.window

        @cache
        def region(start: int, stop: int) -> int:
            return region_of(start, stop, shape.out_width, shape.input_region)

        bits, done = np.zeros((2, self.batches), np.int64)
        for b, row in enumerate(self.rows_of(ceil_div(shape.timesteps, length) * self.positions)):
            for start, stop in _runs(row[row >= 0], self.positions):
                window = start // self.positions
                steps, first = min(length, shape.timesteps - window * length), window * self.positions
                bits[b] += region(start - first, stop - first) * steps * shape.in_channels
                done[b] += (stop - start) * steps
        return bits_to_bytes(bits), done


def _runs(pairs: Ints, positions: int) -> list[tuple[int, int]]:
    """Cuts pairs into runs of neighbours of one window: (start, stop)."""
    ends = [i for i in range(1, len(pairs)) if pairs[i] != pairs[i - 1] + 1 or pairs[i] % positions == 0]
    return [(int(pairs[i]), int(pairs[j - 1]) + 1) for i, j in pairwise([0, *ends, len(pairs)]) if j > i]
