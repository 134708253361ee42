"""Loihi as a baseline for inference: a trace's real spikes on placed cores, counted exactly, then timed and priced."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from h2sim.energy.bill import BillLine
from h2sim.result import workload_of
from h2sim.rivals.loihi.events import EVENTS, IN_CORE, Events, count_events
from h2sim.rivals.loihi.placement import LayerCores, Placement, place
from h2sim.rivals.loihi.schema import LoihiMachine, load_loihi
from h2sim.rivals.loihi.wiring import Stage, wire
from h2sim.rivals.result import RivalResult
from h2sim.rivals.rows import PriceSource, Row, Totals
from h2sim.trace import Trace

if TYPE_CHECKING:
    from h2sim.document.values import Table

ENGINE, COMPONENT = "cores", "events"

__all__ = ["EventCost", "LoihiLayer", "LoihiResult", "load_loihi", "run_loihi"]


@dataclass(frozen=True)
class EventCost:
    """One kind of event over all samples: its count and its energy."""

    event: str
    count: int
    energy_pj: float


@dataclass(frozen=True, kw_only=True)
class LoihiLayer:
    """One layer over all samples. synapses: of the network, stored or shared; busy_seconds: its busiest core of each
    step, summed (layers work at the same time, so these do not add up)."""

    layer: str
    kind: str
    neurons: int
    synapses: int
    cores: int
    synaptic_operations: int
    neurons_active: int
    neurons_inactive: int
    spikes: int
    messages_sent: int
    messages_received: int
    hops_east_west: int
    hops_north_south: int
    energy_pj: float
    busy_seconds: float


@dataclass(frozen=True, kw_only=True, repr=False)
class LoihiResult(RivalResult):
    """A trace's forward pass on Loihi.

    seconds_of_sample: of each sample, one after the other; compute, flight and barrier are their three parts, summed.
    energy_j: of the events. static_energy_j: leakage of the chips, a weak number that is never in energy_j; None if the
    file has none.
    """

    machine: LoihiMachine
    timesteps: int
    steps: int
    cores: int
    chips: int
    tiles: int
    seconds_of_sample: tuple[float, ...]
    compute_seconds: float
    flight_seconds: float
    barrier_seconds: float
    energy_j: float
    static_energy_j: float | None
    events: tuple[EventCost, ...]
    layers: tuple[LoihiLayer, ...]

    @property
    def seconds(self) -> float:
        """All samples, one after the other."""
        return math.fsum(self.seconds_of_sample)

    @property
    def seconds_per_sample(self) -> float:
        """Mean over the samples."""
        return self.seconds / self.samples

    @property
    def energy_j_per_sample(self) -> float:
        """Mean over the samples, without static power."""
        return self.energy_j / self.samples

    def to_rows(self) -> tuple[Row, ...]:
        return tuple(_common(row) for row in self.layers)

    def totals(self) -> Totals:
        return Totals(
            seconds=self.seconds,
            energy_j=self.energy_j,
            offchip_energy_j=0.0,
            area_um2={"dies": 1e6 * self.machine.area_mm2.value * self.chips},
            energy_by_component_j={cost.event: 1e-12 * cost.energy_pj for cost in self.events},
        )

    def bill(self) -> tuple[BillLine, ...]:
        prices = self.machine.prices
        lines = []
        for cost in self.events:
            price = getattr(prices, cost.event)
            lines.append(
                BillLine(
                    engine=ENGINE,
                    component=COMPONENT,
                    action=cost.event,
                    count=cost.count,
                    unit_pj=price.energy_pj,
                    energy_pj=cost.energy_pj,
                    source=f"{price.method}; {price.source}",
                )
            )
        return tuple(lines)

    def verdict(self) -> str:
        from h2sim.rivals.loihi.show import verdict

        return verdict(self)

    def lines(self) -> tuple[str, ...]:
        from h2sim.rivals.loihi.show import lines

        return lines(self)

    def tables(self) -> tuple[Table, ...]:
        from h2sim.rivals.loihi.show import loihi_layers

        return (loihi_layers(self),)


def _common(row: LoihiLayer) -> Row:
    """A layer as every result has it: layers work at the same time, so that none's seconds are a share of the step."""
    counts = (
        "synaptic_operations", "neurons_active", "neurons_inactive", "spikes", "messages_sent", "messages_received",
        "hops_east_west", "hops_north_south",
    )  # fmt: skip
    return Row(
        layer=row.layer,
        phase="forward",
        engine=ENGINE,
        seconds=row.busy_seconds,
        operations={name: getattr(row, name) for name in counts},
        energy_pj={COMPONENT: row.energy_pj},
        fused=True,
    )


def run_loihi(machine: LoihiMachine, trace: Trace) -> LoihiResult:
    """The forward pass of every sample of a trace.

    Time of a step: the slowest core (its events one after the other [A]), the longest route of a message, the barrier.
    Energy: events times prices. Raises BaselineError for a network that cannot be placed, TraceError for damage.
    """
    where = str(trace.path)
    stages = wire(trace.meta, where)
    placement = place(stages, machine, where)
    events = count_events(machine, trace, stages, placement)
    busy_ns = busy_time_ns(machine, events)
    barrier_ns = machine.barrier.time_ns(placement.tiles)
    compute_ns = busy_ns.max(axis=2)
    sample_ns = (compute_ns + events.flight_ns + barrier_ns).sum(axis=1)
    costs = tuple(_cost(machine, events, name) for name in EVENTS)
    pairs = zip(stages, placement.layers, strict=True)
    seconds = tuple(float(ns) * 1e-9 for ns in sample_ns)
    static = machine.static
    return LoihiResult(
        machine=machine,
        workload=workload_of(trace),
        samples=trace.meta.batch,
        prices=PriceSource(name=f"{machine.name}'s own", sha256=machine.sha256, node_nm=machine.node_nm),
        timesteps=trace.meta.timesteps,
        steps=compute_ns.shape[1],
        cores=placement.cores,
        chips=placement.chips,
        tiles=placement.tiles,
        seconds_of_sample=seconds,
        compute_seconds=float(compute_ns.sum()) * 1e-9,
        flight_seconds=float(events.flight_ns.sum()) * 1e-9,
        barrier_seconds=barrier_ns * compute_ns.size * 1e-9,
        energy_j=math.fsum(cost.energy_pj for cost in costs) * 1e-12,
        static_energy_j=static.power_w * placement.chips * math.fsum(seconds) if static else None,
        events=costs,
        layers=tuple(_row(machine, stage, cores, events, busy_ns) for stage, cores in pairs),
        name=machine.name,
        said=_assumptions(machine, trace, stages, placement),
        weight_bits=machine.mapping.weight_bits.value,
    )


def busy_time_ns(machine: LoihiMachine, events: Events) -> np.ndarray:
    """float64 (N, steps, cores): what each core does in each step, one event after the other."""
    total: np.ndarray = np.zeros(events.neuron_active.shape)
    for name in IN_CORE:
        total += getattr(events, name) * getattr(machine.prices, name).time_ns
    return total


def _cost(machine: LoihiMachine, events: Events, name: str, cores: slice = slice(None)) -> EventCost:
    count = int(getattr(events, name)[:, :, cores].sum())
    return EventCost(name, count, count * getattr(machine.prices, name).energy_pj)


def _row(machine: LoihiMachine, stage: Stage, cores: LayerCores, events: Events, busy_ns: np.ndarray) -> LoihiLayer:
    costs = {name: _cost(machine, events, name, cores.slice) for name in EVENTS}
    return LoihiLayer(
        layer=stage.layer,
        kind=stage.kind,
        neurons=stage.neurons,
        synapses=stage.synapses,
        cores=cores.cores,
        synaptic_operations=costs["synaptic_operation_sparse"].count + costs["synaptic_operation_dense"].count,
        neurons_active=costs["neuron_active"].count,
        neurons_inactive=costs["neuron_inactive"].count,
        spikes=costs["spike_fired"].count,
        messages_sent=costs["message_sent"].count,
        messages_received=costs["message_received"].count,
        hops_east_west=costs["hop_east_west"].count,
        hops_north_south=costs["hop_north_south"].count,
        energy_pj=math.fsum(cost.energy_pj for cost in costs.values()),
        busy_seconds=float(busy_ns[:, :, cores.slice].max(axis=2).sum()) * 1e-9,
    )


def _active(machine: LoihiMachine, trace: Trace, stages: tuple[Stage, ...]) -> str:
    """Which updates are active, in words."""
    if not machine.keeps_state:
        return "a spike came in, else inactive"
    known = any(trace.has(f"{layer}.bias") for stage in stages for layer in stage.biased_by)
    unknown = "" if known else " (the trace holds no biases: taken as 0)"
    return f"a spike came in, or the potential or the bias is not 0{unknown}, else inactive"


def _assumptions(
    machine: LoihiMachine, trace: Trace, stages: tuple[Stage, ...], placement: Placement
) -> tuple[str, ...]:
    mapping = machine.mapping
    lines = [
        f"prices: {machine.description or machine.name}",
        "one step between a layer and the next; samples one after the other; state reset between them not modelled",
        f"a neuron's update is active where {_active(machine, trace, stages)}; all neurons update in every step",
        "events of a core one after the other; no contention on the mesh; barrier energy unpublished, taken as 0",
        "average pooling as a spiking layer with synapses; host input spikes as messages without hops; output unsent",
        f"weights of {mapping.weight_bits.value} bits, "
        f"{'shared kernels' if mapping.share_convolution_weights.value else 'every synapse stored'}, "
        f"{'population' if mapping.population_axons.value else 'one-neuron'} axons",
        f"at most {machine.compartments} neurons on a core, and else as few cores as its limits let it",
        "static power is apart, not in the energy",
    ]
    if any(stage.driven for stage in stages):
        lines.append("the host computes an encode layer's current and injects it as bias: neuron updates only")
    if placement.chips > 1:
        lines.append(
            f"{placement.chips} chips side by side, links between chips priced as hops, one chip's barrier: too cheap"
        )
    if trace.meta.source.get("kind") == "synthetic":
        lines.append("synthetic masks, not from training")
    return tuple(lines)
