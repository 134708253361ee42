"""Cycles of the Backward Engine's convolution, compiled for vectors: the fast twin of kernels/backward.py.

What is counted, and why, stands there. Here the cycles of all channels r at one position are a row of lanes of 8 or 16
bits, and the rows of a PE's positions are added in vector registers. Positions of a tile are counted from its last: a
PE that takes every P-th from either end takes the same sets of them, so that the slowest PE is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import config

from h2sim.arrays import Array, Bytes, Ints, Words
from h2sim.kernels import backward as plain
from h2sim.kernels.jit import njit
from h2sim.kernels.lanes import (
    MOST_IN_A_BYTE,
    count_words,
    counted,
    most_words,
    nonzero_lanes,
    row_bytes,
    set_offsets,
    signed,
    spread,
    take_sums,
    tile_words,
    with_spare,
)

_settings: Any = config


def conv_cycles(
    grad: Bytes,
    window: Bytes,
    channels: tuple[int, int],
    in_size: tuple[int, int],
    geometry: tuple[int, ...],
    tile_size: tuple[int, int],
    groups: tuple[int, int, int],
    empty_cycles: int,
    kind: Array,
) -> tuple[Ints, Ints]:
    """As h2sim.kernels.backward.conv_cycles, integer by integer; it is called where lanes cannot hold the counts."""
    count = sample_cycles if fits_lanes(geometry, empty_cycles, kind) else plain.sample_cycles
    return plain.counted_by(count, grad, window, channels, in_size, geometry, tile_size, groups, empty_cycles, kind)


def fits_lanes(geometry: tuple[int, ...], empty_cycles: int, kind: Array) -> bool:
    """Whether a position's cycles fit a byte, and a PE's cycles a lane of 8 or 16 bits; and there is a compiler."""
    _, _, kh, kw, sh, sw, _, _ = geometry
    most = max(-(-kh // sh) * -(-kw // sw), empty_cycles)
    return kind.dtype in (np.uint8, np.uint16) and most <= MOST_IN_A_BYTE and not _settings.DISABLE_JIT


@njit()
def tile_cost(
    rows: Words,
    set_bits: Ints,
    n_rows: int,
    tile: tuple[int, int, int, int],
    geometry: tuple[int, ...],
    empty_cycles: int,
    offsets: Ints,
    feeds: Words,
    cost: Array,
    counts: Ints,
) -> None:
    """Fills cost and counts for the positions of one tile (y0, y1, x0, x1), the last position first.

    rows: the gradient bits of each output position (lanes.spread), set_bits, int64 (outputs,): how many of its n_rows
    are set; geometry, cost and counts: as in backward.tile_cost. offsets: room for the outputs of a position; feeds,
    uint64: room for a row.
    """
    out_height, out_width, kh, kw, sh, sw, ph, pw = geometry
    y0, y1, x0, x1 = tile
    bits, lanes, least = rows.view(np.uint8), feeds.view(np.uint8), np.uint8(empty_cycles)
    n_lanes = lanes.shape[0]
    place = (y1 - y0) * (x1 - x0)
    for y in range(y0, y1):
        oy1, oy0 = min(out_height - 1, (y + ph) // sh), max(0, -((-(y + ph - kh + 1)) // sh))
        for x in range(x0, x1):
            ox1, ox0 = min(out_width - 1, (x + pw) // sw), max(0, -((-(x + pw - kw + 1)) // sw))
            place -= 1
            n, fed = 0, 0
            for oy in range(oy0, oy1 + 1):
                for ox in range(ox0, ox1 + 1):
                    output = oy * out_width + ox
                    offsets[n] = output * n_lanes
                    fed += set_bits[output]
                    n += 1
            feeds[:] = 0
            if n:
                take_sums(bits, offsets, 1, n, lanes)
            counts[place, 0], counts[place, 1] = fed, n_rows - nonzero_lanes(feeds)
            for r in range(n_lanes):
                cost[place, r] = max(lanes[r], least)


@njit()
def add_events(planes: Words, starts: Words, n_words: int, n_positions: int, counts: Ints, events: Ints) -> None:
    """Adds a tile's pairs, empty tags and dealt positions to events, int64 (3,).

    planes: how many channels of ds are dealt each position (lanes.count_words); counts: as in tile_cost.
    """
    for w in range(n_words):
        start = signed(starts[w])
        stop = signed(starts[w + 1]) if w + 1 < n_words else n_positions
        for x in range(start, stop):
            n = counted(planes, w, x - start)
            events[0] += n * counts[x, 0]
            events[1] += n * counts[x, 1]
            events[2] += n


@njit()
def sample_cycles(
    start: int,
    stop: int,
    grad: Bytes,
    window: Bytes,
    channels: tuple[int, int],
    in_size: tuple[int, int],
    geometry: tuple[int, ...],
    tile_size: tuple[int, int],
    groups: tuple[int, int, int],
    empty_cycles: int,
    kind: Array,
    cycles: Ints,
    events: Ints,
) -> None:
    """Fills cycles and events, which begin as 0, of the samples from start to stop; see backward.conv_cycles."""
    n_rows, n_columns = channels
    height, width = in_size
    rows, columns, parallelism = groups
    n_out, n_lanes = geometry[0] * geometry[1], row_bytes(n_rows)
    most = min(tile_size[0], height) * min(tile_size[1], width)
    n_planes = 0
    while n_columns >> n_planes:
        n_planes += 1
    set_bits, outputs = np.empty(n_out, np.int64), np.empty(geometry[2] * geometry[3], np.int64)
    feeds, largest = np.empty(n_lanes // 8, np.uint64), np.empty(n_lanes, kind.dtype)
    cost, counts = np.zeros((most + 1, n_lanes), kind.dtype), np.empty((most, 2), np.int64)
    bytes_of_row = n_lanes * cost.itemsize
    no_row = most * bytes_of_row  # the last row of cost stays 0: PEs without a position in the last round take it
    offsets = np.empty(most + parallelism, np.int64)
    words, starts = np.empty(most_words(most), np.uint64), np.empty(most_words(most), np.uint64)
    planes = np.empty((most_words(most), n_planes), np.uint64)
    for s in range(start, stop):
        bits = np.zeros((n_out, n_lanes // 8), np.uint64)
        spread(with_spare(grad[s]), n_rows, n_out, bits)
        for output in range(n_out):
            set_bits[output] = nonzero_lanes(bits[output])
        packed = with_spare(window[s])
        tile_index, n_words = 0, 0
        for y0 in range(0, height, tile_size[0]):
            for x0 in range(0, width, tile_size[1]):
                tile = (y0, min(y0 + tile_size[0], height), x0, min(x0 + tile_size[1], width))
                tile_cost(bits, set_bits, n_rows, tile, geometry, empty_cycles, outputs, feeds, cost, counts)
                planes[:] = 0
                for group in range(cycles.shape[1]):
                    largest[:] = 0
                    for c in range(group * columns, min((group + 1) * columns, n_columns)):
                        n_words = tile_words(packed, c * height * width, width, tile, words, starts)
                        count_words(words, n_words, planes)
                        n = set_offsets(words, starts, n_words, bytes_of_row, offsets)
                        for i in range(n, n + parallelism):
                            offsets[i] = no_row
                        if n:
                            take_sums(cost, offsets, parallelism, -(-n // parallelism), largest)
                    for r in range(n_rows):
                        if largest[r] > cycles[s, group, tile_index, r // rows]:
                            cycles[s, group, tile_index, r // rows] = largest[r]
                add_events(planes, starts, n_words, (tile[1] - y0) * (tile[3] - x0), counts, events[s])
                tile_index += 1
