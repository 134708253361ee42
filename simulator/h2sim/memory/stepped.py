"""The schedule of `memory/schedule.py`, cycle by cycle, in plain Python; for small jobs.

It shares no code with the fast form but the rounding of transfers to whole cycles. In every cycle, in this order, each
engine that is free begins a row if it may, and waits for a stated cause if not; each memory that is free serves the
next stream whose turn it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from h2sim.activity import JobKey, Stalls
from h2sim.memory.bursts import MOST_BURSTS
from h2sim.memory.job import Job
from h2sim.memory.schedule import GRADIENT_MEMORY, MEMORIES, SIDE_MEMORY, Machine, Slot, transfer_cycles

KINDS = ("read", "read_gradient", "write", "write_gradient")
MOST_CYCLES = 1_000_000


@dataclass(eq=False)
class Row:
    """One burst of each transfer and its share of compute.

    reads_after: all these rows must be computed before this one is read. room_after: the results of these must have
    left before this one is computed. computed: the cycle in which it was, or None; ends: the cycle in which each of its
    bursts ended.
    """

    job: Job
    compute: int
    cycles: dict[str, int]
    last: bool = False
    completes: int = 0
    written: int = 0
    part: int = 0
    fill: int = 0
    reads_after: list[Row] = field(default_factory=list)
    room_after: list[Row] = field(default_factory=list)
    computed: int | None = None
    ends: dict[str, int] = field(default_factory=dict)

    def moved(self, kind: str, now: int) -> bool:
        """Whether its burst of a kind is over; what moves nothing waits for nothing."""
        return self.cycles[kind] == 0 or self.ends.get(kind, now + 1) <= now


@dataclass(eq=False)
class _Engine:
    name: str
    rows: list[Row]
    next: int = 0
    busy_until: int = 0
    issued: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


def run(machine: Machine, jobs: list[Job], ideal_memory: bool = False) -> dict[JobKey, Slot]:
    """When each job ran; the same as schedule(machine, jobs, ideal_memory).slots. Raises RuntimeError if none can."""
    return _Run(machine, jobs, ideal_memory).slots()


class _Run:
    def __init__(self, machine: Machine, jobs: list[Job], ideal_memory: bool) -> None:
        self.jobs = {job.key: job for job in jobs}
        self.engines = []
        for name in machine.engine_names:
            rows = [row for job in jobs if job.engine == name for row in _rows(machine, job, ideal_memory)]
            _link(rows)
            self.engines.append(_Engine(name, rows))
        self.free: dict[str, int] = dict.fromkeys(MEMORIES, 0)
        self.turn: dict[str, int] = dict.fromkeys(MEMORIES, -1)
        self.start: dict[JobKey, int] = {}
        self.end: dict[JobKey, int] = {}
        self.done: dict[JobKey, int] = {}
        self.stalls = {key: {"dependency": 0, "memory_read": 0, "memory_write": 0} for key in self.jobs}

    def slots(self) -> dict[JobKey, Slot]:
        now = 0
        while len(self.done) < len(self.jobs):
            if now > MOST_CYCLES:
                raise RuntimeError(f"{sorted(self.jobs.keys() - self.done.keys())} wait for each other")
            while any([self._settle(engine, now) for engine in self.engines]):
                pass
            for engine in self.engines:
                self._wait(engine, now)
            for memory in MEMORIES:
                self._serve(memory, now)
            now += 1
        return {key: Slot(self.start[key], self.end[key], self.done[key], self._stalls(key)) for key in self.jobs}

    def _stalls(self, key: JobKey) -> Stalls:
        of = self.stalls[key]
        return Stalls(of["memory_read"], of["memory_write"], of["dependency"])

    def _ready(self, job: Job, now: int) -> bool:
        return all(self.done.get(key, now + 1) <= now for key in job.after if key in self.jobs)

    def _missing(self, row: Row, now: int) -> str | None:
        """Why a row cannot be computed now."""
        if not self._ready(row.job, now):
            return "dependency"
        if not all(row.moved(kind, now) for kind in KINDS[:2]):
            return "memory_read"
        left = all(other.moved(kind, now) for other in row.room_after for kind in KINDS[2:])
        return None if left else "memory_write"

    def _settle(self, engine: _Engine, now: int) -> bool:
        """Begins a row, if the engine may; whether it did."""
        if engine.next == len(engine.rows) or engine.busy_until > now:
            return False
        row = engine.rows[engine.next]
        key = row.job.key
        self.start.setdefault(key, engine.busy_until)
        if self._missing(row, now):
            return False
        row.computed = engine.busy_until = now + row.compute + (row.job.fill_cycles if row.last else 0)
        if row.last:
            self.end[key] = row.computed
            self._finish(engine, key)
        engine.next += 1
        return True

    def _wait(self, engine: _Engine, now: int) -> None:
        if engine.next == len(engine.rows) or engine.busy_until > now:
            return
        row = engine.rows[engine.next]
        cause = self._missing(row, now)
        assert cause is not None
        self.stalls[row.job.key][cause] += 1

    def _next_burst(self, engine: _Engine, kind: str, now: int) -> Row | None:
        """The row whose burst of this kind is next, if it may be served now."""
        while engine.issued[kind] < len(engine.rows) and engine.rows[engine.issued[kind]].cycles[kind] == 0:
            engine.issued[kind] += 1
        if engine.issued[kind] == len(engine.rows):
            return None
        row = engine.rows[engine.issued[kind]]
        if kind in KINDS[2:]:
            return row if row.computed is not None and row.computed <= now else None
        free = all(other.computed is not None and other.computed <= now for other in row.reads_after)
        return row if free and self._ready(row.job, now) else None

    def _issue(self, engine: _Engine, kind: str, end: int) -> None:
        row = engine.rows[engine.issued[kind]]
        row.ends[kind] = end
        engine.issued[kind] += 1
        if kind in KINDS[2:]:
            self._finish(engine, row.job.key)

    def _finish(self, engine: _Engine, key: JobKey) -> None:
        """Notes when a job is done, if it has been computed and all its writes have been served."""
        mine = [row for row in engine.rows if row.job.key == key]
        writes = [row.ends.get(kind) for row in mine for kind in KINDS[2:] if row.cycles[kind]]
        ends = [end for end in writes if end is not None]
        if key in self.end and len(ends) == len(writes):
            self.done[key] = max(self.end[key], *ends, 0)

    def _serve(self, memory: str, now: int) -> None:
        if self.free[memory] > now:
            return
        streams = [(engine, kind) for engine in self.engines for kind in KINDS]
        for step in range(1, len(streams) + 1):
            number = (self.turn[memory] + step) % len(streams)
            engine, kind = streams[number]
            row = self._next_burst(engine, kind, now)
            if row is None or _memory(row.job, kind) != memory:
                continue
            self.free[memory], self.turn[memory] = now + row.cycles[kind], number
            self._issue(engine, kind, self.free[memory])
            return


def _memory(job: Job, kind: str) -> str:
    return MEMORIES[GRADIENT_MEMORY if kind.endswith("gradient") else SIDE_MEMORY[job.side]]


def _rows(machine: Machine, job: Job, ideal_memory: bool) -> list[Row]:
    """The rows of a job; parts and fills are numbered in the job."""
    t = job.traffic
    rows: list[Row] = []
    part, fill = 0, 0
    moved = np.stack([kind.ravel() for kind in (t.reads, t.gradient_reads, t.writes, t.gradient_writes)], axis=1)
    for index in range(job.cycles.size):
        n_bytes = moved[index].tolist()
        cycles = transfer_cycles(machine, moved[index], ideal_memory).tolist()
        pieces = int(t.pieces.ravel()[index])
        n_rows = min(MOST_BURSTS, max(1, math.ceil(max(n_bytes) / machine.memory.burst_bytes)))
        while n_rows < pieces:
            n_rows *= 2
        n_parts = 1
        while math.ceil(n_rows / n_parts) > n_rows // pieces:
            n_parts *= 2
        edges = [n_rows * number // n_parts for number in range(n_parts + 1)]
        for number in range(n_rows):
            new_part = number in edges
            part += new_part
            fill += number == 0 or (new_part and bool(t.result_pieces.ravel()[index] > 1))
            rows.append(
                Row(
                    job,
                    _share(int(job.cycles.ravel()[index]), number, n_rows),
                    {kind: _share(c, number, n_rows) for kind, c in zip(KINDS, cycles, strict=True)},
                    completes=_share(int(t.results.ravel()[index]), number, n_rows),
                    written=_share(n_bytes[2] + n_bytes[3], number, n_rows),
                    part=part,
                    fill=fill,
                )
            )
    rows[-1].last = True
    return rows


def _share(total: int, number: int, of: int) -> int:
    return total * (number + 1) // of - total * number // of


def _link(rows: list[Row]) -> None:
    """Fills reads_after and room_after of one engine's rows."""
    parts: list[list[Row]] = []
    fills: list[list[Row]] = []
    for row in rows:
        if not parts or (parts[-1][0].job, parts[-1][0].part) != (row.job, row.part):
            parts.append([])
        parts[-1].append(row)
        if not fills or (fills[-1][0].job, fills[-1][0].fill) != (row.job, row.fill):
            fills.append([])
        fills[-1].append(row)
    for before, of in zip(parts, parts[2:], strict=False):
        for row in of:
            row.reads_after = before
    some = [fill for fill in fills if any(row.completes for row in fill)]
    for before, of in zip(some, some[2:], strict=False):
        gone = _written_through(rows, before)
        for row in of:
            if row.completes:
                row.room_after = gone


def _written_through(rows: list[Row], fill: list[Row]) -> list[Row]:
    """The rows that write the results completed up to the end of a fill: as many bytes, first in, first out."""
    left = sum(row.completes for row in rows[: rows.index(fill[-1]) + 1])
    through = []
    for row in rows:
        if left <= 0:
            break
        through.append(row)
        left -= row.written
    return through
