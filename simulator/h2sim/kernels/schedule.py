"""Event-driven schedule of engines that share memories, compiled.

An engine runs its rows in order (kernels/rows.py cuts grid iterations into rows). A memory serves one burst at a time
and never waits while it has one to serve. Streams, the four kinds of transfer of every engine, take turns: after a
burst the memory goes on with the next stream, in the order of engines and kinds, that has one. All times are integer
cycles.

Everything is an int64 table whose columns are named below, so that the compiled functions pass few plain arrays.
R rows, E engines, J jobs. A transfer kind is even for the job's feature memory and odd for its gradient memory.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit

# columns of transfers (R, 4), the cycles of each burst of a row, and of finish (R, 4), the cycle it ends in
READ, READ_GRADIENT, WRITE, WRITE_GRADIENT = 0, 1, 2, 3
KINDS = 4
# columns of iterations (R, 7): its job; 1 if it is the job's last; its compute cycles; the row after whose compute its
# operands' half of the buffer is free (-1: it is); the rows whose feature write and, at ROOM_AFTER + 1, gradient write
# must have left the output buffer before this one may compute (-1: none); the cycle in which its compute ends
JOB, LAST, COMPUTE, READ_AFTER, ROOM_AFTER, COMPUTED = 0, 1, 2, 3, 4, 6
# columns of engines (E, 8): its rows are FIRST <= i < STOP; the next to compute; when it will be idle;
# from ISSUED on, the next row to transfer, for each of the four kinds
FIRST, STOP, NEXT, BUSY_UNTIL, ISSUED = 0, 1, 2, 3, 4
# columns of jobs (J, 12): feature memory and, at MEMORY + 1, gradient memory; fill cycles; the cycles of its start, of
# the end of its compute and fill (-1: not yet), of the end of its last write so far, and of when it was done (-1: not
# yet); stalls by cause; the cycle from which all its operands are in memory (-1: not known yet); writes still to come
MEMORY, FILL, START, END, WRITTEN, DONE = 0, 2, 3, 4, 5, 6
STALL_READ, STALL_WRITE, STALL_DEPENDENCY, READY, PENDING = 7, 8, 9, 10, 11
JOB_COLUMNS = 12
# use (J, 2, 3), on the job's feature and gradient memory: the cycle of its first start (-1: none), of its last end, and
# how many cycles it kept the memory busy
NEVER = 2**63 - 1


@njit()
def find_ready(jobs: Ints, after_start: Ints, after: Ints) -> None:
    """Fills READY of every job: when the last of the jobs that it depends on was done, or -1 while one is not.

    It depends on after[after_start[job] : after_start[job + 1]]; READY is 0 where that is empty.
    """
    for job in range(jobs.shape[0]):
        ready = 0
        for k in range(after_start[job], after_start[job + 1]):
            done = jobs[after[k], DONE]
            ready = -1 if done < 0 or ready < 0 else max(ready, done)
        jobs[job, READY] = ready


@njit(inline="always")
def find_done(job: int, jobs: Ints) -> bool:
    """Fills DONE of a job that has been computed, if its last result is in memory; returns whether it is."""
    if jobs[job, END] < 0 or jobs[job, PENDING] > 0:
        return False
    jobs[job, DONE] = max(jobs[job, END], jobs[job, WRITTEN])
    return True


@njit(inline="always")
def compute_next(e: int, engines: Ints, iterations: Ints, finish: Ints, jobs: Ints) -> bool:
    """Computes the next row of engine e, if its operands' arrival and its room for results are known.

    Returns whether it did. The wait before it is split into stalls: for jobs before it (dependency), then for its
    operands (read), then for room in the output buffer (write).
    """
    i = engines[e, NEXT]
    if i == engines[e, STOP] or engines[e, ISSUED + READ] <= i or engines[e, ISSUED + READ_GRADIENT] <= i:
        return False
    feature, gradient = iterations[i, ROOM_AFTER], iterations[i, ROOM_AFTER + 1]
    if engines[e, ISSUED + WRITE] <= feature or engines[e, ISSUED + WRITE_GRADIENT] <= gradient:
        return False
    job, now = iterations[i, JOB], engines[e, BUSY_UNTIL]
    if jobs[job, READY] < 0:
        return False
    if i == engines[e, FIRST] or iterations[i - 1, JOB] != job:
        jobs[job, START] = now
    ready = max(now, jobs[job, READY])
    arrived = max(ready, finish[i, READ], finish[i, READ_GRADIENT])
    begin = arrived
    if feature >= 0:
        begin = max(begin, finish[feature, WRITE])
    if gradient >= 0:
        begin = max(begin, finish[gradient, WRITE_GRADIENT])
    jobs[job, STALL_DEPENDENCY] += ready - now
    jobs[job, STALL_READ] += arrived - ready
    jobs[job, STALL_WRITE] += begin - arrived
    end = begin + iterations[i, COMPUTE]
    if iterations[i, LAST]:
        end += jobs[job, FILL]
        jobs[job, END] = end
    iterations[i, COMPUTED] = engines[e, BUSY_UNTIL] = end
    engines[e, NEXT] += 1
    return True


@njit(inline="always")
def possible_since(e: int, kind: int, engines: Ints, iterations: Ints, jobs: Ints) -> int:
    """The cycle from which engine e's next burst of a kind may be served, or NEVER if that is not known yet.

    A read needs its operands in memory and its half of the buffer free, a write its row computed.
    """
    i, following = engines[e, ISSUED + kind], engines[e, NEXT]
    if i == engines[e, STOP]:
        return NEVER
    if kind >= WRITE:
        return int(iterations[i, COMPUTED]) if i < following else NEVER
    ready, before = jobs[iterations[i, JOB], READY], iterations[i, READ_AFTER]
    if ready < 0 or before >= following:
        return NEVER
    return int(max(ready, iterations[before, COMPUTED]) if before >= 0 else ready)


@njit(inline="always")
def advance(e: int, engines: Ints, iterations: Ints, finish: Ints, jobs: Ints, since: Ints, memory_of: Ints) -> bool:
    """Computes all rows of engine e that can be; returns whether a job is now done.

    Fills what next_burst asks of the streams of engine e.
    """
    done = False
    while compute_next(e, engines, iterations, finish, jobs):
        i = engines[e, NEXT] - 1
        if iterations[i, LAST]:
            done |= find_done(iterations[i, JOB], jobs)
    for kind in range(KINDS):
        stream = e * KINDS + kind
        since[stream] = possible_since(e, kind, engines, iterations, jobs)
        if since[stream] != NEVER:
            memory_of[stream] = jobs[iterations[engines[e, ISSUED + kind], JOB], MEMORY + (kind & 1)]
    return done


@njit(inline="always")
def pass_over_nothing(e: int, kind: int, engines: Ints, transfers: Ints) -> None:
    """Moves engine e on to its next burst of a kind that takes any time: what moves nothing waits for nothing."""
    while engines[e, ISSUED + kind] < engines[e, STOP] and transfers[engines[e, ISSUED + kind], kind] == 0:
        engines[e, ISSUED + kind] += 1


@njit(inline="always")
def next_burst(since: Ints, memory_of: Ints, free: Ints, turn: Ints) -> tuple[int, int]:
    """The next burst that any memory serves, as (stream, start cycle); stream is -1 if there is none.

    A stream is engine * KINDS + kind: since[stream] is when its next burst may start, memory_of[stream] on what. The
    burst is the one that can start first: when it may and its memory is `free`, (memories,). Of several on one memory,
    the stream whose turn comes first after turn[memory], the last one served.
    """
    chosen, begin, nearest, n_streams = -1, NEVER, 0, since.shape[0]
    for stream in range(n_streams):
        if since[stream] == NEVER:
            continue
        memory = memory_of[stream]
        start = max(since[stream], free[memory])
        if start > begin:
            continue
        distance = stream - turn[memory] - 1
        if distance < 0:
            distance += n_streams
        if start < begin or distance < nearest:
            chosen, begin, nearest = stream, start, distance
    return chosen, begin


@njit()
def run_schedule(
    engines: Ints, iterations: Ints, transfers: Ints, jobs: Ints, after_start: Ints, after: Ints, finish: Ints
) -> Ints:
    """Runs every row of every engine. Fills engines, iterations, jobs and finish; returns use, int64 (J, 2, 3).

    Job j waits for the jobs after[after_start[j] : after_start[j + 1]]; after_start is (J + 1,). Jobs that wait for
    each other are never done: their DONE stays -1.
    """
    use = np.zeros((jobs.shape[0], 2, 3), np.int64)
    use[:, :, 0] = -1
    n_memories = jobs[:, MEMORY : MEMORY + 2].max() + 1
    free, turn = np.zeros(n_memories, np.int64), np.full(n_memories, -1, np.int64)
    since = np.full(engines.shape[0] * KINDS, NEVER, np.int64)
    memory_of = np.zeros_like(since)
    for e in range(engines.shape[0]):
        for kind in range(KINDS):
            pass_over_nothing(e, kind, engines, transfers)
    for i in range(iterations.shape[0]):
        written = int(transfers[i, WRITE] > 0) + int(transfers[i, WRITE_GRADIENT] > 0)  # numpy's True + True is True
        jobs[iterations[i, JOB], PENDING] += written
    done, e = True, -1
    while True:
        if e >= 0:
            done |= advance(e, engines, iterations, finish, jobs, since, memory_of)
        while done:
            find_ready(jobs, after_start, after)
            done = False
            for other in range(engines.shape[0]):
                done |= advance(other, engines, iterations, finish, jobs, since, memory_of)
        stream, start = next_burst(since, memory_of, free, turn)
        if stream < 0:
            return use
        e, kind, memory = stream // KINDS, stream % KINDS, memory_of[stream]
        i = engines[e, ISSUED + kind]
        job, end = iterations[i, JOB], start + transfers[i, kind]
        free[memory], turn[memory], finish[i, kind] = end, stream, end
        engines[e, ISSUED + kind] += 1
        pass_over_nothing(e, kind, engines, transfers)
        if use[job, kind & 1, 0] < 0:
            use[job, kind & 1, 0] = start
        use[job, kind & 1, 1] = end
        use[job, kind & 1, 2] += transfers[i, kind]
        if kind >= WRITE:
            jobs[job, WRITTEN] = max(jobs[job, WRITTEN], end)
            jobs[job, PENDING] -= 1
            done = find_done(job, jobs)
