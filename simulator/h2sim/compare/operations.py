"""Operations of a layer: of the dense network, and those that set bits of what it reads cause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from h2sim.arrays import Ints
from h2sim.trace import Layer, Trace
from h2sim.trace.derived import Derived
from h2sim.trace.model import VERSION
from h2sim.trace.operands import operands_of
from h2sim.trace.windows import axis_of

Operation = Literal["MAC", "AC", "none"]
Padding = Literal["counted", "skipped"]


@dataclass(frozen=True)
class Work:
    """What a layer does of one sample as an ANN, and what comes in of the sub-batch.

    flops: operations of the dense layer. elements: of what it reads, of one timestep. arrived: set bits (in a sum of
    maps, what is not 0) at its input over T and all samples, exact: the additions that they cause; None of analog
    values, exact 0 where nothing is counted.
    """

    operation: Operation
    flops: int
    elements: int
    arrived: int | None
    exact: int | None


class Bits:
    """What the maps of an open trace hold: set bits of spikes and of all planes of counts, and what is not 0."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.operands = operands_of(trace.meta)
        self._derived = Derived(trace)
        self._leaves = {layer.name: layer.out_chw for layer in trace.meta.layers if layer.spiking}
        if trace.meta.input_kind == "spikes":
            self._leaves["input"] = trace.meta.input_shape

    def set_at(self, name: str) -> Ints:
        """Set bits of all planes of a map at each position, over timesteps, samples and channels: int64 (H, W)."""
        if name in self._leaves:
            packed = self._trace.input_spikes() if name == "input" else self._trace.mask(name, "spikes")
            return set_at(packed, self._leaves[name])
        found: Ints = np.bitwise_count(self._derived.counts(name)).sum(axis=(0, 1, 2), dtype=np.int64)
        return found

    def not_zero_at(self, name: str) -> Ints:
        """Elements of a map of spikes or counts that are not 0, at each position: int64 (H, W)."""
        if self.operands[name].kind == "spikes":
            return self.set_at(name)
        found: Ints = (self._derived.counts(name) != 0).sum(axis=(0, 1, 2), dtype=np.int64)
        return found


def work_of(trace: Trace, layer: Layer, bits: Bits, padding: Padding) -> Work:
    """The work of a layer; padding: whether taps outside the input are counted or skipped."""
    elements, analog = math.prod(layer.in_chw), any(bits.operands[name].kind == "analog" for name in layer.inputs)
    if layer.weight_shape is not None:
        flops = ann_flops(layer, padding)
        if analog:
            return Work("MAC", flops, elements, None, None)
        at_input = bits.set_at(layer.inputs[0])
        return Work("AC", flops, elements, int(at_input.sum()), accumulates(layer, at_input))
    if not adds(layer, trace.meta.version):
        return Work("none", 0, elements, None, 0)
    flops, elements = additions(layer), elements * len(layer.inputs)
    if analog:
        return Work("AC", flops, elements, None, None)
    arrived = sum(int(bits.not_zero_at(name).sum()) for name in layer.inputs)
    return Work("AC", flops, elements, arrived, caused_additions(layer, bits))


def set_at(packed: npt.NDArray[np.uint8], chw: tuple[int, int, int]) -> Ints:
    """Set bits of a packed mask, uint8 (T, N, bytes), at each position, over all else: int64 (H, W)."""
    channels, height, width = chw
    places = np.zeros((height, width), np.int64)
    for step in packed:  # one timestep's bits at a time
        bits = np.unpackbits(step, axis=-1, count=channels * height * width)
        places += bits.reshape(-1, height, width).sum(axis=0, dtype=np.int64)
    return places


def ann_flops(layer: Layer, padding: Padding = "counted") -> int:
    """Multiply-accumulates of the ANN layer for one sample: k^2 Ho Wo Co Ci (table 6). An fc layer is a 1 x 1 map.

    padding: whether taps outside the input are counted or skipped. Of G groups each channel reads Ci / G. 0 for a layer
    without weights.
    """
    if layer.weight_shape is None:
        return 0
    weights = math.prod(layer.weight_shape)
    if layer.kind == "fc":
        return weights
    if padding == "counted":
        return weights * math.prod(layer.out_chw[1:])
    rows, columns = _fan_outs(layer)
    return math.prod(layer.weight_shape[:2]) * int(rows.sum()) * int(columns.sum())


def adds(layer: Layer, version: int) -> bool:
    """Whether a layer without weights adds maps and has no neuron: a sum, or a pool that averages or sums.

    In version 1, which knows no maps, nothing without weights is counted.
    """
    return version != VERSION and layer.is_map and layer.kind in ("add", "pool") and additions(layer) > 0


def additions(layer: Layer) -> int:
    """Additions of such a layer for one sample: one for each element that each of its outputs reads."""
    if layer.kind == "add":
        return len(layer.inputs) * layer.neurons if layer.op == "sum" else 0
    if layer.mode == "max":
        return 0
    rows, columns = _pool_fan_outs(layer)
    return layer.out_chw[0] * int(rows.sum()) * int(columns.sum())


def caused_additions(layer: Layer, bits: Bits) -> int:
    """Additions of such a layer over all T and samples that elements other than 0 cause, a count like a spike."""
    if layer.kind == "add":
        return sum(int(bits.not_zero_at(name).sum()) for name in layer.inputs)
    rows, columns = _pool_fan_outs(layer)
    return int(rows @ bits.not_zero_at(layer.inputs[0]) @ columns)


def accumulates(layer: Layer, set_bits_at: Ints) -> int:
    """Exact number of additions that set bits at a conv or fc layer's input cause, over all T and samples.

    set_bits_at: at each position, over timesteps, samples, channels and planes, int64 (H, W).
    """
    if layer.kind == "fc":
        return layer.out_chw[0] * int(set_bits_at.sum())
    rows, columns = _fan_outs(layer)
    return layer.out_chw[0] // layer.groups * int(rows @ set_bits_at @ columns)


def fan_out(size: int, out_size: int, kernel: int, stride: int, padding: int) -> npt.NDArray[np.int64]:
    """For each input place of one axis, the number of (output, tap) pairs that read it; int64, (size,)."""
    places = np.arange(out_size)[:, None] * stride - padding + np.arange(kernel)[None, :]
    inside = places[(places >= 0) & (places < size)]
    return np.bincount(inside, minlength=size).astype(np.int64)


def _fan_outs(layer: Layer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    assert layer.kernel is not None
    assert layer.stride is not None
    assert layer.padding is not None
    sizes = zip(layer.in_chw[1:], layer.out_chw[1:], layer.kernel, layer.stride, layer.padding, strict=True)
    rows, columns = (fan_out(*axis) for axis in sizes)
    return rows, columns


def _pool_fan_outs(layer: Layer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each row, and each column, of what a pool reads: how many windows hold it."""
    reads = (axis_of(layer, axis).reads for axis in (0, 1))
    sizes = layer.in_chw[1:]
    rows, columns = (
        np.bincount(read[read >= 0], minlength=size).astype(np.int64) for read, size in zip(reads, sizes, strict=True)
    )
    return rows, columns
