"""What differs between two traces: metadata field by field, masks bit by bit, values by their largest difference."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from h2sim.io.progress import Progress
from h2sim.trace.bits import popcount
from h2sim.trace.members import BITS
from h2sim.trace.model import TraceMeta
from h2sim.trace.read import Trace

SCHEMA, SCHEMA_VERSION = "h2sim-trace-diff", 1
ABSENT = "(absent)"


@dataclass(frozen=True)
class FieldDifference:
    """A metadata field, dotted from `meta` on, and its two values; '(absent)' where one has no such field."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True, kw_only=True)
class MaskDifference:
    """A mask that both traces have. Rates are shares of set bits; the counts are None where the shapes differ.

    bits: of the mask, over all timesteps, samples and neurons; differ = only_a + only_b.
    """

    member: str
    rate_a: float
    rate_b: float
    bits: int | None = None
    only_a: int | None = None
    only_b: int | None = None

    @property
    def differ(self) -> int | None:
        """Bits that are set in one of the two; None where the shapes differ."""
        return None if self.only_a is None or self.only_b is None else self.only_a + self.only_b


@dataclass(frozen=True, kw_only=True)
class ValueDifference:
    """Values that both traces have; the numbers are None where the shapes differ.

    max_absolute: largest |a - b|; max_relative: largest |a - b| / max(|a|, |b|), 0 where both are 0. Both in float64.
    """

    member: str
    a: str
    b: str
    elements: int | None = None
    differ: int | None = None
    max_absolute: float | None = None
    max_relative: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether types, shapes and all values are the same."""
        return self.a == self.b and self.differ == 0


@dataclass(frozen=True, kw_only=True)
class TraceDiff:
    """Everything that two traces were compared in; `a` and `b` are their paths, members are named as in the file."""

    a: str
    b: str
    fields: tuple[FieldDifference, ...]
    layers_only_a: tuple[str, ...]
    layers_only_b: tuple[str, ...]
    members_only_a: tuple[str, ...]
    members_only_b: tuple[str, ...]
    masks: tuple[MaskDifference, ...]
    values: tuple[ValueDifference, ...]

    @property
    def same(self) -> bool:
        """Whether metadata, masks and values (their types too) agree."""
        alone = self.fields or self.members_only_a or self.members_only_b
        return not alone and all(m.differ == 0 for m in self.masks) and all(v.agrees for v in self.values)

    def to_dict(self) -> dict[str, Any]:
        """The h2sim-trace-diff document, for JSON."""
        head = {"schema": SCHEMA, "version": SCHEMA_VERSION, "same": self.same}
        return head | asdict(self) | {"masks": [asdict(m) | {"differ": m.differ} for m in self.masks]}


def diff_traces(a: Trace, b: Trace, progress: Progress | None = None) -> TraceDiff:
    """Compares two traces, one member of each at a time in memory. Raises TraceError for a damaged member."""
    in_a, in_b = a.members, b.members
    masks, values = [], []
    only_a = set(_without(in_a, in_b))
    shared = [member for member in in_a if member not in only_a]
    for number, member in enumerate(shared):
        if progress:
            progress(member, number, len(shared))
        if member.rpartition(".")[2] in BITS:
            masks.append(_mask_difference(a, b, member))
        else:
            values.append(_value_difference(member, a.array(member), b.array(member)))
    return TraceDiff(
        a=str(a.path),
        b=str(b.path),
        fields=_field_differences(a.meta, b.meta),
        layers_only_a=_without(_layers(a), _layers(b)),
        layers_only_b=_without(_layers(b), _layers(a)),
        members_only_a=_without(in_a, in_b),
        members_only_b=_without(in_b, in_a),
        masks=tuple(masks),
        values=tuple(values),
    )


def _without(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    left_out = set(others)
    return tuple(name for name in names if name not in left_out)


def _layers(trace: Trace) -> list[str]:
    return [layer.name for layer in trace.meta.layers]


def _shape(trace: Trace, member: str, steps: int) -> tuple[int, ...]:
    """A mask's shape unpacked: (T or 1, N, C, H, W)."""
    meta, layer = trace.meta, member.rpartition(".")[0]
    return (steps, meta.batch, *(meta.input_shape if layer == "input" else meta.layer(layer).out_chw))


def _mask_difference(a: Trace, b: Trace, member: str) -> MaskDifference:
    left, right = a.array(member), b.array(member)
    in_a, in_b = _shape(a, member, len(left)), _shape(b, member, len(right))
    rate_a, rate_b = popcount(left) / math.prod(in_a), popcount(right) / math.prod(in_b)
    alone = MaskDifference(member=member, rate_a=rate_a, rate_b=rate_b)
    if in_a != in_b:
        return alone
    only_a, only_b = (
        popcount(np.bitwise_and(one, np.bitwise_not(other))) for one, other in ((left, right), (right, left))
    )
    return replace(alone, bits=math.prod(in_a), only_a=only_a, only_b=only_b)


def _value_difference(member: str, a: np.ndarray, b: np.ndarray) -> ValueDifference:
    described = ValueDifference(member=member, a=f"{a.dtype} {a.shape}", b=f"{b.dtype} {b.shape}")
    if a.shape != b.shape:
        return described
    differ, absolute, relative = 0, 0.0, 0.0
    for part_a, part_b in zip(a, b, strict=True):  # a slice at a time: float64 copies of it only
        left, right = part_a.astype(np.float64), part_b.astype(np.float64)
        gap, size = np.abs(left - right), np.maximum(np.abs(left), np.abs(right))
        differ += int(np.count_nonzero(gap))
        absolute = max(absolute, float(gap.max()))
        relative = max(relative, float(np.divide(gap, size, out=np.zeros_like(gap), where=size > 0).max()))
    return replace(described, elements=a.size, differ=differ, max_absolute=absolute, max_relative=relative)


def _field_differences(a: TraceMeta, b: TraceMeta) -> tuple[FieldDifference, ...]:
    shared = {layer.name for layer in a.layers} & {layer.name for layer in b.layers}
    left, right = _fields(a, shared), _fields(b, shared)
    names = [*left, *(name for name in right if name not in left)]
    pairs = ((name, left.get(name, ABSENT), right.get(name, ABSENT)) for name in names)
    return tuple(FieldDifference(*pair) for pair in pairs if pair[1] != pair[2])


def _fields(meta: TraceMeta, layer_names: Container[str]) -> dict[str, Any]:
    """Metadata with dotted names, of these layers only; a layer's neuron only where it is not the network's."""
    data = meta.model_dump(mode="json", exclude=None if meta.input else {"input"})
    layers = data.pop("layers")
    fields: dict[str, Any] = dict(_flat("", data)) | {"layers": [layer["name"] for layer in layers]}
    for layer in (layer for layer in layers if layer["name"] in layer_names):
        if layer["neuron"] == data["neuron"]:
            del layer["neuron"]
        fields |= _flat(f"layers.{layer['name']}.", {key: v for key, v in layer.items() if v is not None})
    return fields


def _flat(prefix: str, data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value
