"""Sizes of tiles and channel groups as arrays, shared by the jobs of all engines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arch.schema import TileSize
from h2sim.memory.traffic import VALUE_BYTES, bits_to_bytes
from h2sim.shapes import ConvShape, Tile, groups_of, tiles_of


def widths(count: int, size: int) -> np.ndarray:
    """int64 (groups,): channels in each group of `size`."""
    return np.array([len(g) for g in groups_of(count, size)], np.int64)


def positions(tiles: list[Tile]) -> np.ndarray:
    """int64 (tiles,)."""
    return np.array([t.positions for t in tiles], np.int64)


def input_regions(tile: TileSize, shape: ConvShape) -> np.ndarray:
    """int64 (tiles,): input positions, halo included, that every output tile of a convolution reads."""
    tiles = tiles_of(shape.out_height, shape.out_width, tile.height, tile.width)
    return positions([shape.input_region(t) for t in tiles])


def by_group(per_channel: np.ndarray, size: int) -> np.ndarray:
    """Sums (groups, tiles) of per-channel counts (C, tiles) over groups of `size` channels."""
    return np.add.reduceat(per_channel, np.arange(0, len(per_channel), size), axis=0)


@dataclass(frozen=True)
class NeuronTiles:
    """The neurons of one layer, cut into column groups and tiles; byte counts are int64 (groups, tiles).

    samples: T*N; in_window: neurons inside the window (0 where it is not recorded or not stored).
    """

    samples: int
    group_widths: np.ndarray
    tile_positions: np.ndarray
    in_window: np.ndarray

    @classmethod
    def of(
        cls, samples: int, chw: tuple[int, int, int], columns: int, tile: TileSize, window: np.ndarray | None
    ) -> NeuronTiles:
        """window: int64 (C, tiles) counts of Maps.in_tiles, or None where nothing is stored."""
        groups = widths(chw[0], columns)
        area = positions(tiles_of(chw[1], chw[2], tile.height, tile.width))
        counts = by_group(window, columns) if window is not None else np.zeros((len(groups), len(area)), np.int64)
        return cls(samples, groups, area, counts)

    @property
    def neurons(self) -> np.ndarray:
        """Neuron updates per group and tile, all timesteps and samples."""
        return self.samples * self.group_widths[:, None] * self.tile_positions[None, :]

    def values(self) -> np.ndarray:
        """Bytes of one FP16 value per neuron."""
        return VALUE_BYTES * self.neurons

    def mask(self) -> np.ndarray:
        """Bytes of one bit per neuron."""
        return bits_to_bytes(self.neurons)

    def compressed(self) -> np.ndarray:
        """Bytes of the membrane potentials inside the window (section 3.2.1)."""
        return VALUE_BYTES * self.in_window

    def state(self) -> np.ndarray:
        """What the forward pass keeps for the backward pass: s, ds~ and the compressed m."""
        return 2 * self.mask() + self.compressed()
