"""Counts set bits of packed masks per channel and tile, compiled."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Bytes, Ints
from h2sim.kernels.backward import bit_at
from h2sim.kernels.jit import njit, prange


@njit(parallel=True)
def tile_popcounts(packed: Bytes, n_channels: int, height: int, width: int, tile_height: int, tile_width: int) -> Ints:
    """The set bits of each channel in each tile, summed over samples: int64 (C, tiles), tiles in raster order.

    packed: uint8 (S, bytes), each row the bits of (n_channels, height, width).
    """
    n_across = -(-width // tile_width)
    n_tiles = -(-height // tile_height) * n_across
    counts = np.zeros((n_channels, n_tiles), np.int64)
    for c in prange(n_channels):
        for s in range(packed.shape[0]):
            row = packed[s]
            index = c * height * width
            for y in range(height):
                first = (y // tile_height) * n_across
                for x in range(width):
                    counts[c, first + x // tile_width] += bit_at(row, index)
                    index += 1
    return counts
