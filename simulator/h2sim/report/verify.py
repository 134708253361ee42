"""A functional check as a document: whether all values agree, then the largest differences by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.document import Document, Note, table

if TYPE_CHECKING:
    from h2sim.verify import VerifyReport

COLUMNS = ("checked", "wrong", "undecided", "largest difference", "tolerance", "verdict")


def verify_document(report: VerifyReport) -> Document:
    """The headline, a row per layer and quantity, and what could not be recomputed."""
    rows = [
        (
            row.layer, row.quantity, f"{row.checked:,}", f"{row.wrong:,}", f"{row.undecided:,}",
            f"{row.max_difference:.3g}", f"{row.tolerance:.3g}", "ok" if row.passed else "WRONG",
        )
        for row in report.rows
    ]  # fmt: skip
    title = "Values through the engines' data paths against the trace"
    found = table(
        title, ["layer", "quantity"], COLUMNS, rows, drop=("undecided", "tolerance", "checked"), elsewhere="--json FILE"
    )
    return Document(f"{report.headline}.", (found, *map(Note, report.notes)))
