"""Event-driven schedule of engines that share memories, compiled.

Engines run their iterations in order through ping-pong buffers; a memory serves one transfer at a time, the one
that can start first. All times are integer cycles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

READ, READ_GRADIENT, WRITE, WRITE_GRADIENT = 0, 1, 2, 3


@njit(cache=True)
def dependencies_met(job, after_start, after, done):
    """The cycle from which a job may read its operands, or -1 while a job before it is not done."""
    ready = 0
    for k in range(after_start[job], after_start[job + 1]):
        if done[after[k]] < 0:
            return -1
        ready = max(ready, done[after[k]])
    return ready


@njit(cache=True)
def run_schedule(engine_start, job_of, last_of_job, compute, transfers, job_memory, fill, after_start, after):
    """Runs every iteration of every engine; returns per-job times, stalls and memory use.

    engine_start: int64 (E + 1,), iterations of engine e are engine_start[e]:engine_start[e + 1]; job_of: job of each
    iteration; last_of_job: 1 on a job's last iteration; compute: cycles; transfers: cycles (iterations, 4), kinds
    READ .. WRITE_GRADIENT; job_memory: int64 (jobs, 2), feature and gradient memory; fill: cycles per job;
    after_start / after: jobs that must be done before (CSR).
    Returns times (jobs, 3): start, end of compute and fill, done; stalls (jobs, 3): memory_read, memory_write,
    dependency; use (jobs, 2, 3): first start, last end, busy cycles on the job's feature and gradient memory.
    """
    n_engines, n = engine_start.shape[0] - 1, compute.shape[0]
    n_jobs, n_memories = fill.shape[0], 1
    for j in range(n_jobs):
        n_memories = max(n_memories, job_memory[j, 0] + 1, job_memory[j, 1] + 1)
    finish = np.zeros((n, 4), np.int64)  # end of each transfer
    computed = np.zeros(n, np.int64)
    writers = np.full((n, 2), -1, np.int64)  # the two iterations with results before this one
    for e in range(n_engines):
        one, two = -1, -1
        for i in range(engine_start[e], engine_start[e + 1]):
            writers[i, 0], writers[i, 1] = one, two
            if transfers[i, WRITE] + transfers[i, WRITE_GRADIENT] > 0:
                one, two = i, one
    issued = np.empty((n_engines, 4), np.int64)
    next_compute, free = engine_start[:-1].copy(), np.zeros(n_memories, np.int64)
    for e in range(n_engines):
        issued[e] = engine_start[e]
    times, stalls = np.zeros((n_jobs, 3), np.int64), np.zeros((n_jobs, 3), np.int64)
    use = np.zeros((n_jobs, 2, 3), np.int64)
    use[:, :, 0], times[:, 2] = -1, -1
    done, busy_until = np.full(n_jobs, -1, np.int64), np.zeros(n_engines, np.int64)
    latest_write = np.zeros(n_jobs, np.int64)
    while True:
        progress = True
        while progress:
            progress = False
            for e in range(n_engines):
                i = next_compute[e]
                if i == engine_start[e + 1] or issued[e, READ] <= i or issued[e, READ_GRADIENT] <= i:
                    continue
                writes = transfers[i, WRITE] + transfers[i, WRITE_GRADIENT] > 0
                before = writers[i, 1] if writes else -1
                if before >= 0 and (issued[e, WRITE] <= before or issued[e, WRITE_GRADIENT] <= before):
                    continue
                job, now = job_of[i], busy_until[e]
                if i == engine_start[e] or job_of[i - 1] != job:
                    times[job, 0] = now
                ready = dependencies_met(job, after_start, after, done)
                stalls[job, 2] += max(0, ready - now)
                now = max(now, ready)
                if before >= 0:
                    space = max(finish[before, WRITE], finish[before, WRITE_GRADIENT])
                    stalls[job, 1] += max(0, space - now)
                    now = max(now, space)
                arrived = max(finish[i, READ], finish[i, READ_GRADIENT])
                stalls[job, 0] += max(0, arrived - now)
                now = max(now, arrived) + compute[i]
                if last_of_job[i]:
                    now += fill[job]
                    times[job, 1] = now
                computed[i], busy_until[e] = now, now
                next_compute[e] += 1
                progress = True
        chosen_engine, chosen_kind, chosen_start, chosen_since = -1, -1, 0, 0
        for kind in range(4):
            for e in range(n_engines):
                i = issued[e, kind]
                if i == engine_start[e + 1]:
                    continue
                job = job_of[i]
                if kind >= WRITE:
                    if next_compute[e] <= i:
                        continue
                    since = computed[i]
                else:
                    since = dependencies_met(job, after_start, after, done)
                    if since < 0 or next_compute[e] < i - 1:
                        continue
                    if i - 2 >= engine_start[e]:
                        since = max(since, computed[i - 2])
                start = since
                if transfers[i, kind] > 0:
                    start = max(since, free[job_memory[job, kind & 1]])
                better = chosen_engine < 0 or start < chosen_start or (start == chosen_start and since < chosen_since)
                if better:
                    chosen_engine, chosen_kind, chosen_start, chosen_since = e, kind, start, since
        if chosen_engine < 0:
            break
        e, kind = chosen_engine, chosen_kind
        i = issued[e, kind]
        job, duration = job_of[i], transfers[i, kind]
        end = chosen_start + duration
        finish[i, kind] = end
        issued[e, kind] += 1
        if duration > 0:
            free[job_memory[job, kind & 1]] = end
            slot = use[job, kind & 1]
            if slot[0] < 0:
                slot[0] = chosen_start
            slot[1] = end
            slot[2] += duration
        if kind >= WRITE:
            latest_write[job] = max(latest_write[job], end)
            if last_of_job[i] and issued[e, WRITE] > i and issued[e, WRITE_GRADIENT] > i:
                done[job] = max(times[job, 1], latest_write[job])
                times[job, 2] = done[job]
    return times, stalls, use
