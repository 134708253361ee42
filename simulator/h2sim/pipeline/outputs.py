"""What a layer's forward pass makes: bytes for memory, and the work of Soma and Acc beside an engine's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.memory.traffic import bits_to_bytes
from h2sim.pipeline.geometry import NeuronTiles, SetBits
from h2sim.pipeline.norms import Normalised
from h2sim.shapes import ceil_div
from h2sim.trace import Layer
from h2sim.trace.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the job of a layer makes beside its engine's work.

    neurons: the layer's outputs, as the job's grid cuts them. writes, int64 (column groups, tiles): bytes of its
    results; reads: what a normalisation reads again of them. acc and soma: events. fill_cycles: what a normalisation's
    second pass still takes at the end.
    """

    neurons: NeuronTiles
    writes: Ints
    reads: Ints
    acc: Actions
    soma: Actions
    fill_cycles: int


def outputs_of(arch: Arch, graph: Graph, maps: SetBits, layer: Layer, groups: Ints, parallelism: int) -> Outputs:
    """The outputs of a layer that is cut into groups of so many channels, int64 (groups,).

    A spiking layer writes its spikes, in training also the window mask ds~ and m, compressed but for FC layers. A
    current or a map goes to memory unless it stays in Soma; in training a map adds what the backward pass asks of it.
    parallelism: of the engine, whose neuron unit takes so many positions a cycle.
    """
    training = "backward" in graph.meta.phases
    if layer.spiking and training:
        neurons = NeuronTiles.of_layer(graph.samples, layer, groups, arch.tile, maps)
    else:
        neurons = NeuronTiles.of(graph.samples, layer.out_chw, groups, arch.tile, None)
    normalised = Normalised.of(arch, layer)
    passed = normalised.forward(neurons)
    mean = _mean(graph, layer)
    return Outputs(
        neurons=neurons,
        writes=_written(graph, layer, neurons, training) + passed.writes,
        reads=passed.reads,
        acc=passed.acc + mean,
        soma=_soma(layer, neurons) + passed.neuron,
        fill_cycles=normalised.fill_cycles(layer, ceil_div(graph.samples, parallelism)),
    )


def _written(graph: Graph, layer: Layer, neurons: NeuronTiles, training: bool) -> Ints:
    if layer.spiking:
        return neurons.state() if training else neurons.mask()
    if layer.mean_over_time:
        return replace(neurons, samples=graph.meta.batch).values()
    stays = graph.stays_in_soma(layer)
    whole = np.zeros_like(neurons.neurons) if stays else bits_to_bytes(graph.bits(layer.name) * neurons.neurons)
    return whole + kept_bytes(graph, layer, neurons, needed=True) if training else whole


def kept_bytes(graph: Graph, layer: Layer, neurons: NeuronTiles, *, needed: bool) -> Ints:
    """Bytes that a map leaves for the backward pass, int64 (groups, tiles) [A].

    What a gate kept, once a sample where all timesteps share it; where a relu's input was above 0; with `needed` also
    which positions a convolution's gradient is asked for.
    """
    if not layer.is_map:
        return np.zeros_like(neurons.neurons)
    masks = np.zeros_like(neurons.neurons)
    if layer.kind == "gate":
        masks += replace(neurons, samples=graph.kept_steps(layer) * graph.meta.batch).mask()
    if layer.kind == "relu":
        masks += neurons.mask()
    if needed and graph.feeds_conv(layer.name) and graph.gradients.trained(layer.name):
        masks += neurons.mask()
    return masks


def _soma(layer: Layer, neurons: NeuronTiles) -> Actions:
    return Actions(soma_element=int(neurons.neurons.sum())) if layer.spiking else NO_ACTIONS


def _mean(graph: Graph, layer: Layer) -> Actions:
    """Additions of a mean over all timesteps: T - 1 for each output and sample."""
    if not layer.mean_over_time:
        return NO_ACTIONS
    return Actions(fp16_add=(graph.meta.timesteps - 1) * graph.meta.batch * layer.neurons)
