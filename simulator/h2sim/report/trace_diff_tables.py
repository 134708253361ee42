"""The difference of two traces as a document: the verdict, then metadata, masks and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from h2sim.document import Column, Document, Line, Table, percent, table
from h2sim.report.trace_diff import MaskDifference, TraceDiff, ValueDifference

MASK_COLUMNS = ("rate A", "rate B", "bits", "differ", "share", "only in A", "only in B")
VALUE_COLUMNS = ("elements", "differ", "largest |a - b|", "relative")


def diff_document(diff: TraceDiff) -> Document:
    """What differs in the metadata, every mask, every value, and what only one of the two has."""
    fields = [_fields(diff)] if diff.fields else []
    values = [_values(diff)] if diff.values else []
    lines = (Line(f"A: {diff.a}"), Line(f"B: {diff.b}"))
    return Document(verdict(diff), (*lines, *fields, _masks(diff), *values, *map(Line, _alone(diff))))


def verdict(diff: TraceDiff) -> str:
    """Whether the two are the same; else how many fields, masks, values and members differ."""
    if diff.same:
        return f"the same: {len(diff.masks)} masks and {len(diff.values)} values agree in every bit"
    masks = sum(m.differ != 0 for m in diff.masks)
    values = sum(not v.agrees for v in diff.values)
    alone = len(diff.members_only_a) + len(diff.members_only_b)
    return (
        f"they DIFFER: {len(diff.fields)} metadata fields, {masks} of {len(diff.masks)} masks, "
        f"{values} of {len(diff.values)} values, {alone} members in one only"
    )


def _alone(diff: TraceDiff) -> Iterator[str]:
    """Layers of one trace only, and members of one trace only of the layers that both have."""
    for name, layers, members in (
        ("A", diff.layers_only_a, diff.members_only_a), ("B", diff.layers_only_b, diff.members_only_b),
    ):  # fmt: skip
        if layers:
            yield f"layers only in {name}: {', '.join(layers)}"
        rest = [member for member in members if member.rpartition(".")[0] not in layers]
        if rest:
            yield f"members only in {name}: {', '.join(rest)}"


def _fields(diff: TraceDiff) -> Table:
    columns = [Column("field"), *(Column(name, prose=True) for name in ("A", "B"))]
    rows = [(row.field, _told(row.a), _told(row.b)) for row in diff.fields]
    return table("Metadata that differs", columns, [], rows)


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _masks(diff: TraceDiff) -> Table:
    return table(
        "Masks: share of set bits, and the bits that are set in one trace only", ["member"], MASK_COLUMNS,
        map(_mask, diff.masks), drop=("bits", "only in A", "only in B"), elsewhere="--json FILE",
    )  # fmt: skip


def _mask(m: MaskDifference) -> tuple[str, ...]:
    rates = percent(m.rate_a), percent(m.rate_b)
    if m.bits is None or m.differ is None:
        return (m.member, *rates, "-", "shapes differ", "-", "-", "-")
    share = percent(m.differ / m.bits)
    return (m.member, *rates, f"{m.bits:,}", f"{m.differ:,}", share, f"{m.only_a:,}", f"{m.only_b:,}")


def _values(diff: TraceDiff) -> Table:
    kind, rows = Column("type", drop=1), map(_value, diff.values)
    return table("Values", ["member"], [*VALUE_COLUMNS, kind], rows, elsewhere="--json FILE")


def _value(v: ValueDifference) -> tuple[str, ...]:
    kind = v.a if v.a == v.b else f"{v.a} / {v.b}"
    if v.elements is None:
        return (v.member, "-", "shapes differ", "-", "-", kind)
    return (v.member, f"{v.elements:,}", f"{v.differ:,}", f"{v.max_absolute:.3g}", f"{v.max_relative:.3g}", kind)
