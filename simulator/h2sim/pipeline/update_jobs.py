"""Jobs of the weight update: Weight Update Engine, and the encoding layer's weight gradient on the Backward Engine."""

from __future__ import annotations

import math

import numpy as np

from h2sim.activity import Actions, Engine
from h2sim.arch.schema import Arch
from h2sim.engines import backward, weight_update
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, GradientStationary, Traffic, bits_to_bytes
from h2sim.pipeline.geometry import NeuronTiles, input_regions, positions, widths
from h2sim.shapes import tiles_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps


def update_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job | None:
    """The job that computes one layer's weight gradient dw; None for a layer without weights."""
    build = {"conv": _conv, "fc": _fc, "encode": _encode}.get(layer.kind)
    return build(arch, graph, maps, layer) if build else None


def _job(graph: Graph, layer: Layer, engine: Engine, work: EngineWork, traffic: Traffic, fill: int) -> Job:
    after = graph.gradient_ready(layer)
    return Job(
        layer=layer.name,
        phase="weight_update",
        engine=engine,
        side="backward",
        cycles=work.iteration_cycles,
        fill_cycles=fill,
        traffic=traffic,
        pe_array=work.pe_array,
        acc=work.acc,
        neuron=Actions(),
        useful_operations=work.useful_operations,
        peak_operations=work.peak_operations,
        after=after,
    )


def _wue_job(arch: Arch, graph: Graph, layer: Layer, work: EngineWork, stationary: GradientStationary) -> Job:
    b = arch.engines.weight_update.buffers
    traffic = stationary.traffic(
        ("gradients", b.gradients),
        ("spikes", b.spikes),
        ("weight_gradients", b.weight_gradients),
        arch.pipeline.accumulate_weight_gradients,
    )
    fill = weight_update.fill_cycles(arch.engines.weight_update, arch.latency)
    return _job(graph, layer, "weight_update", work, traffic, fill)


def _conv(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape = arch.engines.weight_update, graph.meta.conv_shape(layer)
    work = weight_update.conv(engine, arch.tile, shape)
    tiles = tiles_of(shape.out_height, shape.out_width, arch.tile.height, arch.tile.width)
    gradients = NeuronTiles.of(graph.samples, layer.out_chw, engine.columns, arch.tile, None)
    offsets = shape.in_channels * shape.kernel[0] * shape.kernel[1]
    regions = [shape.input_region(t) for t in tiles]
    # every row of gradients reads the kernel's rows of spikes again
    rows_read = np.array([t.height * shape.kernel[0] * r.width for t, r in zip(tiles, regions, strict=True)], np.int64)
    segments = sum(t.height * -(-t.width // (engine.sub_luts * engine.sub_lut_inputs)) for t in tiles)
    passes = shape.batch * -(-shape.timesteps // engine.rows)
    stationary = GradientStationary(
        gradients=gradients.values(),
        operands=bits_to_bytes(shape.samples * shape.in_channels * positions(regions)),
        operand_reads=bits_to_bytes(shape.samples * shape.in_channels * rows_read),
        weight_gradients=VALUE_BYTES * gradients.group_widths * offsets,
        updates=VALUE_BYTES * passes * segments * shape.out_channels * offsets,
    )
    return _wue_job(arch, graph, layer, work, stationary)


def _fc(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape = arch.engines.weight_update, graph.meta.fc_shape(layer)
    work = weight_update.fc(engine, shape, maps.set_spikes(layer.inputs[0]))
    columns = widths(shape.out_features, engine.columns)
    spikes = bits_to_bytes(np.array([shape.samples * shape.in_features], np.int64))
    passes = shape.batch * -(-shape.timesteps // engine.rows)
    stationary = GradientStationary(
        gradients=VALUE_BYTES * shape.samples * columns[:, None],
        operands=spikes,
        operand_reads=spikes,
        weight_gradients=VALUE_BYTES * columns * shape.in_features,
        updates=VALUE_BYTES * passes * shape.in_features * shape.out_features,
        operands_stay=True,
    )
    return _wue_job(arch, graph, layer, work, stationary)


def _encode(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine = arch.engines.backward
    shape, steps = graph.encoded(layer, arch.engines.backward.encode_gradient_once)
    work = backward.encode_weight_gradient(engine, arch.tile, shape)
    gradients = NeuronTiles.of(graph.samples, layer.out_chw, engine.columns, arch.tile, None)
    inputs = VALUE_BYTES * shape.batch * graph.analog_steps * shape.in_channels * input_regions(arch.tile, shape)
    offsets = shape.in_channels * shape.kernel[0] * shape.kernel[1]
    stationary = GradientStationary(
        gradients=gradients.values(),
        operands=inputs,
        operand_reads=inputs,
        weight_gradients=VALUE_BYTES * gradients.group_widths * offsets,
        updates=VALUE_BYTES * shape.samples * len(inputs) * shape.out_channels * offsets,
    )
    b = engine.buffers
    traffic = stationary.traffic(
        ("state", b.state), ("gradients", b.gradients), ("psum", b.psum), arch.pipeline.accumulate_weight_gradients
    )
    work = EngineWork(
        iteration_cycles=work.iteration_cycles.sum(axis=2, keepdims=True),
        pe_array=work.pe_array + Actions(fp16_add=(steps - 1) * shape.batch * math.prod(layer.out_chw)),
        acc=work.acc,
        useful_operations=work.useful_operations,
        peak_operations=work.peak_operations,
    )
    fill = backward.fill_cycles(engine, arch.latency, 0)
    return _job(graph, layer, "backward", work, traffic, fill)
