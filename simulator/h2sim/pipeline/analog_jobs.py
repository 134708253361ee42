"""Jobs of operands that no LUT takes, forward and weight gradient, on the Backward Engine's MACs: dense.

They are those of the encoding layer (section 3.2.4), which reads the analog network input, and of any layer that reads
analog values or counts of too many bit planes [A].
"""

from __future__ import annotations

import numpy as np

from h2sim.activity import Actions
from h2sim.arch.schema import Arch
from h2sim.arrays import Ints
from h2sim.engines import backward
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, GradientStationary, OutputStationary, Traffic, bits_to_bytes
from h2sim.pipeline.geometry import NeuronTiles, SetBits, columns_of, input_regions, widths
from h2sim.pipeline.jobs import Named, job_of
from h2sim.pipeline.outputs import Outputs, outputs_of
from h2sim.shapes import ConvShape, ceil_div
from h2sim.trace import Layer
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps


def multiplied(arch: Arch, graph: Graph, layer: Layer) -> bool:
    """Whether a layer's operand is multiplied on the Backward Engine, and not looked up: analog, or too many planes."""
    planes = graph.operand(layer).planes
    most = arch.engines.forward.most_planes
    return layer.kind == "encode" or planes == 0 or planes > (most.conv if layer.kind == "conv" else most.fc)


def analog_forward(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """The job that computes the current of a layer whose operand is multiplied."""
    made, stationary = (_fc if layer.kind == "fc" else _conv)(arch, graph, maps, layer)
    work, engine = _forward_work(arch, graph, layer), arch.engines.backward
    depth = backward.depth_cycles if layer.kind == "fc" else backward.fill_cycles
    fill = depth(engine, arch.latency, arch.latency.soma) + work.neuron_cycles
    return job_of(
        layer, "forward", "backward", work, stationary.traffic(*_buffers(arch, stationary)), graph.producers(layer),
        fill_cycles=fill + made.fill_cycles, acc=made.acc, neuron=made.soma,
    )  # fmt: skip


def analog_forward_needs(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> dict[str, int]:
    """Bytes that halves of the Backward Engine's buffers must hold of that job, by their names (`fit`)."""
    stationary = (_fc if layer.kind == "fc" else _conv)(arch, graph, maps, layer)[1]
    return stationary.needs(*_buffers(arch, stationary))


def _buffers(arch: Arch, stationary: OutputStationary) -> tuple[Named, Named, Named, Named | None, Named]:
    """Those of a forward job, as OutputStationary.traffic takes them."""
    b = arch.engines.backward.buffers
    again = ("output", b.output) if stationary.state.any() else None
    return ("gradients", b.gradients), ("weights", b.weights), ("psum", b.psum), again, ("output", b.output)


def _forward_work(arch: Arch, graph: Graph, layer: Layer) -> EngineWork:
    engine = arch.engines.backward
    if layer.kind == "fc":
        return backward.analog_fc_forward(engine, graph.meta.fc_shape(layer))
    return backward.encode_forward(engine, arch.tile, *graph.encoded(layer, engine.encode_once))


def _images(graph: Graph, layer: Layer) -> int:
    """How many inputs a layer reads: T*N, of a network input that stands still N."""
    return graph.meta.batch * graph.analog_steps if graph.reads_analog_input(layer) else graph.samples


def _conv(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Outputs, OutputStationary]:
    engine = arch.engines.backward
    shape, steps = graph.encoded(layer, engine.encode_once)
    columns, together = _columns(arch, shape)
    made = outputs_of(arch, graph, maps, layer, columns, engine.parallelism)
    channels = widths(shape.group.in_channels, engine.rows)
    read = graph.bits(layer.inputs[0]) * _images(graph, layer) * input_regions(arch.tile, shape)[:, None]
    operands = read * channels[None, :]
    stationary = OutputStationary(
        operands=bits_to_bytes(operands if shape.groups == 1 else operands * together[:, None, None]),
        weights=VALUE_BYTES * columns[:, None] * (channels * shape.kernel[0] * shape.kernel[1])[None, :],
        psums=made.neurons.values() // steps,
        state=made.reads,
        results=made.writes,
    )
    return made, stationary


def _columns(arch: Arch, shape: ConvShape) -> tuple[Ints, Ints]:
    """Column groups of output channels: how wide, and on how many groups of channels each works."""
    engine, one = arch.engines.backward, shape.group
    passes = shape.passes((one.in_channels, engine.rows), (one.out_channels, engine.columns))
    return columns_of([outs for _, outs in passes], engine.columns, one.out_channels)


def _fc(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Outputs, OutputStationary]:
    engine, shape = arch.engines.backward, graph.meta.fc_shape(layer)
    columns, rows = widths(shape.out_features, engine.columns), widths(shape.in_features, engine.rows)
    made = outputs_of(arch, graph, maps, layer, columns, engine.parallelism)
    stationary = OutputStationary(
        operands=bits_to_bytes(graph.bits(layer.inputs[0]) * _images(graph, layer) * rows[None, :]),
        weights=VALUE_BYTES * columns[:, None] * rows[None, :],
        psums=made.neurons.values(),
        state=made.reads,
        results=made.writes,
        operands_stay=True,
    )
    return made, stationary


def analog_update(arch: Arch, graph: Graph, layer: Layer) -> tuple[EngineWork, Traffic, int]:
    """Work, traffic and fill of the weight gradient of a layer whose operand is multiplied."""
    stationary = (_fc_update if layer.kind == "fc" else _conv_update)(arch, graph, layer)
    traffic = stationary.traffic(*_update_buffers(arch), arch.pipeline.accumulate_weight_gradients)
    depth = backward.depth_cycles if layer.kind == "fc" else backward.fill_cycles
    return _update_work(arch, graph, layer), traffic, depth(arch.engines.backward, arch.latency, 0)


def analog_update_needs(arch: Arch, graph: Graph, layer: Layer) -> dict[str, int]:
    """Bytes that halves of the Backward Engine's buffers must hold of that weight gradient, by their names (`fit`)."""
    stationary = (_fc_update if layer.kind == "fc" else _conv_update)(arch, graph, layer)
    return stationary.needs(*_update_buffers(arch))


def _update_buffers(arch: Arch) -> tuple[Named, Named, Named]:
    """Those of a weight gradient, as GradientStationary.traffic takes them."""
    b = arch.engines.backward.buffers
    return ("state", b.state), ("gradients", b.gradients), ("psum", b.psum)


def _update_work(arch: Arch, graph: Graph, layer: Layer) -> EngineWork:
    engine = arch.engines.backward
    if layer.kind == "fc":
        return _in_one_row(backward.analog_fc_weight_gradient(engine, graph.meta.fc_shape(layer)), Actions())
    shape, steps = graph.encoded(layer, engine.encode_gradient_once)
    summed = Actions(fp16_add=(steps - 1) * shape.batch * layer.neurons)
    return _in_one_row(backward.encode_weight_gradient(engine, arch.tile, shape), summed)


def _conv_update(arch: Arch, graph: Graph, layer: Layer) -> GradientStationary:
    shape, _ = graph.encoded(layer, arch.engines.backward.encode_gradient_once)
    columns, together = _columns(arch, shape)
    gradients = NeuronTiles.of(graph.samples, layer.out_chw, columns, arch.tile, None)
    one = shape.group
    read = graph.bits(layer.inputs[0]) * _images(graph, layer) * one.in_channels * input_regions(arch.tile, shape)
    inputs = bits_to_bytes(read if shape.groups == 1 else read * together[:, None])
    offsets = one.in_channels * shape.kernel[0] * shape.kernel[1]
    return GradientStationary(
        gradients=gradients.values(),
        operands=inputs,
        operand_reads=inputs,
        weight_gradients=VALUE_BYTES * columns * offsets,
        updates=VALUE_BYTES * shape.samples * gradients.tile_positions.size * shape.out_channels * offsets,
    )


def _fc_update(arch: Arch, graph: Graph, layer: Layer) -> GradientStationary:
    """Input features may stream in blocks, as in the forward pass: a row group each [A]."""
    engine, shape = arch.engines.backward, graph.meta.fc_shape(layer)
    columns = widths(shape.out_features, engine.columns)
    inputs = bits_to_bytes(np.array([graph.bits(layer.inputs[0]) * _images(graph, layer) * shape.in_features]))
    return GradientStationary(
        gradients=VALUE_BYTES * graph.gradient_samples(layer) * columns[:, None],
        operands=inputs,
        operand_reads=inputs,
        weight_gradients=VALUE_BYTES * columns * shape.in_features,
        updates=VALUE_BYTES * shape.in_features * shape.out_features,
        operands_stay=True,
        blocks=ceil_div(shape.in_features, engine.rows),
    )


def _in_one_row(work: EngineWork, more: Actions) -> EngineWork:
    """The same work, its row groups as one grid iteration, with more events of the PE array."""
    return EngineWork(
        iteration_cycles=work.iteration_cycles.sum(axis=2, keepdims=True),
        pe_array=work.pe_array + more,
        acc=work.acc,
        useful_operations=work.useful_operations,
        peak_operations=work.peak_operations,
    )
