"""Jobs of the forward pass: Forward Engine, Soma, and the encoding layer on the Backward Engine."""

from __future__ import annotations

import math

import numpy as np

from h2sim.activity import Actions
from h2sim.arch.schema import Arch, ForwardEngine
from h2sim.arrays import Ints
from h2sim.engines import backward, forward
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, OutputStationary, Traffic, bits_to_bytes, neuron_stream
from h2sim.pipeline.geometry import NeuronTiles, input_regions, widths
from h2sim.shapes import ConvShape, groups_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps

NO_ACTIONS = Actions()


def forward_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """The job that computes one layer's spikes, or its current where it is non-spiking."""
    build = {"conv": _conv, "fc": _fc, "encode": _encode, "pool": _neuron_only, "add": _neuron_only}[layer.kind]
    return build(arch, graph, maps, layer)


def _results(arch: Arch, graph: Graph, maps: Maps, layer: Layer, columns: int) -> tuple[NeuronTiles, Ints]:
    """The layer's neurons, and the bytes that its job writes, int64 (column groups, tiles).

    A spiking layer writes its spikes, in training also the window mask ds~ and m, compressed but for FC layers. A
    non-spiking layer writes its current, unless only pools read it.
    """
    training = "backward" in graph.meta.phases
    if layer.spiking and training:
        neurons = NeuronTiles.of_layer(graph.samples, layer, columns, arch.tile, maps)
    else:
        neurons = NeuronTiles.of(graph.samples, layer.out_chw, columns, arch.tile, None)
    if not layer.spiking:
        return neurons, np.zeros_like(neurons.values()) if graph.only_pools_read(layer) else neurons.values()
    return neurons, neurons.state() if training else neurons.mask()


def _soma(layer: Layer, neurons: NeuronTiles) -> Actions:
    return Actions(soma_element=int(neurons.neurons.sum())) if layer.spiking else NO_ACTIONS


def _job(
    arch: Arch, graph: Graph, layer: Layer, work: EngineWork, traffic: Traffic, neurons: NeuronTiles, fill: int
) -> Job:
    return Job(
        layer=layer.name,
        phase="forward",
        engine="backward" if layer.kind == "encode" else "forward",
        side="forward",
        cycles=work.iteration_cycles,
        fill_cycles=fill,
        traffic=traffic,
        pe_array=work.pe_array,
        acc=work.acc,
        neuron=_soma(layer, neurons),
        useful_operations=work.useful_operations,
        peak_operations=work.peak_operations,
        after=graph.producers(layer),
    )


def _conv(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape = arch.engines.forward, graph.meta.conv_shape(layer)
    work = forward.conv(engine, arch.tile, shape)
    neurons, results = _results(arch, graph, maps, layer, engine.columns)
    per_channel = forward.sub_kernels(engine, shape.kernel)
    rows = groups_of(shape.in_channels * per_channel, engine.rows)
    channels = np.array([g[-1] // per_channel - g[0] // per_channel + 1 for g in rows], np.int64)
    regions = input_regions(arch.tile, shape)
    operands = bits_to_bytes(shape.samples * regions[:, None] * channels[None, :])
    of_row = np.tile([_weights_of_row(engine, shape, piece) for piece in range(per_channel)], shape.in_channels)
    block = np.add.reduceat(of_row, [g[0] for g in rows])
    stationary = OutputStationary(
        operands=operands,
        weights=VALUE_BYTES * neurons.group_widths[:, None] * block[None, :],
        psums=neurons.values(),
        state=np.zeros_like(results),
        results=results,
    )
    return _job(arch, graph, layer, work, _fe_traffic(arch, stationary), neurons, _fe_fill(arch, work))


def _fe_traffic(arch: Arch, stationary: OutputStationary) -> Traffic:
    b = arch.engines.forward.buffers
    return stationary.traffic(
        ("spikes", b.spikes), ("weights", b.weights), ("psum", b.psum), None, ("output", b.output)
    )


def _fe_fill(arch: Arch, work: EngineWork) -> int:
    return forward.fill_cycles(arch.engines.forward, arch.latency) + work.neuron_cycles


def _weights_of_row(engine: ForwardEngine, shape: ConvShape, piece: int) -> int:
    """Weights per output channel of one sub-kernel, which is what a row of the array holds."""
    across = -(-shape.kernel[1] // engine.sub_lut_inputs)
    y, x = divmod(piece, across)
    height = min(engine.sub_luts, shape.kernel[0] - y * engine.sub_luts)
    return height * min(engine.sub_lut_inputs, shape.kernel[1] - x * engine.sub_lut_inputs)


def _fc(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape = arch.engines.forward, graph.meta.fc_shape(layer)
    work = forward.fc(engine, shape, maps.set_spikes(layer.inputs[0]))
    neurons, results = _results(arch, graph, maps, layer, engine.columns)
    features = widths(shape.in_features, forward.fc_group_features(engine))
    stationary = OutputStationary(
        operands=bits_to_bytes(shape.samples * features[None, :]),
        weights=VALUE_BYTES * neurons.group_widths[:, None] * features[None, :],
        psums=neurons.values(),
        state=np.zeros_like(results),
        results=results,
        operands_stay=True,
    )
    return _job(arch, graph, layer, work, _fe_traffic(arch, stationary), neurons, _fe_fill(arch, work))


def _encode(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine = arch.engines.backward
    shape, steps = graph.encoded(layer, arch.engines.backward.encode_once)
    work = backward.encode_forward(engine, arch.tile, shape, steps)
    neurons, results = _results(arch, graph, maps, layer, engine.columns)
    channels = widths(shape.in_channels, engine.rows)
    images = shape.batch * graph.analog_steps
    block = channels * shape.kernel[0] * shape.kernel[1]
    stationary = OutputStationary(
        operands=VALUE_BYTES * images * input_regions(arch.tile, shape)[:, None] * channels[None, :],
        weights=VALUE_BYTES * neurons.group_widths[:, None] * block[None, :],
        psums=neurons.values() // steps,
        state=np.zeros_like(results),
        results=results,
    )
    b = engine.buffers
    traffic = stationary.traffic(
        ("gradients", b.gradients), ("weights", b.weights), ("psum", b.psum), None, ("output", b.output)
    )
    fill = backward.fill_cycles(engine, arch.latency, arch.latency.soma) + work.neuron_cycles
    return _job(arch, graph, layer, work, traffic, neurons, fill)


def _neuron_only(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """The job of a pool or an add, which run in the Soma unit without PE cycles.

    A pool takes its inputs from Soma as they appear. An add reads what it sums from memory: currents (FP16) and
    spikes (bits).
    """
    neurons, results = _results(arch, graph, maps, layer, layer.out_chw[0])
    reads = np.zeros_like(results)
    if layer.kind == "add":
        for name in layer.inputs:
            reads += neurons.values() if not graph.spiking(name) else neurons.mask()
    buffers = arch.engines.forward.buffers
    traffic = neuron_stream(reads[0], results[0], ("spikes", buffers.spikes), ("output", buffers.output))
    work = EngineWork(
        iteration_cycles=np.zeros((1, results.shape[1], 1), np.int64),
        pe_array=NO_ACTIONS,
        acc=_summing(layer, neurons),
        useful_operations=0,
        peak_operations=0,
    )
    return _job(arch, graph, layer, work, traffic, neurons, arch.latency.soma)


def _summing(layer: Layer, neurons: NeuronTiles) -> Actions:
    """Additions of a pool or an add: terms - 1 per output neuron; terms are the pool's window or the add's inputs."""
    terms = math.prod(layer.kernel) if layer.kernel else len(layer.inputs)
    return Actions(fp16_add=(terms - 1) * int(neurons.neurons.sum()))
