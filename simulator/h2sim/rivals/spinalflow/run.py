"""SpinalFlow on a trace: the forward pass of its spiking layers, under h2sim's memory model (figure 3.14a)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from h2sim.activity import Stalls
from h2sim.compare.measurement import Measurement, Part
from h2sim.energy.table import EnergyTable
from h2sim.errors import BaselineError, at
from h2sim.memory.schedule import Slot, schedule
from h2sim.rivals.spinalflow.cost import Area, Energy, Prices
from h2sim.rivals.spinalflow.engine import SpineEvents
from h2sim.rivals.spinalflow.jobs import LayerWork, layer_work, unsupported
from h2sim.rivals.spinalflow.schema import Coding, SpinalFlow, load_spinalflow, parse_spinalflow
from h2sim.trace import Trace, TraceMeta
from h2sim.trace.graph import Graph

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
    energy_pj: Energy

    @property
    def cycles(self) -> int:
        return self.end_cycle - self.start_cycle


@dataclass(frozen=True, kw_only=True)
class SpinalFlowResult:
    """A forward pass. unsupported: (layer, why) of layers that SpinalFlow cannot run and that no figure here holds.

    makespan_cycles: until the last result is in memory; idle_leakage_pj: leakage after the last layer's row.
    """

    machine: SpinalFlow
    meta: TraceMeta
    energy_table: str
    rows: tuple[SpinalFlowRow, ...]
    unsupported: tuple[tuple[str, str], ...]
    makespan_cycles: int
    idle_leakage_pj: float
    offchip_energy_j: float
    area: Area
    leakage_w: float

    @property
    def seconds(self) -> float:
        """The forward pass of all samples, unsupported layers left out."""
        return self.makespan_cycles / self.machine.clock_hz

    @property
    def energy_j(self) -> float:
        """On-chip energy, built up from events; off-chip memory stands apart in offchip_energy_j."""
        return 1e-12 * math.fsum([self.idle_leakage_pj, *(sum(r.energy_pj) for r in self.rows)])

    @property
    def published_energy_j(self) -> float:
        """The published power over the simulated time: a check of energy_j, nothing is fitted to it."""
        return self.machine.published.power_w * self.seconds

    @property
    def area_mm2(self) -> float:
        """Built up from units and macros; machine.published.area_mm2 is the published one."""
        return self.area.total_um2 * 1e-6

    def row_seconds(self, row: SpinalFlowRow) -> float:
        """Time of one layer's row."""
        return row.cycles / self.machine.clock_hz

    def measurement(self, figures: Literal["simulated", "published"] = "simulated") -> Measurement:
        """The forward pass as a Measurement; 'published': published power x simulated time, and published area."""
        published = self.machine.published
        parts = tuple(
            Part(r.layer, "forward", s, published.power_w * s if figures == "published" else 1e-12 * sum(r.energy_pj))
            for r in self.rows
            for s in [self.row_seconds(r)]
        )
        return Measurement(
            system=f"{self.machine.name} ({self.machine.coding})",
            kind="simulated",
            network=self.meta.network,
            samples=self.meta.batch,
            seconds=self.seconds,
            energy_j=self.published_energy_j if figures == "published" else self.energy_j,
            area_mm2=published.area_mm2 if figures == "published" else self.area_mm2,
            node_nm=self.machine.node_nm,
            phases=("forward",),
            parts=parts,
            assumptions=self.assumptions,
            left_out=tuple(layer for layer, _ in self.unsupported),
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What a reader must know to judge the figures, a line each."""
        m = self.machine
        lines = [
            CODING_NOTES[m.coding],
            f"samples one after another; weights of {m.array.pes} output channels stay for all positions and samples",
            f"memory of {m.memory.bandwidth_bytes_per_s / 1e9:g} GB/s, spines of {m.spike_bytes} bytes a spike",
            f"published: {m.published.power_w * 1e3:.1f} mW, {m.published.area_mm2:g} mm2 ({m.published.source})",
            "pools run as convolutions in which a spike costs a cycle and reaches its own channel's PE alone",
        ]
        lines += [f"not supported, left out: {layer}: {why}" for layer, why in self.unsupported]
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
    prices, graph = Prices(machine, energy_table), Graph(trace.meta, trace.analog_steps)
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
    moved = sum(r.offchip_read_bytes + r.offchip_write_bytes for r in rows)
    return SpinalFlowResult(
        machine=machine,
        meta=trace.meta,
        energy_table=energy_table.name,
        rows=rows,
        unsupported=tuple(refused),
        makespan_cycles=ran.makespan_cycles,
        idle_leakage_pj=prices.leakage_w * 1e12 * idle / machine.clock_hz,
        offchip_energy_j=1e-12 * 8 * energy_table.offchip.energy_pj_per_bit * moved,
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
        energy_pj=prices.energy(work.events, traffic.buffers, cycles),
    )
