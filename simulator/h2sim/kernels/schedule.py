"""Event-driven schedule of engines that share memories, compiled.

An engine runs its iterations in order, through ping-pong buffers. A memory serves one transfer at a time: the one that
can start first; of those, the one that has waited longest; of those, feature reads before gradient reads before writes,
then engines in their order. All times are integer cycles.

Everything is an int64 table whose columns are named below, so that the compiled functions pass few plain arrays.
I iterations, E engines, J jobs. A transfer kind is even for the job's feature memory and odd for its gradient memory.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit

# columns of transfers (I, 4), the cycles of each transfer of an iteration, and of finish (I, 4), the cycle it ends in
READ, READ_GRADIENT, WRITE, WRITE_GRADIENT = 0, 1, 2, 3
# columns of iterations (I, 5): its job; 1 if it is the job's last; its compute cycles; the iteration whose results must
# have left the output buffer before this one may compute (-1: none); the cycle in which its compute ends
JOB, LAST, COMPUTE, ROOM_AFTER, COMPUTED = 0, 1, 2, 3, 4
# columns of engines (E, 8): its iterations are FIRST <= i < STOP; the next to compute; when it will be idle;
# from ISSUED on, the next iteration to transfer, for each of the four kinds
FIRST, STOP, NEXT, BUSY_UNTIL, ISSUED = 0, 1, 2, 3, 4
# columns of jobs (J, 11): feature memory and, at MEMORY + 1, gradient memory; fill cycles; the cycles of its start, of
# the end of its compute and fill, of the end of its last write so far, and of when it was done (-1: not yet); stalls by
# cause; the cycle from which all its operands are in memory (-1: not known yet)
MEMORY, FILL, START, END, WRITTEN, DONE, STALL_READ, STALL_WRITE, STALL_DEPENDENCY, READY = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
)
JOB_COLUMNS = 11
# use (J, 2, 3), on the job's feature and gradient memory: the cycle of its first start (-1: none), of its last end, and
# how many cycles it kept the memory busy


@njit()
def find_room(engines: Ints, iterations: Ints, transfers: Ints) -> None:
    """Fills ROOM_AFTER of every iteration.

    The output buffer has two halves. An iteration that writes results therefore waits until those of the second last
    iteration before it that wrote any have left.
    """
    for e in range(engines.shape[0]):
        one, two = -1, -1
        for i in range(engines[e, FIRST], engines[e, STOP]):
            iterations[i, ROOM_AFTER] = -1
            if transfers[i, WRITE] + transfers[i, WRITE_GRADIENT] > 0:
                iterations[i, ROOM_AFTER] = two
                one, two = i, one


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


@njit()
def compute_next(e: int, engines: Ints, iterations: Ints, finish: Ints, jobs: Ints) -> bool:
    """Computes the next iteration of engine e, if its operands' arrival and its room for results are known.

    Returns whether it did. The wait before it is split into stalls: for jobs before it (dependency), then for its
    operands (read), then for room in the output buffer (write).
    """
    i = engines[e, NEXT]
    if i == engines[e, STOP] or engines[e, ISSUED + READ] <= i or engines[e, ISSUED + READ_GRADIENT] <= i:
        return False
    before = iterations[i, ROOM_AFTER]
    if before >= 0 and (engines[e, ISSUED + WRITE] <= before or engines[e, ISSUED + WRITE_GRADIENT] <= before):
        return False
    job, now = iterations[i, JOB], engines[e, BUSY_UNTIL]
    if i == engines[e, FIRST] or iterations[i - 1, JOB] != job:
        jobs[job, START] = now
    ready = max(now, jobs[job, READY])
    arrived = max(ready, finish[i, READ], finish[i, READ_GRADIENT])
    begin = arrived
    if before >= 0:
        begin = max(arrived, finish[before, WRITE], finish[before, WRITE_GRADIENT])
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


@njit()
def next_transfer(engines: Ints, iterations: Ints, transfers: Ints, jobs: Ints, free: Ints) -> tuple[int, int, int]:
    """The transfer that can start first, as (engine, kind, start cycle); engine is -1 if there is none.

    A read may start when its operands are in memory and its half of the buffer is free, which is when the iteration
    two before it was computed. A write may start when its iteration was computed. Either waits until its memory is
    `free`, (memories,), unless it moves nothing.
    """
    chosen, chosen_kind, begin, longest = -1, -1, 0, 0
    for kind in range(4):
        for e in range(engines.shape[0]):
            i, following = engines[e, ISSUED + kind], engines[e, NEXT]
            if i == engines[e, STOP] or (following <= i if kind >= WRITE else following < i - 1):
                continue
            job = iterations[i, JOB]
            if kind >= WRITE:
                since = iterations[i, COMPUTED]
            elif jobs[job, READY] < 0:
                continue
            elif i - 2 >= engines[e, FIRST]:
                since = max(jobs[job, READY], iterations[i - 2, COMPUTED])
            else:
                since = jobs[job, READY]
            start = since
            if transfers[i, kind] > 0:
                start = max(since, free[jobs[job, MEMORY + (kind & 1)]])
            if chosen < 0 or start < begin or (start == begin and since < longest):
                chosen, chosen_kind, begin, longest = e, kind, start, since
    return chosen, chosen_kind, begin


@njit()
def serve(
    e: int,
    kind: int,
    start: int,
    engines: Ints,
    iterations: Ints,
    transfers: Ints,
    finish: Ints,
    jobs: Ints,
    free: Ints,
    use: Ints,
) -> bool:
    """Makes one transfer of engine e: the next iteration's of that kind, from cycle `start` on.

    Returns whether its job is now done, which is when the last iteration's results are in memory.
    """
    i = engines[e, ISSUED + kind]
    job, duration = iterations[i, JOB], transfers[i, kind]
    end = start + duration
    finish[i, kind] = end
    engines[e, ISSUED + kind] += 1
    if duration > 0:
        free[jobs[job, MEMORY + (kind & 1)]] = end
        if use[job, kind & 1, 0] < 0:
            use[job, kind & 1, 0] = start
        use[job, kind & 1, 1] = end
        use[job, kind & 1, 2] += duration
    if kind >= WRITE:
        jobs[job, WRITTEN] = max(jobs[job, WRITTEN], end)
        both = engines[e, ISSUED + WRITE] > i and engines[e, ISSUED + WRITE_GRADIENT] > i
        if iterations[i, LAST] and both:
            jobs[job, DONE] = max(jobs[job, END], jobs[job, WRITTEN])
            return True
    return False


@njit()
def run_schedule(
    engines: Ints, iterations: Ints, transfers: Ints, jobs: Ints, after_start: Ints, after: Ints, finish: Ints
) -> Ints:
    """Runs every iteration of every engine. Fills engines, iterations, jobs and finish; returns use, int64 (J, 2, 3).

    Job j waits for the jobs after[after_start[j] : after_start[j + 1]]; after_start is (J + 1,). Jobs that wait for
    each other are never done: their DONE stays -1.
    """
    use = np.zeros((jobs.shape[0], 2, 3), np.int64)
    use[:, :, 0] = -1
    free = np.zeros(jobs[:, MEMORY : MEMORY + 2].max() + 1, np.int64)
    find_room(engines, iterations, transfers)
    find_ready(jobs, after_start, after)
    while True:
        e, kind, start = next_transfer(engines, iterations, transfers, jobs, free)
        if e < 0:
            return use
        if serve(e, kind, start, engines, iterations, transfers, finish, jobs, free, use):
            find_ready(jobs, after_start, after)
        while compute_next(e, engines, iterations, finish, jobs):
            pass
