"""Jobs of the forward pass: on the Forward Engine, in Soma, and of analog operands on the Backward Engine."""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import Arch, ForwardEngine
from h2sim.engines import forward
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, OutputStationary, bits_to_bytes
from h2sim.pipeline.analog_jobs import analog_forward, analog_forward_needs, multiplied
from h2sim.pipeline.geometry import SetBits, columns_of, input_regions, widths
from h2sim.pipeline.jobs import Named, job_of
from h2sim.pipeline.outputs import Outputs, outputs_of
from h2sim.pipeline.soma_jobs import soma_job, soma_needs
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
    made, stationary = _stationary(arch, graph, maps, layer)
    work = _work(arch, graph, maps, layer)
    fill = forward.fill_cycles(arch.engines.forward, arch.latency) + work.neuron_cycles
    return job_of(
        layer, "forward", "forward", work, stationary.traffic(*_buffers(arch, stationary)), graph.producers(layer),
        fill_cycles=fill + made.fill_cycles, acc=made.acc, neuron=made.soma,
    )  # fmt: skip


def forward_needs(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> dict[str, int]:
    """Bytes that halves of the engine's buffers must hold of the job of a layer, by their names (`fit`)."""
    if not layer.has_weights:
        return soma_needs(arch, graph, maps, layer)
    if multiplied(arch, graph, layer):
        return analog_forward_needs(arch, graph, maps, layer)
    stationary = _stationary(arch, graph, maps, layer)[1]
    return stationary.needs(*_buffers(arch, stationary))


def _buffers(arch: Arch, stationary: OutputStationary) -> tuple[Named, Named, Named, Named | None, Named]:
    """Those of a job, as OutputStationary.traffic takes them. What a normalisation reads again comes through the output
    buffer."""
    b = arch.engines.forward.buffers
    again = ("output", b.output) if stationary.state.any() else None
    return ("spikes", b.spikes), ("weights", b.weights), ("psum", b.psum), again, ("output", b.output)


def _work(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> EngineWork:
    engine, planes = arch.engines.forward, graph.operand(layer).planes
    if layer.kind == "conv":
        return forward.conv(engine, arch.tile, graph.meta.conv_shape(layer), planes)
    return forward.fc(engine, graph.meta.fc_shape(layer), maps.set_planes(layer.inputs[0]), planes)


def _stationary(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Outputs, OutputStationary]:
    return (_conv if layer.kind == "conv" else _fc)(arch, graph, maps, layer)


def _conv(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Outputs, OutputStationary]:
    engine, shape, planes = arch.engines.forward, graph.meta.conv_shape(layer), graph.operand(layer).planes
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
    return made, stationary


def _weights_of_row(engine: ForwardEngine, shape: ConvShape, piece: int) -> int:
    """Weights per output channel of one sub-kernel, which is what a row of the array holds."""
    across = -(-shape.kernel[1] // engine.sub_lut_inputs)
    y, x = divmod(piece, across)
    height = min(engine.sub_luts, shape.kernel[0] - y * engine.sub_luts)
    return height * min(engine.sub_lut_inputs, shape.kernel[1] - x * engine.sub_lut_inputs)


def _fc(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Outputs, OutputStationary]:
    engine, shape, planes = arch.engines.forward, graph.meta.fc_shape(layer), graph.operand(layer).planes
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
    return made, stationary
