"""Cycles of the Backward Engine's convolution, compiled (figure 3.6).

A PE holds one channel r of dm and one channel c of ds. Of a tile of ds it takes the positions whose window bit is set
and that the output finder deals to it. At each it spends one cycle per set gradient bit of channel r among the outputs
that the position feeds, or empty_cycles where there is none.

Every function here takes arrays and scalars only. `getattr(f, "py_func", f)` is the interpreted form.
Packed masks are numpy.packbits over the flattened (C, H, W) neurons, most significant bit first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from h2sim.arrays import Array, Bytes, Ints
from h2sim.kernels.jit import njit
from h2sim.kernels.threads import in_parts


@njit(inline="always")
def bit_at(packed: Bytes, index: int) -> int:
    """The bit of neuron `index`, 0 or 1, in one packed row, uint8 (bytes,)."""
    bit: int = (packed[index >> 3] >> np.uint8(7 - (index & 7))) & np.uint8(1)
    return bit


@njit()
def transpose_bits(packed: Bytes, n_channels: int, n_positions: int, out: Bytes) -> None:
    """Fills out, uint8 (positions, C) of 0 and 1, from packed bits of (C, positions).

    It goes in blocks of 64 by 64, so that what is read and what is written stay in the processor's cache.
    """
    for c0 in range(0, n_channels, 64):
        c1 = min(c0 + 64, n_channels)
        for x0 in range(0, n_positions, 64):
            x1 = min(x0 + 64, n_positions)
            for c in range(c0, c1):
                base = c * n_positions
                for x in range(x0, x1):
                    out[x, c] = bit_at(packed, base + x)


@njit()
def count_feeds(grad: Bytes, y: int, x: int, geometry: tuple[int, ...], out: Array) -> None:
    """Fills out, (C,): per channel, the set gradient bits among the outputs that input position (y, x) feeds.

    grad: uint8 (output positions, C) of 0 and 1; geometry: (out_height, out_width, kh, kw, sh, sw, ph, pw).
    Outputs beyond the map's edge do not count.
    """
    out_height, out_width, kh, kw, sh, sw, ph, pw = geometry
    out[:] = 0
    oy1, ox1 = min(out_height - 1, (y + ph) // sh), min(out_width - 1, (x + pw) // sw)
    oy0, ox0 = max(0, -((-(y + ph - kh + 1)) // sh)), max(0, -((-(x + pw - kw + 1)) // sw))
    for oy in range(oy0, oy1 + 1):
        for ox in range(ox0, ox1 + 1):
            row = grad[oy * out_width + ox]
            for c in range(out.shape[0]):
                out[c] += row[c]


@njit()
def add_rows(cost: Array, positions: Ints, start: int, stop: int, step: int, total: Array) -> None:
    """Fills total, (C,): the sum of the rows cost[positions[i]] for i = start, start + step, ... below stop.

    Four rows are added at a time, which is faster; the sums are integers, so their order does not matter.
    """
    total[:] = 0
    i = start
    while i + 3 * step < stop:
        a, b = cost[positions[i]], cost[positions[i + step]]
        c, d = cost[positions[i + 2 * step]], cost[positions[i + 3 * step]]
        for r in range(total.shape[0]):
            total[r] += a[r] + b[r] + c[r] + d[r]
        i += 4 * step
    while i < stop:
        a = cost[positions[i]]
        for r in range(total.shape[0]):
            total[r] += a[r]
        i += step


@njit()
def take_larger(total: Array, largest: Array) -> None:
    """Sets largest = max(largest, total), element by element; both (C,)."""
    for r in range(total.shape[0]):
        if total[r] > largest[r]:
            largest[r] = total[r]


@njit()
def deal(
    window: Bytes, channel: int, in_width: int, n_positions: int, tile: tuple[int, int, int, int], positions: Ints
) -> int:
    """Lists the positions of a tile whose window bit is set, for one channel of ds; returns how many there are.

    window: packed bits of one sample, (C, positions); tile: (y0, y1, x0, x1). `positions` takes the positions' raster
    numbers within the tile, in raster order; it needs room for one more than the tile has.
    """
    y0, y1, x0, x1 = tile
    n, local = 0, 0
    for y in range(y0, y1):
        base = channel * n_positions + y * in_width
        for x in range(x0, x1):
            positions[n] = local
            n += bit_at(window, base + x)
            local += 1
    return n


@njit()
def tile_cost(
    grad: Bytes,
    tile: tuple[int, int, int, int],
    geometry: tuple[int, ...],
    empty_cycles: int,
    cost: Array,
    counts: Ints,
) -> None:
    """Fills cost and counts for the positions of one tile (y0, y1, x0, x1), in raster order.

    feeds = the set gradient bits of a channel that a position feeds (count_feeds); geometry and grad as there.
    cost, (positions, C): max(empty_cycles, feeds), the cycles of a PE. counts, int64 (positions, 2): the sum of feeds
    over channels, and the number of channels whose feeds are 0 (empty tags).
    """
    y0, y1, x0, x1 = tile
    local = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            row = cost[local]
            count_feeds(grad, y, x, geometry, row)
            feeds, empty = np.int64(0), 0  # interpreted, 0 and bytes would add up to a byte
            for c in range(row.shape[0]):
                feeds += row[c]
                empty += row[c] == 0
            if empty_cycles > 1 or (empty and empty_cycles):
                for c in range(row.shape[0]):
                    if row[c] < empty_cycles:
                        row[c] = empty_cycles
            counts[local, 0], counts[local, 1] = feeds, empty
            local += 1


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
    """Cycles of the slowest PE in every tile, row group and column group, and the events behind them.

    grad: packed uint8 (S, bytes) of (C_out, H_out, W_out); window: packed uint8 (S, bytes) of (C_in, H, W);
    channels: (C_out, C_in); in_size: (H, W); geometry as in count_feeds; tile_size: (height, width);
    groups: (rows, columns, parallelism) of the array; empty_cycles: what an empty tag costs; kind: an empty array
    whose dtype counts, wide enough for one PE's cycles in one tile.

    Returns cycles, int64 (S, column groups, tiles, row groups), without tile_sync_cycles, and events, int64 (S, 3):
    pairs, empty tags and dealt positions, each summed over the columns.
    """
    return counted_by(sample_cycles, grad, window, channels, in_size, geometry, tile_size, groups, empty_cycles, kind)


def counted_by(
    count: Callable[..., None],
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
    """What conv_cycles returns, counted on all cores by a kernel with the arguments of sample_cycles."""
    n_samples, (n_rows, n_columns) = grad.shape[0], channels
    n_tiles = -(-in_size[0] // tile_size[0]) * -(-in_size[1] // tile_size[1])
    n_row_groups, n_column_groups = -(-n_rows // groups[0]), -(-n_columns // groups[1])
    cycles = np.zeros((n_samples, n_column_groups, n_tiles, n_row_groups), np.int64)
    events = np.zeros((n_samples, 3), np.int64)
    in_parts(
        count, n_samples, grad, window, channels, in_size, geometry, tile_size, groups, empty_cycles, kind,
        cycles, events,
    )  # fmt: skip
    return cycles, events


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
    """Fills cycles and events, which begin as 0, of the samples from start to stop; see conv_cycles."""
    n_rows, n_columns = channels
    height, width = in_size
    rows, columns, parallelism = groups
    n_column_groups = cycles.shape[1]
    for s in range(start, stop):
        bits = np.empty((geometry[0] * geometry[1], n_rows), np.uint8)
        transpose_bits(grad[s], n_rows, geometry[0] * geometry[1], bits)
        cost = np.empty((tile_size[0] * tile_size[1], n_rows), kind.dtype)
        counts = np.empty((tile_size[0] * tile_size[1], 2), np.int64)
        positions = np.empty(tile_size[0] * tile_size[1] + 1, np.int64)
        total, largest = np.empty(n_rows, kind.dtype), np.empty(n_rows, kind.dtype)
        tile_index = 0
        for y0 in range(0, height, tile_size[0]):
            for x0 in range(0, width, tile_size[1]):
                tile = (y0, min(y0 + tile_size[0], height), x0, min(x0 + tile_size[1], width))
                tile_cost(bits, tile, geometry, empty_cycles, cost, counts)
                for group in range(n_column_groups):
                    largest[:] = 0
                    for c in range(group * columns, min((group + 1) * columns, n_columns)):
                        n = deal(window[s], c, width, height * width, tile, positions)
                        for p in range(min(parallelism, n)):
                            add_rows(cost, positions, p, n, parallelism, total)
                            take_larger(total, largest)
                        for i in range(n):
                            events[s, 0] += counts[positions[i], 0]
                            events[s, 1] += counts[positions[i], 1]
                        events[s, 2] += n
                    for r in range(n_rows):
                        if largest[r] > cycles[s, group, tile_index, r // rows]:
                            cycles[s, group, tile_index, r // rows] = largest[r]
                tile_index += 1
