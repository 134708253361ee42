"""Event-driven schedule of engines that share memories, compiled.

Engines run their iterations in order through ping-pong buffers; a memory serves one transfer at a time, the one
that can start first (reads before writes, then by how long it has waited). All times are integer cycles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

READ, READ_GRADIENT, WRITE, WRITE_GRADIENT = 0, 1, 2, 3
Array = Any  # int64 arrays; numba infers


class Plan(NamedTuple):
    """What is to be run. E engines, I iterations in engine order, J jobs; all int64.

    engine_start (E + 1,): iterations of engine e are engine_start[e]:engine_start[e + 1]; job_of (I,); last_of_job
    (I,): 1 on a job's last iteration; compute (I,): cycles; transfers (I, 4): cycles of READ .. WRITE_GRADIENT;
    job_memory (J, 2): feature and gradient memory; fill (J,): cycles; after_start (J + 1,) / after: jobs that must be
    done before (CSR).
    """

    engine_start: Array
    job_of: Array
    last_of_job: Array
    compute: Array
    transfers: Array
    job_memory: Array
    fill: Array
    after_start: Array
    after: Array


class State(NamedTuple):
    """How far it has come. issued (E, 4) and next_compute (E,): the iteration that each does next.

    finish (I, 4): end of each transfer; computed (I,): end of each iteration; writers (I,): the iteration whose results
    must have left before this one's find room, or -1; free (memories,); busy_until (E,); times (J, 3): start, end of
    compute and fill, done (-1: not yet); written (J,): last write so far; stalls (J, 3): memory_read, memory_write,
    dependency; use (J, 2, 3): first start (-1: none), last end, busy cycles on the job's two memories.
    """

    issued: Array
    next_compute: Array
    finish: Array
    computed: Array
    writers: Array
    free: Array
    busy_until: Array
    times: Array
    written: Array
    stalls: Array
    use: Array


@njit(cache=True)
def new_state(plan):
    """Nothing issued, nothing done."""
    n_engines, n, n_jobs = plan.engine_start.shape[0] - 1, plan.compute.shape[0], plan.fill.shape[0]
    issued = np.empty((n_engines, 4), np.int64)
    writers = np.full(n, -1, np.int64)
    for e in range(n_engines):
        issued[e] = plan.engine_start[e]
        one, two = -1, -1
        for i in range(plan.engine_start[e], plan.engine_start[e + 1]):
            if plan.transfers[i, WRITE] + plan.transfers[i, WRITE_GRADIENT] > 0:
                writers[i] = two
                one, two = i, one
    times, use = np.zeros((n_jobs, 3), np.int64), np.zeros((n_jobs, 2, 3), np.int64)
    times[:, 2], use[:, :, 0] = -1, -1
    return State(
        issued,
        plan.engine_start[:-1].copy(),
        np.zeros((n, 4), np.int64),
        np.zeros(n, np.int64),
        writers,
        np.zeros(plan.job_memory.max() + 1, np.int64),
        np.zeros(n_engines, np.int64),
        times,
        np.zeros(n_jobs, np.int64),
        np.zeros((n_jobs, 3), np.int64),
        use,
    )


@njit(cache=True)
def operands_ready(plan, state, job):
    """The cycle from which a job may read its operands, or -1 while a job before it is not done."""
    ready = 0
    for k in range(plan.after_start[job], plan.after_start[job + 1]):
        done = state.times[plan.after[k], 2]
        if done < 0:
            return -1
        ready = max(ready, done)
    return ready


@njit(cache=True)
def compute_next(plan, state, e):
    """Runs the next iteration of engine e if its operands and its room for results are known; whether it did."""
    i = state.next_compute[e]
    if i == plan.engine_start[e + 1] or state.issued[e, READ] <= i or state.issued[e, READ_GRADIENT] <= i:
        return False
    before = state.writers[i]
    if before >= 0 and (state.issued[e, WRITE] <= before or state.issued[e, WRITE_GRADIENT] <= before):
        return False
    job, now = plan.job_of[i], state.busy_until[e]
    if i == plan.engine_start[e] or plan.job_of[i - 1] != job:
        state.times[job, 0] = now
    ready = max(now, operands_ready(plan, state, job))
    room = ready
    if before >= 0:
        room = max(ready, state.finish[before, WRITE], state.finish[before, WRITE_GRADIENT])
    begin = max(room, state.finish[i, READ], state.finish[i, READ_GRADIENT])
    state.stalls[job, 2] += ready - now
    state.stalls[job, 1] += room - ready
    state.stalls[job, 0] += begin - room
    end = begin + plan.compute[i]
    if plan.last_of_job[i]:
        end += plan.fill[job]
        state.times[job, 1] = end
    state.computed[i], state.busy_until[e] = end, end
    state.next_compute[e] += 1
    return True


@njit(cache=True)
def asked_since(plan, state, e, kind):
    """The cycle since which the next transfer of a kind could have started on a free memory, or -1: not known yet.

    A read needs its half of the buffer (the iteration two before is computed), a write its results.
    """
    i = state.issued[e, kind]
    if i == plan.engine_start[e + 1]:
        return -1
    if kind >= WRITE:
        return state.computed[i] if state.next_compute[e] > i else -1
    if state.next_compute[e] < i - 1:
        return -1
    since = operands_ready(plan, state, plan.job_of[i])
    if since >= 0 and i - 2 >= plan.engine_start[e]:
        since = max(since, state.computed[i - 2])
    return since


@njit(cache=True)
def next_transfer(plan, state):
    """(engine, kind, start) of the transfer that can start first; engine -1 if there is none."""
    engine, chosen, begin, longest = -1, -1, 0, 0
    for kind in range(4):
        for e in range(state.next_compute.shape[0]):
            since = asked_since(plan, state, e, kind)
            if since < 0:
                continue
            i, start = state.issued[e, kind], since
            if plan.transfers[i, kind] > 0:
                start = max(since, state.free[plan.job_memory[plan.job_of[i], kind & 1]])
            if engine < 0 or start < begin or (start == begin and since < longest):
                engine, chosen, begin, longest = e, kind, start, since
    return engine, chosen, begin


@njit(cache=True)
def serve(plan, state, e, kind, start):
    """Moves one iteration's bytes of one kind; the job is done when its last results are in memory."""
    i = state.issued[e, kind]
    job, duration = plan.job_of[i], plan.transfers[i, kind]
    end = start + duration
    state.finish[i, kind] = end
    state.issued[e, kind] += 1
    if duration > 0:
        state.free[plan.job_memory[job, kind & 1]] = end
        use = state.use[job, kind & 1]
        use[0] = start if use[0] < 0 else use[0]
        use[1] = end
        use[2] += duration
    if kind >= WRITE:
        state.written[job] = max(state.written[job], end)
        if plan.last_of_job[i] and state.issued[e, WRITE] > i and state.issued[e, WRITE_GRADIENT] > i:
            state.times[job, 2] = max(state.times[job, 1], state.written[job])


@njit(cache=True)
def run_schedule(plan):
    """Runs every iteration of every engine; returns State.times, stalls and use. A job not done keeps time -1."""
    state = new_state(plan)
    while True:
        progress = True
        while progress:
            progress = False
            for e in range(state.next_compute.shape[0]):
                progress |= compute_next(plan, state, e)
        e, kind, start = next_transfer(plan, state)
        if e < 0:
            return state.times, state.stalls, state.use
        serve(plan, state, e, kind, start)
