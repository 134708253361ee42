"""What tiles of im2col cost a machine that reuses the sums of subsets, compiled."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Array, Ints
from h2sim.kernels.jit import njit

ONES, RESIDUALS, EXACT, PARTIAL, SEARCHED, ACTIVE, ROWS = range(7)  # columns of a tile's counts
COLUMNS = 7


def tile_counts(words: Array, tile_rows: int, product: bool) -> Ints:
    """The counts of each tile: int64 (row tiles, words, COLUMNS); without `product` no row has a prefix."""
    counts = np.zeros((-(-len(words) // tile_rows), words.shape[1], COLUMNS), np.int64)
    count_tiles(words, tile_rows, product, counts)
    return counts


@njit()
def count_tiles(words: Array, tile_rows: int, product: bool, counts: Ints) -> None:
    """Fills counts; see tile_counts."""
    values = np.zeros(tile_rows, words.dtype)
    ones = np.zeros(tile_rows, words.dtype)
    for m in range(counts.shape[0]):
        first = m * tile_rows
        n = min(tile_rows, words.shape[0] - first)
        for k in range(counts.shape[1]):
            found = counts[m, k]
            found[ROWS] = n
            for r in range(n):
                value = words[first + r, k]
                values[r] = value
                ones[r] = 0
                while value:
                    ones[r] += words.dtype.type(1)
                    value &= value - words.dtype.type(1)
            count_rows(values[:n], ones[:n], product, found)


@njit()
def count_rows(values: Array, ones: Array, product: bool, found: Ints) -> None:
    """Adds what the rows of one tile cost to found: each row's prefix is a largest subset among the others."""
    for b in range(len(values)):
        mine = np.int64(ones[b])
        found[ONES] += mine
        found[ACTIVE] += mine > 0
        residual = mine
        if product and mine > 1:
            found[SEARCHED] += 1
            shared, same = largest_subset(values, ones, b)
            if same:
                found[EXACT] += 1
                residual -= mine
            elif shared:
                found[PARTIAL] += 1
                residual = mine - shared
        found[RESIDUALS] += residual


@njit()
def largest_subset(values: Array, ones: Array, b: int) -> tuple[int, bool]:
    """Spikes of the largest proper subset of row b, and whether a row above is equal. One pass each, for vectors."""
    mine = values[b]
    best = ones[0] & ~ones[0]
    for a in range(len(values)):
        fits = ((values[a] & mine) == values[a]) & (values[a] != mine)
        best = max(best, ones[a] if fits else best)
    same = False
    for a in range(b):
        same |= values[a] == mine
    return int(best), same
