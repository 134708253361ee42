"""Counts set bits of packed masks per channel and tile, compiled."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Bytes, Ints
from h2sim.kernels.backward import bit_at
from h2sim.kernels.jit import njit
from h2sim.kernels.threads import in_parts


def tile_popcounts(packed: Bytes, n_channels: int, height: int, width: int, tile_height: int, tile_width: int) -> Ints:
    """The set bits of each channel in each tile, summed over samples: int64 (C, tiles), tiles in raster order.

    packed: uint8 (S, bytes), each row the bits of (n_channels, height, width).
    """
    n_tiles = -(-height // tile_height) * -(-width // tile_width)
    counts = np.zeros((n_channels, n_tiles), np.int64)
    in_parts(count_in_tiles, n_channels, packed, (height, width), (tile_height, tile_width), counts)
    return counts


@njit()
def count_in_tiles(
    start: int, stop: int, packed: Bytes, size: tuple[int, int], tile_size: tuple[int, int], counts: Ints
) -> None:
    """Adds to counts, int64 (C, tiles), the set bits of the channels from start to stop; see tile_popcounts."""
    height, width = size
    tile_height, tile_width = tile_size
    n_across = -(-width // tile_width)
    for c in range(start, stop):
        for s in range(packed.shape[0]):
            row = packed[s]
            index = c * height * width
            for y in range(height):
                first = (y // tile_height) * n_across
                for x in range(width):
                    counts[c, first + x // tile_width] += bit_at(row, index)
                    index += 1
