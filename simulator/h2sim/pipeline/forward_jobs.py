"""Jobs of the forward pass: on the Forward Engine, in Soma, and of analog operands on the Backward Engine."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch, ForwardEngine
from h2sim.engines import forward
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, OutputStationary, Traffic, bits_to_bytes
from h2sim.pipeline.analog_jobs import analog_forward, multiplied
from h2sim.pipeline.geometry import columns_of, input_regions, widths
from h2sim.pipeline.jobs import job_of
from h2sim.pipeline.outputs import Outputs, outputs_of
from h2sim.pipeline.soma_jobs import soma_job
from h2sim.shapes import ConvShape, groups_of
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps


def forward_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """The job that computes one layer's spikes, its current where it does not fire, or a map."""
    if not layer.has_weights:
        return soma_job(arch, graph, maps, layer)
    if multiplied(arch, graph, layer):
        return analog_forward(arch, graph, maps, layer)
    return (_conv if layer.kind == "conv" else _fc)(arch, graph, maps, layer)


def _job(arch: Arch, graph: Graph, layer: Layer, work: EngineWork, made: Outputs, stationary: OutputStationary) -> Job:
    fill = forward.fill_cycles(arch.engines.forward, arch.latency) + work.neuron_cycles
    return job_of(
        layer, "forward", "forward", work, _traffic(arch, stationary), graph.producers(layer),
        fill_cycles=fill + made.fill_cycles, acc=made.acc, neuron=made.soma,
    )  # fmt: skip


def _traffic(arch: Arch, stationary: OutputStationary) -> Traffic:
    """What a normalisation reads again comes through the output buffer."""
    b = arch.engines.forward.buffers
    again = ("output", b.output) if stationary.state.any() else None
    return stationary.traffic(
        ("spikes", b.spikes), ("weights", b.weights), ("psum", b.psum), again, ("output", b.output)
    )


def _conv(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape, planes = arch.engines.forward, graph.meta.conv_shape(layer), graph.operand(layer).planes
    work = forward.conv(engine, arch.tile, shape, planes)
    one, per_channel = shape.group, forward.sub_kernels(engine, shape.kernel)
    passes = shape.passes((one.in_channels * per_channel, engine.rows), (one.out_channels, engine.columns))
    columns, together = columns_of([outs for _, outs in passes], engine.columns, one.out_channels)
    made = outputs_of(arch, graph, maps, layer, columns, engine.parallelism)
    rows = groups_of(one.in_channels * per_channel, engine.rows)
    channels = np.array([g[-1] // per_channel - g[0] // per_channel + 1 for g in rows], np.int64)
    regions = input_regions(arch.tile, shape)
    of_row = np.tile([_weights_of_row(engine, shape, piece) for piece in range(per_channel)], one.in_channels)
    block = np.add.reduceat(of_row, [g[0] for g in rows])
    read = graph.bits(layer.inputs[0]) * shape.samples * regions[:, None] * channels[None, :]
    stationary = OutputStationary(
        operands=bits_to_bytes(read if shape.groups == 1 else read * together[:, None, None]),
        weights=VALUE_BYTES * columns[:, None] * block[None, :],
        psums=made.neurons.values(),
        state=made.reads,
        results=made.writes,
        psum_updates=planes * int(made.neurons.values().sum()) * len(rows),
    )
    return _job(arch, graph, layer, work, made, stationary)


def _weights_of_row(engine: ForwardEngine, shape: ConvShape, piece: int) -> int:
    """Weights per output channel of one sub-kernel, which is what a row of the array holds."""
    across = -(-shape.kernel[1] // engine.sub_lut_inputs)
    y, x = divmod(piece, across)
    height = min(engine.sub_luts, shape.kernel[0] - y * engine.sub_luts)
    return height * min(engine.sub_lut_inputs, shape.kernel[1] - x * engine.sub_lut_inputs)


def _fc(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape, planes = arch.engines.forward, graph.meta.fc_shape(layer), graph.operand(layer).planes
    work = forward.fc(engine, shape, maps.set_planes(layer.inputs[0]), planes)
    columns = widths(shape.out_features, engine.columns)
    made = outputs_of(arch, graph, maps, layer, columns, engine.parallelism)
    features = widths(shape.in_features, forward.fc_group_features(engine))
    stationary = OutputStationary(
        operands=bits_to_bytes(graph.bits(layer.inputs[0]) * shape.samples * features[None, :]),
        weights=VALUE_BYTES * columns[:, None] * features[None, :],
        psums=made.neurons.values(),
        state=made.reads,
        results=made.writes,
        operands_stay=True,
        psum_updates=planes * int(made.neurons.values().sum()) * len(features),
    )
    return _job(arch, graph, layer, work, made, stationary)
