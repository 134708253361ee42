"""What a functional check found: a row for each quantity of each layer that was compared."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from h2sim.arrays import Array, Bools, Float64s, Floats

MOST_NAMED = 6
BATCH_NORM = (
    "the network has batch norm: its arithmetic is not modelled, so no value of it is checked, and the gradient masks "
    "are those of the membrane's gradient dm, not of what batch norm sends on: the Backward Engine looks better than "
    "it would be"
)


@dataclass(frozen=True, kw_only=True)
class VerifyRow:
    """One quantity of one layer, recomputed and compared with the trace.

    checked: elements that were compared. wrong: elements that differ by more than another order of summation explains;
    a mask's bit is wrong only if the value that decides it is farther than that from its threshold. undecided: bits
    that differ although their value is closer, and values that follow from such a bit. max_difference: the largest of
    the compared elements; for a mask, 1 if any bit differs. tolerance: the largest that any element was granted.
    """

    layer: str
    quantity: str
    checked: int
    wrong: int
    undecided: int
    max_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether no element is wrong."""
        return self.wrong == 0

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON: null for a difference or tolerance beyond any number."""
        found = {name: None if _endless(value) else value for name, value in asdict(self).items()}
        return {**found, "passed": self.passed}


@dataclass(frozen=True)
class Unchecked:
    """A pass of a layer that could not be recomputed, and why."""

    layer: str
    why: str


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """All rows, the names of the trace's layers, and what could not be recomputed and why."""

    rows: tuple[VerifyRow, ...]
    layers: tuple[str, ...]
    unchecked: tuple[Unchecked, ...] = ()
    batch_norm: bool = False
    broken_laws: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no element of any row is wrong."""
        return all(row.passed for row in self.rows)

    @property
    def not_recomputed(self) -> tuple[str, ...]:
        """Layers of which at least one pass could not be recomputed, in execution order."""
        found = {part.layer for part in self.unchecked}
        return tuple(name for name in self.layers if name in found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be recomputed, a line each."""
        lines = [f"{part.layer}: {part.why}" for part in self.unchecked]
        return (*lines, *((BATCH_NORM,) if self.batch_norm else ()))

    @property
    def headline(self) -> str:
        """The verdict in one sentence: whether values agree, how many were checked, and which layers were not.

        Laws of training that the trace's masks break are repeated here, for values that agree do not mend them."""
        return "; ".join([self._verdict(), self._coverage(), *self.broken_laws])

    def _coverage(self) -> str:
        missed = self.not_recomputed
        if not missed:
            return f"every one of {len(self.layers)} layers was recomputed"
        more = f" and {len(missed) - MOST_NAMED} more" if len(missed) > MOST_NAMED else ""
        named = ", ".join(missed[:MOST_NAMED]) + more
        return f"{len(missed)} of {len(self.layers)} layers not recomputed, or only in part: {named}"

    def _verdict(self) -> str:
        n_checked = sum(row.checked for row in self.rows)
        if not n_checked:
            return "NOTHING WAS CHECKED"
        if self.passed:
            return f"all values agree: {n_checked:,} checked in {len(self.rows)} rows"
        return f"VALUES DIFFER: {sum(row.wrong for row in self.rows):,} of {n_checked:,} checked"

    def __repr__(self) -> str:
        wrong = sum(not row.passed for row in self.rows)
        return f"VerifyReport({len(self.rows)} rows, {wrong} wrong, {len(self.notes)} notes)"


def compare_values(
    layer: str,
    quantity: str,
    ours: Array,
    theirs: Array,
    tolerance: Float64s | float,
    skip: Bools | None = None,
) -> VerifyRow:
    """Compares values: |ours - theirs| must be within `tolerance`, plus the rounding of records that are float16.

    skip, bool: elements that are not compared and count as undecided.
    """
    allowed = tolerance + stored_rounding(theirs)
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    looked_at = np.ones(difference.shape, bool) if skip is None else ~skip
    right = np.isfinite(difference) & (difference <= allowed)
    wrong = int(np.count_nonzero(looked_at & ~right))
    return VerifyRow(
        layer=layer,
        quantity=quantity,
        checked=int(looked_at.sum()),
        wrong=wrong,
        undecided=int(difference.size - looked_at.sum()),
        max_difference=float(difference[looked_at].max(initial=0.0)),
        tolerance=float(np.max(allowed, initial=0.0)),
    )


def compare_bits(
    layer: str,
    quantity: str,
    ours: Array,
    theirs: Array,
    margin: Floats,
    tolerance: Float64s | float,
    skip: Bools | None = None,
) -> tuple[VerifyRow, Array]:
    """Compares masks. A bit may differ only where the value that decides it is within `tolerance` of its threshold.

    margin: how far each deciding value is from its threshold; skip, bool: bits that are not compared. Returns the row,
    and which bits differ and are undecided.
    """
    differ = ours != theirs
    if skip is not None:
        differ &= ~skip
    close = np.isfinite(margin) & (margin <= tolerance)
    wrong = int(np.count_nonzero(differ & ~close))
    undecided = differ & close
    most = float(np.max(tolerance, initial=0.0))
    row = VerifyRow(
        layer=layer,
        quantity=quantity,
        checked=ours.size,
        wrong=wrong,
        undecided=int(undecided.sum()),
        max_difference=float(differ.any()),
        tolerance=most,
    )
    return row, undecided


def _endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def stored_rounding(recorded: Array) -> Float64s | float:
    """How far float16 records may be from the values that were stored: |value| * 2^-11 + 2^-25; 0 for float32."""
    if recorded.dtype != np.float16:
        return 0.0
    return np.abs(recorded.astype(np.float64)) * 2.0**-11 + 2.0**-25
