"""Sizes of tiles and channel groups as arrays, shared by the jobs of all engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from h2sim.arch.schema import TileSize
from h2sim.arrays import Ints
from h2sim.memory.traffic import VALUE_BYTES, bits_to_bytes
from h2sim.shapes import ConvShape, Tile, groups_of, tiles_of
from h2sim.trace import Layer

MOST_KEPT = 1024  # maps and convolutions whose tiles are remembered


def widths(count: int, size: int) -> Ints:
    """How many channels each group holds when `count` channels are cut into groups of `size`: int64 (groups,)."""
    return np.array([len(g) for g in groups_of(count, size)], np.int64)


def columns_of(groups: list[range], size: int, channels: int) -> tuple[Ints, Ints]:
    """The column groups of passes, each of which has so many channels side by side: int64 (column groups,) each.

    groups: the channels that a pass has on the columns; size: columns; channels: of one group of the convolution.
    Returns how many channels each column group holds, and how many groups of the convolution its pass works on.
    """
    held = [widths(len(span), size) for span in groups]
    together = [max(1, len(span) // channels) for span in groups]
    return np.concatenate(held), np.repeat(np.array(together, np.int64), [len(each) for each in held])


def positions(tiles: list[Tile]) -> Ints:
    """Positions of each tile: int64 (tiles,)."""
    return np.array([t.positions for t in tiles], np.int64)


@lru_cache(maxsize=MOST_KEPT)
def tile_areas(height: int, width: int, tile: tuple[int, int]) -> Ints:
    """Positions of the tiles of a map, each of (height, width) `tile`: int64 (tiles,), read-only."""
    return _read_only(positions(tiles_of(height, width, *tile)))


def input_regions(tile: TileSize, shape: ConvShape) -> Ints:
    """Input positions, halo included, that each output tile of a convolution reads: int64 (tiles,), read-only."""
    return _input_regions(tile.size, shape)


@lru_cache(maxsize=MOST_KEPT)
def _input_regions(tile: tuple[int, int], shape: ConvShape) -> Ints:
    tiles = tiles_of(shape.out_height, shape.out_width, *tile)
    return _read_only(positions([shape.input_region(t) for t in tiles]))


def _read_only(array: Ints) -> Ints:
    array.setflags(write=False)
    return array


def by_group(per_channel: Ints, groups: Ints) -> Ints:
    """Sums of counts, int64 (C, tiles), over groups of so many consecutive channels: int64 (groups, tiles)."""
    sums: Ints = np.add.reduceat(per_channel, np.cumsum(groups) - groups, axis=0)
    return sums


def shared_out(total: int, weights: Ints) -> Ints:
    """Cuts a total into integers in proportion to `weights`, int64 of any shape, in their order."""
    ends = np.cumsum(weights.ravel(), dtype=object)  # products of totals and ends can be beyond 64 bits
    shares = np.diff(np.array([0, *(total * int(end) // int(ends[-1]) for end in ends)]))
    return shares.astype(np.int64).reshape(weights.shape)


class SetBits(Protocol):
    """What bytes depend on of a trace's masks; h2sim.trace.maps.Maps counts it."""

    def in_tiles(self, layer: str, kind: str, tile: tuple[int, int]) -> Ints:
        """Set bits of a layer's mask per channel and tile, over all timesteps and samples: int64 (C, tiles)."""
        ...

    def pairs(self, name: str) -> int:
        """Pairs of an element of a map and one that it feeds, through which its gradient goes on."""
        ...


@dataclass(frozen=True)
class NeuronTiles:
    """The neurons of one layer, cut into column groups of channels and tiles of positions.

    samples: T*N. group_widths, int64 (groups,): channels of each group. tile_positions, int64 (tiles,). in_window,
    int64 (groups, tiles): neurons inside the window over all samples, 0 where the window is not recorded or not stored.
    The methods give bytes, int64 (groups, tiles).
    """

    samples: int
    group_widths: Ints
    tile_positions: Ints
    in_window: Ints

    @classmethod
    def of(
        cls, samples: int, chw: tuple[int, int, int], groups: Ints, tile: TileSize, window: Ints | None
    ) -> NeuronTiles:
        """Cuts (C, H, W) neurons into groups of so many channels, int64 (groups,), and tiles.

        samples: T*N; window: counts of set window bits, int64 (C, tiles), as Maps.in_tiles gives them, or None where no
        membrane potential is stored.
        """
        area = tile_areas(chw[1], chw[2], tile.size)
        counts = by_group(window, groups) if window is not None else np.zeros((len(groups), len(area)), np.int64)
        return cls(samples, groups, area, counts)

    @classmethod
    def of_layer(cls, samples: int, layer: Layer, groups: Ints, tile: TileSize, maps: SetBits) -> NeuronTiles:
        """The neurons of a spiking layer whose state is kept for the backward pass.

        "We do not compress m in FC layers" (3.2.1): all membrane potentials of such a layer are kept.
        """
        if layer.kind != "fc":
            return cls.of(samples, layer.out_chw, groups, tile, maps.in_tiles(layer.name, "window", tile.size))
        plain = cls.of(samples, layer.out_chw, groups, tile, None)
        return replace(plain, in_window=plain.neurons)

    @property
    def neurons(self) -> Ints:
        """Neuron updates over all timesteps and samples: int64 (groups, tiles)."""
        return self.samples * self.group_widths[:, None] * self.tile_positions[None, :]

    def values(self) -> Ints:
        """Bytes of one FP16 value per neuron."""
        return VALUE_BYTES * self.neurons

    def mask(self) -> Ints:
        """Bytes of one bit per neuron."""
        return bits_to_bytes(self.neurons)

    def compressed(self) -> Ints:
        """Bytes of the membrane potentials inside the window (section 3.2.1)."""
        return VALUE_BYTES * self.in_window

    def state(self) -> Ints:
        """Bytes that the forward pass keeps for the backward pass: s, ds~ and the compressed m."""
        return 2 * self.mask() + self.compressed()
