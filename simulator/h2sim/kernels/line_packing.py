"""StSAP, PTB's packing of lines, compiled: two lines that share no column of the array go through it as one."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Array, Ints, Words
from h2sim.kernels.jit import njit


def packed_lines(rows: Array, batches: Ints) -> Ints:
    """(slots, lines) of each batch: int64 (batches, 2).

    rows: uint64 (pairs, words), what each column of a batch holds: bits over its inputs, and zeros beyond the last.
    batches: int64 (batches, columns), which row each column holds; -1: none.
    """
    found = np.zeros((len(batches), 2), np.int64)
    bit = np.array([1 << i for i in range(64)], np.uint64)
    pack(rows, batches, bit, np.zeros(rows.shape[1], np.uint64), found)
    return found


@njit()
def pack(rows: Words, batches: Ints, bit: Words, waiting: Words, found: Ints) -> None:
    """Fills found; see packed_lines. bit: uint64 (64,), the words with one bit each. waiting: uint64 (words,), what it
    works with: lines that are neither full nor packed."""
    columns, words = batches.shape[1], rows.shape[1]
    for b in range(len(batches)):
        slots, lines = 0, 0
        for w in range(words):
            some, full = bit[0] ^ bit[0], ~(bit[0] ^ bit[0])
            for c in range(columns):
                row = batches[b, c]
                some |= rows[row, w] if row >= 0 else some
                full &= rows[row, w] if row >= 0 else full & ~full
            waiting[w] = some & ~full
            for i in range(64):
                lines += (some & bit[i]) != 0
                slots += (full & bit[i]) != 0
        for w in range(words):
            for i in range(64):
                if waiting[w] & bit[i]:
                    waiting[w] &= ~bit[i]
                    slots += 1
                    take_partner(rows, batches[b], bit[i], w, bit, waiting)
        found[b, 0], found[b, 1] = slots, lines


@njit()
def take_partner(rows: Words, batch: Ints, line: np.uint64, word: int, bit: Words, waiting: Words) -> None:
    """Takes the first waiting line that shares no column with a line (a bit of a word) out of waiting, if one does.

    Lines before it have been packed, so that all that wait come later.
    """
    for w in range(word, len(waiting)):
        free = waiting[w]
        if free:
            for c in range(len(batch)):
                row = batch[c]
                if row >= 0 and rows[row, word] & line:
                    free &= ~rows[row, w]
        if free:
            for i in range(64):
                if free & bit[i]:
                    waiting[w] &= ~bit[i]
                    return
