"""Jobs of the weight update: on the Weight Update Engine, and of analog operands on the Backward Engine."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.engines import weight_update
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, GradientStationary, bits_to_bytes
from h2sim.pipeline.analog_jobs import analog_update, multiplied
from h2sim.pipeline.geometry import NeuronTiles, columns_of, positions, widths
from h2sim.pipeline.jobs import job_of
from h2sim.shapes import tiles_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps


def update_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job | None:
    """The job that computes one layer's weight gradient dw; None for a layer without weights."""
    if not layer.has_weights:
        return None
    if multiplied(arch, graph, layer):
        work, traffic, fill = analog_update(arch, graph, layer)
        return job_of(layer, "weight_update", "backward", work, traffic, graph.gradient_ready(layer), fill_cycles=fill)
    work, stationary = (_conv if layer.kind == "conv" else _fc)(arch, graph, maps, layer)
    b = arch.engines.weight_update.buffers
    traffic = stationary.traffic(
        ("gradients", b.gradients),
        ("spikes", b.spikes),
        ("weight_gradients", b.weight_gradients),
        arch.pipeline.accumulate_weight_gradients,
    )
    fill = weight_update.fill_cycles(arch.engines.weight_update, arch.latency)
    return job_of(layer, "weight_update", "weight_update", work, traffic, graph.gradient_ready(layer), fill_cycles=fill)


def _conv(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> tuple[EngineWork, GradientStationary]:
    engine, shape, planes = arch.engines.weight_update, graph.meta.conv_shape(layer), graph.operand(layer).planes
    work = weight_update.conv(engine, arch.tile, shape, planes)
    one = shape.group
    tiles = tiles_of(shape.out_height, shape.out_width, arch.tile.height, arch.tile.width)
    packed = shape.passes((0, 0), (one.out_channels, engine.columns))
    columns, together = columns_of([outs for _, outs in packed], engine.columns, one.out_channels)
    gradients = NeuronTiles.of(graph.samples, layer.out_chw, columns, arch.tile, None)
    offsets = one.in_channels * shape.kernel[0] * shape.kernel[1]
    regions = [shape.input_region(t) for t in tiles]
    # every row of gradients reads the kernel's rows of spikes again
    rows_read = np.array([t.height * shape.kernel[0] * r.width for t, r in zip(tiles, regions, strict=True)], np.int64)
    segments = sum(t.height * -(-t.width // (engine.sub_luts * engine.sub_lut_inputs)) for t in tiles)
    passes = shape.batch * -(-shape.timesteps // engine.rows)
    each = graph.bits(layer.inputs[0]) * shape.samples * one.in_channels
    channels = each if shape.groups == 1 else each * together[:, None]
    return work, GradientStationary(
        gradients=gradients.values(),
        operands=bits_to_bytes(channels * positions(regions)),
        operand_reads=bits_to_bytes(channels * rows_read),
        weight_gradients=VALUE_BYTES * columns * offsets,
        updates=VALUE_BYTES * planes * passes * segments * shape.out_channels * offsets,
    )


def _fc(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> tuple[EngineWork, GradientStationary]:
    """Of a mean over time the gradient is the same at all timesteps, and is read once a sample."""
    engine, shape, planes = arch.engines.weight_update, graph.meta.fc_shape(layer), graph.operand(layer).planes
    work = weight_update.fc(engine, shape, maps.set_planes(layer.inputs[0]), planes)
    columns = widths(shape.out_features, engine.columns)
    bits = graph.bits(layer.inputs[0]) * shape.samples * shape.in_features
    read = bits_to_bytes(np.array([bits], np.int64))
    passes = shape.batch * -(-shape.timesteps // engine.rows)
    return work, GradientStationary(
        gradients=VALUE_BYTES * graph.gradient_samples(layer) * columns[:, None],
        operands=read,
        operand_reads=read,
        weight_gradients=VALUE_BYTES * columns * shape.in_features,
        updates=VALUE_BYTES * planes * passes * shape.in_features * shape.out_features,
        operands_stay=True,
    )
