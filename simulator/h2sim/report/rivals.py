"""Rivals and published systems for people: the lists of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from h2sim.compare.published import PublishedRow
from h2sim.document import Column, Table, table

COLUMNS = ("s/sample", "J/sample", "mm2", "nm")


def machines_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Machines that run on traces: name and what it is."""
    return table("Machines that run on traces", ["name", Column("what", prose=True, key="what it is")], [], rows)


def published_table(rows: Sequence[PublishedRow]) -> Table:
    """Systems as published, with what they were reported to take for a sample."""
    lines = []
    for row in rows:
        work = row.workload
        numbers = (work.seconds if work else None, work.energy_j if work else None, row.area_mm2, row.node_nm)
        shown = ("-" if n is None else f"{n:g}" for n in numbers)
        lines.append((row.name, row.system, work.network if work else "-", *shown))
    return table("As published", ["name", "system", "network"], COLUMNS, lines, drop=("system", "nm", "mm2"))
