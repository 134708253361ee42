"""Jobs of the backward pass, on the Backward Engine and in Grad.

The job of layer l+1 takes its membrane gradient dm^{l+1} and computes the spike gradient ds^l of its input, layer l.
ds~ is the window mask of layer l, dm~ the mask of where dm is not 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.engines import backward
from h2sim.engines.pairs import PairsKey, pairs_of
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, OutputStationary, Traffic, bits_to_bytes, neuron_stream
from h2sim.pipeline.geometry import NeuronTiles, by_group, positions, widths
from h2sim.shapes import ConvShape, tiles_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps


def backward_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job | None:
    """The job that carries the gradient through one layer to its inputs; None where nothing is to be computed.

    A layer that reads the network input has no job, and neither has a pool or an add that completes the gradient of
    none of its inputs (see Graph.completed_by).
    """
    if layer.kind in ("conv", "fc"):
        if layer.inputs[0] == "input":
            return None
        return _conv(arch, graph, maps, layer) if layer.kind == "conv" else _fc(arch, graph, maps, layer)
    if layer.kind in ("pool", "add"):
        names = [n for n in graph.completed_by(layer) if n != "input"]
        return _grad_only(arch, graph, maps, layer, names) if names else None
    return None


def with_loss(arch: Arch, graph: Graph, maps: Maps, layer: Layer, job: Job) -> Job:
    """The job of an output layer in a step: in its first grid iteration dm is made of the loss's gradient [A].

    The job of any other layer comes back as it is. Of a spiking layer Grad reads s, ds~, m and the gradient of its
    spikes, and writes dm and dm~. Of a layer that does not spike dm is the gradient of its current, which is written as
    it comes.
    """
    if graph.consumers(layer.name):
        return job
    if layer.spiking:
        neurons = NeuronTiles.of_layer(graph.samples, layer, layer.out_chw[0], arch.tile, maps)
        reads = int((neurons.state() + neurons.values()).sum())
        grad = Actions(grad_element=int(neurons.neurons.sum()))
    else:
        neurons = NeuronTiles.of(graph.samples, layer.out_chw, layer.out_chw[0], arch.tile, None)
        reads, grad = 0, NO_ACTIONS
    writes = int((neurons.values() + neurons.mask()).sum())
    b = arch.engines.backward.buffers
    traffic = job.traffic.with_first(reads, writes, ("state", b.state), ("output", b.output))
    return replace(job, traffic=traffic, neuron=job.neuron + grad + _bias_sums(graph, layer.name, neurons))


def _bias_sums(graph: Graph, name: str, neurons: NeuronTiles) -> Actions:
    """Additions by which Grad sums the dm of a layer to the gradient of its bias (eq. 2.8): one a neuron update [A].

    The sums stay on chip until the update; their bytes, 2 a channel, are not counted.
    """
    return Actions(fp16_add=graph.biases_of(name) * int(neurons.neurons.sum()))


def _target(
    arch: Arch, graph: Graph, maps: Maps, layer: Layer, name: str, columns: int
) -> tuple[NeuronTiles, Ints, Ints, Actions]:
    """The neurons of input `name`, the bytes read for them, the bytes written, and Grad's work.

    Bytes are int64 (column groups, tiles), without the operands dm and w. The job that completes the gradient of
    `name` reads s, ds~, the kept m and the parts that other consumers left, and writes dm and dm~. Any other job
    reads only ds~, for its finders, and writes its part of ds, 2 B a neuron.
    """
    neurons = NeuronTiles.of_layer(graph.samples, graph.meta.layer(name), columns, arch.tile, maps)
    if name not in graph.completed_by(layer):
        return neurons, neurons.mask(), neurons.values(), Actions()
    reads = neurons.state() + neurons.values() * graph.other_parts(name, layer)
    grad = Actions(grad_element=int(neurons.neurons.sum())) + _bias_sums(graph, name, neurons)
    return neurons, reads, neurons.values() + neurons.mask(), grad


def _job(graph: Graph, layer: Layer, work: EngineWork, traffic: Traffic, grad: Actions, fill: int) -> Job:
    return Job(
        layer=layer.name,
        phase="backward",
        engine="backward",
        side="backward",
        cycles=work.iteration_cycles,
        fill_cycles=fill,
        traffic=traffic,
        pe_array=work.pe_array,
        acc=work.acc,
        neuron=grad,
        useful_operations=work.useful_operations,
        peak_operations=work.peak_operations,
        after=graph.gradient_ready(layer),
    )


def _be_traffic(arch: Arch, stationary: OutputStationary) -> Traffic:
    b = arch.engines.backward.buffers
    return stationary.traffic(
        ("gradients", b.gradients), ("weights", b.weights), ("psum", b.psum), ("state", b.state), ("output", b.output)
    )


def _conv(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape = arch.engines.backward, graph.meta.conv_shape(layer)
    counts = pairs_of(maps, PairsKey.of(engine, arch.tile, shape), shape, layer.name, layer.inputs[0])
    work = backward.conv_of(engine, arch.tile, shape, counts)
    neurons, state, results, grad = _target(arch, graph, maps, layer, layer.inputs[0], engine.columns)
    channels = widths(shape.out_channels, engine.rows)
    block = channels * shape.kernel[0] * shape.kernel[1]
    valid = work.acc.fp16_add // shape.out_channels  # only valid outputs have partial sums to add to
    stationary = OutputStationary(
        operands=_operands(arch, maps, layer, shape, channels),
        weights=VALUE_BYTES * neurons.group_widths[:, None] * block[None, :],
        psums=neurons.values(),
        state=state,
        results=results,
        psum_updates=VALUE_BYTES * valid * len(channels),
    )
    fill = backward.fill_cycles(engine, arch.latency, arch.latency.grad) + work.neuron_cycles
    return _job(graph, layer, work, _be_traffic(arch, stationary), grad, fill)


def _operands(arch: Arch, maps: Maps, layer: Layer, shape: ConvShape, channels: Ints) -> Ints:
    """Bytes of dm and dm~ that each tile reads, halo included: int64 (tiles, row groups).

    dm takes 2 B an element, or with dm_compressed 2 B a non-zero element; dm~ takes a bit an element.
    """
    tiles = tiles_of(shape.in_height, shape.in_width, arch.tile.height, arch.tile.width)
    regions = [shape.output_region(t) for t in tiles]
    elements = shape.samples * positions(regions)[:, None] * channels[None, :]
    if not arch.engines.backward.dm_compressed:
        return VALUE_BYTES * elements + bits_to_bytes(elements)
    per_position = maps.in_tiles(layer.name, "grad", (1, 1)).reshape(layer.out_chw)
    nonzero = np.stack([per_position[:, r.y0 : r.y1, r.x0 : r.x1].sum(axis=(1, 2)) for r in regions], axis=1)
    return VALUE_BYTES * by_group(nonzero, arch.engines.backward.rows).T + bits_to_bytes(elements)


def _fc(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape = arch.engines.backward, graph.meta.fc_shape(layer)
    work = backward.fc(engine, shape)
    name = layer.inputs[0]
    _, state, results, grad = _target(arch, graph, maps, layer, name, graph.chw(name)[0])
    columns, rows = widths(shape.in_features, engine.columns), widths(shape.out_features, engine.rows)
    elements = shape.samples * rows[None, :]
    stationary = OutputStationary(
        operands=VALUE_BYTES * elements + bits_to_bytes(elements),
        weights=VALUE_BYTES * columns[:, None] * rows[None, :],
        psums=VALUE_BYTES * shape.samples * columns[:, None],
        state=_by_features(state, columns),
        results=_by_features(results, columns),
        operands_stay=True,
    )
    fill = backward.depth_cycles(engine, arch.latency, arch.latency.grad) + work.neuron_cycles
    return _job(graph, layer, work, _be_traffic(arch, stationary), grad, fill)


def _by_features(per_tile: Ints, columns: Ints) -> Ints:
    """A layer's total bytes, shared out to column groups in proportion to their features: int64 (groups, 1)."""
    ends = np.cumsum(columns)
    total = int(per_tile.sum())
    shares = np.diff([0, *(total * int(e) // int(ends[-1]) for e in ends)])
    return shares.astype(np.int64)[:, None]


def _grad_only(arch: Arch, graph: Graph, maps: Maps, layer: Layer, names: list[str]) -> Job:
    """The job of a pool or an add: Grad passes the gradient on to the inputs `names`, without PE cycles.

    The dm of a pool comes straight from Grad. That of an add is read from memory, like the parts of other consumers,
    among which `other_parts` does not count it.
    """
    reads = writes = np.zeros(1, np.int64)
    grad = Actions()
    for name in names:
        if graph.spiking(name):
            neurons, state, results, part = _target(arch, graph, maps, layer, name, graph.chw(name)[0])
            own = neurons.values() if layer.kind == "add" else np.zeros_like(state)
            state, grad = state + own, grad + part
        else:
            neurons = NeuronTiles.of(graph.samples, graph.chw(name), graph.chw(name)[0], arch.tile, None)
            state, results = np.zeros_like(neurons.mask()), neurons.values() + neurons.mask()
            grad = grad + _bias_sums(graph, name, neurons)
        reads, writes = reads + state[0], writes + results[0]
    b = arch.engines.backward.buffers
    work = EngineWork(
        iteration_cycles=np.zeros((1, len(writes), 1), np.int64),
        pe_array=Actions(),
        acc=Actions(),
        useful_operations=0,
        peak_operations=0,
    )
    traffic = neuron_stream(reads, writes, ("state", b.state), ("output", b.output))
    return _job(graph, layer, work, traffic, grad, arch.latency.grad)
