"""LoAS's inner join, compiled: where a row has live inputs and an output has weights, chunk by chunk."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints, Words
from h2sim.kernels.jit import njit


def group_costs(live: Words, kept: Words, chunk_words: int, group: int) -> Ints:
    """Cycles of each group of outputs for each row, int64 (groups, rows): those of the output that takes most.

    live: uint64 (rows, words), inputs that fire; kept: uint64 (outputs, words), inputs that have a weight.
    A chunk of words takes a cycle for each bit that both have, and one at least.
    """
    found = np.zeros((-(-len(kept) // group), len(live)), np.int64)
    join(live, kept, chunk_words, group, found)
    return found


@njit()
def join(live: Words, kept: Words, chunk_words: int, group: int, found: Ints) -> None:
    """Fills found, of zeros; see group_costs."""
    words = live.shape[1]
    for r in range(len(live)):
        for o in range(len(kept)):
            cost = 0
            for start in range(0, words, chunk_words):
                matches = 0
                for w in range(start, min(start + chunk_words, words)):
                    matches += ones_of(live[r, w] & kept[o, w])
                cost += max(1, matches)
            found[o // group, r] = max(found[o // group, r], cost)


@njit()
def ones_of(word: np.uint64) -> int:
    """Set bits of a word: sums of 2, 4, 8, 16, 32 and 64 neighbours."""
    pairs = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    shorts = eights + (eights >> np.uint64(8))
    halves = shorts + (shorts >> np.uint64(16))
    return int((halves + (halves >> np.uint64(32))) & np.uint64(0x7F))
