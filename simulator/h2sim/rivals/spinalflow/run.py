"""SpinalFlow on a trace: the forward pass of its spiking layers, under h2sim's memory model (figure 3.14a)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from h2sim.activity import BufferTraffic, Stalls
from h2sim.compare.measurement import Measurement, Part
from h2sim.energy.table import EnergyTable
from h2sim.errors import BaselineError, at
from h2sim.memory.schedule import Slot, schedule
from h2sim.result import workload_of
from h2sim.rivals.machine import Cycles, PriceSource, RivalResult, Row, Totals
from h2sim.rivals.spinalflow.cost import Area, Energy, Prices
from h2sim.rivals.spinalflow.engine import SpineEvents
from h2sim.rivals.spinalflow.jobs import LayerWork, layer_work, unsupported
from h2sim.rivals.spinalflow.schema import ARRAY, SECONDARY, Coding, SpinalFlow, load_spinalflow, parse_spinalflow
from h2sim.trace import Trace, TraceMeta
from h2sim.trace.graph import Graph

if TYPE_CHECKING:
    from h2sim.document.values import Document

__all__ = ["SpinalFlow", "SpinalFlowResult", "SpinalFlowRow", "load_spinalflow", "parse_spinalflow", "run_spinalflow"]

CODING_NOTES = {
    "first_spike": "coding first_spike: temporal coding, each neuron's first spike of the trace alone counts",
    "every_spike": "coding every_spike: all spikes of every timestep, more than a machine of one spike a neuron gets",
}


@dataclass(frozen=True, kw_only=True)
class SpinalFlowRow:
    """One layer: end_cycle - start_cycle = compute_cycles + fill_cycles + stalls.total, exactly."""

    layer: str
    kind: str
    start_cycle: int
    end_cycle: int
    compute_cycles: int
    fill_cycles: int
    stalls: Stalls
    events: SpineEvents
    offchip_read_bytes: int
    offchip_write_bytes: int
    buffers: tuple[BufferTraffic, ...]
    energy_pj: Energy

    @property
    def cycles(self) -> int:
        """Cycles from the row's start to its end."""
        return self.end_cycle - self.start_cycle

    @property
    def offchip_bytes(self) -> int:
        """Bytes that the external memory gave and took."""
        return self.offchip_read_bytes + self.offchip_write_bytes


@dataclass(frozen=True, kw_only=True)
class SpinalFlowResult(RivalResult):
    """A forward pass. makespan_cycles: until the last result is in memory.

    left_out are layers that no figure here holds; idle_leakage_pj is the leakage after the last layer's row.
    """

    machine: SpinalFlow
    meta: TraceMeta
    rows: tuple[SpinalFlowRow, ...]
    makespan_cycles: int
    idle_leakage_pj: float
    offchip_pj_per_byte: float
    area: Area
    leakage_w: float

    @property
    def system(self) -> str:
        return f"{self.machine.name} ({self.machine.coding})"

    @property
    def seconds(self) -> float:
        """Time of the forward pass of all samples, layers left out aside."""
        return self.makespan_cycles / self.machine.clock_hz

    @property
    def energy_j(self) -> float:
        """On-chip energy, built up from events; off-chip memory stands apart in offchip_energy_j."""
        return 1e-12 * math.fsum([self.idle_leakage_pj, *(sum(r.energy_pj) for r in self.rows)])

    @property
    def offchip_energy_j(self) -> float:
        """Energy of the bytes that the external memory gave and took."""
        return 1e-12 * self.offchip_pj_per_byte * sum(r.offchip_bytes for r in self.rows)

    @property
    def published_energy_j(self) -> float:
        """The published power over the simulated time: a check of energy_j, nothing is fitted to it."""
        return self.machine.published.power_w * self.seconds

    @property
    def published(self) -> dict[str, float]:
        told = self.machine.published
        return {"power_w": told.power_w, "area_mm2": told.area_mm2, "energy_j": self.published_energy_j}

    @property
    def area_mm2(self) -> float:
        """Area built up from units and macros; machine.published.area_mm2 is the published one."""
        return self.area.total_um2 * 1e-6

    def row_seconds(self, row: SpinalFlowRow) -> float:
        """Time of one layer's row."""
        return row.cycles / self.machine.clock_hz

    def to_rows(self) -> tuple[Row, ...]:
        return tuple(self._common(row) for row in self.rows)

    def _common(self, row: SpinalFlowRow) -> Row:
        cycles = Cycles(
            start=row.start_cycle,
            end=row.end_cycle,
            compute=row.compute_cycles,
            fill=row.fill_cycles,
            stalls=row.stalls,
        )
        return Row(
            layer=row.layer,
            phase="forward",
            engine=ARRAY,
            seconds=self.row_seconds(row),
            operations=asdict(row.events),
            energy_pj=row.energy_pj._asdict(),
            cycles=cycles,
            buffers=row.buffers,
            offchip_read_bytes=row.offchip_read_bytes,
            offchip_write_bytes=row.offchip_write_bytes,
            offchip_energy_pj=self.offchip_pj_per_byte * row.offchip_bytes,
        )

    def totals(self) -> Totals:
        by_component = {
            name: 1e-12 * math.fsum(getattr(row.energy_pj, name) for row in self.rows) for name in Energy._fields
        }
        by_component["leakage"] += 1e-12 * self.idle_leakage_pj
        return Totals(
            seconds=self.seconds,
            energy_j=self.energy_j,
            offchip_energy_j=self.offchip_energy_j,
            area_um2=asdict(self.area),
            energy_by_component_j=by_component,
            cycles=self.makespan_cycles,
            clock_hz=self.machine.clock_hz,
        )

    def document(self) -> Document:
        from h2sim.rivals.spinalflow.show import spinalflow_document

        return spinalflow_document(self)

    def as_published(self) -> Measurement:
        """The simulated time at the published power, and the published area, as a Measurement."""
        power_w = self.machine.published.power_w
        parts = tuple(
            Part(layer=r.layer, phase="forward", seconds=s, energy_j=power_w * s)
            for r in self.rows
            for s in [self.row_seconds(r)]
        )
        return replace(
            self.measurement(),
            energy_j=self.published_energy_j,
            area_mm2=self.machine.published.area_mm2,
            parts=parts,
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What a reader must know to judge the figures, a line each."""
        m = self.machine
        lines = [
            f"{SECONDARY}: the paper was not at hand, those who quote it were",
            CODING_NOTES[m.coding],
            f"samples one after another; weights of {m.array.pes} output channels stay for all positions and samples",
            f"memory of {m.memory.bandwidth_bytes_per_s / 1e9:g} GB/s, spines of {m.spike_bytes} bytes a spike",
            f"published: {m.published.power_w * 1e3:.1f} mW, {m.published.area_mm2:g} mm2 ({m.published.source})",
            "pools run as convolutions in which a spike costs a cycle and reaches its own channel's PE alone",
        ]
        lines += [f"not supported, left out: {layer}: {why}" for layer, why in self.left_out]
        return tuple(lines)


def run_spinalflow(
    machine: SpinalFlow,
    trace: Trace,
    energy_table: EnergyTable,
    *,
    coding: Coding | None = None,
    ideal_memory: bool = False,
) -> SpinalFlowResult:
    """The forward pass of a trace's layers, one after another, each for all samples.

    coding: another reading of the spikes than the machine's file says; ideal_memory: transfers take no time. Raises
    BaselineError where no layer can run or the table is of another node, EnergyTableError where it lacks a macro.
    """
    machine = machine.with_coding(coding) if coding else machine
    prices, graph = Prices(machine, energy_table), Graph.of(trace)
    works: list[LayerWork] = []
    refused: list[tuple[str, str]] = []
    for layer in trace.meta.layers:
        why = unsupported(graph, layer)
        if why:
            refused.append((layer.name, why))
        else:
            works.append(layer_work(machine, trace, graph, layer))
    if not works:
        expected = "a layer of spikes in and spikes out"
        raise BaselineError(at(str(trace.path), "layers", expected, f"{refused[0][0]}: {refused[0][1]}"))
    ran = schedule(machine, [w.job for w in works], ideal_memory)
    rows = tuple(_row(w, ran.slots[w.job.key], prices) for w in works)
    idle = ran.makespan_cycles - sum(r.cycles for r in rows)
    return SpinalFlowResult(
        machine=machine,
        meta=trace.meta,
        workload=workload_of(trace),
        samples=trace.meta.batch,
        prices=PriceSource(name=energy_table.name, sha256=energy_table.sha256, node_nm=machine.node_nm),
        ideal_memory=ideal_memory,
        rows=rows,
        left_out=tuple(refused),
        makespan_cycles=ran.makespan_cycles,
        idle_leakage_pj=prices.leakage_w * 1e12 * idle / machine.clock_hz,
        offchip_pj_per_byte=8 * energy_table.offchip.energy_pj_per_bit,
        area=prices.area,
        leakage_w=prices.leakage_w,
    )


def _row(work: LayerWork, slot: Slot, prices: Prices) -> SpinalFlowRow:
    job, traffic = work.job, work.job.traffic
    cycles = slot.end_cycle - slot.start_cycle
    return SpinalFlowRow(
        layer=job.layer,
        kind=work.kind,
        start_cycle=slot.start_cycle,
        end_cycle=slot.end_cycle,
        compute_cycles=int(job.cycles.sum()),
        fill_cycles=job.fill_cycles,
        stalls=slot.stalls,
        events=work.events,
        offchip_read_bytes=int(traffic.reads.sum()),
        offchip_write_bytes=int(traffic.writes.sum()),
        buffers=traffic.buffers,
        energy_pj=prices.energy(work.events, traffic.buffers, cycles),
    )
