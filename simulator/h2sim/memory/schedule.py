"""Runs jobs on the three engines and three memories and reads off starts, ends and stalls (section 3.2.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from h2sim.activity import JobKey, MemorySlice, Stalls
from h2sim.arch.schema import Memory
from h2sim.errors import ArchError, at
from h2sim.kernels import schedule as kernel
from h2sim.memory.job import Job, in_pieces

GRADIENT_MEMORY = 2
MOST_PIECES = 2_000_000  # of one layer
SIDE_MEMORY = {"forward": 0, "backward": 1}  # the roles swap with every sub-batch


class Machine(Protocol):
    """What a schedule asks of a machine: an Arch is one, and so is any rival that brings its own jobs.

    engine_names: of its engines, in the order in which ties between their transfers are settled.
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
    """When one job ran: end - start = compute + fill + stalls; its results are in memory at done_cycle."""

    start_cycle: int
    end_cycle: int
    done_cycle: int
    stalls: Stalls


@dataclass(frozen=True)
class Schedule:
    """The slots of all jobs, the memories' slices, and the cycle in which the last result is written."""

    slots: dict[JobKey, Slot]
    memory: tuple[MemorySlice, ...]
    makespan_cycles: int


def transfer_cycles(machine: Machine, n_bytes: np.ndarray, ideal_memory: bool = False) -> np.ndarray:
    """Whole cycles that one memory needs for transfers of `n_bytes`; 0 for none and with an ideal memory."""
    if ideal_memory:
        return np.zeros_like(n_bytes)
    common = math.gcd(machine.clock_hz, machine.memory.bandwidth_bytes_per_s)
    clock, bandwidth = machine.clock_hz // common, machine.memory.bandwidth_bytes_per_s // common
    exact = n_bytes if int(n_bytes.max(initial=0)) * clock < 1 << 62 else n_bytes.astype(object)
    cycles = (-(-(exact * clock) // bandwidth)).astype(np.int64)
    return np.where(n_bytes > 0, cycles + machine.memory.first_access_cycles, 0)


def schedule(machine: Machine, jobs: list[Job], ideal_memory: bool = False) -> Schedule:
    """Runs `jobs` (each engine takes its own in list order) until all results are written.

    A dependency on a job that is not in the list was met before the schedule began. Raises ArchError for a job of an
    engine that the machine does not have.
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
    iterations, moved = _iterations(ordered)
    table = _job_table(ordered)
    after_start, after = _dependencies(ordered)
    transfers = transfer_cycles(machine, moved, ideal_memory)
    rows = _engine_table(engines, ordered, iterations)
    use = kernel.run_schedule(rows, iterations, transfers, table, after_start, after)
    stuck = [job.key for job, row in zip(ordered, table, strict=True) if row[kernel.DONE] < 0]
    if stuck:
        raise RuntimeError(f"the schedule cannot finish: {stuck} wait for each other")
    slots = {job.key: _slot(row) for job, row in zip(ordered, table.tolist(), strict=True)}
    return Schedule(slots, _slices(ordered, use), int(table[:, kernel.DONE].max()))


def _check_pieces(machine: Machine, jobs: list[Job]) -> None:
    """Refuses buffers so small that the schedule would have more pieces than a memory holds."""
    for job in jobs:
        pieces = int(job.traffic.pieces.sum())
        if pieces > MOST_PIECES:
            raise ArchError(
                f"{machine.name}: engines.{job.engine}.buffers: expected halves that hold a grid iteration in few "
                f"pieces; got {pieces} pieces for {job.layer} {job.phase}, more than {MOST_PIECES}"
            )


def _iterations(jobs: list[Job]) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's table of iterations (cut into the pieces that buffers hold) and the bytes each moves, (I, 4)."""
    rows, moved = [], []
    for number, job in enumerate(jobs):
        t, pieces = job.traffic, job.traffic.pieces.ravel()
        table = np.zeros((int(pieces.sum()), kernel.COMPUTED + 1), np.int64)
        table[:, kernel.JOB] = number
        table[-1, kernel.LAST] = 1
        table[:, kernel.COMPUTE] = in_pieces(job.cycles.ravel(), pieces)
        rows.append(table)
        kinds = (t.reads, t.gradient_reads, t.writes, t.gradient_writes)
        moved.append(np.stack([in_pieces(b.ravel(), pieces) for b in kinds], axis=1))
    return np.concatenate(rows), np.concatenate(moved)


def _engine_table(engines: tuple[str, ...], jobs: list[Job], iterations: np.ndarray) -> np.ndarray:
    """Iterations stand engine after engine; an engine begins at its first."""
    engine_of = np.array([engines.index(job.engine) for job in jobs])[iterations[:, kernel.JOB]]
    bounds = np.searchsorted(engine_of, np.arange(len(engines) + 1))
    table = np.zeros((len(engines), kernel.ISSUED + 4), np.int64)
    table[:] = bounds[:-1, None]
    table[:, kernel.STOP] = bounds[1:]
    table[:, kernel.BUSY_UNTIL] = 0
    return table


def _job_table(jobs: list[Job]) -> np.ndarray:
    table = np.zeros((len(jobs), kernel.JOB_COLUMNS), np.int64)
    table[:, kernel.MEMORY] = [SIDE_MEMORY[job.side] for job in jobs]
    table[:, kernel.MEMORY + 1] = GRADIENT_MEMORY
    table[:, kernel.FILL] = [job.fill_cycles for job in jobs]
    table[:, kernel.DONE] = -1
    return table


def _dependencies(jobs: list[Job]) -> tuple[np.ndarray, np.ndarray]:
    index = {job.key: j for j, job in enumerate(jobs)}
    after = [[index[key] for key in job.after if key in index] for job in jobs]
    return np.cumsum([0, *map(len, after)]), np.array([j for a in after for j in a], np.int64)


def _slot(row: list[int]) -> Slot:
    stalls = Stalls(row[kernel.STALL_READ], row[kernel.STALL_WRITE], row[kernel.STALL_DEPENDENCY])
    return Slot(row[kernel.START], row[kernel.END], row[kernel.DONE], stalls)


def _slices(jobs: list[Job], use: np.ndarray) -> tuple[MemorySlice, ...]:
    names = {0: "Mem 0", 1: "Mem 1", GRADIENT_MEMORY: "Mem 2"}
    found = []
    for j, job in enumerate(jobs):
        for slot, memory in enumerate((SIDE_MEMORY[job.side], GRADIENT_MEMORY)):
            start, end, busy = (int(v) for v in use[j, slot])
            if busy:
                found.append(
                    MemorySlice(
                        memory=names[memory],
                        layer=job.layer,
                        phase=job.phase,
                        start_cycle=start,
                        end_cycle=end,
                        busy_cycles=busy,
                    )
                )
    return tuple(sorted(found, key=lambda s: (s.memory, s.start_cycle, s.end_cycle, s.layer, s.phase)))
