"""What a backward job leaves of gradients: bytes and Grad's work for every map that it reaches (h2sim.trace.gradients).

The job that completes the gradient of a map adds what other jobs left of it and hands it on, through what only makes
maps of maps down to neurons and currents. Any other job leaves a part, 2 B an element.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.pipeline.geometry import NeuronTiles, SetBits, shared_out
from h2sim.pipeline.norms import Normalised
from h2sim.pipeline.outputs import kept_bytes
from h2sim.shapes import ceil_div
from h2sim.trace import Layer
from h2sim.trace.gradients import Share
from h2sim.trace.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Bytes that are read and written, int64 (groups, tiles), events of Grad and of Acc, and cycles of fill."""

    reads: Ints
    writes: Ints
    grad: Actions = NO_ACTIONS
    acc: Actions = NO_ACTIONS
    fill_cycles: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(
            reads=self.reads + other.reads,
            writes=self.writes + other.writes,
            grad=self.grad + other.grad,
            acc=self.acc + other.acc,
            fill_cycles=self.fill_cycles + other.fill_cycles,
        )

    def over(self, neurons: NeuronTiles) -> Moved:
        """The same in total, shared out over the groups and tiles of other neurons."""
        reads, writes = (shared_out(int(n.sum()), neurons.neurons) for n in (self.reads, self.writes))
        return replace(self, reads=reads, writes=writes)


def tiles_of_map(arch: Arch, graph: Graph, maps: SetBits, name: str, groups: Ints | None = None) -> NeuronTiles:
    """The elements of a map as a grid cuts them, by default in one column group; of neurons with their state."""
    chw = graph.chw(name)
    groups = np.array(chw[:1], np.int64) if groups is None else groups
    if graph.spiking(name) and name != "input":
        return NeuronTiles.of_layer(graph.samples, graph.meta.layer(name), groups, arch.tile, maps)
    return NeuronTiles.of(graph.samples, chw, groups, arch.tile, None)


def bias_sums(graph: Graph, name: str, neurons: NeuronTiles) -> Actions:
    """Additions by which Grad sums the dm of a layer to the gradient of its bias (eq. 2.8): one a neuron update [A].

    The sums stay on chip until the update; their bytes, 2 a channel, are not counted.
    """
    return Actions(fp16_add=graph.biases_of(name) * int(neurons.neurons.sum()))


def moved(arch: Arch, graph: Graph, maps: SetBits, share: Share, neurons: NeuronTiles) -> Moved:
    """What a job moves for one map that it reaches, whose elements are `neurons`.

    Of neurons that it completes Grad reads s, ds~ and the kept m, and writes dm and dm~; of currents it writes dL/dx
    and its mask; through a map of maps it goes on, with one element of work for each pair (Derived.pairs).
    """
    nothing = np.zeros_like(neurons.neurons)
    if not share.complete:
        return Moved(reads=nothing, writes=neurons.values())
    if share.name == "input":
        return _of_input(graph, share, neurons)
    layer, parts = graph.meta.layer(share.name), neurons.values() * share.others
    if graph.gradients.is_routed(layer):
        through = Actions(grad_element=maps.pairs(layer.name))
        found = Moved(reads=parts + kept_bytes(graph, layer, neurons, needed=False), writes=nothing, grad=through)
    else:
        state = neurons.state() if layer.spiking else nothing
        work = Actions(grad_element=int(neurons.neurons.sum())) if layer.spiking else NO_ACTIONS
        found = Moved(
            reads=state + parts,
            writes=neurons.values() + neurons.mask(),
            grad=work + bias_sums(graph, layer.name, neurons),
        )
    return found + normalised(arch, graph, layer, neurons)


def _of_input(graph: Graph, share: Share, neurons: NeuronTiles) -> Moved:
    """The gradient of the network input: of one that stands still the sum over all timesteps, once a sample [A]."""
    once = graph.meta.analog and graph.analog_steps == 1
    written = replace(neurons, samples=graph.meta.batch) if once else neurons
    sums = Actions(fp16_add=int(neurons.neurons.sum() - written.neurons.sum()))
    return Moved(reads=neurons.values() * share.others, writes=written.values(), acc=sums)


def normalised(arch: Arch, graph: Graph, layer: Layer, neurons: NeuronTiles) -> Moved:
    """What the normalisation of a layer's output adds where its gradient is complete."""
    norms = Normalised.of(arch, layer)
    passed = norms.backward(neurons)
    fill = norms.fill_cycles(layer, ceil_div(graph.samples, arch.engines.backward.parallelism))
    return Moved(reads=passed.reads, writes=passed.writes, grad=passed.neuron, acc=passed.acc, fill_cycles=fill)


def below(arch: Arch, graph: Graph, maps: SetBits, layer: Layer, groups: Ints) -> tuple[NeuronTiles, Moved]:
    """The map whose gradient a layer with weights computes, cut into groups of so many channels, and what it moves.

    The engine's finders also read where the gradient of the map is needed; of neurons that is a part of their state.
    """
    name = layer.inputs[0]
    shares = {share.name: share for share in graph.gradients.shares(layer.name)}
    neurons = tiles_of_map(arch, graph, maps, name, groups)
    direct = shares.pop(name)
    found = moved(arch, graph, maps, direct, neurons)
    if name == "input":  # needed everywhere
        return neurons, found
    of_map = graph.meta.layer(name).is_map
    if (of_map and layer.kind == "conv") or (graph.spiking(name) and not direct.complete):
        found += Moved(reads=neurons.mask(), writes=np.zeros_like(neurons.neurons))
    return neurons, found + further(arch, graph, maps, shares.values(), neurons)


def further(arch: Arch, graph: Graph, maps: SetBits, shares: Iterable[Share], neurons: NeuronTiles) -> Moved:
    """What a job moves for maps that lie below, shared out over the elements of the one that it works on."""
    total = Moved(reads=np.zeros_like(neurons.neurons), writes=np.zeros_like(neurons.neurons))
    for share in shares:
        own = tiles_of_map(arch, graph, maps, share.name)
        total += moved(arch, graph, maps, share, own).over(neurons)
    return total
