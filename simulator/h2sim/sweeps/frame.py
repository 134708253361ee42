"""What a sweep found, as a table: a row per machine and energy table."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from h2sim.errors import SweepError
from h2sim.io.fields import value_at
from h2sim.sweeps.metrics import METRICS, Numbers, mean
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import FAILED, INVALID, KILLED, OK, Found
from h2sim.sweeps.spec import BUFFERS
from h2sim.sweeps.store import Store, Stored

if TYPE_CHECKING:
    import pandas as pd

WORST = (KILLED, FAILED, INVALID, OK)  # the status of a row is the first of these that one of its points has
MOST_ID = 12  # digits of an id that people are shown


@dataclass(frozen=True)
class Row:
    """A machine with an energy table: its parameters, its results over all traces, and each trace's own."""

    design: Stored
    status: str
    error: str | None
    numbers: Numbers
    of_trace: Mapping[str, Numbers]

    @property
    def id(self) -> str:
        """As people are shown it; any beginning of it that is nobody else's will do."""
        return self.design.id[:MOST_ID]

    @property
    def known(self) -> dict[str, Any]:
        """All results by the names that constraints have for them: of all traces, then of each."""
        of_each = {f"{name}[{t}]": value for t, each in self.of_trace.items() for name, value in each.items()}
        return {**self.numbers, **of_each}

    def value(self, name: str) -> Any:
        """A result, of all traces or of one (`seconds[mnist-digits]`); None where it is not known."""
        result, _, trace = name.partition("[")
        return self.numbers.get(name) if not trace else self.of_trace.get(trace.removesuffix("]"), {}).get(result)


def rows_of(plan: Plan, store: Store, results: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of a store in the order of the spec, those of which all traces are there or one has failed.

    A row's status is judged by the plan's constraints: what a stricter spec excludes is invalid, though simulated.
    results: those that rows are to hold, `seconds` or `seconds[mnist-digits]`; None: all.
    """
    tables = {table.sha256 for table in plan.machines.tables}
    for design, points in store.designs_with_points():
        row = row_of(plan, design, points, results) if design.table in tables else None
        if row:
            yield row


def row_of(plan: Plan, design: Stored, found: Iterable[Found], results: Collection[str] | None = None) -> Row | None:
    """The row of a design with these points; None while a trace is missing and none has failed."""
    wanted = {trace.sha256: trace.name for trace in plan.traces}
    points = {wanted[point.trace]: point for point in found if point.trace in wanted}
    statuses = {point.status for point in points.values()}
    if not points or (len(points) < len(wanted) and statuses == {OK}):
        return None
    return _row(plan, design, points, next(status for status in WORST if status in statuses), results)


def _row(plan: Plan, design: Stored, points: Mapping[str, Found], status: str, results: Collection[str] | None) -> Row:
    of_trace = {t.name: points[t.name].numbers for t in plan.traces if t.name in points}
    numbers: Numbers = {}
    if len(of_trace) == len(plan.traces) == 1:
        numbers = dict(next(iter(of_trace.values())))
    elif len(of_trace) == len(plan.traces):
        names: Collection[str] = METRICS if results is None else plan.machines.results_of(results)
        names = [name for name in names if any(name in each for each in of_trace.values())]
        numbers = {name: mean([each.get(name) for each in of_trace.values()], plan.spec.mean) for name in names}
    error = next((p.error for p in points.values() if p.status == status and p.error), None)
    if status == INVALID and numbers:  # a constraint ruled it out, perhaps that of another spec
        status = OK if all("seconds" in each for each in of_trace.values()) else INVALID
    row = Row(design, status, error, numbers, of_trace)
    if status == OK and plan.machines.on_results:
        try:
            error = plan.machines.broken(plan.machines.on_results, design.parameters, design.arch, row.known)
        except SweepError as fault:
            error = str(fault)
        row = replace(row, status=INVALID if error else OK, error=error)
    return row if results is None else _thinned(row, results)


def _thinned(row: Row, results: Collection[str]) -> Row:
    """A row without the results that are not asked for: a hundred thousand rows with all of them are gigabytes."""
    kept = {name: value for name, value in row.numbers.items() if name in results}
    each = (name.removesuffix("]").partition("[") for name in results if "[" in name)
    of_trace: dict[str, dict[str, float | int | None]] = {}
    for name, _, trace in each:
        if name in row.of_trace.get(trace, {}):
            of_trace.setdefault(trace, {})[name] = row.of_trace[trace][name]
    return replace(row, numbers=kept, of_trace=of_trace)


def parameter_of(plan: Plan, row: Row, path: str) -> Any:
    """The value of a parameter of the spec in a row; of one that the row's own spec did not have, the file's."""
    if path in row.design.parameters:
        return row.design.parameters[path]
    if path == BUFFERS:
        return "keep"
    for holder in (plan.machines.base, plan.machines.tables[0]):
        try:
            value = value_at(holder, path.removeprefix("energy_table."))
        except KeyError:
            continue
        return list(value.values()) if path == "tile" and isinstance(value, dict) else value
    return None


def frame_of(plan: Plan, store: Store) -> pd.DataFrame:
    """A row per machine and energy table: `id`, the parameters by dotted path (lists as `[8, 8]`), `energy_table`,
    `status`, `error`, then results; of several traces the mean, and `name[trace]` each."""
    import pandas as pd

    several = len(plan.traces) > 1
    records = []
    for row in rows_of(plan, store):
        record: dict[str, Any] = {"id": row.id}
        record |= {path: _cell(parameter_of(plan, row, path)) for path in plan.machines.order}
        record |= {"energy_table": row.design.energy_table, "status": row.status, "error": row.error}
        record |= row.numbers
        if several:
            record |= {f"{name}[{t}]": value for t, each in row.of_trace.items() for name, value in each.items()}
        records.append(record)
    columns = ["id", *plan.machines.order, "energy_table", "status", "error"]
    results = [name for name in METRICS if any(name in record for record in records)]
    each = [f"{name}[{t.name}]" for t in plan.traces for name in results] if several else []
    return pd.DataFrame(records, columns=[*columns, *results, *each])


def _cell(value: Any) -> Any:
    """A parameter's value as one cell."""
    return json.dumps(value) if isinstance(value, list | dict) else value
