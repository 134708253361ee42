"""A table as CSV: one header line, then the values behind the cells."""

from __future__ import annotations

import csv
import io

from h2sim.document.values import Cell, Number, Table


def to_csv(table: Table) -> str:
    """Column names, then rows: a Number as its exact value (None: empty), any other cell as its text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.full_name for column in table.columns])
    writer.writerows([_exact(cell) for cell in row] for row in table.rows)
    return out.getvalue()


def _exact(cell: Cell) -> str:
    if isinstance(cell, Number):
        return "" if cell.value is None else repr(cell.value)
    return cell
