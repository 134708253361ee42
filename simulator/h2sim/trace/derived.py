"""Maps that a trace does not hold: counts k of pools, gates and sums, and which positions need a gradient.

Plain forms over whole arrays, for the engines' references and for what they prepare once a trace. Arrays are
(T, N, C, H, W), of fc layers (T, N, F, 1, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from h2sim.arrays import Array, Bools, Ints
from h2sim.errors import TraceError, at
from h2sim.trace.bits import unpack
from h2sim.trace.gradients import Gradients
from h2sim.trace.model import Layer
from h2sim.trace.operands import Operand, operands_of
from h2sim.trace.windows import axis_of, sums_of

if TYPE_CHECKING:
    from h2sim.trace.read import Trace

AXES = "TNCHW"


class Derived:
    """The derived maps of an open trace. Raises TraceError for what its members do not tell."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.meta = trace, trace.meta
        self.operands = operands_of(trace.meta)
        self._layers = {layer.name: layer for layer in trace.meta.layers}
        self._gradients = Gradients(trace.meta)

    def counts(self, name: str) -> Array:
        """k of a map of spikes or counts: its values are operands[name].scales * k.

        Integers of the narrowest type that holds the largest count, uint8, uint16 or int64.
        """
        if self.operands[name].kind == "analog":
            raise TraceError(at(str(self.trace.path), name, "a map of spikes or counts", "analog values"))
        if name == "input":
            return self._input()
        layer = self._layers[name]
        if layer.spiking:
            return self.bits(layer, "spikes")
        if layer.op != "sum":
            return self._product(layer)
        if layer.kind == "concat":
            return np.concatenate([self.counts(each) for each in layer.inputs], axis=2)
        if layer.kind == "add":
            return self._sum(layer)
        return self._of_map(layer, self.counts(layer.inputs[0]))

    def _narrowest(self, name: str) -> type[np.integer[Any]]:
        most = self.operands[name].most
        return np.uint8 if most < 1 << 8 else np.uint16 if most < 1 << 16 else np.int64

    def _of_map(self, layer: Layer, k: Array) -> Array:
        """What a gate, an upsampling or a pool makes of k."""
        made: Array
        if layer.kind == "gate":
            made = k * self.bits(layer, "kept")
        elif layer.kind == "upsample":
            made = upsampled(k, layer)
        elif layer.mode == "max":
            made = largest(k, layer, 0)
        else:
            kind = self._narrowest(layer.name)
            made = summed(k.astype(kind), layer) * sums_of(layer).times.astype(kind)
        return made

    def needed(self, name: str) -> Bools:
        """Where the gradient of a map goes on to something trained: what output_only and dual do not skip.

        By structure, whatever the kind. It hangs on what lies below the map alone, so that all its readers share it.
        """
        shape = (self.meta.timesteps, self.meta.batch, *self.chw(name))
        if not self._gradients.trained(name):
            return np.zeros(shape, bool)
        if name == "input":
            return np.ones(shape, bool)
        layer = self._layers[name]
        if layer.spiking:
            return self.bits(layer, "window").astype(bool)
        if layer.has_weights:
            return np.ones(shape, bool)
        below = [self.needed(each) for each in layer.inputs]
        if layer.op != "sum":
            return self._of_product(layer, *below)
        if layer.kind == "concat":
            return np.concatenate(below, axis=2)
        if layer.kind == "add":
            some: Bools = np.logical_or.reduce(below)
            return some
        return self._of_one(layer, below[0])

    def route(self, layer: Layer) -> Ints:
        """Which element of its window a maximum gives on: int64, the first of the largest in raster order.

        The offset counts all of the window, what lies outside the map too.
        """
        if self.operands[layer.inputs[0]].kind != "analog":
            return first_largest(self.counts(layer.inputs[0]), layer)
        if self.trace.has(f"{layer.name}.route"):
            return self.trace.values(layer.name, "route").astype(np.int64)
        wanted = "the member, since the largest of analog values does not follow from masks"
        raise TraceError(at(str(self.trace.path), f"{layer.name}.route", wanted, "none"))

    def pairs(self, name: str) -> int:
        """Pairs (y, an element that y feeds) through which a map's gradient goes on to what needs it [A].

        y is an element of the map, and feeds what it was made of. A maximum feeds the element that it routes to, an
        average every element of its window, of a sum each input's.
        """
        layer = self._layers[name]
        below = [self.needed(each) for each in layer.inputs]
        if layer.op != "sum":
            a, b = (self.counts(each).astype(bool) for each in layer.inputs)
            through = below[0] & (b if layer.op == "and" else ~b), below[1] & a
            return sum(int(part.sum()) for part in through)
        if layer.kind == "add":
            return sum(int(part.sum()) for part in below)
        if layer.kind == "pool" and layer.mode != "max":
            return sum(int(read.sum()) for _, read, _ in windows(below[0], layer))
        return int(self.needed(name).sum())

    def _of_one(self, layer: Layer, below: Bools) -> Bools:
        """needed of a gate, relu, upsampled map, pool or norm."""
        found: Bools
        if layer.kind in ("gate", "relu"):
            found = below & self.bits(layer, "kept" if layer.kind == "gate" else "window").astype(bool)
        elif layer.kind == "upsample":
            found = upsampled(below, layer)
        elif layer.kind == "norm":
            found = _in_groups(below, layer)
        elif layer.mode != "max":
            found = largest(below, layer, False)
        elif below.all():  # wherever it routes
            found = np.ones((*below.shape[:2], *layer.out_chw), bool)
        else:
            route, found = self.route(layer), np.zeros((*below.shape[:2], *layer.out_chw), bool)
            for offset, read, _ in windows(below, layer):
                found |= read & (route == offset)
        return found

    def _of_product(self, layer: Layer, needed_a: Bools, needed_b: Bools) -> Bools:
        a, b = (self.counts(each).astype(bool) for each in layer.inputs)
        some: Bools = (needed_a & (b if layer.op == "and" else ~b)) | (needed_b & a)
        return some

    def _product(self, layer: Layer) -> Array:
        a, b = (self.counts(each) for each in layer.inputs)
        return a * b if layer.op == "and" else a * (1 - b)

    def _sum(self, layer: Layer) -> Array:
        """The sum of k_i * s_i / s."""
        made = self.operands[layer.name]
        kind = self._narrowest(layer.name)
        total = np.zeros((self.meta.timesteps, self.meta.batch, *layer.out_chw), kind)
        for name in layer.inputs:
            total += self.counts(name).astype(kind) * times(self.operands[name], made).astype(kind).reshape(-1, 1, 1)
        return total

    def _input(self) -> Array:
        if self.meta.input_kind == "counts":
            return self.trace.input_counts().astype(self._narrowest("input"))
        chw = self.meta.input_shape
        bits = unpack(self.trace.input_spikes(), chw[0] * chw[1] * chw[2])
        return bits.reshape(*bits.shape[:2], *chw)

    def bits(self, layer: Layer, kind: str) -> Array:
        """A mask as uint8 (T, N, C, H, W); of what is kept once a sample, the same at every timestep."""
        bits = unpack(self.trace.mask(layer.name, kind), layer.neurons)
        whole = np.broadcast_to(bits, (self.meta.timesteps, *bits.shape[1:]))
        return whole.reshape(*whole.shape[:2], *layer.out_chw)

    def chw(self, name: str) -> tuple[int, int, int]:
        """(C, H, W) of a map."""
        return self.meta.input_shape if name == "input" else self._layers[name].out_chw


def times(of: Operand, into: Operand) -> Ints:
    """s_i / s by channel, whole numbers: by what k_i is multiplied in a sum, and dL/dk on its way down."""
    ratios = [Fraction(a / b) for a, b in zip(of.scales, into.scales, strict=True)]
    return np.array([ratio.numerator for ratio in ratios], np.int64)


def upsampled(values: Array, layer: Layer) -> Array:
    """Every element of (T, N, C, H, W), repeated by the layer's factor."""
    assert layer.factor is not None
    return values.repeat(layer.factor[0], axis=3).repeat(layer.factor[1], axis=4)


def _in_groups(needed: Bools, layer: Layer) -> Bools:
    """True in every group that shares a statistic of the step and has any needed element."""
    for norm in layer.trained_norms:
        axes = tuple(AXES.index(axis) for axis in norm.over)
        some: Bools = np.logical_or.reduce(needed, axis=axes, keepdims=True)
        needed = np.broadcast_to(some, needed.shape)
    return needed


def windows(values: Array, layer: Layer) -> Iterator[tuple[int, Array, Bools]]:
    """Each element of a pool's windows in raster order: its offset, what every output reads there, and where.

    What is read: (T, N, C, H_out, W_out), 0 outside of the map; where: (H_out, W_out), whether that lies inside. One
    element at a time, so that no array is larger than the map and its output.
    """
    rows, columns = axis_of(layer, 0).reads, axis_of(layer, 1).reads
    for a in range(rows.shape[1]):
        for b in range(columns.shape[1]):
            there = (rows[:, a] >= 0)[:, None] & (columns[:, b] >= 0)
            read = values[:, :, :, rows[:, a][:, None], columns[:, b][None]]
            yield a * columns.shape[1] + b, np.where(there, read, np.zeros(1, values.dtype)), there


def summed(values: Array, layer: Layer) -> Array:
    """The sum over each window, in the type of the values."""
    total = np.zeros((*values.shape[:2], *layer.out_chw), values.dtype)
    for _, read, _ in windows(values, layer):
        total += read
    return total


def largest(values: Array, layer: Layer, least: float) -> Array:
    """The largest of each window; least: below which no value lies."""
    found = np.full((*values.shape[:2], *layer.out_chw), least, values.dtype)
    for _, read, there in windows(values, layer):
        np.maximum(found, read, out=found, where=there)
    return found


def first_largest(values: Array, layer: Layer) -> Ints:
    """The offset of the first of the largest of each window, int64."""
    best = np.zeros((*values.shape[:2], *layer.out_chw), values.dtype)
    found, seen = np.zeros(best.shape, np.int64), np.zeros(layer.out_chw[1:], bool)
    for offset, read, there in windows(values, layer):
        better = there & (~seen | (read > best))
        found[better], best[better] = offset, read[better]
        seen |= there
    return found
