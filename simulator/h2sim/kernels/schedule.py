"""Event-driven schedule of engines that share memories, compiled.

Engines run their iterations in order through ping-pong buffers; a memory serves one transfer at a time, the one
that can start first (reads before writes, then by how long it has waited). All times are integer cycles.

Everything is an int64 table whose columns are named below, so that the compiled functions pass few plain arrays.
"""

from __future__ import annotations

import numpy as np

from h2sim.kernels.jit import njit

# transfers (I, 4) and finish (I, 4): cycles and end of each transfer of an iteration
READ, READ_GRADIENT, WRITE, WRITE_GRADIENT = 0, 1, 2, 3
# iterations (I, 5): its job; 1 if it is the job's last; compute cycles; the iteration whose results must have left
# before this one's find room (-1: none); end of its compute
JOB, LAST, COMPUTE, ROOM_AFTER, COMPUTED = 0, 1, 2, 3, 4
# engines (E, 8): its iterations [FIRST, STOP); next to compute; busy until; next to transfer, per kind
FIRST, STOP, NEXT, BUSY_UNTIL, ISSUED = 0, 1, 2, 3, 4
# jobs (J, 11): feature and gradient memory; fill cycles; start, end of compute and fill, end of its last write so far,
# done (-1: not yet); stalls by cause; from when its operands are in memory (-1: not known yet)
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
# use (J, 2, 3): first start (-1: none), last end and busy cycles on the job's feature and gradient memory


@njit()
def find_room(engines, iterations, transfers):
    """Fills ROOM_AFTER: two halves of the output buffer, so the iteration with results before the last one with."""
    for e in range(engines.shape[0]):
        one, two = -1, -1
        for i in range(engines[e, FIRST], engines[e, STOP]):
            iterations[i, ROOM_AFTER] = -1
            if transfers[i, WRITE] + transfers[i, WRITE_GRADIENT] > 0:
                iterations[i, ROOM_AFTER] = two
                one, two = i, one


@njit()
def find_ready(jobs, after_start, after):
    """Fills READY: the end of the last job before each job, or -1 while one of them is not done."""
    for job in range(jobs.shape[0]):
        ready = 0
        for k in range(after_start[job], after_start[job + 1]):
            done = jobs[after[k], DONE]
            ready = -1 if done < 0 or ready < 0 else max(ready, done)
        jobs[job, READY] = ready


@njit()
def compute_next(e, engines, iterations, finish, jobs):
    """Runs the next iteration of engine e if its operands and its room for results are known; whether it did."""
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
def next_transfer(engines, iterations, transfers, jobs, free):
    """(engine, kind, start) of the transfer that can start first; engine -1 if there is none.

    A read may start when its operands are in memory and its half of the buffer is free (the iteration two before is
    computed), a write when its iteration is computed.
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
def serve(e, kind, start, engines, iterations, transfers, finish, jobs, free, use):
    """Moves one iteration's bytes of one kind; whether its job is done: the last results are in memory."""
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
def run_schedule(engines, iterations, transfers, jobs, after_start, after):
    """Runs every iteration of every engine; fills engines, iterations and jobs; returns use.

    after_start (J + 1,) / after: the jobs that must be done before a job (CSR). A job that never ends keeps DONE -1.
    """
    finish, use = np.zeros_like(transfers), np.zeros((jobs.shape[0], 2, 3), np.int64)
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
