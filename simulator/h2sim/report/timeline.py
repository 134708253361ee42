"""The pipeline in Chrome trace event format: opens in Perfetto, a track per engine and per memory.

Perfetto drops a slice that overlaps another of its track in part. Here none does: a memory serves one transfer at a
time, a row's slices lie inside the row, and boundaries are rounded to ns, not durations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from h2sim.memory.books import CAUSES, KINDS, Books
from h2sim.result import Result

Unit = Literal["ns", "cycles"]
UNITS: tuple[Unit, ...] = ("ns", "cycles")
ENGINES, MEMORIES = 1, 2  # the two processes of the file
WINDOWS = 200  # of the counters 'Mem busy %'
NAMES = {
    "dependency": "wait: dependency",
    "memory_read": "stall: memory read",
    "memory_write": "stall: memory write",
    "compute": "compute",
    "fill": "fill",
}

Event = dict[str, Any]


class Clock:
    """Cycles as whole ns, or as themselves (`cycles`: 1 ns of the file is one cycle)."""

    def __init__(self, clock_hz: int, unit: Unit) -> None:
        self._clock_hz, self._unit = clock_hz, unit

    def ns(self, cycle: int) -> int:
        """The ns nearest to the start of a cycle, half up."""
        return cycle if self._unit == "cycles" else (2 * cycle * 10**9 + self._clock_hz) // (2 * self._clock_hz)

    def span(self, start: int, end: int) -> dict[str, float]:
        """`ts` and `dur` in us, thousandths exact, of the cycles start <= cycle < end."""
        first = self.ns(start)
        return {"ts": first / 1000, "dur": (self.ns(end) - first) / 1000}


def timeline_events(result: Result, books: Books, unit: Unit = "ns") -> dict[str, Any]:
    """One steady period: every compute slice, stall and transfer; exact cycles stand in each event's args.

    Flows lead from the last result that a job writes to the first slice of the jobs that read it that is no wait.
    """
    clock = Clock(result.arch.clock_hz, unit)
    events = [*_names(books), *_rows(books, clock), *_work(books, clock), *_transfers(books, clock)]
    events += [*_counters(books, clock), *_flows(books, clock)]
    other = {
        "arch": result.arch.name,
        "network": result.workload.network,
        "source": result.workload.source,
        "clock_hz": result.arch.clock_hz,
        "unit": "1 ns is 1 ns" if unit == "ns" else "1 ns is one cycle",
        **result.hashes,
    }
    return {"displayTimeUnit": "ns", "otherData": other, "traceEvents": events}


def _names(books: Books) -> Iterator[Event]:
    for pid, name, tracks in ((ENGINES, "engines", books.engines), (MEMORIES, "memories", books.memories)):
        yield {"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": name}}
        for tid, track in enumerate(tracks, start=1):
            yield {"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": track}}


def _rows(books: Books, clock: Clock) -> Iterator[Event]:
    """A slice per layer and phase, that holds the engine's slices below it."""
    for job, (start, end) in zip(books.jobs, books.spans(), strict=True):
        args = {"start_cycle": start, "end_cycle": end, "cycles": end - start}
        tid = books.engines.index(job.engine) + 1
        yield _slice(f"{job.layer} {job.phase}", ENGINES, tid, clock.span(start, end), args)


def _work(books: Books, clock: Clock) -> Iterator[Event]:
    found = books.engine_intervals()
    for track, what, start, end in zip(found.track, found.what, found.start, found.end, strict=True):
        name, first, last = NAMES[CAUSES[what]], int(start), int(end)
        args = {"start_cycle": first, "end_cycle": last, "cycles": last - first}
        yield _slice(name, ENGINES, int(track) + 1, clock.span(first, last), args)


def _transfers(books: Books, clock: Clock) -> Iterator[Event]:
    found = books.memory_intervals()
    columns = (found.track, found.job, found.what, found.start, found.end, found.n_bytes)
    for track, number, what, start, end, n_bytes in zip(*columns, strict=True):
        job, first, last = books.jobs[number], int(start), int(end)
        args = {"start_cycle": first, "end_cycle": last, "cycles": last - first, "bytes": int(n_bytes)}
        name = f"{job.layer} {job.phase}: {KINDS[what].replace('_', ' ')}"
        yield _slice(name, MEMORIES, int(track) + 1, clock.span(first, last), args)


def _counters(books: Books, clock: Clock) -> Iterator[Event]:
    """'Mem N busy %' over windows of equal length."""
    found, end = books.memory_intervals(), books.makespan_cycles
    edges = np.unique(np.linspace(0, end, min(WINDOWS, max(1, end)) + 1).astype(np.int64))
    for number, name in enumerate(books.memories):
        mine = found.track == number
        busy = _covered(found.start[mine], found.end[mine], edges)
        for first, length, cycles in zip(edges[:-1], np.diff(edges), busy, strict=True):
            at = clock.span(int(first), int(first))["ts"]
            share = round(100 * int(cycles) / int(length), 1)
            yield {"name": f"{name} busy %", "ph": "C", "pid": MEMORIES, "ts": at, "args": {"%": share}}
        yield {"name": f"{name} busy %", "ph": "C", "pid": MEMORIES, "ts": clock.span(end, end)["ts"], "args": {"%": 0}}


def _covered(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Cycles of disjoint intervals in time order that fall into each window between neighbouring edges."""
    before = np.concatenate([[0], np.cumsum(end - start)])
    number = np.searchsorted(start, edges, side="right")  # intervals that began by each edge
    late = np.maximum(0, end[np.maximum(number - 1, 0)] - edges) if len(end) else np.zeros(len(edges), np.int64)
    return np.diff(before[number] - np.where(number > 0, late, 0))


def _flows(books: Books, clock: Clock) -> Iterator[Event]:
    """Arrows from the last write of a job to what its readers do first that is no wait."""
    work, moved = books.engine_intervals(), books.memory_intervals()
    number_of = {job.key: number for number, job in enumerate(books.jobs)}
    pairs = [(number_of[key], reader) for reader, job in enumerate(books.jobs) for key in job.after if key in number_of]
    for identity, (writer, reader) in enumerate(pairs, start=1):
        wrote = np.flatnonzero((moved.job == writer) & (moved.what >= KINDS.index("write")))
        busy = np.flatnonzero((work.job == reader) & (work.what >= CAUSES.index("compute")))
        if len(wrote) and len(busy):
            left, entered = wrote[-1], busy[0]
            for phase, pid, found, index in (("s", MEMORIES, moved, left), ("f", ENGINES, work, entered)):
                at = clock.span(int(found.start[index]), int(found.end[index]))["ts"]
                bound = {"bp": "e"} if phase == "f" else {}
                track = int(found.track[index]) + 1
                told = {"name": "results", "cat": "results", "id": identity, "ph": phase, **bound}
                yield {**told, "pid": pid, "tid": track, "ts": at}


def _slice(name: str, pid: int, tid: int, span: dict[str, float], args: dict[str, Any]) -> Event:
    return {"name": name, "ph": "X", "pid": pid, "tid": tid, **span, "args": args}
