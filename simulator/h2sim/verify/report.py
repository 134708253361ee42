"""What a functional check found, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_NAMED = 6
BATCH_NORM = "the network has batch norm: its arithmetic is not modelled, so no value of it is checked"


@dataclass(frozen=True, kw_only=True)
class VerifyRow:
    """One quantity of one layer against the trace.

    wrong: elements that differ by more than summation order explains (for a mask: differ, and the value that
    decides is farther from its threshold than that). undecided: mask bits whose deciding value lies closer, and
    the values that follow from such a bit. tolerance: the largest that was granted to any element.
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
        return self.wrong == 0


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

    @property
    def passed(self) -> bool:
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
        """The verdict in one sentence: whether values agree, how many were checked, and which layers were not."""
        verdict, missed = self._verdict(), self.not_recomputed
        if not missed:
            return f"{verdict}; every one of {len(self.layers)} layers was recomputed"
        more = f" and {len(missed) - MOST_NAMED} more" if len(missed) > MOST_NAMED else ""
        named = ", ".join(missed[:MOST_NAMED]) + more
        return f"{verdict}; {len(missed)} of {len(self.layers)} layers not recomputed, or only in part: {named}"

    def _verdict(self) -> str:
        n_checked = sum(row.checked for row in self.rows)
        if not n_checked:
            return "NOTHING WAS CHECKED"
        if self.passed:
            return f"all values agree: {n_checked:,} checked in {len(self.rows)} rows"
        return f"VALUES DIFFER: {sum(row.wrong for row in self.rows):,} of {n_checked:,} checked"


def compare_values(
    layer: str,
    quantity: str,
    ours: np.ndarray,
    theirs: np.ndarray,
    tolerance: np.ndarray,
    skip: np.ndarray | None = None,
) -> VerifyRow:
    """Values within tolerance (an array of their shape); float16 records get their own rounding on top."""
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
    ours: np.ndarray,
    theirs: np.ndarray,
    margin: np.ndarray,
    tolerance: np.ndarray,
    skip: np.ndarray | None = None,
) -> tuple[VerifyRow, np.ndarray]:
    """Masks equal, but where the deciding value is within `tolerance` of its threshold (`margin` away from it).

    Returns the row and the bits that differ and are undecided.
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


def stored_rounding(recorded: np.ndarray) -> np.ndarray | float:
    """Half a unit in the last place of float16 records (and their subnormal floor); 0 for float32."""
    if recorded.dtype != np.float16:
        return 0.0
    return np.abs(recorded.astype(np.float64)) * 2.0**-11 + 2.0**-25
