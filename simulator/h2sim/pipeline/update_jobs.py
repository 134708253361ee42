"""Jobs of the weight update: on the Weight Update Engine, and of analog operands on the Backward Engine."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.engines import weight_update
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, GradientStationary, bits_to_bytes
from h2sim.pipeline.analog_jobs import analog_update, analog_update_needs, multiplied
from h2sim.pipeline.geometry import NeuronTiles, columns_of, positions, widths
from h2sim.pipeline.jobs import Named, job_of
from h2sim.shapes import ceil_div, tiles_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps

FC_BLOCK_TURNS = 64  # cycles of a block of input features, beside which the one that loads its gradients is little [A]


def update_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job | None:
    """The job that computes one layer's weight gradient dw; None for a layer without weights."""
    if not layer.has_weights:
        return None
    if multiplied(arch, graph, layer):
        work, traffic, fill = analog_update(arch, graph, layer)
        return job_of(layer, "weight_update", "backward", work, traffic, graph.gradient_ready(layer), fill_cycles=fill)
    stationary = (_conv if layer.kind == "conv" else _fc)(arch, graph, layer)
    traffic = stationary.traffic(*_buffers(arch), arch.pipeline.accumulate_weight_gradients)
    work = _work(arch, graph, maps, layer)
    fill = weight_update.fill_cycles(arch.engines.weight_update, arch.latency)
    return job_of(layer, "weight_update", "weight_update", work, traffic, graph.gradient_ready(layer), fill_cycles=fill)


def update_needs(arch: Arch, graph: Graph, layer: Layer) -> dict[str, int]:
    """Bytes that halves of the engine's buffers must hold of the job of a layer, by their names (`fit`); none of a
    layer without weights."""
    if not layer.has_weights:
        return {}
    if multiplied(arch, graph, layer):
        return analog_update_needs(arch, graph, layer)
    return (_conv if layer.kind == "conv" else _fc)(arch, graph, layer).needs(*_buffers(arch))


def _buffers(arch: Arch) -> tuple[Named, Named, Named]:
    """Those of a job, as GradientStationary.traffic takes them."""
    b = arch.engines.weight_update.buffers
    return ("gradients", b.gradients), ("spikes", b.spikes), ("weight_gradients", b.weight_gradients)


def _work(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> EngineWork:
    engine, planes = arch.engines.weight_update, graph.operand(layer).planes
    if layer.kind == "conv":
        return weight_update.conv(engine, arch.tile, graph.meta.conv_shape(layer), planes)
    return weight_update.fc(engine, graph.meta.fc_shape(layer), maps.set_planes(layer.inputs[0]), planes)


def _conv(arch: Arch, graph: Graph, layer: Layer) -> GradientStationary:
    engine, shape, planes = arch.engines.weight_update, graph.meta.conv_shape(layer), graph.operand(layer).planes
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
    return GradientStationary(
        gradients=gradients.values(),
        operands=bits_to_bytes(channels * positions(regions)),
        operand_reads=bits_to_bytes(channels * rows_read),
        weight_gradients=VALUE_BYTES * columns * offsets,
        updates=VALUE_BYTES * planes * passes * segments * shape.out_channels * offsets,
    )


def _fc(arch: Arch, graph: Graph, layer: Layer) -> GradientStationary:
    """Of a mean over time the gradient is the same at all timesteps, and is read once a sample.

    Input features may pass in blocks: dm waits in its buffer, and dw of a block leaves when all samples have passed.
    """
    engine, shape, planes = arch.engines.weight_update, graph.meta.fc_shape(layer), graph.operand(layer).planes
    columns = widths(shape.out_features, engine.columns)
    bits = graph.bits(layer.inputs[0]) * shape.samples * shape.in_features
    read = bits_to_bytes(np.array([bits], np.int64))
    passes = shape.batch * -(-shape.timesteps // engine.rows)
    return GradientStationary(
        gradients=VALUE_BYTES * graph.gradient_samples(layer) * columns[:, None],
        operands=read,
        operand_reads=read,
        weight_gradients=VALUE_BYTES * columns * shape.in_features,
        updates=VALUE_BYTES * planes * passes * shape.in_features * shape.out_features,
        operands_stay=True,
        blocks=ceil_div(shape.in_features, FC_BLOCK_TURNS * engine.parallelism),
    )
