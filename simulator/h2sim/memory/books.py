"""What a schedule did, cycle by cycle: every compute slice, stall and transfer, and the critical path through them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.activity import Bound, JobKey
from h2sim.arrays import Ints
from h2sim.kernels import path as walker
from h2sim.kernels import schedule as kernel
from h2sim.memory.job import Job

CAUSES = ("dependency", "memory_read", "memory_write", "compute", "fill")  # of an engine's intervals, in this order
KINDS = ("read", "read_gradient", "write", "write_gradient")  # of a memory's intervals
_WHAT = {walker.WORKED: "compute", walker.FILLED: "fill", walker.READS: "read", walker.WRITES: "write"}


@dataclass(frozen=True, eq=False)
class Intervals:
    """K intervals in time order on each track; all arrays are int64 (K,).

    track: the engine or the memory; job: index of Books.jobs; what: index of CAUSES (engines) or of KINDS (memories);
    the interval is start <= cycle < end; n_bytes: moved in it (0 on engines). Neighbours of the same job and kind are
    one interval.
    """

    track: Ints
    job: Ints
    what: Ints
    start: Ints
    end: Ints
    n_bytes: Ints


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Books:
    """The kernel's tables after a run (their columns: kernels/schedule.py), and whose they are.

    engines and memories name the tracks; jobs stand in the order of the tables.
    """

    engines: tuple[str, ...]
    memories: tuple[str, ...]
    jobs: tuple[Job, ...]
    iterations: Ints
    moved: Ints
    transfers: Ints
    engine_rows: Ints
    job_rows: Ints
    finish: Ints
    after_start: Ints
    after: Ints

    def __repr__(self) -> str:
        return f"Books({len(self.jobs)} jobs, {len(self.iterations)} iterations, {self.makespan_cycles} cycles)"

    @property
    def makespan_cycles(self) -> int:
        """The cycle in which the last result is in memory."""
        return int(self.job_rows[:, kernel.DONE].max())

    @property
    def engine_of(self) -> Ints:
        """int64 (I,): the engine of each iteration."""
        sizes = self.engine_rows[:, kernel.STOP] - self.engine_rows[:, kernel.FIRST]
        return np.repeat(np.arange(len(self.engines)), sizes)

    def spans(self) -> list[tuple[int, int]]:
        """(first cycle, end) of each job on its engine, fill and waiting included."""
        return [(int(row[kernel.START]), int(row[kernel.END])) for row in self.job_rows]

    def engine_intervals(self) -> Intervals:
        """Everything that the engines did and waited for.

        For each job, the lengths by cause are its row's compute, fill and stall cycles.
        """
        it, fin, jobs = self.iterations, self.finish, self.job_rows
        job = it[:, kernel.JOB]
        now = np.concatenate([[0], it[:-1, kernel.COMPUTED]])
        now[self.engine_rows[self.engine_rows[:, kernel.FIRST] < len(it), kernel.FIRST]] = 0
        ready = np.maximum(now, jobs[job, kernel.READY])
        arrived = np.maximum(ready, np.maximum(fin[:, kernel.READ], fin[:, kernel.READ_GRADIENT]))
        begin = arrived
        for number, kind in enumerate((kernel.WRITE, kernel.WRITE_GRADIENT)):
            room = it[:, kernel.ROOM_AFTER + number]
            begin = np.where(room >= 0, np.maximum(begin, fin[room, kind]), begin)
        end = begin + it[:, kernel.COMPUTE]
        edges = np.stack([now, ready, arrived, begin, end, it[:, kernel.COMPUTED]], axis=1)
        n_causes = len(CAUSES)
        return _merged(
            np.repeat(self.engine_of, n_causes),
            np.repeat(job, n_causes),
            np.tile(np.arange(n_causes), len(it)),
            edges[:, :-1].ravel(),
            edges[:, 1:].ravel(),
            np.zeros(n_causes * len(it), np.int64),
        )

    def memory_intervals(self) -> Intervals:
        """Every transfer; a memory serves one at a time, so that those of one memory never overlap."""
        job = np.repeat(self.iterations[:, kernel.JOB], 4)
        kind = np.tile(np.arange(4), len(self.iterations))
        end, cycles = self.finish.ravel(), self.transfers.ravel()
        memory = self.job_rows[job, kernel.MEMORY + (kind & 1)]
        order = np.lexsort((end, memory))
        order = order[cycles[order] > 0]
        start = (end - cycles)[order]
        return _merged(memory[order], job[order], kind[order], start, end[order], self.moved.ravel()[order])

    def critical_path(self) -> Ints:
        """int64 (K, 5): see kernels/path.py. The lengths add up to makespan_cycles exactly; ties go to the engine."""
        jobs, it = self.job_rows, self.iterations
        final = int(np.argmax(jobs[:, kernel.DONE]))
        last, last_write = self._last_of_jobs()
        at = (int(last[final]), walker.COMPUTED_EVENT)
        if jobs[final, kernel.END] < jobs[final, kernel.DONE]:
            at = (int(last_write[final, 0]), int(last_write[final, 1]))
        return walker.walk(
            *at,
            self.engine_of,
            np.ascontiguousarray(self.engine_rows[:, kernel.FIRST]),
            it,
            self.transfers,
            self.finish,
            self._previous(),
            jobs,
            self.after_start,
            self.after,
            last,
            last_write,
        )

    def bounds(self) -> tuple[Bound, ...]:
        """The critical path summed by resource and cause, the largest first; the cycles add up to makespan_cycles."""
        path = self.critical_path()
        length = path[:, walker.PATH_END] - path[:, walker.PATH_START]
        found: dict[tuple[int, int], int] = {}
        for key in {(int(r), int(w)) for r, w in path[:, [walker.RESOURCE, walker.WHAT]]}:
            mine = (path[:, walker.RESOURCE] == key[0]) & (path[:, walker.WHAT] == key[1])
            found[key] = int(length[mine].sum())
        parts = [Bound(self._resource(r), _WHAT[w], cycles) for (r, w), cycles in found.items()]
        return tuple(sorted(parts, key=lambda part: (-part.cycles, part.resource, part.cause)))

    def critical_cycles(self) -> dict[JobKey, int]:
        """Cycles of the critical path that each job's computes and transfers hold; they add up to makespan_cycles."""
        path = self.critical_path()
        length = path[:, walker.PATH_END] - path[:, walker.PATH_START]
        sums = np.bincount(path[:, walker.PATH_JOB], weights=length, minlength=len(self.jobs))
        return {job.key: int(cycles) for job, cycles in zip(self.jobs, sums, strict=True)}

    def _resource(self, code: int) -> str:
        return self.engines[code] if code >= 0 else self.memories[-1 - code]

    def _last_of_jobs(self) -> tuple[Ints, Ints]:
        """The last iteration of each job (J,), and the transfer (iteration, kind) that ended its writes (J, 2)."""
        job = self.iterations[:, kernel.JOB]
        last = np.zeros(len(self.jobs), np.int64)
        last[job] = np.arange(len(job))  # the last assignment stays
        last_write = np.zeros((len(self.jobs), 2), np.int64)
        for kind in (kernel.WRITE, kernel.WRITE_GRADIENT):
            wrote = np.flatnonzero(self.finish[:, kind] == self.job_rows[job, kernel.WRITTEN])
            last_write[job[wrote], 0], last_write[job[wrote], 1] = wrote, kind
        return last, last_write

    def _previous(self) -> Ints:
        """int64 (I, 4): the transfer before each on its memory, as iteration * 4 + kind; -1: none."""
        kind = np.tile(np.arange(4), len(self.iterations))
        memory = self.job_rows[np.repeat(self.iterations[:, kernel.JOB], 4), kernel.MEMORY + (kind & 1)]
        order = np.lexsort((self.finish.ravel(), memory))
        order = order[self.transfers.ravel()[order] > 0]
        same = memory[order][1:] == memory[order][:-1]
        previous = np.full(self.transfers.size, -1, np.int64)
        previous[order[1:]] = np.where(same, order[:-1], -1)
        return previous.reshape(self.transfers.shape)


def _merged(track: Ints, job: Ints, what: Ints, start: Ints, end: Ints, n_bytes: Ints) -> Intervals:
    """Intervals of some length; those that touch and are of one track, job and kind are one."""
    some = end > start
    track, job, what, start, end, n_bytes = (a[some] for a in (track, job, what, start, end, n_bytes))
    if not len(track):
        return Intervals(track, job, what, start, end, n_bytes)
    joins = (track[1:] == track[:-1]) & (job[1:] == job[:-1]) & (what[1:] == what[:-1]) & (start[1:] == end[:-1])
    first = np.concatenate([[0], np.flatnonzero(~joins) + 1])
    last = np.concatenate([first[1:] - 1, [len(track) - 1]])
    sums = np.add.reduceat(n_bytes, first)
    return Intervals(track[first], job[first], what[first], start[first], end[last], sums)
