"""Cycles of the Backward Engine's convolution, compiled: count rows of the dealt positions, added over channels.

Every function here takes arrays and scalars only. `getattr(f, "py_func", f)` is the interpreted form.
Packed masks are numpy.packbits over the flattened (C, H, W) neurons, most significant bit first.
"""

from __future__ import annotations

import numpy as np

from h2sim.kernels.jit import njit, prange


@njit(inline="always")
def bit_at(packed, index):
    """The bit of neuron `index` in one packed row."""
    return (packed[index >> 3] >> np.uint8(7 - (index & 7))) & np.uint8(1)


@njit()
def transpose_bits(packed, n_channels, n_positions, out):
    """Packed (C, positions) bits to bytes out[positions, C], blocked so that both sides stay in cache."""
    for c0 in range(0, n_channels, 64):
        c1 = min(c0 + 64, n_channels)
        for x0 in range(0, n_positions, 64):
            x1 = min(x0 + 64, n_positions)
            for c in range(c0, c1):
                base = c * n_positions
                for x in range(x0, x1):
                    out[x, c] = bit_at(packed, base + x)


@njit()
def count_feeds(grad, y, x, geometry, out):
    """out[C] = set gradient bits among the in-range outputs that input position (y, x) feeds, per channel.

    grad: bytes (out positions, C); geometry: (out_height, out_width, kh, kw, sh, sw, ph, pw).
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
def add_rows(cost, positions, start, stop, step, total):
    """total[C] = sum of cost[positions[i]] for i = start, start + step, ... below stop; four rows at a time."""
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
def take_larger(total, largest):
    """largest = max(largest, total), element by element."""
    for r in range(total.shape[0]):
        if total[r] > largest[r]:
            largest[r] = total[r]


@njit()
def deal(window, channel, in_width, n_positions, y0, y1, x0, x1, positions):
    """The valid outputs of a tile in raster order (tile-local ids in `positions`); returns how many."""
    n, local = 0, 0
    for y in range(y0, y1):
        base = channel * n_positions + y * in_width
        for x in range(x0, x1):
            positions[n] = local
            n += bit_at(window, base + x)
            local += 1
    return n


@njit()
def tile_cost(grad, tile, geometry, empty_cycles, cost, counts):
    """Fills cost[local position, C] = max(empty_cycles, feeds); returns per-position sums and empties in counts."""
    y0, y1, x0, x1 = tile
    local = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            row = cost[local]
            count_feeds(grad, y, x, geometry, row)
            feeds, empty = 0, 0
            for c in range(row.shape[0]):
                feeds += row[c]
                empty += row[c] == 0
            if empty_cycles > 1 or (empty and empty_cycles):
                for c in range(row.shape[0]):
                    if row[c] < empty_cycles:
                        row[c] = empty_cycles
            counts[local, 0], counts[local, 1] = feeds, empty
            local += 1


@njit(parallel=True)
def conv_cycles(grad, window, channels, in_size, geometry, tile_size, groups, empty_cycles, kind):
    """Pairs of the slowest PE of every tile, row group and column group, and the events behind them.

    grad: packed (S, out bytes); window: packed (S, in bytes); channels: (C_out, C_in); in_size: (H, W);
    tile_size: (height, width); groups: (R, C, P) of the array; kind: empty array of the counter's dtype, wide
    enough for one PE's cycles in one tile. Returns cycles int64 (S, column groups, tiles, row groups) without
    tile_sync, and events int64 (S, 3): pairs, empty tags, dealt positions (summed over columns).
    """
    n_samples, (n_rows, n_columns) = grad.shape[0], channels
    height, width = in_size
    n_tiles = -(-height // tile_size[0]) * -(-width // tile_size[1])
    rows, columns, parallelism = groups
    n_row_groups, n_column_groups = -(-n_rows // rows), -(-n_columns // columns)
    cycles = np.zeros((n_samples, n_column_groups, n_tiles, n_row_groups), np.int64)
    events = np.zeros((n_samples, 3), np.int64)
    for s in prange(n_samples):
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
                        n = deal(window[s], c, width, height * width, tile[0], tile[1], tile[2], tile[3], positions)
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
    return cycles, events
