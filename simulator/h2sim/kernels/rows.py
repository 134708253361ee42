"""Cuts grid iterations into the rows that the schedule runs, compiled; memory/bursts.py says by which rules.

Iterations stand job after job, jobs engine after engine. I iterations, R rows, J jobs. Tables have a line per column,
so that what is read in order lies in order; lines of rows are those of kernels/schedule.py.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit
from h2sim.kernels.schedule import COMPUTE, KINDS, READ_AFTER, ROOM_AFTER, WRITE, WRITE_GRADIENT

# lines of grid iterations (7, I): compute cycles; halves of the buffers that it takes; bytes of the results that it
# completes; from BYTES on, the bytes of its four transfers
CYCLES, PIECES, COMPLETES, BYTES = 0, 1, 2, 3
LINES = BYTES + KINDS


@njit()
def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`."""
    power = 1
    while power < least:
        power *= 2
    return power


@njit()
def parts_of(rows: int, pieces: int) -> int:
    """Into how many equal parts, a power of two, an iteration of so many rows is divided to fit into a half.

    `pieces` halves hold it. Those of a smaller buffer divide those of a larger one.
    """
    held = rows // pieces
    return power_of_two(-(-rows // held))


@njit()
def count_rows(grid: Ints, burst_bytes: int, most_bursts: int) -> Ints:
    """Rows of each grid iteration, int64 (I,): bursts, doubled until a buffer's half holds at least one."""
    rows = np.empty(grid.shape[1], np.int64)
    for i in range(grid.shape[1]):
        largest = max(grid[BYTES, i], grid[BYTES + 1, i], grid[BYTES + 2, i], grid[BYTES + 3, i])
        bursts = min(max(-(-largest // burst_bytes), 1), most_bursts)
        rows[i] = bursts if grid[PIECES, i] <= bursts else bursts * power_of_two(-(-grid[PIECES, i] // bursts))
    return rows


@njit(inline="always")
def cut_into(table: Ints, line: int, at: int, n: int, total: int) -> None:
    """Cuts total into n parts that differ by at most 1: table[line, at : at + n].

    Number p, from 0 on, is total * (p + 1) // n - total * p // n.
    """
    if n == 1 or total == 0:
        for r in range(n):
            table[line, at + r] = total
        return
    share, rest, carried = total // n, total % n, 0
    for r in range(n):
        carried += rest
        more = carried >= n
        carried -= n if more else 0
        table[line, at + r] = share + (1 if more else 0)


@njit(makes_arrays=False)
def cut_rows(
    grid: Ints, cycles: Ints, n_rows: Ints, job_start: Ints, engine_of: Ints, rows: Ints, bursts: Ints
) -> None:
    """Fills rows (5, R) but for COMPUTED, and bursts (4, R), the cycles of each row's transfers.

    grid: (7, I). cycles: (4, I), of the transfers. n_rows: (I,). Job j, on engine_of[j], (J,), has the iterations from
    job_start[j], (J + 1,), up to job_start[j + 1].
    """
    at, engine, n_parts, part_start = 0, -1, 0, 0
    for job in range(engine_of.shape[0]):
        if engine_of[job] != engine:
            engine, n_parts = engine_of[job], 0
        for i in range(job_start[job], job_start[job + 1]):
            n = n_rows[i]
            cut_into(rows, COMPUTE, at, n, grid[CYCLES, i])
            for kind in range(KINDS):
                cut_into(bursts, kind, at, n, cycles[kind, i])
            parts = 1 if grid[PIECES, i] == 1 else parts_of(n, grid[PIECES, i])
            for part in range(parts):
                first, stop = (0, n) if parts == 1 else (n * part // parts, n * (part + 1) // parts)
                if first == stop:
                    continue
                # the half is free once the part that it held before the last one has been computed
                two_before = part_start - 1 if n_parts >= 2 else -1
                part_start = at + first
                n_parts += 1
                for r in range(at + first, at + stop):
                    rows[READ_AFTER, r] = two_before
            at += n
    find_room(grid, cycles, n_rows, job_start, engine_of, rows)


@njit()
def find_room(grid: Ints, cycles: Ints, n_rows: Ints, job_start: Ints, engine_of: Ints, rows: Ints) -> None:
    """Fills ROOM_AFTER of every row, and of its gradient write: rows that must have left before it is computed.

    There is room when all results of the second last fill before, of those of the same engine, have left. A fill is an
    iteration, or a part of one that swaps the halves of the output buffer.
    """
    # ends: what has been completed up to the end of the fills that hold results, the last two before this one
    engine, engine_at, older, newer, total, at = -1, 0, -1, -1, 0, 0
    gone = np.array([0, 0, 0, -1, -1])
    for job in range(engine_of.shape[0]):
        if engine_of[job] != engine:
            engine, engine_at, older, newer = engine_of[job], at, -1, -1
        for i in range(job_start[job], job_start[job + 1]):
            n, completes = n_rows[i], grid[COMPLETES, i]
            swaps = grid[PIECES, i] > 1 and completes == grid[BYTES + WRITE, i] + grid[BYTES + WRITE_GRADIENT, i]
            fills = parts_of(n, grid[PIECES, i]) if swaps else 1
            for fill in range(fills):
                first, stop = (0, n) if fills == 1 else (n * fill // fills, n * (fill + 1) // fills)
                before, through = completes * first // n, completes * stop // n
                write, gradient = -1, -1
                if through > before:
                    if older >= 0:
                        write, gradient = find_left(older, grid, cycles, n_rows, gone)
                    total += through - before
                    older, newer = newer, total
                write, gradient = write if write >= engine_at else -1, gradient if gradient >= engine_at else -1
                for r in range(first, stop):
                    # a row that completes nothing needs no room
                    after = completes * (r + 1) // n if completes < n else before + 1
                    rows[ROOM_AFTER, at + r] = write if after > before else -1
                    rows[ROOM_AFTER + 1, at + r] = gradient if after > before else -1
                    before = after if completes < n else before
            at += n


@njit(inline="always")
def find_left(n_bytes: int, grid: Ints, cycles: Ints, n_rows: Ints, gone: Ints) -> tuple[int, int]:
    """The last rows with a feature write and with a gradient write of the fewest that write n_bytes; -1: none.

    n_bytes never falls from call to call. gone: (5,), the iterations passed by so far, their rows and bytes, and the
    last rows with either write.
    """
    i, at, left, write, gradient = gone[0], gone[1], gone[2], gone[3], gone[4]
    while True:
        written = grid[BYTES + WRITE, i] + grid[BYTES + WRITE_GRADIENT, i]
        if left + written >= n_bytes:
            break
        write = at + n_rows[i] - 1 if cycles[WRITE, i] > 0 else write
        gradient = at + n_rows[i] - 1 if cycles[WRITE_GRADIENT, i] > 0 else gradient
        left += written
        at += n_rows[i]
        i += 1
    gone[0], gone[1], gone[2], gone[3], gone[4] = i, at, left, write, gradient
    if n_bytes <= left:
        return write, gradient
    n = int(n_rows[i])
    some = -(-(n_bytes - left) * n // written)  # so many of its rows
    feature, other = last_share(cycles[WRITE, i], n, some), last_share(cycles[WRITE_GRADIENT, i], n, some)
    return at + feature if feature >= 0 else write, at + other if other >= 0 else gradient


@njit(inline="always")
def last_share(total: int, n: int, some: int) -> int:
    """The last of the first `some` of n parts of total that is not 0; -1: none."""
    if some == n:
        return n - 1 if total > 0 else -1
    through = total * some // n
    return -(-through * n // total) - 1 if through > 0 else -1
