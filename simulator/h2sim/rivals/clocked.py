"""Machines with a clock, one engine and one external memory: what such a rival must say, and its step on a trace.

A rival gives jobs, counts and prices; the schedule, the bill, the rows and the report are the same for all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from h2sim.activity import PHASES, Phase
from h2sim.arrays import Ints
from h2sim.energy.bill import Charge
from h2sim.energy.table import EnergyTable
from h2sim.errors import BaselineError, at
from h2sim.memory.job import Job
from h2sim.memory.schedule import Schedule, schedule
from h2sim.memory.traffic import Traffic
from h2sim.result import workload_of
from h2sim.rivals.clocked_result import ClockedResult
from h2sim.rivals.machine import ARRAY, ClockedMachine
from h2sim.rivals.prices import LEAKAGE, Count, PriceBook, by_component
from h2sim.rivals.rows import Cycles, PriceSource, Row
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph

M = TypeVar("M", bound=ClockedMachine)


@dataclass(frozen=True)
class Work:
    """One layer in one phase: the job that the schedule takes, and what happened in it, counted exactly."""

    job: Job
    counts: tuple[Count, ...]

    def count(self, action: str) -> int:
        """How often something happened, in all components."""
        return sum(count.number for count in self.counts if count.action == action)


@dataclass(frozen=True, eq=False)
class Counted:
    """A layer with weights as a machine runs it: the iterations of its job, and its events but for neurons'."""

    cycles: Ints
    fill_cycles: int
    traffic: Traffic
    counts: tuple[Count, ...]


class Clocked(ABC, Generic[M]):
    """A kind of machine. what: in a line; phases: those that it can run; needs: what it runs, said
    where a network has none of it; basis: as of a RivalResult."""

    what: str
    schema: type[M]
    phases: tuple[Phase, ...] = ("forward",)
    needs: str = "a layer that the machine can run"
    basis: str = ""

    @abstractmethod
    def refuses(self, machine: M, graph: Graph, layer: Layer) -> str | None:
        """Why the machine cannot run a layer in any phase; None if it can."""

    @abstractmethod
    def work(self, machine: M, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work | None:
        """One layer in one phase; None where there is nothing to do. Its job's engine is ARRAY, its side forward."""

    @abstractmethod
    def prices(self, machine: M, table: EnergyTable) -> PriceBook:
        """What everything costs. Raises BaselineError for a table of another node."""

    @abstractmethod
    def lanes(self, machine: M) -> int:
        """Synapses that the array works on in a cycle."""

    @abstractmethod
    def weight_bits(self, machine: M) -> int:
        """Bits of a weight."""

    @abstractmethod
    def notes(self, machine: M) -> tuple[str, ...]:
        """What a reader must know to judge the figures, a line each."""

    def remarks(self, machine: M, works: Sequence[Work]) -> tuple[str, ...]:
        """What a reader must know of this step, a line each; works: all its rows."""
        return ()

    def system(self, machine: M) -> str:
        """The machine's name in comparisons."""
        return machine.name

    def published(self, machine: M, seconds: float) -> Mapping[str, float]:
        """Figures that are reported of the machine, by name with unit; seconds: what the step takes here."""
        return {}

    def run(self, machine: M, trace: Trace, table: EnergyTable, ideal_memory: bool = False) -> ClockedResult:
        """The step: each layer for all samples, forward, then backward and update from the last layer to the first.

        Raises BaselineError where no layer can run or the table is of another node, EnergyTableError where it lacks a
        macro.
        """
        book, graph = self.prices(machine, table), Graph.of(trace)
        refused = [(x.name, why) for x in trace.meta.layers if (why := self.refuses(machine, graph, x))]
        works = list(self._works(machine, trace, graph, {name for name, _ in refused}))
        if not works:
            raise BaselineError(at(str(trace.path), "layers", self.needs, ": ".join(refused[0])))
        ran = schedule(machine, [w.job for w in works], ideal_memory, keep_books=True)
        charges, rows = _rows(works, ran, book, machine.clock_hz, 8 * table.offchip.energy_pj_per_bit)
        counts = [count for work in works for count in work.counts]
        unpriced = book.without_price(counts)
        seconds = ran.makespan_cycles / machine.clock_hz
        return ClockedResult(
            machine=machine,
            workload=workload_of(trace),
            samples=trace.meta.batch,
            prices=PriceSource(name=table.name, sha256=table.sha256, node_nm=machine.node_nm),
            phases=tuple(dict.fromkeys(row.phase for row in rows)),
            left_out=tuple(refused),
            ideal_memory=ideal_memory,
            name=self.system(machine),
            said=(*self.notes(machine), *self.remarks(machine, works), *_leaks(charges, book, seconds)),
            basis=self.basis,
            unpriced=unpriced,
            published=self.published(machine, seconds),
            lanes=self.lanes(machine),
            weight_bits=self.weight_bits(machine),
            meta=trace.meta,
            rows=rows,
            charges=tuple(charges),
            components=book.components,
            makespan_cycles=ran.makespan_cycles,
            area_um2=book.area_um2,
            leakage_w=book.leakage_w,
            books=ran.books,
        )

    def _works(self, machine: M, trace: Trace, graph: Graph, refused: set[str]) -> Iterator[Work]:
        phases: list[Phase] = [p for p in self.phases if p in trace.meta.phases]
        layers = [layer for layer in trace.meta.layers if layer.name not in refused]
        down: list[Phase] = [phase for phase in PHASES[1:] if phase in phases]
        for names, order in ((phases[:1], layers), (down, layers[::-1])):
            for layer in order:
                for phase in names:
                    if found := self.work(machine, trace, graph, layer, phase):
                        yield found


def _rows(
    works: list[Work], ran: Schedule, book: PriceBook, clock_hz: int, offchip_pj: float
) -> tuple[list[Charge], tuple[Row, ...]]:
    """The bill's entries and the rows. The machine leaks all the time; row -1 is charged for what no row covers."""
    charges, rows = [], []
    for number, work in enumerate(works):
        job, slot = work.job, ran.slots[work.job.key]
        cycles, traffic = slot.end_cycle - slot.start_cycle, job.traffic
        mine = book.charges(number, ARRAY, work.counts, traffic.buffers)
        mine.append(book.leaked(number, ARRAY, cycles, clock_hz))
        charges += mine
        read, written = int(traffic.reads.sum()), int(traffic.writes.sum())
        rows.append(
            Row(
                layer=job.layer,
                phase=job.phase,
                engine=ARRAY,
                seconds=cycles / clock_hz,
                operations=_operations(work.counts),
                energy_pj=by_component(mine, book.components),
                cycles=Cycles(
                    start=slot.start_cycle,
                    end=slot.end_cycle,
                    compute=int(job.cycles.sum()),
                    fill=job.fill_cycles,
                    stalls=slot.stalls,
                ),
                buffers=traffic.buffers,
                offchip_read_bytes=read,
                offchip_write_bytes=written,
                offchip_energy_pj=offchip_pj * (read + written),
            )
        )
    held = sum(row.cycles.total for row in rows if row.cycles)
    charges.append(book.leaked(-1, ARRAY, ran.makespan_cycles - held, clock_hz))
    return charges, tuple(rows)


def _leaks(charges: list[Charge], book: PriceBook, seconds: float) -> tuple[str, ...]:
    """What leaks for how long, where that is most of the energy."""
    leaked = math.fsum(charge.energy_pj for charge in charges if charge.component == LEAKAGE)
    share = leaked / (math.fsum(charge.energy_pj for charge in charges) or 1.0)
    if share <= 0.5:
        return ()
    buffers_w = math.fsum(buffer.leakage_w for buffer in book.buffers.values())
    return (
        f"leakage is {share:.1%} of the on-chip energy: {book.leakage_w * 1e3:.1f} mW, {buffers_w * 1e3:.1f} mW of it "
        f"in buffers, for {seconds * 1e3:.3g} ms",
    )


def _operations(counts: tuple[Count, ...]) -> dict[str, int]:
    """How often each kind of event happened in a row."""
    found: dict[str, int] = {}
    for count in counts:
        found[count.action] = found.get(count.action, 0) + count.number
    return found
