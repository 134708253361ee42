"""Cuts grid iterations into rows, the unit that the schedule runs: one burst of each transfer, one share of compute.

The source says that buffers are ping-pong and that results leave while others are computed. The rest is assumed [A].

* The four transfers of a grid iteration are cut into the same number of bursts, none above memory.burst_bytes, but no
  more than MOST_BURSTS. The array begins when the first burst is there and needs each further one in time.
* A ping-pong half of the operands' buffers holds an iteration, or where that is too large 1/2, 1/4, ... of it. A half
  is filled again when all of what it held before has been computed.
* Results enter a half of the output buffer as they are completed, and take it until they are written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels import rows as kernel
from h2sim.kernels.schedule import COMPUTED, KINDS
from h2sim.memory.job import Job, in_pieces

MOST_BURSTS = 64  # of one transfer of a grid iteration: above, bursts are longer


@dataclass(frozen=True, eq=False)
class Rows:
    """The kernel's tables of R rows: iterations int64 (R, 7), transfers int64 (R, 4) in cycles."""

    iterations: Ints
    transfers: Ints


def count_rows(job: Job, burst_bytes: int) -> Ints:
    """Rows of each grid iteration of a job, int64 (I,): bursts, doubled until a buffer's half holds at least one."""
    t = job.traffic
    largest = np.maximum.reduce([t.reads, t.gradient_reads, t.writes, t.gradient_writes]).ravel()
    bursts = np.clip(-(-largest // burst_bytes), 1, MOST_BURSTS)
    rows: Ints = bursts * power_of_two(-(-t.pieces.ravel() // bursts))
    return rows


def power_of_two(least: Ints) -> Ints:
    """The smallest powers of two that are at least `least`, which is at least 1."""
    return np.left_shift(1, np.frexp(least - 1)[1].astype(np.int64))


def cut(jobs: list[Job], engines: Ints, cycles: list[Ints], burst_bytes: int) -> Rows:
    """The rows of jobs, which stand engine after engine.

    engines: int64 (J,), the engine of each job. cycles: for each job, int64 (4, I), the cycles of its transfers by
    grid iteration and kind.
    """
    grid = np.concatenate([_grid(number, job, burst_bytes) for number, job in enumerate(jobs)])
    n_rows = int(grid[:, kernel.ROWS].sum())
    rows = Rows(np.zeros((n_rows, COMPUTED + 1), np.int64), np.empty((n_rows, KINDS), np.int64))
    kernel.cut_rows(grid, np.concatenate(cycles, axis=1), engines, rows.iterations, rows.transfers)
    return rows


def _grid(number: int, job: Job, burst_bytes: int) -> Ints:
    """The kernel's table of a job's grid iterations, int64 (I, 7)."""
    t = job.traffic
    table = np.empty((job.cycles.size, kernel.COLUMNS), np.int64)
    table[:, kernel.OF_JOB] = number
    table[:, kernel.CYCLES] = job.cycles.ravel()
    table[:, kernel.ROWS] = count_rows(job, burst_bytes)
    table[:, kernel.PIECES] = t.pieces.ravel()
    table[:, kernel.RESULT_PIECES] = t.result_pieces.ravel()
    table[:, kernel.COMPLETES] = t.results.ravel()
    table[:, kernel.WRITTEN] = (t.writes + t.gradient_writes).ravel()
    return table


def bytes_moved(jobs: list[Job], cycles: list[Ints], burst_bytes: int) -> Ints:
    """Bytes that the transfers of each row of `cut` move, int64 (R, 4): none in a row in which they take no cycles."""
    moved = []
    for job, spent in zip(jobs, cycles, strict=True):
        t, rows = job.traffic, count_rows(job, burst_bytes)
        kinds = (t.reads, t.gradient_reads, t.writes, t.gradient_writes)
        moved.append(np.stack([_along(b.ravel(), c, rows) for b, c in zip(kinds, spent, strict=True)], axis=1))
    return np.concatenate(moved)


def _along(totals: Ints, cycles: Ints, rows: Ints) -> Ints:
    """Cuts totals[i] as in_pieces cuts cycles[i], so that a row without cycles moves nothing."""
    steps = np.minimum(cycles, rows)  # of its rows, those with cycles
    owner = np.repeat(np.arange(len(rows)), rows)
    through = np.cumsum(in_pieces(steps, rows)) - (np.cumsum(steps) - steps)[owner]
    ends = totals[owner] * through // np.maximum(steps[owner], 1)
    before = np.concatenate([[0], ends[:-1]])
    before[np.cumsum(rows) - rows] = 0
    along: Ints = ends - before
    return along
