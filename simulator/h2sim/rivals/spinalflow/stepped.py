"""SpinalFlow stepped cycle by cycle, values too: spines of sorted spikes, a min-find sorter, PEs of potentials.

One output position at a time: every cycle the sorter gives the earliest spike of the receptive field, the filter
buffer its row of weights, and each PE adds its weight to the potential of its output channel. At the end of a timestep
a potential at its threshold fires (eq. 2.2) [A]. The fast form is h2sim.rivals.spinalflow.engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from h2sim.shapes import ConvShape, groups_of


class Array(Protocol):
    """The numbers of h2sim.rivals.spinalflow.engine.SpineArray."""

    pes: int
    filter_rows: int
    spine_buffers: int
    merge_fifos: int
    position_cycles: int
    step_cycles: int
    spill_cycles: int
    output_drain: str
    single_spike: bool


@dataclass(frozen=True)
class Lif:
    """The neuron of eq. 2.1-2.2: decay alpha, threshold th_f, reset to zero; fires False: potentials are read out."""

    decay: float
    threshold: float
    fires: bool = True


@dataclass
class Counts:
    """Events while the machine runs: the names of h2sim.rivals.spinalflow.engine.SpineEvents."""

    sorted_spikes: int = 0
    comparisons: int = 0
    filter_rows: int = 0
    updates: int = 0
    output_spikes: int = 0
    potentials_moved: int = 0


@dataclass(frozen=True, eq=False)
class SpineRun:
    """What the stepped machine did.

    iteration_cycles: one per (channel group, row segment, sample, output row), in this order; tail_cycles: until the
    last output spike has left after the array's last cycle; spikes uint8 (T, N, C_out, Ho, Wo); potentials float64
    (N, C_out, Ho, Wo) after the last timestep.
    """

    iteration_cycles: list[int]
    tail_cycles: int
    spikes: np.ndarray
    potentials: np.ndarray
    counts: Counts


@dataclass(frozen=True, order=True)
class Spike:
    """A time-stamped spike; `row` is its row of weights."""

    step: int
    row: int


class Sorter:
    """The min-find unit: the heads of all spines compared, the earliest leaves. Two levels merge many spines."""

    def __init__(self, array: Array, spines: list[list[Spike]], counts: Counts) -> None:
        self.spines = [spine for spine in spines if spine]
        self.counts = counts
        self.comparators = array.spine_buffers - 1
        reach = array.spine_buffers
        while reach < len(spines) and array.merge_fifos > 1:
            self.comparators += array.merge_fifos - 1
            reach *= array.merge_fifos

    def pop(self, step: int) -> Spike | None:
        """The next spike of timestep `step`; None when the next one is later or there is none."""
        first = min(self.spines, key=lambda spine: spine[0], default=None)
        if first is None or first[0].step != step:
            return None
        spike = first.pop(0)
        self.spines = [spine for spine in self.spines if spine]
        self.counts.comparisons += self.comparators
        self.counts.sorted_spikes += 1
        return spike


@dataclass
class Pe:
    """One output channel at one position."""

    potential: float = 0.0
    silent: bool = False  # has sent its only spike
    spikes: list[int] = field(default_factory=list)

    def add(self, weight: float, counts: Counts) -> None:
        if not self.silent:
            self.potential += weight
            counts.updates += 1

    def begin_step(self, lif: Lif, partial_sum: float) -> None:
        self.potential = lif.decay * self.potential + partial_sum

    def end_step(self, step: int, lif: Lif, single_spike: bool) -> None:
        if self.potential >= lif.threshold and not self.silent:
            self.spikes.append(step)
            self.potential = 0.0
            self.silent = single_spike


@dataclass
class Clock:
    """Counts cycles by output row; in each, the output registers send one entry."""

    rows: list[int] = field(default_factory=list)
    leaving: int = 0

    def tick(self) -> None:
        self.rows[-1] += 1
        self.leaving = max(0, self.leaving - 1)


class Machine:
    """The array at work on one layer: see `conv` and `pool`."""

    def __init__(self, array: Array, shape: ConvShape, spikes: np.ndarray, weight: np.ndarray, lif: Lif) -> None:
        self.array, self.shape, self.input, self.weight, self.lif = array, shape, spikes, weight, lif
        self.clock, self.counts = Clock(), Counts()
        s = shape
        self.spikes = np.zeros((s.timesteps, s.batch, s.out_channels, s.out_height, s.out_width), np.uint8)
        self.potentials = np.zeros(self.spikes.shape[1:])
        self.sums = np.zeros(self.spikes.shape)  # partial sums of each timestep, outside the PEs

    def run(self, by_channel: bool) -> SpineRun:
        s = self.shape
        rows = s.kernel[0] * s.kernel[1] * s.in_channels
        segments = [range(rows)] if by_channel else groups_of(rows, self.array.filter_rows)
        for group in groups_of(s.out_channels, self.array.pes):
            for segment in segments:
                first, last = segment.start == 0, segment.stop == rows
                for n, y in np.ndindex(s.batch, s.out_height):
                    self.clock.rows.append(0)
                    for x in range(s.out_width):
                        spines = self.spines(n, y, x, segment, group if by_channel else range(s.in_channels))
                        self.position(
                            (n, y, x), group, Sorter(self.array, spines, self.counts), by_channel, first, last
                        )
        return SpineRun(self.clock.rows, self.clock.leaving, self.spikes, self.potentials, self.counts)

    def spines(self, n: int, y: int, x: int, segment: range, channels: range) -> list[list[Spike]]:
        """The sorted lists of a receptive field: one per kernel tap and group of channels, [] outside the map."""
        s, found = self.shape, []
        for tap, (ky, kx) in enumerate(np.ndindex(*s.kernel)):
            at_y, at_x = y * s.stride[0] - s.padding[0] + ky, x * s.stride[1] - s.padding[1] + kx
            inside = 0 <= at_y < s.in_height and 0 <= at_x < s.in_width
            for part in groups_of(len(channels), self.array.pes):
                numbers = [(c, tap * s.in_channels + c) for c in channels[part.start : part.stop]]
                found.append(
                    [
                        Spike(t, row)
                        for t in range(s.timesteps)
                        for c, row in numbers
                        if inside and row in segment and self.input[t, n, c, at_y, at_x]
                    ]
                )
        return found

    def position(
        self, at: tuple[int, int, int], group: range, sorter: Sorter, by_channel: bool, first: bool, last: bool
    ) -> None:
        """One output position for one group of channels: the array's cycles, then its outputs leave."""
        n, y, x = at
        pes = [Pe() for _ in group]
        for _ in self.cycles(at, group, pes, sorter, by_channel, first, last):
            self.clock.tick()
        while self.clock.leaving:
            self.clock.tick()
        if not last:
            return
        for pe, c in zip(pes, group, strict=True):
            self.potentials[n, c, y, x] = pe.potential
            self.spikes[pe.spikes, n, c, y, x] = 1
        sent = sum(len(pe.spikes) for pe in pes)
        self.counts.output_spikes += sent
        self.counts.potentials_moved += 0 if self.lif.fires else len(pes)
        self.clock.leaving = sent if self.lif.fires else len(pes)
        while self.array.output_drain == "exposed" and self.clock.leaving:
            self.clock.tick()

    def cycles(
        self,
        at: tuple[int, int, int],
        group: range,
        pes: list[Pe],
        sorter: Sorter,
        by_channel: bool,
        first: bool,
        last: bool,
    ) -> Iterator[None]:
        """Yields once per cycle of the array."""
        n, y, x = at
        yield from [None] * self.array.position_cycles
        for t in range(self.shape.timesteps):
            sums = self.sums[t, n, group.start : group.stop, y, x]
            if not first:
                self.counts.potentials_moved += len(pes)
                yield from [None] * self.array.spill_cycles
            for pe, partial_sum in zip(pes, sums, strict=True):
                pe.begin_step(self.lif if last else Lif(0.0, 0.0), 0.0 if first else partial_sum)
            while (spike := sorter.pop(t)) is not None:
                self.accumulate(spike, group, pes, by_channel)
                yield
            yield from [None] * self.array.step_cycles
            if not last:
                sums[:] = [pe.potential for pe in pes]
                self.counts.potentials_moved += len(pes)
                yield from [None] * self.array.spill_cycles
            elif self.lif.fires:
                for pe in pes:
                    pe.end_step(t, self.lif, self.array.single_spike)

    def accumulate(self, spike: Spike, group: range, pes: list[Pe], by_channel: bool) -> None:
        tap, channel = divmod(spike.row, self.shape.in_channels)
        ky, kx = divmod(tap, self.shape.kernel[1])
        if by_channel:
            pes[channel - group.start].add(1.0, self.counts)
            return
        self.counts.filter_rows += 1
        for pe, weight in zip(pes, self.weight[group.start : group.stop, channel, ky, kx], strict=True):
            pe.add(float(weight), self.counts)


def conv(array: Array, shape: ConvShape, spikes: np.ndarray, weight: np.ndarray, lif: Lif) -> SpineRun:
    """A convolution of spikes uint8 (T, N, C_in, H, W) with weights (C_out, C_in, kh, kw); fc: maps of 1x1."""
    return Machine(array, shape, spikes, weight, lif).run(by_channel=False)


def pool(array: Array, shape: ConvShape, spikes: np.ndarray, lif: Lif) -> SpineRun:
    """A pooling layer of spikes: sums over the window against a threshold in the same unit (kernel size x th_f)."""
    return Machine(array, shape, spikes, np.zeros(0), lif).run(by_channel=True)
