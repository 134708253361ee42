"""The windows of pools, as PyTorch lays them: which elements of a map each output reads, and what it divides by."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from h2sim.arrays import Ints
from h2sim.trace.model import Layer


def padded(layer: Layer) -> list[int]:
    """Height and width of what a layer's kernel moves over, padding included."""
    assert layer.padding is not None
    return [n + 2 * p for n, p in zip(layer.in_chw[1:], layer.padding, strict=True)]


@dataclass(frozen=True, eq=False)
class Axis:
    """The windows along one axis of a map of `size` elements.

    reads: int64 (windows, most), the elements that each reads, ascending; -1 stands for what lies outside the map.
    inside: int64 (windows,), how many it reads. counted: the same with the padding, but none of what lies beyond it.
    """

    reads: Ints
    inside: Ints
    counted: Ints


def axis_of(layer: Layer, axis: int) -> Axis:
    """The windows of a pool along axis 0 (vertical) or 1 (horizontal)."""
    size, out = layer.in_chw[1 + axis], layer.out_chw[1 + axis]
    if layer.adaptive:
        starts = np.arange(out) * size // out
        lengths = -(-(np.arange(1, out + 1) * size) // out) - starts
        step, padding = 1, 0
    else:
        assert layer.kernel is not None
        assert layer.stride is not None
        assert layer.padding is not None
        step, padding = (layer.dilation or (1, 1))[axis], layer.padding[axis]
        starts = np.arange(out) * layer.stride[axis] - padding
        lengths = np.full(out, layer.kernel[axis])
    reads = starts[:, None] + step * np.arange(lengths.max())
    there = np.arange(lengths.max()) < lengths[:, None]
    counted = (there & (reads < size + padding)).sum(axis=1)
    inside = there & (reads >= 0) & (reads < size)
    return Axis(np.where(inside, reads, -1), inside.sum(axis=1), counted)


def pool_size(layer: Layer) -> list[int]:
    """Height and width of a pool's output by in_shape, kernel, stride, padding, dilation and ceil_mode."""
    assert layer.kernel is not None
    assert layer.stride is not None
    assert layer.padding is not None
    found = []
    for axis in (0, 1):
        stride, padding, size = layer.stride[axis], layer.padding[axis], layer.in_chw[1 + axis]
        reach = (layer.dilation or (1, 1))[axis] * (layer.kernel[axis] - 1) + 1
        room = size + 2 * padding - reach
        out = (-(-room // stride) if layer.ceil_mode else room // stride) + 1
        if layer.ceil_mode and (out - 1) * stride >= size + padding:  # none begins in the padding at the far edge
            out -= 1
        found.append(out)
    return found


@dataclass(frozen=True, eq=False)
class Sums:
    """What a pool that adds makes of integers k: `times` k, summed, and s/divisor is the scale of the sum.

    times: int64 (H_out, W_out); most: how many times the largest k the largest sum is.
    """

    times: Ints
    divisor: int
    most: int


def sums_of(layer: Layer) -> Sums:
    """For mode average or sum: with d(o) = the divisor at output o and D = lcm of all d(o), times = D / d(o)."""
    rows, columns = axis_of(layer, 0), axis_of(layer, 1)
    inside = np.outer(rows.inside, columns.inside)
    if layer.mode == "sum":
        divisors = np.ones_like(inside)
    elif layer.divisor:
        divisors = np.full_like(inside, layer.divisor)
    elif layer.adaptive or not layer.count_include_pad:
        divisors = inside
    else:
        divisors = np.outer(rows.counted, columns.counted)
    common = lcm(*(int(d) for d in np.unique(divisors)))
    times = common // divisors
    return Sums(times, common, int((inside * times).max()))


def common_scale(scales: list[Fraction]) -> Fraction:
    """The largest fraction of which all are whole multiples."""
    numerator, denominator = scales[0].numerator, scales[0].denominator
    for scale in scales[1:]:
        numerator = gcd(numerator * scale.denominator, scale.numerator * denominator)
        denominator *= scale.denominator
        numerator, denominator = Fraction(numerator, denominator).as_integer_ratio()
    return Fraction(numerator, denominator)
