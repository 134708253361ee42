"""Jobs of layers without weights, which run in the Soma unit without PE cycles: pools and sums, and maps of maps."""

from __future__ import annotations

import math

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.memory.job import Job
from h2sim.memory.traffic import bits_to_bytes, neuron_stream
from h2sim.pipeline.geometry import NeuronTiles, SetBits, shared_out
from h2sim.pipeline.jobs import job_of, no_work
from h2sim.pipeline.outputs import Outputs, outputs_of
from h2sim.shapes import ceil_div
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps
from h2sim.trace.windows import axis_of


def soma_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """The job of a layer without weights.

    What reads one map takes it from Soma as it appears, the network's input from memory. What reads several takes them
    from memory: currents in FP16, spikes as bits, counts as the bits of the largest.
    """
    b = arch.engines.forward.buffers
    made, reads = _streamed(arch, graph, maps, layer)
    traffic = neuron_stream(reads, made.writes[0], ("spikes", b.spikes), ("output", b.output))
    return job_of(
        layer, "forward", "forward", no_work(made.writes.shape[1]), traffic, graph.producers(layer),
        fill_cycles=arch.latency.soma + made.fill_cycles, acc=_summing(graph, layer) + made.acc, neuron=made.soma,
    )  # fmt: skip


def soma_needs(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> dict[str, int]:
    """Bytes that a half of each buffer must hold of the job of a layer without weights, by their names (`fit`).

    Soma works element by element, so a tile may pass in blocks of as many channels as the array has columns [A].
    """
    made, reads = _streamed(arch, graph, maps, layer)
    blocks = ceil_div(layer.out_chw[0], arch.engines.forward.columns)
    return {"spikes": ceil_div(int(reads.max()), blocks), "output": ceil_div(int(made.writes.max()), blocks)}


def _streamed(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Outputs, Ints]:
    """What a layer without weights makes, and the bytes that it reads from memory, int64 (tiles,)."""
    groups = np.array(layer.out_chw[:1], np.int64)
    made = outputs_of(arch, graph, maps, layer, groups, arch.engines.forward.parallelism)
    return made, (made.reads + _read(graph, layer, made.neurons))[0]


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
