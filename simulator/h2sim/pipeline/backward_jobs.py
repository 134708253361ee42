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
from h2sim.engines.work import EngineWork
from h2sim.memory.job import Job
from h2sim.memory.traffic import VALUE_BYTES, OutputStationary, Traffic, bits_to_bytes, most, neuron_stream
from h2sim.pipeline.below import Moved, below, bias_sums, moved, normalised, tiles_of_map
from h2sim.pipeline.geometry import SetBits, by_group, columns_of, positions, shared_out, widths
from h2sim.pipeline.jobs import Named, job_of, no_work
from h2sim.shapes import ConvShape, FcShape, ceil_div, tiles_of
from h2sim.trace import Layer
from h2sim.trace.gradients import Share
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps


def backward_job(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job | None:
    """The job that carries the gradient through one layer to its inputs; None where nothing is to be computed.

    None for a layer below which nothing is trained, for a pool or an add that completes the gradient of none of its
    inputs, and for what only makes a map of maps: the jobs above hand the gradient on through it.
    """
    if not _computes(graph, layer):
        return None
    if layer.has_weights:
        return _fc(arch, graph, maps, layer) if layer.kind == "fc" else _conv(arch, graph, maps, layer)
    return _grad_only(arch, graph, maps, layer)


def _computes(graph: Graph, layer: Layer) -> bool:
    return graph.gradients.has_job(layer) and any(map(graph.gradients.trained, layer.inputs))


def backward_needs(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> dict[str, int]:
    """Bytes that halves of the engine's buffers must hold of the job of a layer in a step, by their names (`fit`); none
    where there is no job.

    Where Grad works alone it goes element by element: a tile may pass in blocks of as many channels as the array has
    columns, and so may what an output layer makes of the loss's gradient [A].
    """
    if not _computes(graph, layer):
        return {}
    if layer.has_weights:
        found = _stationary(arch, graph, maps, layer)[1].needs(*_buffers(arch))
    else:
        total = _through_grad(arch, graph, maps, layer)
        if total is None:
            return {}
        found = _in_blocks(arch, graph.chw(layer.inputs[0])[0], int(total.reads.max()), int(total.writes.max()))
    if not _meets_loss(graph, layer):
        return found
    reads, writes, _ = _of_loss(arch, graph, maps, layer)
    channels, height, width = layer.out_chw
    tiles = ceil_div(height, arch.tile.height) * ceil_div(width, arch.tile.width)
    of_loss = _in_blocks(arch, channels, ceil_div(reads, tiles), ceil_div(writes, tiles))
    return most([*found.items(), *of_loss.items()])


def _in_blocks(arch: Arch, channels: int, reads: int, writes: int) -> dict[str, int]:
    """What halves must hold of a tile of so many channels, of which Grad reads and writes so many bytes."""
    blocks = ceil_div(channels, arch.engines.backward.columns)
    return {"state": ceil_div(reads, blocks), "output": ceil_div(writes, blocks)}


def with_loss(arch: Arch, graph: Graph, maps: Maps, layer: Layer, job: Job) -> Job:
    """The job of an output layer in a step: in its first grid iteration dm is made of the loss's gradient [A].

    The job of any other layer comes back as it is. Of a spiking layer Grad reads s, ds~, m and the gradient of its
    spikes, and writes dm and dm~. Of a layer that does not spike dm is the gradient of its current, which is written as
    it comes, once a sample for a mean over time. That of a map goes straight on.
    """
    if not _meets_loss(graph, layer):
        return job
    reads, writes, passed = _of_loss(arch, graph, maps, layer)
    b = arch.engines.backward.buffers
    return replace(
        job,
        traffic=job.traffic.with_first(reads, writes, ("state", b.state), ("output", b.output)),
        fill_cycles=job.fill_cycles + passed.fill_cycles,
        acc=job.acc + passed.acc,
        neuron=job.neuron + passed.grad,
    )


def _meets_loss(graph: Graph, layer: Layer) -> bool:
    return not graph.consumers(layer.name) and not graph.gradients.is_routed(layer)


def _of_loss(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[int, int, Moved]:
    """Bytes that Grad reads and writes where an output layer meets the loss, and its work; see with_loss."""
    neurons = tiles_of_map(arch, graph, maps, layer.name)
    reads, grad = 0, NO_ACTIONS
    if layer.spiking:
        reads = int((neurons.state() + neurons.values()).sum())
        grad = Actions(grad_element=int(neurons.neurons.sum()))
    elif layer.mean_over_time:
        neurons = replace(neurons, samples=graph.meta.batch)
    norms = normalised(arch, graph, layer, neurons)
    writes = int((neurons.values() + neurons.mask() + norms.writes).sum())
    work = replace(norms, grad=grad + norms.grad + bias_sums(graph, layer.name, neurons))
    return reads + int(norms.reads.sum()), writes, work


def _job(graph: Graph, layer: Layer, work: EngineWork, traffic: Traffic, moved: Moved, fill: int) -> Job:
    return job_of(
        layer, "backward", "backward", work, traffic, graph.gradient_ready(layer),
        fill_cycles=fill + moved.fill_cycles, acc=moved.acc, neuron=moved.grad,
    )  # fmt: skip


def _buffers(arch: Arch) -> tuple[Named, Named, Named, Named, Named]:
    """Those of a layer with weights, as OutputStationary.traffic takes them."""
    b = arch.engines.backward.buffers
    return (
        ("gradients", b.gradients),
        ("weights", b.weights),
        ("psum", b.psum),
        ("state", b.state),
        ("output", b.output),
    )


def _stationary(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Moved, OutputStationary]:
    return (_fc_stationary if layer.kind == "fc" else _conv_stationary)(arch, graph, maps, layer)


def _conv(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    engine, shape, name = arch.engines.backward, graph.meta.conv_shape(layer), layer.inputs[0]
    work = backward.conv_of(
        engine, arch.tile, shape, backward.counts_of(engine, arch.tile, shape, maps, layer.name, name)
    )
    moved, stationary = _conv_stationary(arch, graph, maps, layer)
    valid = work.acc.fp16_add // shape.group.out_channels  # only valid outputs have partial sums to add to
    stationary = replace(stationary, psum_updates=VALUE_BYTES * valid * stationary.weights.shape[1])
    fill = backward.fill_cycles(engine, arch.latency, arch.latency.grad) + work.neuron_cycles
    return _job(graph, layer, work, stationary.traffic(*_buffers(arch)), moved, fill)


def _conv_stationary(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Moved, OutputStationary]:
    engine, shape = arch.engines.backward, graph.meta.conv_shape(layer)
    one = shape.group
    passes = shape.passes((one.out_channels, engine.rows), (one.in_channels, engine.columns))
    columns, together = columns_of([ins for ins, _ in passes], engine.columns, one.in_channels)
    neurons, moved = below(arch, graph, maps, layer, columns)
    channels = widths(one.out_channels, engine.rows)
    block = channels * shape.kernel[0] * shape.kernel[1]
    return moved, OutputStationary(
        operands=_operands(arch, maps, layer, shape, [outs for _, outs in passes], together),
        weights=VALUE_BYTES * neurons.group_widths[:, None] * block[None, :],
        psums=neurons.values(),
        state=moved.reads,
        results=moved.writes,
    )


def _operands(arch: Arch, maps: SetBits, layer: Layer, shape: ConvShape, passes: list[range], together: Ints) -> Ints:
    """Bytes of dm and dm~ that each tile reads, halo included: int64 (tiles, row groups), of groups of channels
    (column groups, tiles, row groups).

    dm takes 2 B an element, or with dm_compressed 2 B a non-zero element; dm~ takes a bit an element. passes: the
    channels of dm of every pass; together: how many groups of channels the pass of each column group works on.
    """
    rows = arch.engines.backward.rows
    tiles = tiles_of(shape.in_height, shape.in_width, arch.tile.height, arch.tile.width)
    regions = [shape.output_region(t) for t in tiles]
    channels = widths(shape.group.out_channels, rows)
    elements = shape.samples * positions(regions)[:, None] * channels[None, :]
    if shape.groups > 1:
        elements = elements * together[:, None, None]
    if not arch.engines.backward.dm_compressed:
        return VALUE_BYTES * elements + bits_to_bytes(elements)
    per_position = maps.in_tiles(layer.name, "grad", (1, 1)).reshape(layer.out_chw)
    nonzero = np.stack([per_position[:, r.y0 : r.y1, r.x0 : r.x1].sum(axis=(1, 2)) for r in regions], axis=1)
    if shape.groups == 1:
        return VALUE_BYTES * by_group(nonzero, channels).T + bits_to_bytes(elements)
    of_pass = [by_group(nonzero[span.start : span.stop], widths(len(span), rows)).T for span in passes]
    times = len(together) // len(passes)  # column groups of a pass
    return VALUE_BYTES * np.repeat(np.stack(of_pass), times, axis=0) + bits_to_bytes(elements)


def _fc(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job:
    """Of a mean over time the gradient is the same at all timesteps: it is computed once a sample."""
    shape, steps = _fc_shape(graph, layer)
    work = backward.fc(arch.engines.backward, shape, steps)
    moved, stationary = _fc_stationary(arch, graph, maps, layer)
    fill = backward.depth_cycles(arch.engines.backward, arch.latency, arch.latency.grad) + work.neuron_cycles
    return _job(graph, layer, work, stationary.traffic(*_buffers(arch)), moved, fill)


def _fc_shape(graph: Graph, layer: Layer) -> tuple[FcShape, int]:
    """What is computed, and for how many timesteps."""
    shape = graph.meta.fc_shape(layer)
    return (replace(shape, timesteps=1), shape.timesteps) if layer.mean_over_time else (shape, 1)


def _fc_stationary(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> tuple[Moved, OutputStationary]:
    engine, (shape, _) = arch.engines.backward, _fc_shape(graph, layer)
    _, moved = below(arch, graph, maps, layer, np.array(graph.chw(layer.inputs[0])[:1], np.int64))
    columns, rows = widths(shape.in_features, engine.columns), widths(shape.out_features, engine.rows)
    elements = shape.samples * rows[None, :]
    return moved, OutputStationary(
        operands=VALUE_BYTES * elements + bits_to_bytes(elements),
        weights=VALUE_BYTES * columns[:, None] * rows[None, :],
        psums=VALUE_BYTES * shape.samples * columns[:, None],
        state=_by_features(moved.reads, columns),
        results=_by_features(moved.writes, columns),
        operands_stay=True,
    )


def _by_features(per_tile: Ints, columns: Ints) -> Ints:
    """A layer's total bytes, shared out to column groups in proportion to their features: int64 (groups, 1)."""
    return shared_out(int(per_tile.sum()), columns)[:, None]


def _grad_only(arch: Arch, graph: Graph, maps: Maps, layer: Layer) -> Job | None:
    """The job of a layer without weights: Grad passes the gradient on to its inputs, without PE cycles.

    The dm of a pool comes straight from Grad. That of an add is read from memory for every input, like the parts of
    other jobs; where another job completes an input's gradient, the add's dm is its part. None where nothing is left
    to do.
    """
    total = _through_grad(arch, graph, maps, layer)
    if total is None:
        return None
    b = arch.engines.backward.buffers
    traffic = neuron_stream(total.reads[0], total.writes[0], ("state", b.state), ("output", b.output))
    return _job(graph, layer, no_work(total.reads.shape[1]), traffic, total, arch.latency.grad)


def _through_grad(arch: Arch, graph: Graph, maps: SetBits, layer: Layer) -> Moved | None:
    """What such a layer moves, int64 (1, tiles); None where nothing is left to do."""
    base = tiles_of_map(arch, graph, maps, layer.inputs[0])
    nothing = np.zeros_like(base.neurons)
    total, shares = Moved(reads=nothing, writes=nothing), []
    for share in graph.gradients.shares(layer.name):
        direct = share.name in layer.inputs
        below_it = None if share.name == "input" else graph.meta.layer(share.name)
        if direct and below_it and not graph.gradients.is_routed(below_it):
            if not share.complete or graph.is_own(below_it, layer):
                continue
        elif direct and layer.kind == "add" and not share.complete:
            continue
        shares.append(share)
        own = tiles_of_map(arch, graph, maps, share.name)
        found = moved(arch, graph, maps, share, own)
        if direct and layer.kind == "add":
            found += Moved(reads=own.values(), writes=np.zeros_like(own.neurons))
        total += found if own.neurons.shape == nothing.shape else found.over(base)
    if not shares:
        return None
    if graph.gradients.is_routed(layer):
        whole = Share(layer.name, complete=True, others=0)
        total += moved(arch, graph, maps, whole, tiles_of_map(arch, graph, maps, layer.name)).over(base)
    return total
