"""The critical path of a schedule, compiled: walked back from the last cycle, every cycle given to what held it up.

Tables and their columns are those of kernels/schedule.py. An event is the compute of a row (kind COMPUTED_EVENT) or
one of its four transfers (kind 0 to 3).
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit
from h2sim.kernels.schedule import (
    COMPUTE,
    COMPUTED,
    DONE,
    END,
    FILL,
    MEMORY,
    READ,
    READ_AFTER,
    READ_GRADIENT,
    READY,
    ROOM_AFTER,
    ROWS_STOP,
    WRITE,
    WRITE_GRADIENT,
)

COMPUTED_EVENT = -1
# columns of a path (K, 5): engine, or -1 - memory; what it did; its job; first and last cycle
RESOURCE, WHAT, PATH_JOB, PATH_START, PATH_END = 0, 1, 2, 3, 4
# what: the engine's two kinds of work, the memory's two
WORKED, FILLED, READS, WRITES = 0, 1, 2, 3


@njit()
def done_event(job: int, cycle: int, jobs: Ints, after_start: Ints, after: Ints, last_write: Ints) -> tuple[int, int]:
    """(row, kind) of the event that ended in `cycle` the last of the jobs that `job` waits for.

    Where the last compute and the last write of such a job end together, the compute is named: ties go to the engine.
    """
    for k in range(after_start[job], after_start[job + 1]):
        other = after[k]
        if jobs[other, DONE] == cycle:
            if jobs[other, END] == cycle:
                return jobs[other, ROWS_STOP] - 1, COMPUTED_EVENT
            return last_write[other, 0], last_write[other, 1]
    return -1, COMPUTED_EVENT


@njit()
def before_compute(
    i: int,
    job: int,
    begin: int,
    first: int,
    rows: Ints,
    finish: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    last_write: Ints,
) -> tuple[int, int]:
    """(row, kind) of the event whose end let row i, of a job, compute in cycle `begin`.

    The engine's own row before it goes first, then the results that made room, then operands, then other jobs.
    """
    feature, gradient = rows[ROOM_AFTER, i], rows[ROOM_AFTER + 1, i]
    if i > first and rows[COMPUTED, i - 1] == begin:
        return i - 1, COMPUTED_EVENT
    if feature >= 0 and finish[WRITE, feature] == begin:
        return int(feature), WRITE
    if gradient >= 0 and finish[WRITE_GRADIENT, gradient] == begin:
        return int(gradient), WRITE_GRADIENT
    if finish[READ, i] == begin:
        return i, READ
    if finish[READ_GRADIENT, i] == begin:
        return i, READ_GRADIENT
    return done_event(job, begin, jobs, after_start, after, last_write)


@njit()
def before_transfer(
    i: int,
    kind: int,
    job: int,
    start: int,
    rows: Ints,
    previous: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    last_write: Ints,
) -> tuple[int, int]:
    """(row, kind) of the event whose end let transfer (i, kind), of a job, start.

    A read could start when its operands were in memory and its half of the buffer was free, a write when its row was
    computed; a transfer that started later waited for the one before it on its memory.
    """
    if kind >= WRITE:
        if start == rows[COMPUTED, i]:
            return i, COMPUTED_EVENT
    else:
        before = rows[READ_AFTER, i]
        if before >= 0 and rows[COMPUTED, before] == start and start >= jobs[job, READY]:
            return int(before), COMPUTED_EVENT
        if start == jobs[job, READY]:
            return done_event(job, start, jobs, after_start, after, last_write)
    place = previous[kind, i]
    return place // 4, place % 4


@njit()
def walk(
    i: int,
    kind: int,
    engine_of: Ints,
    job_of: Ints,
    firsts: Ints,
    rows: Ints,
    transfers: Ints,
    finish: Ints,
    previous: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    last_write: Ints,
) -> Ints:
    """The path, int64 (K, 5), from cycle 0 to the end of event (i, kind); its lengths add up to that end exactly.

    engine_of and job_of: (R,), of each row; firsts: (E,), the first row of each engine; previous: (4, R), the transfer
    before each on its memory as row * 4 + kind; last_write: (J, 2), the transfer that ended each job's writes.
    """
    path, n = np.empty((1024, 5), np.int64), 0
    while i >= 0:
        if n + 2 > path.shape[0]:
            longer = np.empty((2 * path.shape[0], 5), np.int64)
            longer[:n] = path[:n]
            path = longer
        job, engine = job_of[i], engine_of[i]
        first = int(firsts[engine])
        if kind == COMPUTED_EVENT:
            end = rows[COMPUTED, i]
            fill = jobs[job, FILL] if i + 1 == jobs[job, ROWS_STOP] else 0
            if fill > 0:
                path[n] = (engine, FILLED, job, end - fill, end)
                n += 1
            begin = end - fill - rows[COMPUTE, i]
            if rows[COMPUTE, i] > 0:
                path[n] = (engine, WORKED, job, begin, end - fill)
                n += 1
            if begin == 0:
                break
            i, kind = before_compute(i, job, begin, first, rows, finish, jobs, after_start, after, last_write)
        else:
            start = finish[kind, i] - transfers[kind, i]
            if transfers[kind, i] > 0:
                memory = jobs[job, MEMORY + (kind & 1)]
                path[n] = (-1 - memory, WRITES if kind >= WRITE else READS, job, start, finish[kind, i])
                n += 1
            if start == 0:
                break
            i, kind = before_transfer(i, kind, job, start, rows, previous, jobs, after_start, after, last_write)
    return path[:n][::-1].copy()
