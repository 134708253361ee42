"""Rows of im2col of one sample as words of bits, compiled."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Array, Bytes
from h2sim.kernels.backward import bit_at
from h2sim.kernels.jit import njit


def im2col_words(packed: Bytes, chw: tuple[int, int, int], out: tuple[int, int], window: tuple[int, ...],
                 width: int) -> Array:  # fmt: skip
    """Rows (position, timestep), timestep fastest, of one sample as words of `width` columns each: (L * T, words).

    packed: uint8 (T, bytes) of bits (C, H, W); columns are (channel, ky, kx). window: kernel, stride and padding, each
    (vertical, horizontal). Padding positions are 0. The words are of the smallest type that holds them.
    """
    columns = chw[0] * window[0] * window[1]
    dtype = next(t for t, bits in ((np.uint16, 16), (np.uint32, 32), (np.uint64, 64)) if width <= bits)
    words: Array = np.zeros((out[0] * out[1] * len(packed), -(-columns // width)), dtype)
    fill_words(packed, chw, out, window, width, words, np.array([1 << i for i in range(width)], dtype))
    return words


@njit()
def fill_words(
    packed: Bytes, chw: tuple[int, int, int], out: tuple[int, int], window: tuple[int, ...], width: int, words: Array,
    bit: Array,
) -> None:  # fmt: skip
    """Sets the bits of words; see im2col_words. bit: the words with one bit each."""
    n_steps = packed.shape[0]
    _, height, across = chw
    for oy in range(out[0]):
        for ox in range(out[1]):
            for t in range(n_steps):
                row = (oy * out[1] + ox) * n_steps + t
                k = 0
                for c in range(chw[0]):
                    for ky in range(window[0]):
                        y = oy * window[2] + ky - window[4]
                        for kx in range(window[1]):
                            x = ox * window[3] + kx - window[5]
                            inside = 0 <= y < height and 0 <= x < across
                            if inside and bit_at(packed[t], (c * height + y) * across + x):
                                words[row, k // width] |= bit[k % width]
                            k += 1
