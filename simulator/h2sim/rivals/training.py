"""Machines that train on one array, output stationary: what their files and layers have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar

from pydantic import Field

from h2sim.activity import Phase
from h2sim.io.strict import Strict
from h2sim.rivals.clocked import Clocked, Counted, Work
from h2sim.rivals.machine import ClockedMachine, Size
from h2sim.rivals.maps import before, has_rows, refuses_currents
from h2sim.rivals.prices import Count
from h2sim.rivals.stationary import Memories, make_job, neurons_job
from h2sim.trace import Layer, Trace
from h2sim.trace.graph import Graph


class Units(Strict):
    """An array of rows x columns units, each of which holds one sum until it is complete."""

    rows: Size = Field(description="rows of units")
    columns: Size = Field(description="columns of units: output channels")


A = TypeVar("A", bound=Units)


class ArrayMachine(ClockedMachine, Generic[A]):
    """The file of such a machine; A: its array."""

    array: A = Field(description="the array of units")

    @property
    def n_units(self) -> int:
        """Units of the array."""
        return self.array.rows * self.array.columns

    @property
    def skew_cycles(self) -> int:
        """What a fold takes beyond its sums: operands enter at two edges and pass from unit to unit."""
        return self.array.rows + self.array.columns - 2

    @property
    def memories(self) -> Memories:
        """The buffers by what they hold."""
        raise NotImplementedError


M = TypeVar("M", bound=ArrayMachine[Any])


class Training(Clocked[M]):
    """A kind of such machines: how it runs a layer with weights in each phase, and what updates its neurons."""

    phases: tuple[Phase, ...] = ("forward", "backward", "weight_update")

    @abstractmethod
    def counted(self, machine: M, trace: Trace, layer: Layer, phase: Phase) -> Counted:
        """One layer with weights in one phase, without the events of its neurons."""

    @abstractmethod
    def updates(self, forward: bool, neurons: int) -> tuple[Count, ...]:
        """What so many updates of neurons, or of their gradients, count."""

    @abstractmethod
    def neuron_lanes(self, machine: M, forward: bool) -> tuple[int, int]:
        """(Units, cycles of each update) of layers of neurons alone."""

    def refuses(self, machine: M, graph: Graph, layer: Layer) -> str | None:
        return refuses_currents(graph, layer)

    def work(self, machine: M, trace: Trace, graph: Graph, layer: Layer, phase: Phase) -> Work | None:
        """Gradients of neurons are formed before the only row that needs them: the update, where none goes further."""
        if not has_rows(layer, phase):
            return None
        neurons = layer.neurons * trace.meta.timesteps * trace.meta.batch
        updates = self.updates(phase == "forward", layer.spiking * neurons)
        if not layer.has_weights:
            lanes, cycles = self.neuron_lanes(machine, phase == "forward")
            return Work(neurons_job(layer, trace, graph, phase, machine.memories, lanes, cycles), updates)
        ran = self.counted(machine, trace, layer, phase)
        job = make_job(layer.name, phase, ran.cycles, ran.fill_cycles, ran.traffic, before(graph, layer, phase))
        formed = phase != "weight_update" or not has_rows(layer, "backward")
        return Work(job, (*ran.counts, *(updates if formed else ())))
