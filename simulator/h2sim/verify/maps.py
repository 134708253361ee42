"""Values of maps, forward, and gradients through them, backward, each with its tolerance.

Arrays are (T, N, C, H, W). A gradient of a map of spikes or counts is that of its integers k, of an analog map that of
its values; on its way down it is multiplied by whole numbers where both sides are counts (h2sim.trace.operands).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from h2sim.arrays import Array, Float32s, Float64s, Ints
from h2sim.trace.derived import Derived, largest, summed, upsampled
from h2sim.trace.model import Layer
from h2sim.trace.operands import Operand
from h2sim.trace.windows import axis_of, sums_of
from h2sim.verify.tolerance import UNIT, Checked, sum_of, summation_tolerance


def scales_of(operand: Operand) -> Float64s:
    """s by channel, (C, 1, 1); of an analog map 1."""
    return np.array([float(s) for s in operand.scales]).reshape(-1, 1, 1)


def counted(derived: Derived, name: str) -> Checked:
    """s * k of a map of spikes or counts; PyTorch may have rounded on its way there."""
    values = derived.counts(name) * scales_of(derived.operands[name])
    slack = np.zeros(values.shape) if (values == np.round(values)).all() else 8 * UNIT * values
    return values.astype(np.float32), slack


def made(derived: Derived, layer: Layer, sent: Sequence[Checked]) -> Checked:
    """An analog map but a norm, of what its inputs send."""
    (x, slack), *_ = sent
    if layer.kind == "pool" and layer.mode == "max":
        return largest(x, layer, -np.inf), largest(slack, layer, 0)
    if layer.kind == "pool":
        share, terms = _shares(layer), math.prod(axis_of(layer, axis).reads.shape[1] for axis in (0, 1))
        size, total = summed(np.abs(x), layer) * share, summed(x, layer) * share
        return total.astype(np.float32), summed(slack, layer) * share + summation_tolerance(terms, size)
    if layer.kind == "concat":
        return np.concatenate([v for v, _ in sent], axis=2), np.concatenate([s for _, s in sent], axis=2)
    if layer.kind == "add" and layer.op != "sum":
        other = sent[1][0] if layer.op == "and" else 1 - sent[1][0]
        return x * other, np.zeros(np.broadcast_shapes(x.shape, other.shape))
    if layer.kind == "add":
        size = sum_of([np.abs(v) for v, _ in sent])
        return sum_of([v for v, _ in sent]), sum_of([s for _, s in sent]) + summation_tolerance(len(sent), size)
    if layer.kind == "upsample":
        return upsampled(x, layer), upsampled(slack, layer)
    if layer.kind == "relu":
        return np.maximum(x, 0), slack
    factor = derived.bits(layer, "kept") * np.float32(layer.scale)
    return x * factor, slack * factor + 2 * UNIT * np.abs(x * factor)


def handed_on(derived: Derived, layer: Layer, number: int, gradient: Checked) -> Checked:
    """What the gradient of a map but a norm hands on to its input of that number."""
    name = layer.inputs[number]
    linear = _transpose(derived, layer, number)
    ratio = scales_of(derived.operands[name])
    here = scales_of(derived.operands[layer.name])
    dy, slack = gradient
    down = linear(dy.astype(np.float64) / here) * ratio
    size, left = (np.abs(linear(np.abs(each) / here)) * ratio for each in (dy.astype(np.float64), slack))
    return down.astype(np.float32), left + summation_tolerance(math.prod(layer.kernel or (1,)) + 2, size)


def _transpose(derived: Derived, layer: Layer, number: int) -> Callable[[Float64s], Float64s]:
    """The linear map by which dL/dy of a layer's values becomes dL/dx of an input's."""
    name = layer.inputs[number]
    if layer.op != "sum":
        return _of_product(derived, layer, number)
    if layer.kind == "add":
        return lambda dy: dy
    if layer.kind == "concat":
        start = sum(derived.chw(each)[0] for each in layer.inputs[:number])
        return lambda dy: dy[:, :, start : start + derived.chw(name)[0]]
    if layer.kind == "upsample":
        return lambda dy: _blocks(dy, layer)
    if layer.kind in ("gate", "relu"):
        kept = derived.bits(layer, "kept" if layer.kind == "gate" else "window") * float(layer.scale)
        return lambda dy: dy * kept
    if layer.mode == "max":
        return _routed(layer, derived.route(layer))
    return lambda dy: _spread(dy * _shares(layer), layer)


def _shares(layer: Layer) -> Float64s:
    """1 / d(o) of a pool that adds, (H_out, W_out)."""
    sums = sums_of(layer)
    return sums.times / sums.divisor


def _spread(dy: Float64s, layer: Layer) -> Float64s:
    """Every window's gradient to each of its elements."""
    rows, columns = axis_of(layer, 0).reads, axis_of(layer, 1).reads
    found = np.zeros((*dy.shape[:2], *layer.in_chw))
    for a in range(rows.shape[1]):
        for b in range(columns.shape[1]):
            ys, xs = np.nonzero(rows[:, a] >= 0)[0], np.nonzero(columns[:, b] >= 0)[0]
            at: Any = (slice(None), slice(None), slice(None), rows[ys, a][:, None], columns[xs, b][None])
            np.add.at(found, at, dy[:, :, :, ys[:, None], xs[None]])
    return found


def _routed(layer: Layer, route: Ints) -> Callable[[Float64s], Float64s]:
    """Every window's gradient to the one element that it gives on."""
    rows, columns = axis_of(layer, 0).reads, axis_of(layer, 1).reads
    t, n, c, y, x = np.ogrid[tuple(slice(n) for n in route.shape)]
    to_row, to_column = rows[y, route // columns.shape[1]], columns[x, route % columns.shape[1]]

    def transposed(dy: Float64s) -> Float64s:
        found = np.zeros((*dy.shape[:2], *layer.in_chw))
        np.add.at(found, (t, n, c, to_row, to_column), dy)
        return found

    return transposed


def _blocks(dy: Float64s, layer: Layer) -> Float64s:
    """Sums over what one element was repeated to."""
    assert layer.factor is not None
    channels, height, width = layer.in_chw
    (down, across), lead = layer.factor, dy.shape[:2]
    summed: Float64s = dy.reshape(*lead, channels, height, down, width, across).sum(axis=(4, 6))
    return summed


def _of_product(derived: Derived, layer: Layer, number: int) -> Callable[[Float64s], Float64s]:
    """Of a b or a (1 - b), to a or b; what was repeated is summed."""
    a, b = (counted(derived, each)[0].astype(np.float64) for each in layer.inputs)
    to_a, to_b = (b, a) if layer.op == "and" else (1 - b, -a)
    other = to_a if number == 0 else to_b
    shape = derived.chw(layer.inputs[number])

    def transposed(dy: Float64s) -> Float64s:
        down = dy * other
        axes = tuple(2 + i for i in range(3) if shape[i] == 1 < down.shape[2 + i])
        summed: Float64s = down.sum(axis=axes, keepdims=True) if axes else down
        return summed

    return transposed


def as_map(values: Array, chw: tuple[int, int, int]) -> Float32s:
    """(T, N, F) or (T, N, C, H, W) as (T, N, C, H, W), float32."""
    return values.reshape(*values.shape[:2], *chw).astype(np.float32)
