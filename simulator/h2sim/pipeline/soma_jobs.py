"""Jobs of layers without weights, which run in the Soma unit without PE cycles: pools and sums, and maps of maps."""

from __future__ import annotations

import math

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.memory.job import Job
from h2sim.memory.traffic import bits_to_bytes, neuron_stream
from h2sim.pipeline.geometry import NeuronTiles, shared_out
from h2sim.pipeline.jobs import job_of, no_work
from h2sim.pipeline.outputs import outputs_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps
from h2sim.trace.windows import axis_of


def soma_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """The job of a layer without weights.

    What reads one map takes it from Soma as it appears, the network's input from memory. What reads several takes them
    from memory: currents in FP16, spikes as bits, counts as the bits of the largest.
    """
    engine = arch.engines.forward
    made = outputs_of(arch, graph, maps, layer, np.array(layer.out_chw[:1], np.int64), engine.parallelism)
    reads = made.reads + _read(graph, layer, made.neurons)
    traffic = neuron_stream(
        reads[0], made.writes[0], ("spikes", engine.buffers.spikes), ("output", engine.buffers.output)
    )
    return job_of(
        layer, "forward", "forward", no_work(made.writes.shape[1]), traffic, graph.producers(layer),
        fill_cycles=arch.latency.soma + made.fill_cycles, acc=_summing(graph, layer) + made.acc, neuron=made.soma,
    )  # fmt: skip


def _read(graph: Graph, layer: Layer, neurons: NeuronTiles) -> Ints:
    """Bytes of the inputs that come from memory, int64 (1, tiles)."""
    reads = np.zeros_like(neurons.neurons)
    alike = layer.kind == "add" and layer.op == "sum"
    for name in layer.inputs if len(layer.inputs) > 1 or (layer.is_map and layer.inputs == ("input",)) else ():
        if alike:
            reads += bits_to_bytes(graph.bits(name) * neurons.neurons)
        else:  # of another shape: in proportion to what is made of it
            elements = graph.samples * math.prod(graph.chw(name))
            reads += shared_out(int(bits_to_bytes(np.array(graph.bits(name) * elements))), neurons.neurons)
    return reads


def _summing(graph: Graph, layer: Layer) -> Actions:
    """Additions of a pool or an add: terms - 1 per output neuron; terms are the pool's window or the add's inputs.

    Of a map the window is what of it lies inside. A maximum of spikes or counts, an AND and what only moves maps add
    nothing.
    """
    if layer.kind == "pool" and layer.mode != "max":
        if not layer.is_map:
            return Actions(fp16_add=(math.prod(layer.kernel or ()) - 1) * graph.samples * layer.neurons)
        inside = np.outer(axis_of(layer, 0).inside, axis_of(layer, 1).inside)
        adds = int(np.maximum(inside - 1, 0).sum())
        return Actions(fp16_add=adds * graph.samples * layer.out_chw[0])
    if layer.kind == "add" and layer.op == "sum":
        return Actions(fp16_add=(len(layer.inputs) - 1) * graph.samples * layer.neurons)
    return NO_ACTIONS
