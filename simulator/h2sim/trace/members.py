"""The members that the format knows for a network, and what each must be; reader and writer both ask here."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from h2sim.arrays import Array
from h2sim.trace.bits import packed_bytes, padding_is_zero
from h2sim.trace.model import VERSION, Layer, TraceMeta

MASKS = ("spikes", "window", "grad")  # of a layer with neurons
BITS = (*MASKS, "kept")
OF_NORM = ("current", "grad_current", "norm_weight", "norm_bias")
VALUES = ("membrane", "grad_membrane", "weight", "bias", "weight_grad", *OF_NORM, "route")
COUNTS = ("uint8", "uint16")
_FLOATS = ("float16", "float32")


@dataclass(frozen=True)
class Expected:
    """What a member must be: of one of the dtypes and of one of the shapes.

    required: a trace without it is refused; neurons: for a mask, how many of its bits are neurons, the rest is padding;
    most: for integers, the largest that may be.
    """

    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    required: bool
    neurons: int | None = None
    most: int | None = None

    def described(self) -> str:
        """`uint8 (10, 4, 98)`: the types and shapes that would do."""
        return f"{' or '.join(self.dtypes)} {' or '.join(str(shape) for shape in self.shapes)}"

    def header_fault(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> str | None:
        """What is wrong with a member of that dtype and shape, or None."""
        if dtype.hasobject:
            return f"expected {' or '.join(self.dtypes)}; got pickled objects, which are never read"
        if dtype.name in self.dtypes and shape in self.shapes:
            return None
        return f"expected {self.described()}; got {dtype.name} {shape}"

    def content_fault(self, array: Array) -> str | None:
        """What is wrong with the array's contents, or None. A mask's padding bits must be 0, values must be finite."""
        if self.neurons is not None:
            if padding_is_zero(array, self.neurons):
                return None
            return f"expected padding bits of 0 behind the last of {self.neurons} neurons; got 1 among them"
        if self.most is not None:
            largest = int(array.max(initial=0))
            return None if largest <= self.most else f"expected integers from 0 to {self.most}; got {largest}"
        finite = np.isfinite(array)
        if finite.all():
            return None
        where = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        return f"expected finite numbers; got {array[where]} at {list(where)}"


def known_members(meta: TraceMeta) -> Iterator[tuple[str, Expected]]:
    """Every member that the format knows for this network (but `meta`), with what it must be."""
    lead, chw = (meta.timesteps, meta.batch), meta.input_shape
    yield "input.spikes", _mask(meta, math.prod(chw), meta.input_kind == "spikes")
    yield "input.analog", Expected(_FLOATS, ((*lead, *chw), (1, meta.batch, *chw)), meta.analog)
    if meta.input and meta.input.most:
        yield "input.counts", Expected(COUNTS, ((*lead, *chw),), True, most=meta.input.most)
    for layer in meta.layers:
        of_layer = _of_map(layer, meta) if meta.version != VERSION and layer.is_map else _of_layer(layer, meta)
        for kind, expected in of_layer:
            yield f"{layer.name}.{kind}", expected


def _of_layer(layer: Layer, meta: TraceMeta) -> Iterator[tuple[str, Expected]]:
    """The members of a layer with neurons or weights, by kind."""
    lead, trains = (meta.timesteps, meta.batch), "backward" in meta.phases
    if layer.spiking:
        yield "spikes", _mask(meta, layer.neurons, True)
        yield "window", _mask(meta, layer.neurons, trains or meta.version == VERSION)
    yield "grad", _mask(meta, layer.neurons, trains, once=layer.mean_over_time)
    shape = (*lead, layer.neurons) if layer.kind == "fc" else (*lead, *layer.out_chw)
    yield "membrane", Expected(_FLOATS, (shape,), False)
    yield "grad_membrane", Expected(_FLOATS, (shape,), False)
    weight = layer.weight_shape
    if weight:
        yield "weight", Expected(_FLOATS, (weight,), False)
        yield "bias", Expected(_FLOATS, (weight[:1],), False)
        yield "weight_grad", Expected(_FLOATS, (weight,), False)
    yield from _of_maximum(layer, shape)
    yield from _of_norm(layer, shape)


def _of_map(layer: Layer, meta: TraceMeta) -> Iterator[tuple[str, Expected]]:
    """The members of what makes one map out of others: only what does not follow from what it reads."""
    trains, shape = "backward" in meta.phases, (meta.timesteps, meta.batch, *layer.out_chw)
    if layer.kind == "gate":
        mask = _mask(meta, layer.neurons, True, once=True)
        yield "kept", replace(mask, shapes=mask.shapes[-1:]) if layer.name in meta.under_mean else mask
    if layer.kind == "relu":
        yield "window", _mask(meta, layer.neurons, trains)
    yield from _of_maximum(layer, shape)
    yield from _of_norm(layer, shape)


def _of_maximum(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[str, Expected]]:
    """Where a maximum routes, which only that of analog values does not tell by itself."""
    if layer.kind == "pool" and layer.mode == "max":
        reach = math.prod(layer.kernel or layer.in_chw[1:])
        yield "route", Expected(("uint8",), (shape,), False, most=min(255, reach - 1))


def _of_norm(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[str, Expected]]:
    """Optional values of what is normalised: x, dL/dx, and what the norm multiplies and adds by channel."""
    if layer.norm:
        channels = (layer.out_chw[0],)
        for kind, of_kind in zip(OF_NORM, (shape, shape, channels, channels), strict=True):
            yield kind, Expected(_FLOATS, (of_kind,), False)


def presence_faults(meta: TraceMeta, present: Container[str]) -> list[str]:
    """`member: what is wrong` for each required member that is missing, and for a second network input."""
    faults = []
    for name, expected in known_members(meta):
        if expected.required and name not in present:
            faults.append(f"{name}: expected {expected.described()}; got no such member")
    inputs = [name for name in ("input.spikes", "input.analog", "input.counts") if name in present]
    if len(inputs) > 1 and meta.version == VERSION:
        inputs = [name for name in inputs if name != "input.counts"]  # which version 1 does not know
    if len(inputs) > 1:
        both = "both" if len(inputs) == 2 else "all three"
        faults.append(f"input: expected exactly one of {' and '.join(inputs)}; got {both}")
    return faults


def _mask(meta: TraceMeta, neurons: int, required: bool, once: bool = False) -> Expected:
    """A packed mask; once: it may also be one for all timesteps."""
    shapes = [
        (steps, meta.batch, packed_bytes(neurons)) for steps in ((meta.timesteps, 1) if once else (meta.timesteps,))
    ]
    return Expected(("uint8",), tuple(dict.fromkeys(shapes)), required, neurons)
