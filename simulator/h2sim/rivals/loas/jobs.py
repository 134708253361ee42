"""LoAS's jobs: rows of (sample, pass of timesteps, position), each joined with the weights of a group of outputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Array, Ints, Words
from h2sim.kernels.inner_join import group_costs
from h2sim.memory.traffic import Traffic, bits_to_bytes
from h2sim.rivals.clocked import Counted
from h2sim.rivals.im2col import (
    WORD,
    by_column,
    in_time_windows,
    input_bits,
    input_rows,
    map_size,
    ones,
    words_of,
)  # fmt: skip
from h2sim.rivals.loas.schema import Loas
from h2sim.rivals.maps import shape_of
from h2sim.rivals.prices import Count
from h2sim.rivals.stationary import widths
from h2sim.rivals.tiles import in_range, inputs_of, refuse_more, result_bytes, spike_loads, tile_traffic
from h2sim.shapes import ConvShape, ceil_div
from h2sim.trace import Layer, Trace

MOST_ITERATIONS = 1 << 17  # of one job
MOST_COSTS = 1 << 26  # of one layer


def layer_work(machine: Loas, trace: Trace, layer: Layer) -> Counted:
    """One layer with weights: passes of a sample one after the other, each position by position."""
    join = Join.of(machine, trace, layer)
    a = machine.array
    fill = layer.spiking * a.lif_cycles * ceil_div(a.tppes * a.timesteps, a.lif_units)
    return Counted(join.cycles(), fill, join.traffic(layer.spiking), join.counts())


def kept_weights(trace: Trace, layer: Layer, inputs: int) -> Array | None:
    """Which weights there are, bool (O, K_in): those that are not zero; None where the trace does not hold them."""
    if not trace.has(f"{layer.name}.weight"):
        return None
    kept: Array = trace.values(layer.name, "weight").reshape(-1, inputs) != 0
    return kept


@dataclass(frozen=True, eq=False)
class Join:
    """A layer's rows. live: uint64 (rows, words), the inputs that fire in a pass; spikes: int64 (K_in,) of all rows and
    timesteps where weights are pruned; total: all spikes; kept: bool (O, K_in), None: all.

    words: int64 (N, passes), neurons of the input map that fire in a pass; silent: neurons that never fire.
    """

    machine: Loas
    shape: ConvShape
    live: Words
    spikes: Ints
    total: int
    kept: Array | None
    words: Ints
    silent: int

    @classmethod
    def of(cls, machine: Loas, trace: Trace, layer: Layer) -> Join:
        shape, bits, length = shape_of(trace.meta, layer), input_bits(trace, layer), machine.array.timesteps
        passes = ceil_div(shape.timesteps, length)
        rows_of_sample = passes * shape.out_height * shape.out_width
        groups = ceil_div(shape.out_channels, machine.array.tppes)
        refuse_more(machine, layer, "(group, row) pairs", groups * rows_of_sample * shape.batch, MOST_COSTS)
        kept = kept_weights(trace, layer, inputs_of(shape))
        live, spikes, total = [], np.zeros(inputs_of(shape), np.int64), 0
        for n in range(shape.batch):
            rows = input_rows(bits, shape, n)
            total += int(ones(rows).sum())
            live.append(in_time_windows(rows, shape, length).reshape(-1, rows.shape[1]))
            if kept is not None:
                spikes += by_column(rows, len(spikes))
        fires = ones(np.bitwise_or.reduceat(bits, np.arange(0, shape.timesteps, length), axis=0)).T
        ever = int(ones(np.bitwise_or.reduce(bits, axis=0)).sum())
        return cls(
            machine, shape, np.concatenate(live), spikes, total, kept, fires, shape.batch * map_size(shape) - ever
        )

    @property
    def groups(self) -> Ints:
        """Output channels of each group."""
        return widths(self.shape.out_channels, self.machine.array.tppes)

    @property
    def tiles(self) -> int:
        """(Sample, pass) pairs."""
        return int(self.words.size)

    @property
    def starts(self) -> Ints:
        """First position of each iteration: every position, or every few where they would be too many [A]."""
        positions = self.shape.out_height * self.shape.out_width
        several = ceil_div(len(self.groups) * len(self.live), MOST_ITERATIONS)
        return np.arange(0, positions, min(several, positions))

    def cycles(self) -> Ints:
        """int64 (groups, tiles, positions or several)."""
        a, inputs = self.machine.array, inputs_of(self.shape)
        kept = np.ones((1, inputs), bool) if self.kept is None else self.kept
        costs = group_costs(self.live, words_of(kept), a.chunk // WORD, a.tppes)
        size = (len(self.groups), self.tiles, len(self.live) // self.tiles)
        each = np.broadcast_to(costs.reshape(-1, *size[1:]), size)
        return np.add.reduceat(each, self.starts, axis=2)

    def counts(self) -> tuple[Count, ...]:
        """Events, and what the sparsities of spikes, packed words and weights are made of."""
        shape, channels, inputs = self.shape, self.shape.out_channels, inputs_of(self.shape)
        chunks = len(self.live) * channels * ceil_div(inputs, self.machine.array.chunk)
        matches, adds = self._matches(), self.total * channels
        if self.kept is not None:
            adds = int(self.spikes @ self.kept.sum(axis=0))
        return (
            Count("tppes", "add", adds),
            Count("tppes", "match", matches),
            Count("join", "chunk", chunks),
            Count("map", "input_neuron", shape.batch * map_size(shape)),
            Count("map", "silent_neuron", self.silent),
            Count("map", "packed_word", self.tiles * map_size(shape)),
            Count("map", "live_word", int(self.words.sum())),
            Count("map", "weight", channels * inputs),
            Count("map", "kept_weight", channels * inputs if self.kept is None else int(self.kept.sum())),
        )

    def _matches(self) -> int:
        """(Row, input, output) with a live input and a weight."""
        if self.kept is None:
            return int(ones(self.live).sum()) * self.shape.out_channels
        return int(by_column(self.live, self.kept.shape[1]) @ self.kept.sum(axis=0))

    def traffic(self, spiking: bool) -> Traffic:
        """A word of bits for each live neuron and a bit for each neuron; a byte for each weight kept, a bit for each.

        A pass's map is loaded once for a group if half of the spikes' buffer holds it, else each position loads its
        own; weights that half of theirs does not hold are read anew at each position.
        """
        m, shape, length = self.machine, self.shape, self.machine.array.timesteps
        positions, inputs = shape.out_height * shape.out_width, inputs_of(shape)
        whole = bits_to_bytes(length * self.words.ravel() + map_size(shape))
        own = length * ones(self.live).reshape(self.tiles, -1) + in_range(shape) * shape.in_channels
        spikes = spike_loads(whole, bits_to_bytes(np.add.reduceat(own, self.starts, axis=1)), m.buffers.spikes)
        steps = np.minimum(length, shape.timesteps - np.arange(0, shape.timesteps, length))
        results = result_bytes(np.tile(steps * positions, shape.batch) * self.groups[:, None], spiking)
        masks, rows = shape.out_channels * inputs, len(self.live)
        joined = length * int(ones(self.live).sum()) + rows * inputs
        read = ceil_div(joined, 8) * len(self.groups), ceil_div(rows * masks, 8) + self._matches() * m.weight_bytes
        return tile_traffic(m.memories, self._weights(positions), spikes, results, read=read)

    def _weights(self, positions: int) -> Ints:
        """int64 (groups, iterations of a tile): bytes of weights that each needs anew."""
        m, inputs, columns = self.machine, inputs_of(self.shape), self.groups
        kept = columns * inputs
        if self.kept is not None:
            kept = np.add.reduceat(self.kept.sum(axis=1), np.cumsum(columns) - columns)
        bytes_of = kept * m.weight_bytes + bits_to_bytes(columns * inputs)
        again = np.diff([*self.starts, positions])
        if int(bytes_of.max()) <= m.buffers.weights.half_bytes:
            again = np.arange(len(self.starts)) == 0
        found: Ints = bytes_of[:, None] * again.astype(np.int64)
        return found
