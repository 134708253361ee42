"""What bounds a step, in a sentence and as a table: the critical path by resource and cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from h2sim.document import Table, table, times

NAMES = {
    "forward": "the Forward Engine",
    "weight_update": "the Weight Update Engine",
    "backward": "the Backward Engine",
}


class BoundLike(Protocol):
    """A part of the critical path, just counted or read back from a file."""

    @property
    def resource(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def cycles(self) -> int: ...


def by_resource(bounds: Sequence[BoundLike]) -> list[tuple[str, int]]:
    """(resource, cycles of the critical path), the largest first."""
    sums: dict[str, int] = {}
    for part in bounds:
        sums[part.resource] = sums.get(part.resource, 0) + part.cycles
    return sorted(sums.items(), key=lambda item: (-item[1], item[0]))


def bound_sentence(bounds: Sequence[BoundLike], ideal_cycles: int | None) -> str:
    """`Mem 1 bounds the step: 78 % of it; with memory that takes no time it would be 2.4x faster.`

    ideal_cycles: of the same step with memories whose transfers take no time; None leaves that half out.
    """
    total = sum(part.cycles for part in bounds)
    if not total:
        return "Nothing bounds the step: it takes no cycles."
    resource, cycles = by_resource(bounds)[0]
    name = NAMES.get(resource, resource)
    told = f"{name[0].upper()}{name[1:]} bounds the step: {cycles / total:.0%} of it"
    if not ideal_cycles:
        return f"{told}."
    return f"{told}; with memory that takes no time it would be {times(total / ideal_cycles)} faster."


def bounds_table(bounds: Sequence[BoundLike]) -> Table:
    """The critical path by resource and cause; the cycles add up to the step."""
    total = sum(part.cycles for part in bounds)
    rows = [(p.resource, p.cause, f"{p.cycles:,}", f"{p.cycles / total:.1%}") for p in bounds]
    return table("What bounds the step (critical path)", ["resource", "cause"], ["cycles", "share"], rows)
