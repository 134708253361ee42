"""The machines of a sweep as a table: chosen, sorted, and compared with the machine that it began with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from h2sim.document import Document, Line, Part, Table, counted
from h2sim.errors import SweepError
from h2sim.report.sweep_words import base_name, result_text, row_cells, row_columns, short_names, varied_among
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.metrics import METRICS
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import OK
from h2sim.sweeps.store import Store

MORE_IS_BETTER = ("samples_per_second", "_utilization")  # ends of results of which most comes first


def table_document(
    plan: Plan,
    store: Store,
    *,
    pareto: bool = False,
    sort: str | None = None,
    top: int | None = None,
    columns: Iterable[str] | None = None,
) -> Document:
    """The valid machines of a sweep, a row each and energy table.

    pareto: only those on the front of their energy table. sort: a result or parameter, the best or smallest first;
    without it, the order of the spec. top: only so many. columns: further results or parameters. Raises SweepError for
    a column that does not exist.
    """
    further = [column_of(plan, name) for name in columns or ()]
    by = column_of(plan, sort) if sort else None
    findings = Findings.of(plan, store, [name for name in (*further, by) if name])
    found = {name: findings.ok(name) for name in findings.tables}
    kept = {name: findings.front(rows) if pareto else rows for name, rows in found.items()}
    shown = sorted((row for rows in kept.values() for row in rows), key=_in_spec_order(findings))
    if by:
        shown.sort(key=_by(findings, by), reverse=_most_first(findings, by))
        shown.sort(key=lambda row: _value(findings, by, row) is None)
    n_kept = len(shown)
    shown = shown[:top] if top else shown
    results = [*findings.directions, *(n for n in further if _is_result(n) and n not in findings.directions)]
    asked = [n for n in further if not _is_result(n)]
    paths = list(dict.fromkeys([*varied_among(findings, shown), *asked]))
    gains = list(findings.directions)
    listed = Table(
        "Machines" if not by else f"Machines by {by}",
        tuple(row_columns(findings, paths, results, gains)),
        tuple(tuple(row_cells(findings, row, paths, results, gains)) for row in shown),
        tuple(_base_lines(findings, results)),
        "--csv FILE",
    )
    return Document(_said(findings, found, n_kept, len(shown), pareto), _parts(findings, listed))


def _parts(findings: Findings, listed: Table) -> tuple[Part, ...]:
    said = ", ".join(f"{n:,} {status}" for status, n in sorted(findings.counts.items()) if status != OK)
    return (listed, *([Line(f"(left out: {said} points)")] if said else []))


def _said(findings: Findings, found: dict[str, list[Row]], n_kept: int, n_shown: int, pareto: bool) -> str:
    n = sum(map(len, found.values()))
    what = counted(n, "machine") if len(findings.tables) == 1 else f"{n:,} machines and energy tables"
    under = f" under {' and '.join(findings.plan.spec.constraints)}" if findings.plan.spec.constraints else ""
    front = f"{n_kept:,} of {what} on the Pareto front of {', '.join(findings.directions)}" if pareto else what
    first = f"; the first {n_shown:,}" if n_shown < n_kept else ""
    return f"{front}{under}{first}:" if n_shown else f"no valid machine among {counted(len(findings.rows), 'point')}."


def _base_lines(findings: Findings, results: Sequence[str]) -> Iterable[str]:
    several = len(findings.tables) > 1
    for name in findings.tables:
        base = findings.bases[name]
        told = ", ".join(f"{result} {result_text(result, base.value(result))}" for result in results)
        yield f"{base_name(findings)} itself{f' with {name}' if several else ''}: {told}"


def column_of(plan: Plan, name: str) -> str:
    """A result or a parameter by its name, of a parameter the last parts too. Raises SweepError, with the nearest."""
    paths, names = list(plan.machines.order), short_names(plan.machines.order)
    each = [f"{result}[{trace.name}]" for result in METRICS for trace in plan.traces]
    if name in paths or name in METRICS or name in each:
        return name
    ends = [path for path in paths if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise SweepError(f"{name}: expected one column; got {len(ends)}: {', '.join(ends)}")
    near = difflib.get_close_matches(name, [*paths, *names.values(), *METRICS, *each], n=1)
    known = f"; did you mean {near[0]!r}?" if near else f"; such as {', '.join([*paths, *plan.spec.objectives])}"
    raise SweepError(f"{name[:60]}: unknown column{known}")


def _is_result(name: str) -> bool:
    return name.partition("[")[0] in METRICS


def _value(findings: Findings, name: str, row: Row) -> Any:
    return row.value(name) if _is_result(name) else findings.parameter(name)(row)


def _most_first(findings: Findings, name: str) -> bool:
    if name in findings.directions:
        return findings.directions[name] == "maximize"
    return _is_result(name) and name.partition("[")[0].endswith(MORE_IS_BETTER)


def _by(findings: Findings, name: str) -> Any:
    """A key that puts numbers before words."""

    def key(row: Row) -> tuple[int, Any]:
        value = _value(findings, name, row)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return 0, value
        if isinstance(value, list) and all(isinstance(v, int | float) for v in value):
            return 1, value
        return 2, str(value)

    return key


def _in_spec_order(findings: Findings) -> Any:
    place = {name: index for index, name in enumerate(findings.tables)}
    return lambda row: (row.design.number, place[row.design.energy_table], row.design.id)
