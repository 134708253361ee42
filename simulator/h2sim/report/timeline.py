"""The pipeline as a timeline: a track per engine and per memory, counters and flows, apart from any file format.

`timeline_chrome` writes it as Chrome trace event JSON, `timeline_perfetto` as a Perfetto trace. Both open in Perfetto,
which drops a slice that overlaps another of its track in part. Here none does: a memory serves one transfer at a time,
a row's slices lie inside the row, and boundaries are rounded to ns, not durations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from h2sim.memory.books import CAUSES, KINDS, Books
from h2sim.result import Result

Unit = Literal["ns", "cycles"]
UNITS: tuple[Unit, ...] = ("ns", "cycles")
ENGINES, MEMORIES = 1, 2  # the two processes of a file
PROCESSES = {ENGINES: "engines", MEMORIES: "memories"}
WINDOWS = 200  # of the counters
NAMES = {
    "dependency": "wait: dependency",
    "memory_read": "stall: memory read",
    "memory_write": "stall: memory write",
    "compute": "compute",
    "fill": "fill",
}


class Clock:
    """Cycles as whole ns, or as themselves (`cycles`: 1 ns of the file is one cycle)."""

    def __init__(self, clock_hz: int, unit: Unit) -> None:
        self._clock_hz, self._unit = clock_hz, unit

    def ns(self, cycle: int) -> int:
        """The ns nearest to the start of a cycle, half up."""
        return cycle if self._unit == "cycles" else (2 * cycle * 10**9 + self._clock_hz) // (2 * self._clock_hz)


@dataclass(frozen=True)
class Track:
    """An engine or a memory: a thread of one of the two processes, counted from 1 in each."""

    pid: int
    tid: int
    name: str


@dataclass(frozen=True, slots=True)
class Slice:
    """What happened on a track in the cycles start <= cycle < end; n_bytes: moved in it, None on engines."""

    track: Track
    name: str
    start: int
    end: int
    n_bytes: int | None = None

    @property
    def args(self) -> dict[str, int]:
        """The exact numbers behind what is drawn."""
        told = {"start_cycle": self.start, "end_cycle": self.end, "cycles": self.end - self.start}
        return told if self.n_bytes is None else {**told, "bytes": self.n_bytes}


@dataclass(frozen=True)
class Counter:
    """A number that holds from each cycle of `points` to the next; Perfetto shows it as its name and its unit."""

    pid: int
    name: str
    unit: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Flow:
    """An arrow from one slice to a later one."""

    left: Slice
    entered: Slice


@dataclass(frozen=True, eq=False)
class Timeline:
    """One steady period: every compute slice, stall and transfer, in cycles that `clock` makes ns of.

    Slices of one track lie inside each other or apart. told: what the timeline was made of, by name.
    """

    clock: Clock
    tracks: tuple[Track, ...]
    slices: tuple[Slice, ...]
    counters: tuple[Counter, ...]
    flows: tuple[Flow, ...]
    told: dict[str, str | int]


def result_timeline(result: Result, unit: Unit = "ns") -> Timeline:
    """The timeline of a result that keeps its books, with the machine, the trace and the hashes of both."""
    if result.books is None:
        raise ValueError("expected a result that keeps its books")
    clock_hz = result.arch.clock_hz
    told = {
        "arch": result.arch.name,
        "network": result.workload.network,
        "source": result.workload.source,
        "clock_hz": clock_hz,
        "unit": "1 ns is 1 ns" if unit == "ns" else "1 ns is one cycle",
        **result.hashes,
    }
    return make_timeline(result.books, Clock(clock_hz, unit), told)


def make_timeline(books: Books, clock: Clock, told: dict[str, str | int]) -> Timeline:
    """Rows (layer and phase), the engines' slices inside them, transfers, how busy each memory was, and flows.

    Flows lead from the last result that a job writes to the first slice of the jobs that read it that is no wait.
    """
    engines = tuple(Track(ENGINES, tid, name) for tid, name in enumerate(books.engines, start=1))
    memories = tuple(Track(MEMORIES, tid, name) for tid, name in enumerate(books.memories, start=1))
    work, moved = _work(books, engines), _transfers(books, memories)
    slices = (*_rows(books, engines), *work, *moved)
    flows = tuple(_flows(books, work, moved))
    return Timeline(clock, (*engines, *memories), slices, tuple(_counters(books)), flows, told)


def _rows(books: Books, tracks: tuple[Track, ...]) -> list[Slice]:
    """A slice per layer and phase, that holds the engine's slices below it."""
    return [
        Slice(tracks[books.engines.index(job.engine)], f"{job.layer} {job.phase}", start, end)
        for job, (start, end) in zip(books.jobs, books.spans(), strict=True)
    ]


def _work(books: Books, tracks: tuple[Track, ...]) -> list[Slice]:
    found = books.engine_intervals()
    columns = (found.track.tolist(), found.what.tolist(), found.start.tolist(), found.end.tolist())
    return [
        Slice(tracks[track], NAMES[CAUSES[what]], start, end) for track, what, start, end in zip(*columns, strict=True)
    ]


def _transfers(books: Books, tracks: tuple[Track, ...]) -> list[Slice]:
    found = books.memory_intervals()
    columns = (found.track, found.job, found.what, found.start, found.end, found.n_bytes)
    slices = []
    for track, number, what, start, end, n_bytes in zip(*(column.tolist() for column in columns), strict=True):
        job = books.jobs[number]
        name = f"{job.layer} {job.phase}: {KINDS[what].replace('_', ' ')}"
        slices.append(Slice(tracks[track], name, start, end, n_bytes))
    return slices


def _counters(books: Books) -> Iterator[Counter]:
    """How busy each memory was, in windows of equal length."""
    found, end = books.memory_intervals(), books.makespan_cycles
    edges = np.unique(np.linspace(0, end, min(WINDOWS, max(1, end)) + 1).astype(np.int64))
    for number, name in enumerate(books.memories):
        mine = found.track == number
        busy = _covered(found.start[mine], found.end[mine], edges)
        lengths = np.diff(edges).tolist()
        shares = [round(100 * cycles / length, 1) for cycles, length in zip(busy.tolist(), lengths, strict=True)]
        yield Counter(MEMORIES, f"{name} busy", "%", tuple(zip(edges.tolist(), [*shares, 0.0], strict=True)))


def _covered(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Cycles of disjoint intervals in time order that fall into each window between neighbouring edges."""
    before = np.concatenate([[0], np.cumsum(end - start)])
    number = np.searchsorted(start, edges, side="right")  # intervals that began by each edge
    late = np.maximum(0, end[np.maximum(number - 1, 0)] - edges) if len(end) else np.zeros(len(edges), np.int64)
    return np.diff(before[number] - np.where(number > 0, late, 0))


def _flows(books: Books, work: list[Slice], transfers: list[Slice]) -> Iterator[Flow]:
    """Arrows from the last write of a job to what its readers do first that is no wait; the slices are of the books."""
    worked, moved = books.engine_intervals(), books.memory_intervals()
    number_of = {job.key: number for number, job in enumerate(books.jobs)}
    pairs = [(number_of[key], reader) for reader, job in enumerate(books.jobs) for key in job.after if key in number_of]
    for writer, reader in pairs:
        wrote = np.flatnonzero((moved.job == writer) & (moved.what >= KINDS.index("write")))
        busy = np.flatnonzero((worked.job == reader) & (worked.what >= CAUSES.index("compute")))
        if len(wrote) and len(busy):
            yield Flow(transfers[wrote[-1]], work[busy[0]])
