"""SpinalFlow (Narayanan et al., ISCA 2020), fast form: exact cycles and events of a layer from its spikes.

One input spike per cycle, earliest first, goes to all PEs; each PE holds the potential of another output channel at the
same position. The stepped twin is h2sim.rivals.spinalflow.stepped; property tests hold the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from h2sim.shapes import ConvShape, ceil_div, groups_of
from h2sim.trace.bits import unpack

Drain = Literal["overlapped", "exposed"]


@dataclass(frozen=True, kw_only=True)
class SpineArray:
    """What decides the cycles.

    filter_rows: weight rows that the filter buffer holds, one weight per PE each; spine_buffers and merge_fifos: sorted
    lists that the two levels of the sorter merge; position_cycles: between two output positions; step_cycles: at the
    end of each timestep; spill_cycles: to write or read the partial sums of one timestep, all PEs; output_drain:
    whether a position's output spikes (one per cycle) leave behind the next position; single_spike: a neuron fires
    once at most.
    """

    pes: int
    filter_rows: int
    spine_buffers: int
    merge_fifos: int
    position_cycles: int
    step_cycles: int
    spill_cycles: int
    output_drain: Drain
    single_spike: bool


@dataclass(frozen=True, kw_only=True)
class SpineEvents:
    """What one layer does, counted: exact integers.

    sorted_spikes: spikes that left the sorter (a cycle each); comparisons: of two time stamps; filter_rows: weight rows
    read; updates: potentials that took a weight (add, compare, read and write); output_spikes: spikes that left the
    PEs; potentials_moved: potentials or partial sums that left or entered the PEs otherwise (readouts, spills).
    """

    sorted_spikes: int = 0
    comparisons: int = 0
    filter_rows: int = 0
    updates: int = 0
    output_spikes: int = 0
    potentials_moved: int = 0


@dataclass(frozen=True, eq=False)
class SpineWork:
    """One layer: int64 arrays (channel groups, row segments, N * out_height), one output row of a sample each.

    sorted_spikes: what the array takes in each; output_spikes (groups, N * out_height): what leaves in the last
    segment; tail_cycles: what the output still drains when the array is done.
    """

    iteration_cycles: np.ndarray
    sorted_spikes: np.ndarray
    output_spikes: np.ndarray
    tail_cycles: int
    events: SpineEvents


class SpikeMap:
    """The spikes of one map, packed uint8 (T, N, bytes), as counts; single: only each neuron's first one."""

    def __init__(self, packed: np.ndarray, chw: tuple[int, int, int], single: bool) -> None:
        self._packed = first_spikes(packed) if single else packed
        self._chw = chw
        self._counts: dict[range, np.ndarray] = {}

    def bits(self, step: int, channels: range) -> np.ndarray:
        """uint8 (N, channels, H, W) of one timestep."""
        neurons = self._chw[0] * self._chw[1] * self._chw[2]
        bits = unpack(self._packed[step], neurons).reshape(-1, *self._chw)
        return bits[:, channels.start : channels.stop]

    def counts(self, channels: range) -> np.ndarray:
        """int64 (T, N, H, W): spikes of `channels` per timestep, sample and position."""
        if channels not in self._counts:
            steps = [self.bits(t, channels).sum(axis=1, dtype=np.int64) for t in range(len(self._packed))]
            self._counts[channels] = np.stack(steps)
        return self._counts[channels]


def first_spikes(packed: np.ndarray) -> np.ndarray:
    """Packed (T, N, bytes) in which each neuron keeps its first spike alone: what temporal coding would send."""
    seen = np.bitwise_or.accumulate(packed, axis=0)
    found = packed.copy()
    found[1:] &= ~seen[:-1]
    return found


def comparisons_per_spike(array: SpineArray, lists: int) -> int:
    """Comparators that a spike passes: the min-find over all spine buffers, then merges of what they sorted."""
    found, held = array.spine_buffers - 1, array.spine_buffers
    while held < lists and array.merge_fifos > 1:
        found, held = found + array.merge_fifos - 1, held * array.merge_fifos
    return found


def row_segments(array: SpineArray, shape: ConvShape) -> list[range]:
    """Weight rows, (ky, kx, channel) in this order, cut into what the filter buffer holds at a time."""
    return groups_of(shape.in_channels * shape.kernel[0] * shape.kernel[1], array.filter_rows)


def conv(array: SpineArray, shape: ConvShape, inputs: SpikeMap, outputs: SpikeMap | None) -> SpineWork:
    """A convolution (a fully connected layer is one of 1x1 maps); outputs None: potentials are read out, none fires.

    Passes: groups of `pes` output channels, then segments of weight rows, then samples and positions. A layer of
    several segments keeps each timestep's partial sums outside the PEs between them.
    """
    times = [_receptive(shape, inputs, rows) for rows in row_segments(array, shape)]
    passes = []
    for group in groups_of(shape.out_channels, array.pes):
        passes += [_Pass.of(t, len(group), None, array, (n > 0) + 1) for n, t in enumerate(times[:-1])]
        spills = int(len(times) > 1)
        if outputs:
            passes.append(_Pass.of(times[-1], len(group), outputs.counts(group), array, spills))
        else:
            readout = _Pass.of(times[-1], len(group), None, array, spills)
            passes.append(replace(readout, readouts=len(group)))
    lists = shape.kernel[0] * shape.kernel[1] * ceil_div(shape.in_channels, array.pes)
    work = _work(array, shape, passes, len(times), lists)
    return replace(work, events=replace(work.events, filter_rows=work.events.sorted_spikes))


def pool(array: SpineArray, shape: ConvShape, inputs: SpikeMap, outputs: SpikeMap) -> SpineWork:
    """A spiking average pool [A]: a spike goes to its own channel's PE alone; equal weights need no filter rows."""
    passes = []
    for group in groups_of(shape.out_channels, array.pes):
        times = _taken_of_groups(shape, inputs, group)
        one = _Pass.of(times, len(group), outputs.counts(group), array, 0)
        passes.append(replace(one, updates=_pool_updates(array, shape, inputs, outputs, group)))
    return _work(array, shape, passes, 1, shape.kernel[0] * shape.kernel[1])


@dataclass(frozen=True, eq=False)
class _Pass:
    """One channel group and row segment, int64 (N, Ho, Wo): spikes taken and sent at each position.

    readouts: potentials that leave at each position; spills: times that its partial sums enter or leave the PEs.
    """

    taken: np.ndarray
    fired: np.ndarray
    updates: int
    spills: int
    width: int
    readouts: int = 0

    @classmethod
    def of(cls, times: np.ndarray, width: int, fires: np.ndarray | None, array: SpineArray, spills: int) -> _Pass:
        """times, fires: int64 (T, N, Ho, Wo). Where one spike is all, a potential that has fired takes no weight."""
        taken = times.sum(axis=0)
        if fires is None:
            return cls(taken, np.zeros_like(taken), int(taken.sum()) * width, spills, width)
        fired_before = np.cumsum(fires, axis=0) - fires if array.single_spike else 0
        updates = int((times * (width - fired_before)).sum())
        return cls(taken, fires.sum(axis=0), updates, spills, width)


def _work(array: SpineArray, shape: ConvShape, passes: list[_Pass], n_segments: int, lists: int) -> SpineWork:
    """Cycles in the order of the passes: a position waits until the one before it has left the output registers."""
    taken, fired = np.stack([p.taken for p in passes]), np.stack([p.fired for p in passes])
    leaving = fired + np.array([p.readouts for p in passes], np.int64)[:, None, None, None]
    spills = np.array([p.spills for p in passes], np.int64)[:, None, None, None]
    busy = taken + array.position_cycles + shape.timesteps * (array.step_cycles + array.spill_cycles * spills)
    tail = 0
    if array.output_drain == "exposed":
        busy += leaving
    else:
        busy.ravel()[1:] = np.maximum(busy.ravel()[1:], leaving.ravel()[:-1])
        tail = int(leaving.ravel()[-1])
    positions = shape.batch * shape.out_height * shape.out_width
    sorted_spikes = int(taken.sum())
    events = SpineEvents(
        sorted_spikes=sorted_spikes,
        comparisons=sorted_spikes * comparisons_per_spike(array, lists),
        updates=sum(p.updates for p in passes),
        output_spikes=int(fired.sum()),
        potentials_moved=sum(positions * (p.readouts + p.spills * shape.timesteps * p.width) for p in passes),
    )
    rows = (len(passes) // n_segments, n_segments, shape.batch * shape.out_height)
    cycles, taken, fired = (a.sum(axis=3).reshape(rows) for a in (busy, taken, fired))
    return SpineWork(cycles, taken, fired[:, -1], tail, events)


def _taps(shape: ConvShape) -> list[tuple[int, int]]:
    return [(y, x) for y in range(shape.kernel[0]) for x in range(shape.kernel[1])]


def _window(values: np.ndarray, shape: ConvShape, tap: tuple[int, int]) -> np.ndarray:
    """(..., Ho, Wo): the input of (..., H, W) that each output position sees through one kernel tap, 0 outside."""
    (ph, pw), (sh, sw) = shape.padding, shape.stride
    around = [(0, 0)] * (values.ndim - 2) + [(ph, ph), (pw, pw)]
    y, x = tap
    stop_y, stop_x = y + sh * (shape.out_height - 1) + 1, x + sw * (shape.out_width - 1) + 1
    return np.pad(values, around)[..., y:stop_y:sh, x:stop_x:sw]


def _receptive(shape: ConvShape, inputs: SpikeMap, rows: range) -> np.ndarray:
    """int64 (T, N, Ho, Wo): spikes in the receptive field whose weight row is one of `rows`."""
    found = np.zeros((shape.timesteps, shape.batch, shape.out_height, shape.out_width), np.int64)
    for number, tap in enumerate(_taps(shape)):
        first = number * shape.in_channels
        channels = range(max(rows.start - first, 0), min(rows.stop - first, shape.in_channels))
        if len(channels):
            found += _window(inputs.counts(channels), shape, tap)
    return found


def _taken_of_groups(shape: ConvShape, inputs: SpikeMap, group: range) -> np.ndarray:
    """int64 (T, N, Ho, Wo): spikes of the channels of `group` in the receptive field."""
    taken: np.ndarray = np.sum([_window(inputs.counts(group), shape, tap) for tap in _taps(shape)], axis=0)
    return taken


def _pool_updates(array: SpineArray, shape: ConvShape, inputs: SpikeMap, outputs: SpikeMap, group: range) -> int:
    """Potentials that take a spike of their own channel, without those that have fired where one spike is all."""
    updates = 0
    active = np.ones((shape.batch, len(group), shape.out_height, shape.out_width), bool)
    for t in range(shape.timesteps):
        bits = inputs.bits(t, group)
        for tap in _taps(shape):
            updates += int(_window(bits, shape, tap)[active].sum(dtype=np.int64))
        if array.single_spike:
            active &= outputs.bits(t, group) == 0
    return updates
