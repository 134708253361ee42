"""A result as pages read it: the document that `run --json` writes, whoever made it and whenever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from h2sim.compare.stored import StoredResult, StoredRow, stored
from h2sim.document import numbers
from h2sim.report.words import TITLES, spoken

PARTS = ("compute", "fill", "read", "write", "wait")  # of a row's cycles, in the order of their bars
SAID = {
    "compute": "compute",
    "fill": "fill",
    "read": "waits for reads",
    "write": "waits for writes",
    "wait": "waits for others",
}
PHASES = {"forward": "fwd", "backward": "bwd", "weight_update": "wu"}


@dataclass(frozen=True)
class RowView:
    """One layer in one phase; `key` names it on the page."""

    key: str
    row: StoredRow

    @property
    def name(self) -> str:
        return f"{self.row.layer} {spoken(self.row.phase)}"

    @property
    def brief(self) -> str:
        """A name for pictures."""
        return f"{self.row.layer} {PHASES[self.row.phase]}"

    @property
    def cycles(self) -> int | None:
        """Cycles that the row holds its engine; None on a machine without a clock."""
        row = self.row
        return None if row.start_cycle is None or row.end_cycle is None else row.end_cycle - row.start_cycle

    @property
    def parts(self) -> dict[str, int]:
        """The row's cycles by what they are; empty on a machine without a clock."""
        row = self.row
        if row.compute_cycles is None or row.stall_cycles is None:
            return {}
        s = row.stall_cycles
        found = (row.compute_cycles, row.fill_cycles or 0, s.memory_read, s.memory_write, s.dependency)
        return dict(zip(PARTS, found, strict=True))

    @property
    def energy_j(self) -> float:
        """On-chip energy."""
        return 1e-12 * sum(self.row.energy_pj.values())

    @property
    def moved_bytes(self) -> int:
        """Bytes from and to external memory."""
        moved = self.row.bytes
        return moved.get("offchip_read", 0) + moved.get("offchip_write", 0)


@dataclass(frozen=True)
class ResultView:
    """A checked result document with its rows."""

    found: StoredResult

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str = "result") -> ResultView:
        """Raises ComparisonError for a document that is none."""
        return cls(stored(dict(document), where))

    @cached_property
    def rows(self) -> tuple[RowView, ...]:
        return tuple(RowView(f"row-{number}", row) for number, row in enumerate(self.found.layers))

    @property
    def cycles(self) -> int | None:
        """Cycles of one steady sub-batch."""
        return self.found.step.steady_cycles

    @property
    def seconds(self) -> float:
        """Time of one steady sub-batch."""
        step = self.found.step
        if step.seconds is not None:
            return step.seconds
        return (step.steady_cycles or 0) / (step.clock_hz or 1)

    @property
    def engines(self) -> list[str]:
        """The engines in their order, those of the rows where the document names no others."""
        return list(self.found.engines)

    def busiest_memory_cycles(self) -> dict[tuple[str, str], int]:
        """(layer, phase) -> cycles of transfers on the memory that the row loads most."""
        sums: dict[tuple[str, str, str], int] = {}
        for one in self.found.memories:
            key = one.layer, one.phase, one.memory
            sums[key] = sums.get(key, 0) + one.busy_cycles
        most: dict[tuple[str, str], int] = {}
        for (layer, phase, _), cycles in sums.items():
            most[layer, phase] = max(most.get((layer, phase), 0), cycles)
        return most


def engine_name(engine: str) -> str:
    """An engine as it is called in a sentence's middle: 'Weight update', 'array'."""
    return TITLES.get(engine, spoken(engine))


def amount(value: float | None, unit: str, digits: int = 4) -> str:
    """A quantity with the prefix that fits, in proper type: 24.10 \u00b5s."""
    return numbers.amount(value, unit, digits).replace(f" u{unit}", f" \u00b5{unit}")
