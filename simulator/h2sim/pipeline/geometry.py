"""Sizes of tiles and channel groups as arrays, shared by the jobs of all engines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from h2sim.arch.schema import TileSize
from h2sim.arrays import Ints
from h2sim.memory.traffic import VALUE_BYTES, bits_to_bytes
from h2sim.shapes import ConvShape, Tile, groups_of, tiles_of
from h2sim.trace import Layer
from h2sim.trace.maps import Maps


def widths(count: int, size: int) -> Ints:
    """How many channels each group holds when `count` channels are cut into groups of `size`: int64 (groups,)."""
    return np.array([len(g) for g in groups_of(count, size)], np.int64)


def positions(tiles: list[Tile]) -> Ints:
    """Positions of each tile: int64 (tiles,)."""
    return np.array([t.positions for t in tiles], np.int64)


def input_regions(tile: TileSize, shape: ConvShape) -> Ints:
    """Input positions, halo included, that each output tile of a convolution reads: int64 (tiles,)."""
    tiles = tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    return positions([shape.input_region(t) for t in tiles])


def by_group(per_channel: Ints, size: int) -> Ints:
    """Sums of counts, int64 (C, tiles), over groups of `size` consecutive channels: int64 (groups, tiles)."""
    sums: Ints = np.add.reduceat(per_channel, np.arange(0, len(per_channel), size), axis=0)
    return sums


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
        cls, samples: int, chw: tuple[int, int, int], columns: int, tile: TileSize, window: Ints | None
    ) -> NeuronTiles:
        """Cuts (C, H, W) neurons into groups of `columns` channels and tiles.

        samples: T*N; window: counts of set window bits, int64 (C, tiles), as Maps.in_tiles gives them, or None where no
        membrane potential is stored.
        """
        groups = widths(chw[0], columns)
        area = positions(tiles_of(chw[1], chw[2], tile.height, tile.width))
        counts = by_group(window, columns) if window is not None else np.zeros((len(groups), len(area)), np.int64)
        return cls(samples, groups, area, counts)

    @classmethod
    def of_layer(cls, samples: int, layer: Layer, columns: int, tile: TileSize, maps: Maps) -> NeuronTiles:
        """The neurons of a spiking layer whose state is kept for the backward pass.

        "We do not compress m in FC layers" (3.2.1): all membrane potentials of such a layer are kept.
        """
        if layer.kind != "fc":
            return cls.of(samples, layer.out_chw, columns, tile, maps.in_tiles(layer.name, "window", tile.size))
        plain = cls.of(samples, layer.out_chw, columns, tile, None)
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
