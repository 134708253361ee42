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

from h2sim.arrays import Bools, Ints
from h2sim.kernels import schedule as kernel
from h2sim.memory.job import Job, in_pieces

MOST_BURSTS = 64  # of one transfer of a grid iteration: above, bursts are longer


@dataclass(frozen=True, eq=False)
class Rows:
    """The kernel's tables of R rows: iterations int64 (R, 7), transfers int64 (R, 4) in cycles; bytes moved (R, 4)."""

    iterations: Ints
    transfers: Ints
    moved: Ints


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
    tables, moved, transfers, parts, fills, produced, written = [], [], [], [], [], [], []
    for number, job in enumerate(jobs):
        t, rows = job.traffic, count_rows(job, burst_bytes)
        table = np.zeros((int(rows.sum()), kernel.COMPUTED + 1), np.int64)
        table[:, kernel.JOB] = number
        table[-1, kernel.LAST] = 1
        table[:, kernel.COMPUTE] = in_pieces(job.cycles.ravel(), rows)
        tables.append(table)
        kinds = np.stack([b.ravel() for b in (t.reads, t.gradient_reads, t.writes, t.gradient_writes)])
        transfers.append(np.stack([in_pieces(c, rows) for c in cycles[number]], axis=1))
        moved.append(np.stack([_along(b, c, rows) for b, c in zip(kinds, cycles[number], strict=True)], axis=1))
        owner, part = _parts(rows, t.pieces.ravel())
        parts.append(_changes(owner, part))
        fills.append(_changes(owner, np.where(t.result_pieces.ravel()[owner] > 1, part, 0)))
        produced.append(in_pieces(t.results.ravel(), rows))
        written.append(in_pieces(kinds[2] + kinds[3], rows))
    iterations, bursts = np.concatenate(tables), np.concatenate(transfers)
    first = _first_rows(engines[iterations[:, kernel.JOB]])
    iterations[:, kernel.READ_AFTER] = _two_before(np.concatenate(parts) | first, first)
    room = _room_after(np.concatenate(fills) | first, first, np.concatenate(produced), np.concatenate(written))
    for number, kind in enumerate((kernel.WRITE, kernel.WRITE_GRADIENT)):
        iterations[:, kernel.ROOM_AFTER + number] = _last_burst(bursts[:, kind], first, room)
    return Rows(iterations, bursts, np.concatenate(moved))


def _along(totals: Ints, cycles: Ints, rows: Ints) -> Ints:
    """Cuts totals[i] as in_pieces cuts cycles[i], so that a row without cycles moves nothing."""
    steps = np.minimum(cycles, rows)  # of its rows, those with cycles
    owner = np.repeat(np.arange(len(rows)), rows)
    through = np.cumsum(in_pieces(steps, rows)) - (np.cumsum(steps) - steps)[owner]
    ends = totals[owner] * through // np.maximum(steps[owner], 1)
    before = np.concatenate([[0], ends[:-1]])
    before[_changes(owner, owner)] = 0
    along: Ints = ends - before
    return along


def _parts(rows: Ints, pieces: Ints) -> tuple[Ints, Ints]:
    """The iteration of each row, and which part of it, of those that fit into a half.

    Parts are halves, quarters, ... of an iteration: those of a smaller buffer divide those of a larger one.
    """
    held = rows // pieces  # rows that a half holds
    parts = power_of_two(-(-rows // held))
    owner = np.repeat(np.arange(len(rows)), rows)
    number = np.arange(len(owner)) - (np.cumsum(rows) - rows)[owner]
    return owner, ((number + 1) * parts[owner] - 1) // rows[owner]


def _changes(owner: Ints, part: Ints) -> Bools:
    """Whether a row is the first of its (owner, part): bool (R,)."""
    new = np.ones(len(owner), bool)
    new[1:] = (owner[1:] != owner[:-1]) | (part[1:] != part[:-1])
    return new


def _first_rows(engine: Ints) -> Bools:
    first = np.ones(len(engine), bool)
    first[1:] = engine[1:] != engine[:-1]
    return first


def _two_before(new: Bools, first: Bools) -> Ints:
    """The last row of the second last part before each row's, -1 where its engine has none."""
    starts = np.flatnonzero(new)
    part = np.cumsum(new) - 1
    in_engine = part - part[np.flatnonzero(first)][np.cumsum(first) - 1]
    return np.where(in_engine >= 2, starts[part - 1] - 1, -1)


def _room_after(new: Bools, first: Bools, produced: Ints, written: Ints) -> Ints:
    """For each row that completes results, the row up to which all must have left before; -1: there is room.

    There is room when all results of the second last fill before, of those of the same engine, have left.
    """
    fill = np.cumsum(new) - 1
    sums = np.bincount(fill, weights=produced).astype(np.int64)
    some = np.flatnonzero(sums)  # fills that hold results
    if not len(some):
        return np.full(len(fill), -1, np.int64)
    ends = np.cumsum(sums)
    rank = np.searchsorted(some, fill)  # of a producing row's fill among them
    engine = np.cumsum(first) - 1
    fill_engine = engine[np.flatnonzero(new)]
    before = some[np.maximum(rank - 2, 0)]
    room = np.searchsorted(np.cumsum(written), ends[before])
    there = (produced > 0) & (rank >= 2) & (fill_engine[before] == engine)
    return np.where(there, room, -1)


def _last_burst(cycles: Ints, first: Bools, rows: Ints) -> Ints:
    """For each of `rows`, the last row up to it, of the same engine, with a burst of some cycles; -1: none."""
    last = np.maximum.accumulate(np.where(cycles > 0, np.arange(len(cycles)), -1))
    begins = np.maximum.accumulate(np.where(first, np.arange(len(first)), -1))
    found = np.where(last >= begins, last, -1)
    return np.where(rows >= 0, found[rows], -1)
