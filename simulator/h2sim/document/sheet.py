"""A table as CSV: one header line, then the values behind the cells."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from h2sim.document.values import Cell, Table
from h2sim.io.names import in_csv

if TYPE_CHECKING:
    import pandas as pd


def to_csv(table: Table) -> str:
    """Column names, then rows: a Number or Bar as its exact value (None: empty), other cells as text, no formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([in_csv(column.full_name) for column in table.columns])
    writer.writerows([_exact(cell) for cell in row] for row in table.rows)
    return out.getvalue()


def _exact(cell: Cell) -> str:
    if isinstance(cell, str):
        return in_csv(cell)
    return "" if cell.value is None else repr(cell.value)


def frame_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV: column names, then rows without their index; numbers as they are, text inert."""
    inert = frame.copy()
    for name in frame.columns:
        if frame[name].dtype.kind == "O":
            inert[name] = frame[name].astype(object).map(_inert)
    return inert.to_csv(index=False, lineterminator="\n")


def _inert(value: object) -> object:
    return in_csv(value) if isinstance(value, str) else value
