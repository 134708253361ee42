"""SpinalFlow on a trace: the forward pass of its spiking layers, under h2sim's memory model (figure 3.14a)."""

from __future__ import annotations

from collections.abc import Mapping

from h2sim.activity import Phase
from h2sim.energy.table import EnergyTable
from h2sim.rivals.clocked import Clocked, Work
from h2sim.rivals.clocked_result import ClockedResult
from h2sim.rivals.prices import PriceBook
from h2sim.rivals.spinalflow.cost import counts, price_book
from h2sim.rivals.spinalflow.jobs import layer_work, unsupported
from h2sim.rivals.spinalflow.schema import SECONDARY, Coding, SpinalFlow, load_spinalflow, parse_spinalflow
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph

__all__ = ["RIVAL", "SpinalFlow", "load_spinalflow", "parse_spinalflow", "run_spinalflow"]

CODING_NOTES = {
    "first_spike": "coding first_spike: temporal coding, each neuron's first spike of the trace alone counts",
    "every_spike": "coding every_spike: all spikes of every timestep, more than a machine of one spike a neuron gets",
}


class SpinalFlowKind(Clocked[SpinalFlow]):
    """SpinalFlow (Narayanan et al., ISCA 2020)."""

    what = "SpinalFlow (ISCA 2020), forward pass; prices of the energy table"
    schema = SpinalFlow
    needs = "a layer of spikes in and spikes out"
    basis = SECONDARY

    def refuses(self, machine: SpinalFlow, graph: Graph, layer: Layer) -> str | None:
        return unsupported(graph, layer)

    def work(self, machine: SpinalFlow, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work:
        found = layer_work(machine, trace, graph, layer)
        return Work(found.job, counts(found.events))

    def prices(self, machine: SpinalFlow, table: EnergyTable) -> PriceBook:
        return price_book(machine, table)

    def lanes(self, machine: SpinalFlow) -> int:
        return machine.array.pes

    def weight_bits(self, machine: SpinalFlow) -> int:
        return 8 * machine.weight_bytes

    def system(self, machine: SpinalFlow) -> str:
        return f"{machine.name} ({machine.coding})"

    def published(self, machine: SpinalFlow, seconds: float) -> Mapping[str, float]:
        told = machine.published
        return {"power_w": told.power_w, "area_mm2": told.area_mm2, "energy_j": told.power_w * seconds}

    def notes(self, machine: SpinalFlow) -> tuple[str, ...]:
        told = machine.published
        return (
            "the paper was not at hand, those who quote it were",
            CODING_NOTES[machine.coding],
            f"samples one after another; weights of {machine.array.pes} output channels stay for all positions and "
            "samples",
            f"memory of {machine.memory.bandwidth_bytes_per_s / 1e9:g} GB/s, spines of {machine.spike_bytes} bytes a "
            "spike",
            f"published: {told.power_w * 1e3:.1f} mW, {told.area_mm2:g} mm2 ({told.source})",
            "pools run as convolutions in which a spike costs a cycle and reaches its own channel's PE alone",
        )


RIVAL = SpinalFlowKind()


def run_spinalflow(
    machine: SpinalFlow,
    trace: Trace,
    energy_table: EnergyTable,
    *,
    coding: Coding | None = None,
    ideal_memory: bool = False,
) -> ClockedResult:
    """The forward pass of a trace's layers, one after another, each for all samples.

    coding: another reading of the spikes than the machine's file says; ideal_memory: transfers take no time. Raises
    BaselineError where no layer can run or the table is of another node, EnergyTableError where it lacks a macro.
    """
    machine = machine.with_coding(coding) if coding else machine
    return RIVAL.run(machine, trace, energy_table, ideal_memory)
