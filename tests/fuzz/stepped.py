"""A whole step of H2Learn through the stepped reference engines: what the fast simulation must count, row by row."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from h2sim.activity import Actions, LayerActivity, Phase
from h2sim.arch import Arch
from h2sim.arch.schema import BackwardEngine, ForwardEngine, TileSize, WeightUpdateEngine
from h2sim.engines import backward as fast_backward
from h2sim.engines import forward as fast_forward
from h2sim.engines import weight_update as fast_update
from h2sim.facade import count
from h2sim.reference import backward, encode, forward, weight_update
from h2sim.reference.result import EngineRun
from h2sim.shapes import ConvShape, FcShape
from h2sim.trace import Layer, Trace, TraceMeta
from h2sim.trace.bits import unpack
from h2sim.trace.derived import Derived
from h2sim.trace.gradients import Gradients
from h2sim.trace.graph import Graph

MOST_WORK = 60_000  # multiplications, and PEs; more would take the stepped engines too long
Counts = tuple[int, Actions, Actions, int]  # compute cycles, PE array, Acc, fill cycles


def affordable(arch: Arch, meta: TraceMeta) -> bool:
    """Whether the stepped engines can count this step in a short time."""
    work = sum(meta.timesteps * meta.batch * layer.neurons * _terms(layer) for layer in meta.layers)
    sizes = [(e.rows + e.columns) * e.parallelism for e in (arch.engines.forward, arch.engines.backward)]
    sync = arch.engines.backward.tile_sync_cycles + arch.engines.backward.empty_window_cycles
    return work <= MOST_WORK and max(sizes) <= MOST_WORK and sync <= 1000


def _terms(layer: Layer) -> int:
    if layer.kind == "fc":
        return math.prod(layer.in_chw)
    kernel = math.prod(layer.kernel or (1, 1))
    return kernel * (layer.in_chw[0] if layer.kind != "pool" else 1)


def check_counts(arch: Arch, trace: Trace) -> list[str]:
    """Rows in which the fast simulation is not the stepped reference; none where all is well."""
    activity = count(arch, trace).activity
    faults = [f for row in activity.layers for f in _row_faults(row, _stepped_row(arch, trace, row))]
    whole = activity.first_cycles + (activity.sub_batches - 1) * activity.steady_cycles + activity.update_cycles
    if whole != activity.batch_cycles or activity.steady_cycles < max(row.end_cycle for row in activity.layers):
        faults.append(f"step: cycles do not add up: {activity}")
    return faults


def _row_faults(row: LayerActivity, expected: Counts) -> list[str]:
    found = (row.compute_cycles, row.pe_array, row.acc, row.fill_cycles)
    faults = [] if found == expected else [f"{row.layer} {row.phase}: stepped {expected}; got {found}"]
    if row.end_cycle - row.start_cycle != row.compute_cycles + row.fill_cycles + row.stalls.total:
        faults.append(f"{row.layer} {row.phase}: end - start is not compute + fill + stalls")
    return faults


def _stepped_row(arch: Arch, trace: Trace, row: LayerActivity) -> Counts:
    layer, derived = trace.meta.layer(row.layer), Derived(trace)
    if not layer.has_weights:
        return _beside(arch, trace, row, _neurons_only(arch, trace.meta, layer, row.phase))
    on_macs = layer.kind == "encode" or _is_multiplied(arch, derived, layer)
    if on_macs and row.phase != "backward":
        return _beside(arch, trace, row, _multiplied(arch, trace, layer, row.phase))
    run = {"forward": _forward, "backward": _backward, "weight_update": _update}[row.phase]
    return _beside(arch, trace, row, run(arch, derived, layer))


def _is_multiplied(arch: Arch, derived: Derived, layer: Layer) -> bool:
    operand, most = derived.operands[layer.inputs[0]], arch.engines.forward.most_planes
    return operand.kind == "analog" or operand.most >= 2 ** (most.fc if layer.kind == "fc" else most.conv)


def _beside(arch: Arch, trace: Trace, row: LayerActivity, counts: Counts) -> Counts:
    """The counts with what a normalisation of the step and a mean over time add to them, by their formulas."""
    meta, layer = trace.meta, trace.meta.layer(row.layer)
    samples, (cycles, pe_array, acc, fill) = meta.timesteps * meta.batch, counts
    if row.phase == "forward":
        normed, parallelism = [layer], getattr(arch.engines, row.engine).parallelism
        if layer.mean_over_time:
            acc += Actions(fp16_add=(meta.timesteps - 1) * meta.batch * layer.neurons)
    elif row.phase == "backward":
        gradients, parallelism = Gradients(meta), arch.engines.backward.parallelism
        ended = [share.name for share in gradients.shares(layer.name) if share.complete]
        normed = [meta.layer(name) for name in ended if name != "input"] + [layer] * (not gradients.jobs_of(layer.name))
    else:
        return counts
    for each in normed:
        for _ in each.trained_norms:
            acc += Actions(fp16_add=2 * samples * each.neurons)
            fill += -(-samples // parallelism) * math.prod(each.out_chw[1:])
    return cycles, pe_array, acc, fill


def _neurons_only(arch: Arch, meta: TraceMeta, layer: Layer, phase: Phase) -> Counts:
    """Pools and adds need no PE: terms - 1 additions a neuron in the forward pass, nothing but Grad in the backward."""
    if phase == "backward":
        return 0, Actions(), Actions(), arch.latency.grad
    samples = meta.timesteps * meta.batch
    adds = 0
    if layer.kind == "add" and layer.op == "sum":
        adds = (len(layer.inputs) - 1) * layer.neurons
    elif layer.kind == "pool" and layer.mode != "max" and layer.spiking:
        adds = (math.prod(layer.kernel or ()) - 1) * layer.neurons
    elif layer.kind == "pool" and layer.mode != "max":
        each = [sum(max(0, len(rows) * len(columns) - 1) for columns in _reads(layer, 1)) for rows in _reads(layer, 0)]
        adds = layer.out_chw[0] * sum(each)
    return 0, Actions(), Actions(fp16_add=samples * adds), arch.latency.soma


def _reads(layer: Layer, axis: int) -> list[list[int]]:
    """What lies inside the map of each window of a pool along an axis, one position after the other."""
    size, out = layer.in_chw[1 + axis], layer.out_chw[1 + axis]
    if layer.adaptive:
        return [list(range(i * size // out, -(-(i + 1) * size // out))) for i in range(out)]
    assert layer.kernel is not None
    assert layer.stride is not None
    assert layer.padding is not None
    starts = [i * layer.stride[axis] - layer.padding[axis] for i in range(out)]
    return [[p for p in range(start, start + layer.kernel[axis]) if 0 <= p < size] for start in starts]


def _input(derived: Derived, layer: Layer) -> tuple[bytes, int]:
    """The counts that a layer reads, as bytes of int64, and their bit planes."""
    name = layer.inputs[0]
    return derived.counts(name).astype(np.int64).tobytes(), derived.operands[name].planes


def _counts(run: EngineRun, fill: int) -> Counts:
    return run.cycles, run.pe_array, run.acc, fill + run.neuron_cycles


def _shape(trace: Trace | Derived, layer: Layer) -> ConvShape | FcShape:
    return trace.meta.fc_shape(layer) if layer.kind == "fc" else trace.meta.conv_shape(layer)


def _forward(arch: Arch, derived: Derived, layer: Layer) -> Counts:
    engine = arch.engines.forward
    run = _forward_run(engine, arch.tile, _shape(derived, layer), *_input(derived, layer))
    return _counts(run, fast_forward.fill_cycles(engine, arch.latency))


def _backward(arch: Arch, derived: Derived, layer: Layer) -> Counts:
    engine, shape = arch.engines.backward, _shape(derived, layer)
    grad, before = arch.latency.grad, layer.inputs[0]
    if isinstance(shape, FcShape):
        steps = shape.timesteps if layer.mean_over_time else 1
        shape = replace(shape, timesteps=shape.timesteps // steps)
        run = _fc_backward_run(engine, shape, steps)
        return _counts(run, fast_backward.depth_cycles(engine, arch.latency, grad))
    window = np.packbits(derived.needed(before).reshape(*derived.needed(before).shape[:2], -1), axis=-1).tobytes()
    run = _conv_backward_run(engine, arch.tile, shape, derived.trace.mask(layer.name, "grad").tobytes(), window)
    return _counts(run, fast_backward.fill_cycles(engine, arch.latency, grad))


def _update(arch: Arch, derived: Derived, layer: Layer) -> Counts:
    engine = arch.engines.weight_update
    run = _update_run(engine, arch.tile, _shape(derived, layer), *_input(derived, layer))
    return _counts(run, fast_update.fill_cycles(engine, arch.latency))


def _multiplied(arch: Arch, trace: Trace, layer: Layer, phase: Phase) -> Counts:
    """A layer on the Backward Engine; an input encoded once, the weight update first sums dm over time."""
    engine = arch.engines.backward
    if layer.kind == "fc":
        run = _analog_fc_run(engine, trace.meta.fc_shape(layer), phase == "weight_update")
        neuron = arch.latency.soma if phase == "forward" else 0
        return _counts(run, fast_backward.depth_cycles(engine, arch.latency, neuron))
    once = layer.kind == "encode" and (engine.encode_once if phase == "forward" else engine.encode_gradient_once)
    shape, steps = Graph(trace.meta, trace.analog_steps).encoded(layer, once)
    if phase == "forward":
        run = _encode_run(engine, arch.tile, shape, False)
        neuron = arch.latency.soma
        sweep = run.neuron_cycles if steps == 1 else _repeated_sweep(engine, arch.tile, shape, steps)
        return run.cycles, run.pe_array, run.acc, fast_backward.fill_cycles(engine, arch.latency, neuron) + sweep
    run = _encode_run(engine, arch.tile, shape, True)
    summing = Actions(fp16_add=(steps - 1) * shape.batch * layer.neurons)
    fill = fast_backward.fill_cycles(engine, arch.latency, 0)
    return run.cycles, run.pe_array + summing, run.acc, fill


def _repeated_sweep(engine: BackwardEngine, tile: TileSize, shape: ConvShape, steps: int) -> int:
    """With encode_once Soma uses each current for all timesteps; the stepped run sweeps it once."""
    return fast_backward.encode_forward(engine, tile, shape, steps).neuron_cycles


def _maps(shape: ConvShape) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    lead = (shape.timesteps, shape.batch)
    return (
        (*lead, shape.in_channels, shape.in_height, shape.in_width),
        (*lead, shape.out_channels, shape.out_height, shape.out_width),
        (shape.out_channels, shape.group.in_channels, *shape.kernel),
    )


def _bits(packed: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    neurons = math.prod(shape[2:])
    rows = np.frombuffer(packed, np.uint8).reshape(shape[0], shape[1], -1)
    return unpack(rows, neurons).reshape(shape)


def _zeros(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(shape, np.float32)  # counts hang on masks alone


def _integers(raw: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(raw, np.int64).reshape(shape)


@cache
def _forward_run(
    engine: ForwardEngine, tile: TileSize, shape: ConvShape | FcShape, counts: bytes, planes: int
) -> EngineRun:
    if isinstance(shape, FcShape):
        k = _integers(counts, (shape.timesteps, shape.batch, shape.in_features))
        weights, bias = _zeros(shape.out_features, shape.in_features), _zeros(shape.out_features)
        return forward.forward_fc(engine, shape, k, weights, bias, planes)
    inputs, _, weight = _maps(shape)
    k = _integers(counts, inputs)
    return forward.forward_conv(engine, tile, shape, k, _zeros(*weight), _zeros(weight[0]), planes)


@cache
def _conv_backward_run(
    engine: BackwardEngine, tile: TileSize, shape: ConvShape, grad: bytes, window: bytes
) -> EngineRun:
    inputs, outputs, weight = _maps(shape)
    mask = _bits(grad, outputs)
    return backward.backward_conv(
        engine, tile, shape, mask, _bits(window, inputs), mask.astype(np.float32), _zeros(*weight)
    )


@cache
def _fc_backward_run(engine: BackwardEngine, shape: FcShape, steps: int) -> EngineRun:
    grad = _zeros(shape.timesteps, shape.batch, shape.out_features)
    return backward.backward_fc(engine, shape, grad, _zeros(shape.out_features, shape.in_features), steps)


@cache
def _update_run(
    engine: WeightUpdateEngine, tile: TileSize, shape: ConvShape | FcShape, counts: bytes, planes: int
) -> EngineRun:
    if isinstance(shape, FcShape):
        lead = (shape.timesteps, shape.batch)
        k = _integers(counts, (*lead, shape.in_features))
        return weight_update.weight_update_fc(engine, shape, k, _zeros(*lead, shape.out_features), planes)
    inputs, outputs, _ = _maps(shape)
    return weight_update.weight_update_conv(engine, tile, shape, _integers(counts, inputs), _zeros(*outputs), planes)


@cache
def _analog_fc_run(engine: BackwardEngine, shape: FcShape, update: bool) -> EngineRun:
    lead = (shape.timesteps, shape.batch)
    values, weights = _zeros(*lead, shape.in_features), _zeros(shape.out_features, shape.in_features)
    if update:
        return encode.analog_fc_weight_gradient(engine, shape, values, _zeros(*lead, shape.out_features))
    return encode.analog_fc_forward(engine, shape, values, weights, None)


@cache
def _encode_run(engine: BackwardEngine, tile: TileSize, shape: ConvShape, update: bool) -> EngineRun:
    inputs, outputs, weight = _maps(shape)
    if update:
        return encode.encode_weight_gradient(engine, tile, shape, _zeros(*inputs), _zeros(*outputs))
    return encode.encode_forward(engine, tile, shape, _zeros(*inputs), _zeros(*weight), _zeros(weight[0]))
