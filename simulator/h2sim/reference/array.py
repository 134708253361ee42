"""The PE array of the LUT engines (figures 3.2 b and 3.4 b) and the control that programs and drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from h2sim.arch.schema import ForwardEngine, WeightUpdateEngine
from h2sim.arrays import Bytes, Float32s
from h2sim.reference.acc import AccTree
from h2sim.reference.lut import AdderPe, LutPe
from h2sim.reference.result import Bench

Segments = list[Float32s]  # the operands of one PE, one array of at most v per used sub-LUT


@dataclass(frozen=True)
class Job:
    """What the array does between two programmings of its LUTs, as a part of grid iteration `iteration`.

    operands[row][column]: what the PEs that hold work are loaded with. work(): every value that it yields is a cycle.
    """

    iteration: int
    operands: list[list[Segments]]
    work: Callable[[], Iterator[None]]


class LutArray:
    """R x C PEs and the Acc below each column; a job uses the first rows and columns.

    The PEs of a row get the same spikes and so the same addresses. Every lane has a read port of its own.
    """

    def __init__(self, engine: ForwardEngine | WeightUpdateEngine, bench: Bench) -> None:
        self.engine = engine
        self.bench = bench
        self.acc = AccTree(engine.rows, bench.acc)
        self.pes = [[self._new_pe() for _ in range(engine.columns)] for _ in range(engine.rows)]
        self.loading: list[list[LutPe | AdderPe]] = []  # PEs that the next job uses
        self.present: list[list[LutPe | AdderPe]] = []  # PEs that this job uses

    def _new_pe(self) -> LutPe | AdderPe:
        if self.engine.lut:
            return LutPe(self.engine.sub_luts, self.engine.sub_lut_inputs, self.bench)
        return AdderPe(self.bench)

    def load(self, operands: list[list[Segments]]) -> None:
        """Begins to program the banks that are not read (shadow banks) with operands[row][column]."""
        self.loading = [pes[: len(row)] for pes, row in zip(self.pes, operands, strict=False)]
        for pes, row in zip(self.loading, operands, strict=True):
            for pe, segments in zip(pes, row, strict=True):
                pe.load(segments)

    def program_entry(self) -> bool:
        """One cycle of programming in every PE at once. Returns False when all were full already."""
        return any([pe.program_entry() for row in self.loading for pe in row])

    def swap(self) -> None:
        """From now on the banks that were programmed are read."""
        self.present, self.loading = self.loading, []
        for row in self.present:
            for pe in row:
                pe.swap()

    def accumulate(
        self, addresses: Sequence[Sequence[int]], column: int, psum: np.float32, plane: int = 0
    ) -> np.float32:
        """One window on one lane: the PEs of a column read addresses[row]; Acc adds their sum, shifted, to psum.

        PEs off the diagonal of groups hold nothing and idle.
        """
        rows = [row for row, pes in enumerate(self.present) if pes[column].busy]
        outputs = [self.present[row][column].read(addresses[row]) for row in rows]
        return self.acc.accumulate(psum, outputs, plane, rows[0])

    def run(self, jobs: Sequence[Job]) -> None:
        """Does the jobs in order; a job begins when the LUTs hold its operands.

        With double buffering the operands of the next job are programmed while this one works, and the array moves on
        when both are done. Without, programming comes before every job.
        """
        double = self.engine.lut_double_buffered
        for i, job in enumerate(jobs):
            if i == 0 or job.iteration != jobs[i - 1].iteration:
                self.bench.clock.begin_iteration()
            if i == 0 or not double:
                self.load(job.operands)
                self._cycle_through(iter(()))
            self.swap()
            if double and i + 1 < len(jobs):
                self.load(jobs[i + 1].operands)
            self._cycle_through(job.work())

    def _cycle_through(self, work: Iterator[None]) -> None:
        """Lets cycles pass until the work is done and nothing is left to program."""
        working = True
        while True:
            working = working and next(work, StopIteration) is not StopIteration
            programming = self.program_entry()
            if not (working or programming):
                return
            self.bench.clock.tick()


def address_of(spikes: Bytes) -> int:
    """The sub-LUT address of up to v spikes: spike i is bit i."""
    return sum(int(spike) << i for i, spike in enumerate(spikes))
