"""Event-driven schedule of engines that share memories, compiled.

An engine runs its rows in order (kernels/rows.py cuts grid iterations into rows). A memory serves one burst at a time
and never waits while it has one to serve. Streams, the four kinds of transfer of every engine, take turns: after a
burst the memory goes on with the next stream, in the order of engines and kinds, that has one. All times are integer
cycles.

Everything is an int64 table whose columns are named below, so that the compiled functions pass few plain arrays.
R rows, E engines, J jobs. A transfer kind is even for the job's feature memory and odd for its gradient memory. Tables
of rows have a line per column, so that what is read in order lies in order.
"""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit

# lines of transfers (4, R), the cycles of each burst of a row, and of finish (4, R), the cycle it ends in
READ, READ_GRADIENT, WRITE, WRITE_GRADIENT = 0, 1, 2, 3
KINDS = 4
# lines of rows (5, R): its compute cycles; the row after whose compute its operands' half of the buffer is free (-1: it
# is); the rows whose feature write and, at ROOM_AFTER + 1, gradient write must have left the output buffer before this
# one may compute (-1: none); the cycle in which its compute ends
COMPUTE, READ_AFTER, ROOM_AFTER, COMPUTED = 0, 1, 2, 4
ROW_LINES = 5
# columns of engines (E, 5): its rows are FIRST <= i < STOP; the next to compute, and its job; when it will be idle
FIRST, STOP, NEXT, NEXT_JOB, BUSY_UNTIL = 0, 1, 2, 3, 4
ENGINE_COLUMNS = 5
# columns of jobs (J, 13): feature memory and, at MEMORY + 1, gradient memory; fill cycles; the cycles of its start, of
# the end of its compute and fill (-1: not yet), of the end of its last write so far, and of when it was done (-1: not
# yet); stalls by cause; the cycle from which all its operands are in memory (-1: not known yet); the row after its
# last; writes still to come
MEMORY, FILL, START, END, WRITTEN, DONE = 0, 2, 3, 4, 5, 6
STALL_READ, STALL_WRITE, STALL_DEPENDENCY, READY, ROWS_STOP, PENDING = 7, 8, 9, 10, 11, 12
JOB_COLUMNS = 13
# A stream is engine * KINDS + kind. Columns of streams (S, 3): the row of its next burst; that row's job; its memory
ROW, JOB, ON = 0, 1, 2
STREAM_COLUMNS = 3
ANY = -1  # kind of transfer
# columns of memories (M, 5): when it is free; the stream that it served last (-1: none); the stream that it serves next
# (-1: none may be yet), and when; 1 if that has to be found again
FREE, TURN, CHOSEN, BEGIN, CHANGED = 0, 1, 2, 3, 4
MEMORY_COLUMNS = 5
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
def compute_next(e: int, engines: Ints, streams: Ints, rows: Ints, finish: Ints, jobs: Ints) -> bool:
    """Computes the next row of engine e, if its operands' arrival and its room for results are known.

    Returns whether it did. The wait before it is split into stalls: for jobs before it (dependency), then for its
    operands (read), then for room in the output buffer (write).
    """
    i, job, first = engines[e, NEXT], engines[e, NEXT_JOB], e * KINDS
    if i == engines[e, STOP] or streams[first + READ, ROW] <= i or streams[first + READ_GRADIENT, ROW] <= i:
        return False
    feature, gradient = rows[ROOM_AFTER, i], rows[ROOM_AFTER + 1, i]
    if streams[first + WRITE, ROW] <= feature or streams[first + WRITE_GRADIENT, ROW] <= gradient:
        return False
    if jobs[job, READY] < 0:
        return False
    now = engines[e, BUSY_UNTIL]
    ready = max(now, jobs[job, READY])
    arrived = max(ready, finish[READ, i], finish[READ_GRADIENT, i])
    begin = arrived
    if feature >= 0:
        begin = max(begin, finish[WRITE, feature])
    if gradient >= 0:
        begin = max(begin, finish[WRITE_GRADIENT, gradient])
    jobs[job, STALL_DEPENDENCY] += ready - now
    jobs[job, STALL_READ] += arrived - ready
    jobs[job, STALL_WRITE] += begin - arrived
    end = begin + rows[COMPUTE, i]
    engines[e, NEXT] = i + 1
    if i + 1 == jobs[job, ROWS_STOP]:
        end += jobs[job, FILL]
        jobs[job, END] = end
        if i + 1 < engines[e, STOP]:
            engines[e, NEXT_JOB] = job + 1
            jobs[job + 1, START] = end
    rows[COMPUTED, i] = engines[e, BUSY_UNTIL] = end
    return True


@njit(inline="always")
def possible_since(e: int, kind: int, engines: Ints, streams: Ints, rows: Ints, jobs: Ints) -> int:
    """The cycle from which engine e's next burst of a kind may be served, or NEVER if that is not known yet.

    A read needs its operands in memory and its half of the buffer free, a write its row computed.
    """
    i, following = streams[e * KINDS + kind, ROW], engines[e, NEXT]
    if i == engines[e, STOP]:
        return NEVER
    if kind >= WRITE:
        return int(rows[COMPUTED, i]) if i < following else NEVER
    ready, before = jobs[streams[e * KINDS + kind, JOB], READY], rows[READ_AFTER, i]
    if ready < 0 or before >= following:
        return NEVER
    return int(max(ready, rows[COMPUTED, before]) if before >= 0 else ready)


@njit(inline="always")
def go_on(e: int, kind: int, i: int, engines: Ints, streams: Ints, transfers: Ints, finish: Ints, jobs: Ints) -> None:
    """Moves a stream to its first burst from row i on that takes any time: what moves nothing waits for nothing."""
    stream, stop = e * KINDS + kind, engines[e, STOP]
    while i < stop and transfers[kind, i] == 0:
        finish[kind, i] = 0
        i += 1
    streams[stream, ROW] = i
    if i < stop:
        while i >= jobs[streams[stream, JOB], ROWS_STOP]:
            streams[stream, JOB] += 1
        streams[stream, ON] = jobs[streams[stream, JOB], MEMORY + (kind & 1)]


@njit(inline="always")
def advance(
    e: int, kind: int, engines: Ints, streams: Ints, rows: Ints, finish: Ints, jobs: Ints, since: Ints, memories: Ints
) -> bool:
    """Computes all rows of engine e that can be; returns whether a job is now done.

    Fills `since` of the engine's streams: of `kind` alone where no row is computed, since then no other can have
    changed, or of all with kind ANY.
    """
    done, job = False, engines[e, NEXT_JOB]
    while compute_next(e, engines, streams, rows, finish, jobs):
        kind = ANY
        if engines[e, NEXT] == jobs[job, ROWS_STOP]:
            done |= find_done(job, jobs)
            job = engines[e, NEXT_JOB]
    for other in range(KINDS):
        memory = streams[e * KINDS + other, ON]
        if (kind == ANY or other == kind) and since[memory, e * KINDS + other] == NEVER:
            start = possible_since(e, other, engines, streams, rows, jobs)
            if start != NEVER:
                since[memory, e * KINDS + other], memories[memory, CHANGED] = start, 1
    return done


@njit(inline="always")
def choose(memory: int, since: Ints, memories: Ints) -> None:
    """Fills CHOSEN and BEGIN of a memory: of its streams' next bursts, the one that can start first.

    Of several, the one of the stream whose turn comes first after that of the last one served.
    """
    stream, free, n_streams = memories[memory, TURN], memories[memory, FREE], since.shape[1]
    chosen, begin = -1, NEVER
    for _ in range(n_streams):
        stream = stream + 1 if stream + 1 < n_streams else 0
        if since[memory, stream] < begin:
            chosen, begin = stream, since[memory, stream]
            if begin <= free:
                begin = free
                break
    memories[memory, CHOSEN], memories[memory, BEGIN], memories[memory, CHANGED] = chosen, begin, 0


@njit(inline="always")
def next_memory(since: Ints, memories: Ints) -> int:
    """The memory that serves the next burst of all; -1 if there is none.

    Of several that do in the same cycle, the one whose stream has waited for the fewest turns, and then the first
    stream.
    """
    found, begin, nearest, n_streams = -1, NEVER, 0, since.shape[1]
    for memory in range(memories.shape[0]):
        if memories[memory, CHANGED]:
            choose(memory, since, memories)
        stream, start = memories[memory, CHOSEN], memories[memory, BEGIN]
        if stream < 0 or start > begin:
            continue
        distance = stream - memories[memory, TURN] - 1
        if distance < 0:
            distance += n_streams
        if start < begin or distance < nearest or (distance == nearest and stream < memories[found, CHOSEN]):
            found, begin, nearest = memory, start, distance
    return found


@njit(makes_arrays=False)
def serve_all(
    engines: Ints,
    streams: Ints,
    memories: Ints,
    since: Ints,
    rows: Ints,
    transfers: Ints,
    jobs: Ints,
    after_start: Ints,
    after: Ints,
    finish: Ints,
    use: Ints,
) -> None:
    """Serves burst after burst, and computes what each lets an engine compute, until there is none."""
    n_engines = engines.shape[0]
    for e in range(n_engines):
        for kind in range(KINDS):
            streams[e * KINDS + kind, JOB] = engines[e, NEXT_JOB]
            go_on(e, kind, engines[e, FIRST], engines, streams, transfers, finish, jobs)
    find_ready(jobs, after_start, after)
    first, stop, kind, done = 0, n_engines, ANY, False
    while True:
        for e in range(first, stop):
            done |= advance(e, kind, engines, streams, rows, finish, jobs, since, memories)
        if done:
            find_ready(jobs, after_start, after)
            first, stop, kind, done = 0, n_engines, ANY, False
            continue
        memory = next_memory(since, memories)
        if memory < 0:
            return
        stream, start = memories[memory, CHOSEN], memories[memory, BEGIN]
        e, kind, i, job = stream // KINDS, stream % KINDS, streams[stream, ROW], streams[stream, JOB]
        end = start + transfers[kind, i]
        finish[kind, i] = end
        memories[memory, FREE], memories[memory, TURN], memories[memory, CHANGED] = end, stream, 1
        since[memory, stream] = NEVER
        go_on(e, kind, i + 1, engines, streams, transfers, finish, jobs)
        if use[job, kind & 1, 0] < 0:
            use[job, kind & 1, 0] = start
        use[job, kind & 1, 1] = end
        use[job, kind & 1, 2] += end - start
        if kind >= WRITE:
            jobs[job, WRITTEN] = max(jobs[job, WRITTEN], end)
            jobs[job, PENDING] -= 1
            done = find_done(job, jobs)
        first, stop = e, e + 1


@njit()
def run_schedule(
    engines: Ints, rows: Ints, transfers: Ints, jobs: Ints, after_start: Ints, after: Ints, finish: Ints
) -> Ints:
    """Runs every row of every engine. Fills engines, COMPUTED of rows, jobs and finish; returns use, int64 (J, 2, 3).

    Job j waits for the jobs after[after_start[j] : after_start[j + 1]]; after_start is (J + 1,). Jobs that wait for
    each other are never done: their DONE stays -1.
    """
    use = np.zeros((jobs.shape[0], 2, 3), np.int64)
    use[:, :, 0] = -1
    memories = np.zeros((jobs[:, MEMORY : MEMORY + 2].max() + 1, MEMORY_COLUMNS), np.int64)
    memories[:, TURN], memories[:, CHANGED] = -1, 1
    streams = np.zeros((engines.shape[0] * KINDS, STREAM_COLUMNS), np.int64)
    since = np.full((memories.shape[0], streams.shape[0]), NEVER)
    serve_all(engines, streams, memories, since, rows, transfers, jobs, after_start, after, finish, use)
    return use
