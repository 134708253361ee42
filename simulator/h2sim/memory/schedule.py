"""Runs jobs on a machine's engines and three memories, and reads off starts, ends and stalls (section 3.2.4).

Mem 0 and Mem 1 hold feature maps, one for each of the two sub-batches in flight; Mem 2 holds weight gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from h2sim.activity import JobKey, MemorySlice, Stalls
from h2sim.arch.schema import Memory
from h2sim.arrays import Ints
from h2sim.errors import ArchError, at
from h2sim.kernels import schedule as kernel
from h2sim.memory.books import Books
from h2sim.memory.bursts import Grid, bytes_moved, cut
from h2sim.memory.job import Job

MEMORIES = ("Mem 0", "Mem 1", "Mem 2")
GRADIENT_MEMORY = 2
MOST_PIECES = 2_000_000  # of one layer
SIDE_MEMORY = {"forward": 0, "backward": 1}  # the roles swap with every sub-batch


class Machine(Protocol):
    """What a schedule asks of a machine. An Arch is one, and so is any rival that brings its own jobs.

    engine_names: in the order in which ties between the engines' transfers are settled.
    """

    @property
    def name(self) -> str: ...
    @property
    def clock_hz(self) -> int: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def engine_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Slot:
    """When one job ran: end_cycle - start_cycle = compute + fill + stalls; at done_cycle its results are in memory."""

    start_cycle: int
    end_cycle: int
    done_cycle: int
    stalls: Stalls


@dataclass(frozen=True)
class Schedule:
    """When all jobs ran, how they used the memories, and the cycle in which the last result is written."""

    slots: dict[JobKey, Slot]
    memory: tuple[MemorySlice, ...]
    makespan_cycles: int
    books: Books | None = None

    def __repr__(self) -> str:
        return f"Schedule({len(self.slots)} jobs, {self.makespan_cycles} cycles)"


def transfer_cycles(machine: Machine, n_bytes: Ints, ideal_memory: bool = False) -> Ints:
    """Whole cycles that one memory needs for each transfer of n_bytes, int64 of any shape.

    cycles = ceil(bytes * clock_hz / bandwidth) + first_access_cycles; 0 for 0 bytes, and for all with ideal_memory.
    """
    if ideal_memory:
        return np.zeros_like(n_bytes)
    common = math.gcd(machine.clock_hz, machine.memory.bandwidth_bytes_per_s)
    clock, bandwidth = machine.clock_hz // common, machine.memory.bandwidth_bytes_per_s // common
    exact = n_bytes if int(n_bytes.max(initial=0)) * clock < 1 << 62 else n_bytes.astype(object)
    cycles = (-(-(exact * clock) // bandwidth)).astype(np.int64)
    return np.where(n_bytes > 0, cycles + machine.memory.first_access_cycles, 0)


def schedule(machine: Machine, jobs: list[Job], ideal_memory: bool = False, *, keep_books: bool = False) -> Schedule:
    """Runs `jobs` until all results are written; each engine takes its own jobs in the order of the list.

    A dependency on a job that is not in the list counts as met. ideal_memory: transfers take no time. keep_books: the
    kernel's tables stay, from which every interval and the critical path follow (Schedule.books). Raises ArchError for
    a job of an engine that the machine does not have, and for buffers so small that a job falls into more than
    MOST_PIECES pieces.
    """
    engines = machine.engine_names
    for job in jobs:
        if job.engine not in engines:
            where = f"{machine.name}: job {job.layer} {job.phase}"
            raise ArchError(at(where, "engine", f"one of {', '.join(engines)}", repr(job.engine)))
    ordered = [job for engine in engines for job in jobs if job.engine == engine]
    if not ordered:
        return Schedule({}, (), 0)
    _check_pieces(machine, ordered)
    engine_of = np.array([engines.index(job.engine) for job in ordered])
    grid = Grid.of(ordered, machine.memory.burst_bytes)
    cycles = transfer_cycles(machine, grid.n_bytes, ideal_memory)
    cut_up = cut(grid, engine_of, cycles)
    table = _job_table(ordered, grid, cycles)
    after_start, after = _dependencies(ordered)
    engine_rows = _engine_table(engines, engine_of, table)
    use = kernel.run_schedule(engine_rows, cut_up.rows, cut_up.transfers, table, after_start, after, cut_up.finish)
    stuck = [job.key for job, row in zip(ordered, table, strict=True) if row[kernel.DONE] < 0]
    if stuck:
        raise RuntimeError(f"the schedule cannot finish: {stuck} wait for each other")
    slots = {job.key: _slot(row) for job, row in zip(ordered, table.tolist(), strict=True)}
    books = None
    if keep_books:
        books = Books(
            engines=engines,
            memories=MEMORIES,
            jobs=tuple(ordered),
            rows=cut_up.rows,
            moved=bytes_moved(grid, cycles),
            transfers=cut_up.transfers,
            engine_rows=engine_rows,
            job_rows=table,
            finish=cut_up.finish,
            after_start=after_start,
            after=after,
        )
    return Schedule(slots, _slices(ordered, use), int(table[:, kernel.DONE].max()), books)


def _check_pieces(machine: Machine, jobs: list[Job]) -> None:
    """Raises ArchError for buffers so small that the table of pieces would not fit in this computer's memory."""
    for job in jobs:
        pieces = int(job.traffic.pieces.sum())
        if pieces > MOST_PIECES:
            raise ArchError(
                f"{machine.name}: engines.{job.engine}.buffers: expected halves that hold a grid iteration in few "
                f"pieces; got {pieces} pieces for {job.layer} {job.phase}, more than {MOST_PIECES}"
            )


def _engine_table(engines: tuple[str, ...], engine_of: Ints, jobs: Ints) -> Ints:
    """The kernel's table of engines, int64 (E, 5): rows stand engine after engine, each begins at its first.

    engine_of: int64 (J,), the engine of each line of the table of jobs.
    """
    first_job = np.searchsorted(engine_of, np.arange(len(engines) + 1))
    bounds = np.concatenate([[0], jobs[:, kernel.ROWS_STOP]])[first_job]
    table = np.zeros((len(engines), kernel.ENGINE_COLUMNS), np.int64)
    table[:, kernel.FIRST] = table[:, kernel.NEXT] = bounds[:-1]
    table[:, kernel.STOP] = bounds[1:]
    table[:, kernel.NEXT_JOB] = first_job[:-1]
    return table


def _job_table(jobs: list[Job], grid: Grid, cycles: Ints) -> Ints:
    table = np.zeros((len(jobs), kernel.JOB_COLUMNS), np.int64)
    table[:, kernel.MEMORY] = [SIDE_MEMORY[job.side] for job in jobs]
    table[:, kernel.MEMORY + 1] = GRADIENT_MEMORY
    table[:, kernel.FILL] = [job.fill_cycles for job in jobs]
    table[:, [kernel.END, kernel.DONE]] = -1
    table[:, kernel.ROWS_STOP] = np.cumsum(_by_job(grid.rows, grid))
    # a transfer of fewer cycles than rows has so many bursts
    writes = np.minimum(cycles[kernel.WRITE], grid.rows) + np.minimum(cycles[kernel.WRITE_GRADIENT], grid.rows)
    table[:, kernel.PENDING] = _by_job(writes, grid)
    return table


def _by_job(of_iterations: Ints, grid: Grid) -> Ints:
    """Sums over the iterations of each job, int64 (J,)."""
    through = np.concatenate([[0], np.cumsum(of_iterations)])
    return np.diff(through[grid.job_start])


def _dependencies(jobs: list[Job]) -> tuple[Ints, Ints]:
    index = {job.key: j for j, job in enumerate(jobs)}
    after = [[index[key] for key in job.after if key in index] for job in jobs]
    return np.cumsum([0, *map(len, after)]), np.array([j for a in after for j in a], np.int64)


def _slot(row: list[int]) -> Slot:
    stalls = Stalls(row[kernel.STALL_READ], row[kernel.STALL_WRITE], row[kernel.STALL_DEPENDENCY])
    return Slot(row[kernel.START], row[kernel.END], row[kernel.DONE], stalls)


def _slices(jobs: list[Job], use: Ints) -> tuple[MemorySlice, ...]:
    found = []
    for j, job in enumerate(jobs):
        for slot, memory in enumerate((SIDE_MEMORY[job.side], GRADIENT_MEMORY)):
            start, end, busy = (int(v) for v in use[j, slot])
            if busy:
                found.append(
                    MemorySlice(
                        memory=MEMORIES[memory],
                        layer=job.layer,
                        phase=job.phase,
                        start_cycle=start,
                        end_cycle=end,
                        busy_cycles=busy,
                    )
                )
    return tuple(sorted(found, key=lambda s: (s.memory, s.start_cycle, s.end_cycle, s.layer, s.phase)))
