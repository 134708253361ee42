"""Cuts grid iterations into the rows that the schedule runs, compiled; memory/bursts.py says by which rules.

Iterations stand job after job, jobs engine after engine. I iterations, R rows, J jobs; columns of rows are those of
kernels/schedule.py.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit
from h2sim.kernels.schedule import COMPUTE, JOB, KINDS, LAST, READ_AFTER, ROOM_AFTER, WRITE, WRITE_GRADIENT

# columns of grid iterations (I, 7): its job; compute cycles; its rows; halves of the operands' buffer that it takes;
# halves of the output buffer; bytes of the results that it completes; bytes that it writes
OF_JOB, CYCLES, ROWS, PIECES, RESULT_PIECES, COMPLETES, WRITTEN, COLUMNS = 0, 1, 2, 3, 4, 5, 6, 7
# columns of what rows do to the output buffer (R, 4): bytes that they complete; bytes that leave; which fill of a half
# they belong to; the engine
PRODUCED, LEFT, FILL_NUMBER, ENGINE = 0, 1, 2, 3


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
def begin_shares(totals: Ints, n: int, shares: Ints) -> None:
    """Begins to cut each of totals, (K,), into n parts that differ by at most 1; shares is (3, K)."""
    for k in range(totals.shape[0]):
        shares[0, k], shares[1, k], shares[2, k] = totals[k] // n, totals[k] % n, 0


@njit()
def next_share(k: int, n: int, shares: Ints) -> int:
    """The next part of totals[k]. Number p, from 0 on, is totals[k] * (p + 1) // n - totals[k] * p // n."""
    shares[2, k] += shares[1, k]
    if shares[2, k] < n:
        return int(shares[0, k])
    shares[2, k] -= n
    return int(shares[0, k]) + 1


@njit()
def cut_rows(grid: Ints, cycles: Ints, engine_of: Ints, rows: Ints, bursts: Ints) -> None:
    """Fills rows (R, 7) but for COMPUTED, and bursts (R, 4), the cycles of each row's transfers.

    grid: (I, 7). cycles: (4, I), of the transfers. engine_of: (J,).
    """
    output = np.empty((rows.shape[0], 4), np.int64)
    totals, shares = np.empty(KINDS + 3, np.int64), np.empty((3, KINDS + 3), np.int64)
    at, fill, engine, in_engine, part_start, two_before = 0, -1, -1, 0, 0, -1
    for i in range(grid.shape[0]):
        job, n = grid[i, OF_JOB], grid[i, ROWS]
        parts, filled, part_before = parts_of(n, grid[i, PIECES]), grid[i, RESULT_PIECES] > 1, -1
        totals[:KINDS] = cycles[:, i]
        totals[KINDS], totals[KINDS + 1], totals[KINDS + 2] = grid[i, CYCLES], grid[i, COMPLETES], grid[i, WRITTEN]
        begin_shares(totals, n, shares)
        for r in range(n):
            part = ((r + 1) * parts - 1) // n
            new_engine = engine_of[job] != engine
            if new_engine:
                engine, in_engine = engine_of[job], -1
            if part != part_before or new_engine:
                # the half is free once the part that it held before the last one has been computed
                in_engine += 1
                two_before = part_start - 1 if in_engine >= 2 else -1
                part_start = at
            if r == 0 or (filled and part != part_before) or new_engine:
                fill += 1
            part_before = part
            rows[at, JOB], rows[at, LAST] = job, 0
            rows[at, COMPUTE] = next_share(KINDS, n, shares)
            rows[at, READ_AFTER] = two_before
            for kind in range(KINDS):
                bursts[at, kind] = next_share(kind, n, shares)
            output[at, PRODUCED] = next_share(KINDS + 1, n, shares)
            output[at, LEFT] = next_share(KINDS + 2, n, shares)
            output[at, FILL_NUMBER], output[at, ENGINE] = fill, engine
            at += 1
        if i + 1 == grid.shape[0] or grid[i + 1, OF_JOB] != job:
            rows[at - 1, LAST] = 1
    find_room(output, rows, bursts)


@njit()
def find_room(output: Ints, rows: Ints, bursts: Ints) -> None:
    """Fills ROOM_AFTER of every row, and of its gradient write: rows that must have left before it is computed.

    There is room when all results of the second last fill before, of those of the same engine, have left.
    """
    # ends: what has been completed up to the end of the fills that hold results, the last two before this one
    engine, fill, older, newer, total = -1, -1, -1, -1, 0
    left, gone, write, gradient = 0, 0, -1, -1  # the row up to which `left` bytes leave, and the last bursts so far
    gone_engine = -1
    for i in range(rows.shape[0]):
        if output[i, ENGINE] != engine:
            engine, older, newer, fill = output[i, ENGINE], -1, -1, -1
        rows[i, ROOM_AFTER] = rows[i, ROOM_AFTER + 1] = -1
        if output[i, PRODUCED] == 0:
            continue
        if output[i, FILL_NUMBER] != fill:
            older, newer, fill = newer, total if fill >= 0 else -1, output[i, FILL_NUMBER]
        total += output[i, PRODUCED]
        if older < 0:
            continue
        while left < older:
            if output[gone, ENGINE] != gone_engine:
                gone_engine, write, gradient = output[gone, ENGINE], -1, -1
            left += output[gone, LEFT]
            if bursts[gone, WRITE] > 0:
                write = gone
            if bursts[gone, WRITE_GRADIENT] > 0:
                gradient = gone
            gone += 1
        rows[i, ROOM_AFTER], rows[i, ROOM_AFTER + 1] = write, gradient
