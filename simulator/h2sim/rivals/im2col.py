"""Rows of im2col that machines read: a row is what one output position takes at one timestep, bits over its inputs."""

from __future__ import annotations

import sys

import numpy as np

from h2sim.arrays import Array, Bytes, Ints, Words
from h2sim.kernels.im2col import im2col_words
from h2sim.shapes import ConvShape
from h2sim.trace import Layer, Trace

WORD = 64  # columns of a word where a machine has no width of its own


def input_bits(trace: Trace, layer: Layer) -> Bytes:
    """Packed spikes that a layer with weights reads, uint8 (T, N, bytes)."""
    source = layer.inputs[0]
    return trace.input_spikes() if source == "input" else trace.mask(source, "spikes")


def input_rows(bits: Bytes, shape: ConvShape, sample: int, width: int = WORD) -> Array:
    """Rows (position, timestep), timestep fastest, of one sample as words of `width` columns: (L * T, words)."""
    chw = (shape.in_channels, shape.in_height, shape.in_width)
    window = (*shape.kernel, *shape.stride, *shape.padding)
    mine = np.ascontiguousarray(bits[:, sample])
    return im2col_words(mine, chw, (shape.out_height, shape.out_width), window, width)


def in_time_windows(rows: Array, shape: ConvShape, length: int) -> Array:
    """The rows of `length` timesteps or-ed, the last window of what is left: (windows, L, words)."""
    steps = rows.reshape(-1, shape.timesteps, rows.shape[1])
    found: Array = np.bitwise_or.reduceat(steps, np.arange(0, shape.timesteps, length), axis=1)
    return np.ascontiguousarray(found.transpose(1, 0, 2))


def ones(rows: Array) -> Ints:
    """Set bits of each row, int64 (...)."""
    found: Ints = np.bitwise_count(rows).sum(axis=-1, dtype=np.int64)
    return found


def by_column(rows: Array, columns: int) -> Ints:
    """Set bits of each column of words: int64 (columns,)."""
    little = rows if sys.byteorder == "little" else rows.byteswap()
    bits = np.unpackbits(little.view(np.uint8), axis=1, count=columns, bitorder="little")
    found: Ints = bits.sum(axis=0, dtype=np.int64)
    return found


def words_of(mask: Array) -> Words:
    """Rows of a mask, bool (rows, columns), as words: uint64 (rows, words)."""
    wide = np.pad(mask, ((0, 0), (0, -mask.shape[1] % WORD)))
    words = np.packbits(wide, axis=1, bitorder="little").view("<u8")
    return np.ascontiguousarray(words.astype(np.uint64))


def map_size(shape: ConvShape) -> int:
    """Neurons of a sample's input."""
    return shape.in_channels * shape.in_height * shape.in_width
