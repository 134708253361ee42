"""Counting set bits of packed masks per channel and tile, compiled."""

from __future__ import annotations

import numpy as np

from h2sim.kernels.backward import bit_at
from h2sim.kernels.jit import njit, prange


@njit(parallel=True)
def tile_popcounts(packed, n_channels, height, width, tile_height, tile_width):
    """int64 (C, tiles): set bits of each channel in each tile, summed over the samples of packed (S, bytes)."""
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
