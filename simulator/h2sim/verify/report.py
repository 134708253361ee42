"""What a functional check found: a row for each quantity of each layer that was compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Array, Bools, Float64s, Floats


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


@dataclass(frozen=True)
class VerifyReport:
    """What a functional check compared (rows), and what it could not check and why (notes)."""

    rows: tuple[VerifyRow, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no element of any row is wrong."""
        return all(row.passed for row in self.rows)

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
    wrong = int(np.count_nonzero(looked_at & ~(difference <= allowed)))
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
    close = margin <= tolerance
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


def stored_rounding(recorded: Array) -> Float64s | float:
    """How far float16 records may be from the values that were stored: |value| * 2^-11 + 2^-25; 0 for float32."""
    if recorded.dtype != np.float16:
        return 0.0
    return np.abs(recorded.astype(np.float64)) * 2.0**-11 + 2.0**-25
