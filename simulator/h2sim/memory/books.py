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
    rows: Ints
    moved: Ints
    transfers: Ints
    engine_rows: Ints
    job_rows: Ints
    finish: Ints
    after_start: Ints
    after: Ints

    def __repr__(self) -> str:
        return f"Books({len(self.jobs)} jobs, {self.rows.shape[1]} rows, {self.makespan_cycles} cycles)"

    @property
    def makespan_cycles(self) -> int:
        """The cycle in which the last result is in memory."""
        return int(self.job_rows[:, kernel.DONE].max())

    @property
    def engine_of(self) -> Ints:
        """int64 (R,): the engine of each row."""
        sizes = self.engine_rows[:, kernel.STOP] - self.engine_rows[:, kernel.FIRST]
        return np.repeat(np.arange(len(self.engines)), sizes)

    @property
    def job_of(self) -> Ints:
        """int64 (R,): the job of each row."""
        return np.repeat(np.arange(len(self.jobs)), np.diff(self.job_rows[:, kernel.ROWS_STOP], prepend=0))

    def spans(self) -> list[tuple[int, int]]:
        """(first cycle, end) of each job on its engine, fill and waiting included."""
        return [(int(row[kernel.START]), int(row[kernel.END])) for row in self.job_rows]

    def engine_intervals(self) -> Intervals:
        """Everything that the engines did and waited for.

        For each job, the lengths by cause are its row's compute, fill and stall cycles.
        """
        rows, finish, job = self.rows, self.finish, self.job_of
        n_rows, n_causes = len(job), len(CAUSES)
        now = np.concatenate([[0], rows[kernel.COMPUTED, :-1]])
        now[self.engine_rows[self.engine_rows[:, kernel.FIRST] < n_rows, kernel.FIRST]] = 0
        ready = np.maximum(now, self.job_rows[job, kernel.READY])
        arrived = np.maximum(ready, np.maximum(finish[kernel.READ], finish[kernel.READ_GRADIENT]))
        begin = arrived
        for number, kind in enumerate((kernel.WRITE, kernel.WRITE_GRADIENT)):
            room = rows[kernel.ROOM_AFTER + number]
            begin = np.where(room >= 0, np.maximum(begin, finish[kind, room]), begin)
        end = begin + rows[kernel.COMPUTE]
        edges = np.stack([now, ready, arrived, begin, end, rows[kernel.COMPUTED]], axis=1)
        return _merged(
            np.repeat(self.engine_of, n_causes),
            np.repeat(job, n_causes),
            np.tile(np.arange(n_causes), n_rows),
            edges[:, :-1].ravel(),
            edges[:, 1:].ravel(),
            np.zeros(n_causes * n_rows, np.int64),
        )

    def memory_intervals(self) -> Intervals:
        """Every transfer; a memory serves one at a time, so that those of one memory never overlap."""
        kind, row, memory = self._served()
        end = self.finish[kind, row]
        start = end - self.transfers[kind, row]
        return _merged(memory, self.job_of[row], kind, start, end, self.moved[kind, row])

    def critical_path(self) -> Ints:
        """int64 (K, 5): see kernels/path.py. The lengths add up to makespan_cycles exactly; ties go to the engine."""
        jobs = self.job_rows
        final = int(np.argmax(jobs[:, kernel.DONE]))
        last_write = self._last_writes()
        at = (int(jobs[final, kernel.ROWS_STOP]) - 1, walker.COMPUTED_EVENT)
        if jobs[final, kernel.END] < jobs[final, kernel.DONE]:
            at = (int(last_write[final, 0]), int(last_write[final, 1]))
        return walker.walk(
            *at,
            self.engine_of,
            self.job_of,
            np.ascontiguousarray(self.engine_rows[:, kernel.FIRST]),
            self.rows,
            self.transfers,
            self.finish,
            self._previous(),
            jobs,
            self.after_start,
            self.after,
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

    def _last_writes(self) -> Ints:
        """int64 (J, 2): the transfer (row, kind) that ended each job's writes."""
        job = self.job_of
        last_write = np.zeros((len(self.jobs), 2), np.int64)
        for kind in (kernel.WRITE, kernel.WRITE_GRADIENT):
            wrote = np.flatnonzero(self.finish[kind] == self.job_rows[job, kernel.WRITTEN])
            last_write[job[wrote], 0], last_write[job[wrote], 1] = wrote, kind
        return last_write

    def _served(self) -> tuple[Ints, Ints, Ints]:
        """The kind, row and memory of all K transfers, int64 (K,) each, memory after memory, in the order of time."""
        kind, row = np.nonzero(self.transfers)
        memory = self.job_rows[self.job_of[row], kernel.MEMORY + (kind & 1)]
        order = np.lexsort((self.finish[kind, row], memory))
        return kind[order], row[order], memory[order]

    def _previous(self) -> Ints:
        """int64 (4, R): the transfer before each on its memory, as row * 4 + kind; -1: none."""
        kind, row, memory = self._served()
        previous = np.full(self.transfers.shape, -1)
        before = row[:-1] * len(KINDS) + kind[:-1]
        previous[kind[1:], row[1:]] = np.where(memory[1:] == memory[:-1], before, -1)
        return previous


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
