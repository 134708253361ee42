"""Machines of the forward pass that take spikes and add weights: what their files, layers and prices have in common.

Samples run one after another; a tile's neurons overlap the next tile's adds [A]. Membranes stay on chip.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import Field

from h2sim.activity import Phase
from h2sim.arch.schema import Buffer, Cycles
from h2sim.energy.table import ActionPrice
from h2sim.io.strict import Strict
from h2sim.rivals.clocked import Clocked, Counted, Work
from h2sim.rivals.machine import ClockedMachine, Positive, Size, ValueBytes
from h2sim.rivals.maps import before, refuses_currents
from h2sim.rivals.prices import Count
from h2sim.rivals.stationary import Memories, make_job, neurons_job
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph


class NeuronUnits(Strict):
    """The part of an array that updates neurons."""

    lif_units: Size = Field(description="neuron units")
    lif_cycles: Cycles = Field(description="cycles of a neuron's update")


class SpikeBuffers(Strict):
    """On-chip memories."""

    spikes: Buffer = Field(description="spikes that iterations read")
    weights: Buffer = Field(description="weights of a group of output channels")


class AdderPrices(Strict):
    """Units that the energy tables lack, at the machine's node."""

    add: ActionPrice = Field(description="adder of a lane, as wide as a weight")


class Published(Strict):
    """What is reported of the machine; printed beside the simulated figures, and nothing is fitted to it."""

    power_w: Positive = Field(description="on-chip power, W")
    source: str = Field(description="where the figure stands")


A = TypeVar("A", bound=NeuronUnits)
B = TypeVar("B", bound=SpikeBuffers)


class SpikeMachine(ClockedMachine, Generic[A, B]):
    """The file of such a machine; A: its array, B: its buffers."""

    array: A = Field(description="what adds weights, and the neuron units")
    weight_bytes: ValueBytes = Field(description="bytes of a weight")
    buffers: B = Field(description="on-chip memories")
    units: AdderPrices = Field(description="prices of units that the energy tables lack")
    published: Published | None = Field(None, description="what is reported of the machine")

    @property
    def memories(self) -> Memories:
        """The buffers by what they hold; results leave through those of spikes where there is no other."""
        spikes, outputs = ("spikes", self.buffers.spikes), getattr(self.buffers, "outputs", None)
        return Memories(
            weights=("weights", self.buffers.weights), spikes=spikes, output=spikes,
            values=("outputs", outputs) if outputs else spikes, value_bytes=2,
        )  # fmt: skip


M = TypeVar("M", bound=SpikeMachine[Any, Any])


class Spiking(Clocked[M]):
    """A kind of such machines: how it runs a layer with weights, and what its events cost."""

    needs = "a layer of spikes"

    @abstractmethod
    def counted(self, machine: M, trace: Trace, layer: Layer) -> Counted:
        """One layer with weights. Raises BaselineError for one that would not fit in this computer's memory."""

    def neuron_event(self, machine: M, neurons: int, timesteps: int) -> Count:
        """What updates so many neurons (of all samples) over all timesteps; whatever it is called, one event."""
        return Count("lif", "lif", neurons * timesteps)

    def neuron_lanes(self, machine: M, timesteps: int) -> int:
        """(Neuron, timestep) pairs that are updated in lif_cycles, in layers of neurons alone."""
        units: int = machine.array.lif_units
        return units

    def refuses(self, machine: M, graph: Graph, layer: Layer) -> str | None:
        """It adds weights of spikes."""
        if layer.kind == "encode":
            return "analog input: the machine takes spikes only"
        return refuses_currents(graph, layer)

    def work(self, machine: M, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work:
        steps, neurons = trace.meta.timesteps, layer.spiking * layer.neurons * trace.meta.batch
        updates = self.neuron_event(machine, neurons, steps)
        if not layer.has_weights:
            lanes, cycles = self.neuron_lanes(machine, steps), machine.array.lif_cycles
            return Work(
                neurons_job(layer, trace, graph, phase, machine.memories, lanes, cycles, keeps=False), (updates,)
            )
        ran = self.counted(machine, trace, layer)
        after = before(graph, layer, phase)
        job = make_job(layer.name, phase, ran.cycles, ran.fill_cycles, ran.traffic, after)
        return Work(job, (*ran.counts, updates))

    def weight_bits(self, machine: M) -> int:
        return 8 * machine.weight_bytes

    def published(self, machine: M, seconds: float) -> Mapping[str, float]:
        if machine.published is None:
            return {}
        power_w = machine.published.power_w
        return {"power_w": power_w, "energy_j": power_w * seconds}

    def told(self, machine: M) -> str:
        """The note on what is published."""
        if machine.published is None:
            return "no power and no area is published in a form that is public"
        return f"published: {machine.published.power_w * 1e3:g} mW ({machine.published.source}); no area is published"
