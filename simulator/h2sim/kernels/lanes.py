"""Masks a word at a time, compiled: bits dealt out to byte lanes, a tile's bits in words, sums of rows of lanes.

A row is one position's value for every channel, a lane each, and is filled up with lanes of 0 to whole vectors
(row_bytes). Words are uint64. Indices are unsigned where it matters, for numba tests signed ones for being negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import config

from h2sim.arrays import Array, Bytes, Ints, Words
from h2sim.kernels.jit import njit
from h2sim.kernels.vectors import (
    MOST_PES,
    MOST_VECTORS,
    VECTOR_BYTES,
    take_sums_1x1,
    take_sums_1x4,
    take_sums_4x1,
    take_sums_4x4,
    trailing_zeros,
)

_settings: Any = config
CHECKED = bool(_settings.BOUNDSCHECK)  # then sums are taken by loops whose indices numba checks (see jit.py)
U = np.uint64
signed: Any = np.int64  # to a type checker it gives no int
ONES, LOW_BITS, HIGH_BITS = U(0x0101010101010101), U(0x7F7F7F7F7F7F7F7F), U(0x8080808080808080)
EVEN_BYTES, FOUR_ONES = U(0x00FF00FF00FF00FF), U(0x0001000100010001)
MOST_IN_A_BYTE = 255
LEAST_IN_A_WORD = 57  # a word is full when fewer than 8 of its bits are left
SPARE_BYTES = 2


@njit()
def row_bytes(n_lanes: int) -> int:
    """Bytes of a row of so many lanes of one byte: whole vectors."""
    return -(-n_lanes // VECTOR_BYTES) * VECTOR_BYTES


@njit()
def with_spare(packed: Bytes) -> Bytes:
    """A copy of a packed row with SPARE_BYTES of 0 behind it, so that byte_at may read one byte more."""
    longer = np.zeros(packed.shape[0] + SPARE_BYTES, np.uint8)
    for i in range(packed.shape[0]):  # a slice would take seconds to compile
        longer[i] = packed[i]
    return longer


@njit(inline="always")
def byte_at(packed: Bytes, bit: np.uint64) -> np.uint64:
    """The 8 bits from bit number `bit` on, the first of them highest. packed: see with_spare."""
    i = bit >> U(3)
    pair = (U(packed[i]) << U(8)) | U(packed[i + U(1)])
    return (pair >> (U(8) - (bit & U(7)))) & U(255)


@njit()
def spread(packed: Bytes, n_channels: int, n_positions: int, rows: Words) -> None:
    """Fills rows, uint64 (positions, row_bytes / 8) of 0: byte c of a row is the bit of channel c, 0 or 1.

    packed: bits of (n_channels, n_positions), with_spare. Eight channels by eight positions at a time.
    """
    for x0 in range(0, n_positions, 8):
        for w in range(-(-n_channels // 8)):
            bit, eight = U(8 * w * n_positions + x0), U(0)
            for c in range(min(8, n_channels - 8 * w)):
                eight |= byte_at(packed, bit) << U(8 * c)
                bit += U(n_positions)
            for x in range(min(8, n_positions - x0)):
                rows[x0 + x, w] = (eight >> U(7 - x)) & ONES


@njit(inline="always")
def byte_sum(word: np.uint64) -> int:
    """The sum of the 8 bytes of a word."""
    pairs = (word & EVEN_BYTES) + ((word >> U(8)) & EVEN_BYTES)
    total: int = signed((pairs * FOUR_ONES) >> U(48))
    return total


@njit()
def nonzero_lanes(words: Words) -> int:
    """How many bytes of a row are not 0."""
    n = 0
    for first in range(0, words.shape[0], MOST_IN_A_BYTE):
        ones = U(0)
        for w in range(first, min(first + MOST_IN_A_BYTE, words.shape[0])):
            ones += ((((words[w] & LOW_BITS) + LOW_BITS) | words[w]) & HIGH_BITS) >> U(7)
        n += byte_sum(ones)
    return n


@njit()
def most_words(n_positions: int) -> int:
    """Words that hold the bits of a tile of so many positions, however its rows fall; see tile_words."""
    return n_positions // LEAST_IN_A_WORD + 1


@njit()
def tile_words(
    packed: Bytes, first_bit: int, width: int, tile: tuple[int, int, int, int], words: Words, starts: Words
) -> int:
    """Fills words with one channel's bits of a tile (y0, y1, x0, x1), last position first; returns how many words.

    packed: with_spare; first_bit: the channel's first; width: of the map. words and starts: room for most_words of the
    tile. starts: the number of the position of each word's lowest bit, counted from the tile's last position.
    """
    y0, y1, x0, x1 = tile
    n, start, filled, word = 0, U(0), U(0), U(0)
    across, end = U(x1 - x0), U(first_bit + (y1 - 1) * width + x1)
    for _ in range(y1 - y0):
        left, bit = across, end
        while left:
            k = min(U(8), left)
            bit -= k
            left -= k
            if filled + k > U(64):
                words[n], starts[n] = word, start
                n += 1
                start += filled
                filled, word = U(0), U(0)
            word |= (byte_at(packed, bit) >> (U(8) - k)) << filled
            filled += k
        end -= U(width)
    words[n], starts[n] = word, start
    return n + 1


@njit()
def set_offsets(words: Words, starts: Words, n_words: int, row_bytes: int, offsets: Ints) -> int:
    """Lists the byte offsets of the rows that the set bits of a tile name; returns how many there are.

    The row of position x, counted from the tile's last, begins at byte x * row_bytes. offsets: room for every position.
    """
    n, step = U(0), U(row_bytes)
    for w in range(n_words):
        word, start = words[w], starts[w]
        while word:
            offsets[n] = (start + trailing_zeros(word)) * step
            word &= word - U(1)
            n += U(1)
    listed: int = signed(n)
    return listed


@njit()
def count_words(words: Words, n_words: int, planes: Words) -> None:
    """Adds a channel's words to the counts of set bits per position that planes hold, uint64 (words, planes).

    Plane b holds bit b of every count. The caller holds that no count outgrows its planes.
    """
    for w in range(n_words):
        carry = words[w]
        for b in range(planes.shape[1]):
            plane = planes[w, b]
            planes[w, b] = plane ^ carry
            carry &= plane


@njit()
def counted(planes: Words, w: int, bit: int) -> int:
    """The count that planes hold for one bit of word w."""
    n = 0
    for b in range(planes.shape[1]):
        n |= signed((planes[w, b] >> U(bit)) & U(1)) << b
    return n


@njit()
def take_sums(rows: Array, offsets: Ints, parallelism: int, rounds: int, largest: Array) -> None:
    """largest = max(largest, sum of the rows of PE p), lane by lane, over all `parallelism` PEs.

    PE p takes the rows that begin at the byte offsets[p + j * parallelism] of `rows`, for j below rounds, at least 1.
    rows: unsigned (rows, lanes), contiguous, whole vectors a row; largest: the same dtype, (lanes,). Every offset names
    a row of `rows`, and every sum fits the dtype.
    """
    if CHECKED:
        plain_sums(rows, offsets, parallelism, rounds, largest)
        return
    n_bytes = rows.shape[1] * rows.itemsize
    p = 0
    while p < parallelism:
        wide = p + MOST_PES <= parallelism
        at = 0
        while at < n_bytes:
            if at + MOST_VECTORS * VECTOR_BYTES <= n_bytes:
                if wide:
                    take_sums_4x4(rows, offsets, p, parallelism, rounds, at, largest)
                else:
                    take_sums_1x4(rows, offsets, p, parallelism, rounds, at, largest)
                at += MOST_VECTORS * VECTOR_BYTES
            else:
                if wide:
                    take_sums_4x1(rows, offsets, p, parallelism, rounds, at, largest)
                else:
                    take_sums_1x1(rows, offsets, p, parallelism, rounds, at, largest)
                at += VECTOR_BYTES
        p += MOST_PES if wide else 1


@njit()
def plain_sums(rows: Array, offsets: Ints, parallelism: int, rounds: int, largest: Array) -> None:
    """The plain form of take_sums, whose every index numba can check."""
    bytes_of_row = rows.shape[1] * rows.itemsize
    for p in range(parallelism):
        for r in range(rows.shape[1]):
            total = 0
            for j in range(rounds):
                total += rows[offsets[p + j * parallelism] // bytes_of_row, r]
            largest[r] = max(largest[r], total)
