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
from h2sim.kernels.schedule import KINDS, ROW_LINES
from h2sim.memory.job import Job, in_pieces

MOST_BURSTS = 64  # of one transfer of a grid iteration: above, bursts are longer


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid iterations of jobs, one after the other.

    table: int64 (7, I), whose lines kernels/rows.py names. job_start: int64 (J + 1,), where each job's iterations
    begin. rows: int64 (I,), into how many rows each iteration falls.
    """

    table: Ints
    job_start: Ints
    rows: Ints

    @classmethod
    def of(cls, jobs: list[Job], burst_bytes: int) -> Grid:
        job_start = np.cumsum([0, *(job.cycles.size for job in jobs)])
        table = np.empty((kernel.LINES, job_start[-1]), np.int64)
        traffics = [job.traffic for job in jobs]
        lines = {
            kernel.CYCLES: [job.cycles for job in jobs],
            kernel.PIECES: [t.pieces for t in traffics],
            kernel.COMPLETES: [t.results for t in traffics],
            kernel.BYTES: [t.reads for t in traffics],
            kernel.BYTES + 1: [t.gradient_reads for t in traffics],
            kernel.BYTES + 2: [t.writes for t in traffics],
            kernel.BYTES + 3: [t.gradient_writes for t in traffics],
        }
        for line, arrays in lines.items():
            np.concatenate([array.ravel() for array in arrays], out=table[line])
        return cls(table, job_start, kernel.count_rows(table, burst_bytes, MOST_BURSTS))

    @property
    def n_bytes(self) -> Ints:
        """Bytes of the transfers, int64 (4, I)."""
        return self.table[kernel.BYTES :]


@dataclass(frozen=True, eq=False)
class Rows:
    """The kernel's tables of R rows: rows int64 (5, R); transfers and finish int64 (4, R), in cycles.

    They are one array, since the C library gives several of this size back to the system as often as they are freed.
    """

    rows: Ints
    transfers: Ints
    finish: Ints


def cut(grid: Grid, engine_of: Ints, cycles: Ints) -> Rows:
    """The rows of jobs, which stand engine after engine; COMPUTED and finish are for the schedule to fill.

    engine_of: int64 (J,), the engine of each job. cycles: int64 (4, I), of the transfers.
    """
    table = np.empty((ROW_LINES + 2 * KINDS, int(grid.rows.sum())), np.int64)
    found = Rows(table[:ROW_LINES], table[ROW_LINES:-KINDS], table[-KINDS:])
    kernel.cut_rows(grid.table, cycles, grid.rows, grid.job_start, engine_of, found.rows, found.transfers)
    return found


def bytes_moved(grid: Grid, cycles: Ints) -> Ints:
    """Bytes that the transfers of each row of `cut` move, int64 (4, R): none in a row in which they take no cycles."""
    return np.stack([_along(b, c, grid.rows) for b, c in zip(grid.n_bytes, cycles, strict=True)])


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
