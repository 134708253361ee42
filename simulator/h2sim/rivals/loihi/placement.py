"""Neurons onto Loihi's cores: each core takes a block of positions and channels of one layer, within its limits.

A core's limits are Davies 2018's four (p. 89): compartments, synapse memory, output axons, input axons. A layer is cut
into equal channel groups and each group into contiguous runs of positions (raster order), every run as long as the
limits let it; of all numbers of groups the one with the fewest cores is taken, fewest groups first. So a looser limit
never needs more cores. Cores are numbered in execution order; no core holds two layers [A].

The fewest cores are not the fastest: a core works through its neurons one after the other. So how many compartments
are filled is a choice of its own, `mapping.compartments_per_core` [A].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from h2sim.errors import BaselineError, at
from h2sim.rivals.loihi.schema import LoihiMachine
from h2sim.rivals.loihi.wiring import INPUT, Chw, Connection, Stage
from h2sim.shapes import ceil_div

LIMITS = {
    "compartments": "compartments",
    "synapse_memory_bits": "bits of synapse memory",
    "output_axons": "output axons",
    "input_axons": "input axons",
}


@dataclass(frozen=True)
class CoreUse:
    """What one core holds, in the units of its limits."""

    compartments: int
    synapse_memory_bits: int
    output_axons: int
    input_axons: int

    def broken(self, machine: LoihiMachine) -> str | None:
        """The first limit that this exceeds; None if it fits."""
        return next((n for n in LIMITS if getattr(self, n) > _most(machine, n)), None)


def _most(machine: LoihiMachine, limit: str) -> int:
    return machine.compartments if limit == "compartments" else int(getattr(machine.limits, limit).value)


@dataclass(frozen=True, kw_only=True)
class LayerCores:
    """A layer's cores: core first_core + group * blocks + block holds channels channel_edges[group] to [group + 1] at
    positions position_edges[block] to [block + 1]; uses: of each core, in that order."""

    layer: str
    shape: Chw
    first_core: int
    channel_edges: tuple[int, ...]
    position_edges: tuple[int, ...]
    uses: tuple[CoreUse, ...]

    @property
    def groups(self) -> int:
        return len(self.channel_edges) - 1

    @property
    def blocks(self) -> int:
        return len(self.position_edges) - 1

    @property
    def cores(self) -> int:
        return self.groups * self.blocks

    @property
    def slice(self) -> slice:
        """Its cores among all of the machine."""
        return slice(self.first_core, self.first_core + self.cores)

    def core(self, group: int, block: int) -> int:
        """Number of a core over the whole machine."""
        return self.first_core + group * self.blocks + block


@dataclass(frozen=True)
class Placement:
    """All layers on cores; chips and tiles as filled, in order."""

    layers: tuple[LayerCores, ...]
    cores: int
    chips: int
    tiles: int

    def of(self, layer: str) -> LayerCores:
        """The cores of a placed layer."""
        return next(cores for cores in self.layers if cores.layer == layer)


def place(stages: tuple[Stage, ...], machine: LoihiMachine, where: str) -> Placement:
    """Every neuron onto one core, no limit broken.

    tiles are those of the fullest chip. Raises BaselineError, one line, where one neuron exceeds a core.
    """
    edges = {stage.layer: np.zeros(stage.positions, np.int64) for stage in stages}
    cut: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[CoreUse, ...]]] = {}
    for stage in reversed(stages):  # a layer's output axons follow from where its readers stand
        room = _Room(stage, machine, edges[stage.layer])
        cut[stage.layer] = room.cut(where)
        channel_edges, position_edges, _ = cut[stage.layer]
        for connection in stage.connections:
            if connection.source != INPUT:
                groups = len(channel_edges) - 1 if room.population or not connection.depthwise else 1
                for start, stop in pairwise(position_edges):
                    edges[connection.source] += groups * connection.feeders(start, stop)
    layers, first = [], 0
    for stage in stages:
        channel_edges, position_edges, uses = cut[stage.layer]
        layers.append(
            LayerCores(
                layer=stage.layer,
                shape=stage.shape,
                first_core=first,
                channel_edges=channel_edges,
                position_edges=position_edges,
                uses=uses,
            )
        )
        first += layers[-1].cores
    per_chip, per_tile = machine.limits.cores_per_chip.value, machine.limits.cores_per_tile.value
    return Placement(tuple(layers), first, ceil_div(first, per_chip), ceil_div(min(first, per_chip), per_tile))


class _Room:
    """What blocks of one layer need of a core."""

    def __init__(self, stage: Stage, machine: LoihiMachine, out_edges: np.ndarray) -> None:
        self.stage = stage
        self.machine = machine
        self.population = machine.mapping.population_axons.value
        self._out_edges = np.concatenate([[0], np.cumsum(out_edges)])
        self._fan_in = [np.concatenate([[0], np.cumsum(c.fan_in)]) for c in stage.connections]

    def use(self, start: int, stop: int, channels: int) -> CoreUse:
        """Of a block of `channels` channels at positions start <= p < stop; never falls as the block grows."""
        pairs = zip(self.stage.connections, self._fan_in, strict=True)
        bits = sum(self._bits(c, int(sums[stop] - sums[start]), channels) for c, sums in pairs)
        sent = int(self._out_edges[stop] - self._out_edges[start]) * (1 if self.population else channels)
        return CoreUse((stop - start) * channels, bits, sent, self._input_axons(start, stop, channels))

    def _bits(self, connection: Connection, fan_in: int, channels: int) -> int:
        mapping = self.machine.mapping
        if connection.dense:
            return fan_in * channels * mapping.weight_bits.value
        each = mapping.weight_bits.value + mapping.index_bits.value
        stored = fan_in * channels
        if mapping.share_convolution_weights.value:
            kernel = connection.kernel[0] * connection.kernel[1]
            stored = min(stored, kernel if connection.depthwise else kernel * connection.source_shape[0] * channels)
        return stored * each

    def _input_axons(self, start: int, stop: int, channels: int) -> int:
        total = 0
        for connection in self.stage.connections:
            each = channels if connection.depthwise else connection.source_shape[0]
            total += int(np.count_nonzero(connection.feeders(start, stop))) * (1 if self.population else each)
        return total

    def _fits(self, start: int, stop: int, channels: int) -> bool:
        return self.use(start, stop, channels).broken(self.machine) is None

    def cut(self, where: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[CoreUse, ...]]:
        """Channel edges, position edges and uses with the fewest cores."""
        channels, most = self.stage.shape[0], self.machine.compartments
        best: tuple[int, int, tuple[int, ...]] | None = None
        for groups in _group_counts(channels, most):
            width = ceil_div(channels, groups)
            if best and groups * ceil_div(self.stage.positions, most // width) >= best[0]:
                continue
            blocks = self._runs(width)
            if blocks and (best is None or groups * (len(blocks) - 1) < best[0]):
                best = groups * (len(blocks) - 1), groups, blocks
        if best is None:
            raise BaselineError(self._too_large(where))
        _, groups, blocks = best
        edges = tuple(group * channels // groups for group in range(groups + 1))
        uses = tuple(
            self.use(start, stop, after - before)
            for before, after in pairwise(edges)
            for start, stop in pairwise(blocks)
        )
        return edges, blocks, uses

    def _runs(self, channels: int) -> tuple[int, ...] | None:
        """Edges of the longest runs of positions, one after the other; None where one position does not fit."""
        edges, positions = [0], self.stage.positions
        most = self.machine.compartments // channels
        while edges[-1] < positions:
            start = edges[-1]
            good, bad = start, min(positions, start + most) + 1
            if self._fits(start, bad - 1, channels):
                good = bad - 1
            while bad - good > 1:
                middle = (good + bad) // 2
                good, bad = (middle, bad) if self._fits(start, middle, channels) else (good, middle)
            if good == start:
                return None
            edges.append(good)
        return tuple(edges)

    def _too_large(self, where: str) -> str:
        """The line that says which limit a single neuron breaks."""
        for position in range(self.stage.positions):
            use = self.use(position, position + 1, 1)
            limit = use.broken(self.machine)
            if limit:
                most = _most(self.machine, limit)
                expected = f"at most {most} {LIMITS[limit]} for one neuron, as a core of {self.machine.name} has"
                return at(where, f"layer {self.stage.layer}", expected, getattr(use, limit))
        raise AssertionError("every neuron fits alone")


def _group_counts(channels: int, most: int) -> list[int]:
    """Numbers of channel groups with distinct widths, each width at most `most`; fewest groups first."""
    widths = {ceil_div(channels, groups) for groups in range(1, channels + 1)}
    return sorted(ceil_div(channels, width) for width in widths if width <= most)
