"""The machines of a sweep as a page shows them: values, and columns that scripts read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from h2sim.io.units import read_number
from h2sim.report.sweep_point import point_yaml
from h2sim.report.sweep_words import base_name, parameter_text, result_name, short_names
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row, parameter_of
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.store import Store

MOST_POINTS = 20_000  # of the pictures; the front and the base are always among them
MOST_FILES = 40  # arch files of the front that the page holds
RESULTS = ("seconds", "energy_j", "area_mm2", "average_power_w")


@dataclass(frozen=True)
class Space:
    """The machines that a page shows: those of the first energy table, thinned where there are too many."""

    findings: Findings
    store: Store
    rows: tuple[Row, ...]
    front: tuple[Row, ...]
    results: tuple[str, ...]

    @property
    def trace(self) -> str:
        """The first trace's name."""
        return self.findings.plan.traces[0].name

    @property
    def table(self) -> str:
        return self.findings.tables[0]

    @property
    def base(self) -> Row:
        return self.findings.bases[self.table]

    def parameter(self, row: Row, path: str) -> Any:
        """A parameter's value in a row: 64 GB/s as the number that it is."""
        value = parameter_of(self.findings.plan, row, path)
        return read_number(value, path, int | float) if isinstance(value, str) else value


def space_of(plan: Plan, store: Store) -> Space:
    """The valid machines of a sweep under its first energy table."""
    findings = Findings.of(plan, store, RESULTS)
    ok = findings.ok(findings.tables[0])
    results = [*findings.directions, *(name for name in RESULTS if name not in findings.directions)]
    known = tuple(name for name in results if ok and all((row.value(name) or 0) > 0 for row in ok))
    front = findings.front(ok) if ok else []
    if len(ok) > MOST_POINTS:
        on_front = {row.id for row in front}
        others = [row for row in ok if row.id not in on_front]
        ok = [*front, *others[:: -(-len(others) // (MOST_POINTS - len(front)))]]
        ok.sort(key=lambda row: row.design.number)
    return Space(findings, store, tuple(ok), tuple(front), known)


def space_data(space: Space) -> dict[str, Any]:
    """The machines by columns: a parameter as indices of its values, a result as it is to five digits."""
    varied = space.findings.varied
    names = short_names(varied)
    parameters = []
    for path in varied:
        texts = [space.parameter(row, path) for row in (*space.rows, space.base)]
        values = sorted({parameter_text(v): v for v in texts}.items(), key=lambda item: _order(item[1]))
        index = {text: number for number, (text, _) in enumerate(values)}
        parameters.append({
            "path": path, "name": names[path], "values": [text for text, _ in values],
            "at": [index[parameter_text(v)] for v in texts],
        })  # fmt: skip
    on_front = {row.id for row in space.front}
    directions = space.findings.directions
    results = [
        {
            "name": result_name(name), "unit": _unit(name), "most": directions.get(name) == "maximize",
            "values": [_rounded(row.value(name)) for row in (*space.rows, space.base)],
        }
        for name in space.results
    ]  # fmt: skip
    files = {row.id: point_yaml(space.findings.plan, space.store, row.id) for row in space.front[:MOST_FILES]}
    return {
        "ids": [row.id for row in space.rows], "base": base_name(space.findings), "trace": space.trace,
        "parameters": parameters, "results": results, "files": files,
        "front": [number for number, row in enumerate(space.rows) if row.id in on_front],
    }  # fmt: skip


def _order(value: Any) -> tuple[int, tuple[float, ...], str]:
    """Numbers by size, lists of numbers by their product, then all else by its text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, (float(value),), ""
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return 1, (float(math.prod(value)), *map(float, value)), ""
    return 2, (), parameter_text(value)


def _rounded(value: Any) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _unit(name: str) -> str:
    known = {"seconds": "s", "area_mm2": "mm\u00b2"}
    return known.get(name, "J" if name.endswith("_j") else "W" if name.endswith("_w") else "")
