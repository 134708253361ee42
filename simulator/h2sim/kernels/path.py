"""The critical path of a schedule, compiled: walked back from the last cycle, every cycle given to what held it up.

Tables and their columns are those of kernels/schedule.py. An event is the compute of an iteration (kind COMPUTED_EVENT)
or one of its four transfers (kind 0 to 3).
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
    JOB,
    LAST,
    MEMORY,
    READ,
    READ_AFTER,
    READ_GRADIENT,
    READY,
    ROOM_AFTER,
    WRITE,
    WRITE_GRADIENT,
)

COMPUTED_EVENT = -1
# columns of a path (K, 5): engine, or -1 - memory; what it did; its job; first and last cycle
RESOURCE, WHAT, PATH_JOB, PATH_START, PATH_END = 0, 1, 2, 3, 4
# what: the engine's two kinds of work, the memory's two
WORKED, FILLED, READS, WRITES = 0, 1, 2, 3


@njit()
def done_event(
    job: int, cycle: int, jobs: Ints, after_start: Ints, after: Ints, last: Ints, last_write: Ints
) -> tuple[int, int]:
    """(iteration, kind) of the event that ended in `cycle` the last of the jobs that `job` waits for.

    Where the last compute and the last write of such a job end together, the compute is named: ties go to the engine.
    """
    for k in range(after_start[job], after_start[job + 1]):
        other = after[k]
        if jobs[other, DONE] == cycle:
            if jobs[other, END] == cycle:
                return int(last[other]), COMPUTED_EVENT
            return last_write[other, 0], last_write[other, 1]
    return -1, COMPUTED_EVENT


@njit()
def before_compute(
    i: int,
    begin: int,
    first: int,
    iterations: Ints,
    finish: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    last: Ints,
    last_write: Ints,
) -> tuple[int, int]:
    """(iteration, kind) of the event whose end let iteration i compute in cycle `begin`.

    The engine's own iteration before it goes first, then the results that made room, then operands, then other jobs.
    """
    feature, gradient = iterations[i, ROOM_AFTER], iterations[i, ROOM_AFTER + 1]
    if i > first and iterations[i - 1, COMPUTED] == begin:
        return i - 1, COMPUTED_EVENT
    if feature >= 0 and finish[feature, WRITE] == begin:
        return int(feature), WRITE
    if gradient >= 0 and finish[gradient, WRITE_GRADIENT] == begin:
        return int(gradient), WRITE_GRADIENT
    if finish[i, READ] == begin:
        return i, READ
    if finish[i, READ_GRADIENT] == begin:
        return i, READ_GRADIENT
    return done_event(iterations[i, JOB], begin, jobs, after_start, after, last, last_write)


@njit()
def before_transfer(
    i: int,
    kind: int,
    start: int,
    iterations: Ints,
    previous: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    last: Ints,
    last_write: Ints,
) -> tuple[int, int]:
    """(iteration, kind) of the event whose end let transfer (i, kind) start.

    A read could start when its operands were in memory and its half of the buffer was free, a write when its row was
    computed; a transfer that started later waited for the one before it on its memory.
    """
    job = iterations[i, JOB]
    if kind >= WRITE:
        if start == iterations[i, COMPUTED]:
            return i, COMPUTED_EVENT
    else:
        before = iterations[i, READ_AFTER]
        if before >= 0 and iterations[before, COMPUTED] == start and start >= jobs[job, READY]:
            return int(before), COMPUTED_EVENT
        if start == jobs[job, READY]:
            return done_event(job, start, jobs, after_start, after, last, last_write)
    place = previous[i, kind]
    return place // 4, place % 4


@njit()
def walk(
    i: int,
    kind: int,
    engine_of: Ints,
    firsts: Ints,
    iterations: Ints,
    transfers: Ints,
    finish: Ints,
    previous: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    last: Ints,
    last_write: Ints,
) -> Ints:
    """The path, int64 (K, 5), from cycle 0 to the end of event (i, kind); its lengths add up to that end exactly.

    engine_of: (I,), the engine of each iteration; firsts: (E,), the first iteration of each; previous: (I, 4), the
    transfer before each on its memory as iteration * 4 + kind; last: (J,), the last iteration of each job; last_write:
    (J, 2), the transfer that ended each job's writes.
    """
    path, n = np.empty((1024, 5), np.int64), 0
    while i >= 0:
        if n + 2 > path.shape[0]:
            longer = np.empty((2 * path.shape[0], 5), np.int64)
            longer[:n] = path[:n]
            path = longer
        job, engine = iterations[i, JOB], engine_of[i]
        first = int(firsts[engine])
        if kind == COMPUTED_EVENT:
            end = iterations[i, COMPUTED]
            fill = jobs[job, FILL] if iterations[i, LAST] else 0
            if fill > 0:
                path[n] = (engine, FILLED, job, end - fill, end)
                n += 1
            begin = end - fill - iterations[i, COMPUTE]
            if iterations[i, COMPUTE] > 0:
                path[n] = (engine, WORKED, job, begin, end - fill)
                n += 1
            if begin == 0:
                break
            i, kind = before_compute(i, begin, first, iterations, finish, jobs, after_start, after, last, last_write)
        else:
            start = finish[i, kind] - transfers[i, kind]
            if transfers[i, kind] > 0:
                memory = jobs[job, MEMORY + (kind & 1)]
                path[n] = (-1 - memory, WRITES if kind >= WRITE else READS, job, start, finish[i, kind])
                n += 1
            if start == 0:
                break
            i, kind = before_transfer(i, kind, start, iterations, previous, jobs, after_start, after, last, last_write)
    return path[:n][::-1].copy()
