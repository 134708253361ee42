"""Runs jobs on the three engines and three memories and reads off starts, ends and stalls (section 3.2.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from h2sim.activity import ENGINES, MemorySlice, Stalls
from h2sim.arch.schema import Arch
from h2sim.kernels.schedule import Plan, run_schedule
from h2sim.pipeline.job import Job, JobKey, in_pieces

GRADIENT_MEMORY = 2
SIDE_MEMORY = {"forward": 0, "backward": 1}  # the roles swap with every sub-batch


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


def transfer_cycles(arch: Arch, n_bytes: np.ndarray, ideal_memory: bool = False) -> np.ndarray:
    """Whole cycles that one memory needs for transfers of `n_bytes`; 0 for none and with an ideal memory."""
    if ideal_memory:
        return np.zeros_like(n_bytes)
    common = math.gcd(arch.clock_hz, arch.memory.bandwidth_bytes_per_s)
    clock, bandwidth = arch.clock_hz // common, arch.memory.bandwidth_bytes_per_s // common
    exact = n_bytes if int(n_bytes.max(initial=0)) * clock < 1 << 62 else n_bytes.astype(object)
    cycles = (-(-(exact * clock) // bandwidth)).astype(np.int64)
    return np.where(n_bytes > 0, cycles + arch.memory.first_access_cycles, 0)


def schedule(arch: Arch, jobs: list[Job], ideal_memory: bool = False) -> Schedule:
    """Runs `jobs` (each engine takes its own in list order) until all results are written.

    A dependency on a job that is not in the list was met before the schedule began.
    """
    ordered = [job for engine in ENGINES for job in jobs if job.engine == engine]
    if not ordered:
        return Schedule({}, (), 0)
    index = {job.key: j for j, job in enumerate(ordered)}
    pieces = [job.traffic.pieces.ravel() for job in ordered]
    lengths = np.array([int(p.sum()) for p in pieces])
    compute = np.concatenate([in_pieces(job.cycles.ravel(), p) for job, p in zip(ordered, pieces, strict=True)])
    moved = [
        np.stack([in_pieces(b.ravel(), p) for b in (t.reads, t.gradient_reads, t.writes, t.gradient_writes)], axis=1)
        for t, p in ((job.traffic, p) for job, p in zip(ordered, pieces, strict=True))
    ]
    job_of = np.repeat(np.arange(len(ordered)), lengths)
    last = np.zeros(len(job_of), np.int64)
    last[np.cumsum(lengths) - 1] = 1
    per_engine = [sum(int(n) for job, n in zip(ordered, lengths, strict=True) if job.engine == e) for e in ENGINES]
    after = [[index[key] for key in job.after if key in index] for job in ordered]
    plan = Plan(
        np.cumsum([0, *per_engine]),
        job_of,
        last,
        compute,
        transfer_cycles(arch, np.concatenate(moved), ideal_memory),
        np.array([(SIDE_MEMORY[job.side], GRADIENT_MEMORY) for job in ordered]),
        np.array([job.fill_cycles for job in ordered]),
        np.cumsum([0, *(len(a) for a in after)]),
        np.array([j for a in after for j in a], np.int64),
    )
    times, stalls, use = run_schedule(plan)
    if int(times[:, 2].min()) < 0:
        stuck = [job.key for job, done in zip(ordered, times[:, 2], strict=True) if done < 0]
        raise RuntimeError(f"the schedule cannot finish: {stuck} wait for each other")
    slots = {
        job.key: Slot(*(int(t) for t in times[j]), Stalls(*(int(s) for s in stalls[j])))
        for j, job in enumerate(ordered)
    }
    return Schedule(slots, _slices(ordered, use), int(times[:, 1:].max()))


def _slices(jobs: list[Job], use: np.ndarray) -> tuple[MemorySlice, ...]:
    names = {0: "Mem 0", 1: "Mem 1", GRADIENT_MEMORY: "Mem 2"}
    found = []
    for j, job in enumerate(jobs):
        for slot, memory in enumerate((SIDE_MEMORY[job.side], GRADIENT_MEMORY)):
            start, end, busy = (int(v) for v in use[j, slot])
            if busy:
                found.append(MemorySlice(names[memory], job.layer, job.phase, start, end, busy))
    return tuple(sorted(found, key=lambda s: (s.memory, s.start_cycle, s.end_cycle, s.layer, s.phase)))
