"""RTL against the simulator, and the area of synthesised units, as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from h2sim.document import Document, Table, counted, table
from h2sim.report.words import TITLES

if TYPE_CHECKING:
    from h2sim.rtl.area import UnitArea

Counts = Mapping[str, Mapping[str, int]]
AREA_COLUMNS = ("instances", "cells", "flip-flops", "um2", "all, mm2", "table, um2")


def check_document(rows: Sequence[tuple[str, str, int, int]], cycles: int, mutations: Counts) -> Document:
    """What a co-simulation found: (engine, kind of layer, cases, disagreeing cases), and who noticed each mutation."""
    total, wrong = sum(row[2] for row in rows), sum(row[3] for row in rows)
    cells = [(TITLES[engine], kind, f"{cases:,}", f"{wrong:,}") for engine, kind, cases, wrong in rows]
    tables = [table("RTL against the simulator", ["engine", "layer"], ["cases", "disagree"], cells)]
    if mutations:
        tables.append(_mutations(mutations))
    return Document(f"{total:,} cases, {wrong:,} disagree; {cycles:,} RTL cycles.{_noticed(mutations)}", tuple(tables))


def _mutations(mutations: Counts) -> Table:
    rows = [(TITLES[engine], name, f"{n:,}") for engine, noticed in mutations.items() for name, n in noticed.items()]
    return table("Mutations of the simulator", ["engine", "mutation"], ["cases that notice"], rows)


def _noticed(mutations: Counts) -> str:
    counts = [n for noticed in mutations.values() for name, n in noticed.items() if name != "unchanged"]
    return f" {sum(n > 0 for n in counts)} of {len(counts)} mutations of the simulator were noticed." if counts else ""


def area_document(rows: Sequence[UnitArea], charged: Mapping[str, float]) -> Document:
    """Synthesised units: cells and flip-flops of one, how many, um2 where cells have areas, what the table charges."""
    cells = [
        (row.module, f"{row.instances:,}", f"{row.cells:,}", f"{row.flip_flops:,}", *_area(row), _um2(charged, row))
        for row in rows
    ]
    all_cells = sum(row.cells * row.instances for row in rows)
    areas = [row.area_um2 * row.instances for row in rows if row.area_um2 is not None]
    mm2 = f", {sum(areas) / 1e6:.3f} mm2" if areas else "; no area without --liberty"
    found = table(
        "Units, synthesised one by one", ["unit"], AREA_COLUMNS, cells, drop=("table, um2", "flip-flops"),
        elsewhere="--json FILE",
    )  # fmt: skip
    return Document(
        f"{counted(len(rows), 'kind of unit', 'kinds of units')}, {all_cells:,} cells in all{mm2}.", (found,)
    )


def _area(row: UnitArea) -> tuple[str, str]:
    if row.area_um2 is None:
        return "-", "-"
    return f"{row.area_um2:,.1f}", f"{row.area_um2 * row.instances / 1e6:.3f}"


def _um2(charged: Mapping[str, float], row: UnitArea) -> str:
    return f"{charged[row.module]:,.0f}" if row.module in charged else "-"
