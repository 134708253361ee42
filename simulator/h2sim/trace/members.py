"""The members that version 1 knows for a network, and what each must be; reader and writer both ask here."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from h2sim.arrays import Array
from h2sim.trace.bits import packed_bytes, padding_is_zero
from h2sim.trace.model import TraceMeta

MASKS = ("spikes", "window", "grad")
VALUES = ("membrane", "grad_membrane", "weight", "bias", "weight_grad")
_FLOATS = ("float16", "float32")


@dataclass(frozen=True)
class Expected:
    """What a member must be: of one of the dtypes and of one of the shapes.

    required: a trace without it is refused; neurons: for a mask, how many of its bits are neurons, the rest is padding.
    """

    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    required: bool
    neurons: int | None = None

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
        finite = np.isfinite(array)
        if finite.all():
            return None
        where = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        return f"expected finite numbers; got {array[where]} at {list(where)}"


def known_members(meta: TraceMeta) -> Iterator[tuple[str, Expected]]:
    """Every member that version 1 of the format knows for this network (but `meta`), with what it must be."""
    lead, chw = (meta.timesteps, meta.batch), meta.input_shape
    yield "input.spikes", _mask(meta, math.prod(chw), not meta.analog)
    yield "input.analog", Expected(_FLOATS, ((*lead, *chw), (1, meta.batch, *chw)), meta.analog)
    for layer in meta.layers:
        if layer.spiking:
            yield f"{layer.name}.spikes", _mask(meta, layer.neurons, True)
            yield f"{layer.name}.window", _mask(meta, layer.neurons, True)
        yield f"{layer.name}.grad", _mask(meta, layer.neurons, "backward" in meta.phases)
        shape = (*lead, layer.neurons) if layer.kind == "fc" else (*lead, *layer.out_chw)
        yield f"{layer.name}.membrane", Expected(_FLOATS, (shape,), False)
        yield f"{layer.name}.grad_membrane", Expected(_FLOATS, (shape,), False)
        weight = layer.weight_shape
        if weight:
            yield f"{layer.name}.weight", Expected(_FLOATS, (weight,), False)
            yield f"{layer.name}.bias", Expected(_FLOATS, (weight[:1],), False)
            yield f"{layer.name}.weight_grad", Expected(_FLOATS, (weight,), False)


def presence_faults(meta: TraceMeta, present: Container[str]) -> list[str]:
    """`member: what is wrong` for each required member that is missing, and for a second network input."""
    faults = []
    for name, expected in known_members(meta):
        if expected.required and name not in present:
            faults.append(f"{name}: expected {expected.described()}; got no such member")
    if "input.spikes" in present and "input.analog" in present:
        faults.append("input: expected exactly one of input.spikes and input.analog; got both")
    return faults


def _mask(meta: TraceMeta, neurons: int, required: bool) -> Expected:
    return Expected(("uint8",), ((meta.timesteps, meta.batch, packed_bytes(neurons)),), required, neurons)
