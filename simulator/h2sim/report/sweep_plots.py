"""A sweep as pictures: fronts, slices, maps, and what each parameter explains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from h2sim.document import counted
from h2sim.document.pictures import PNG, Make, Plots, draw_picture
from h2sim.errors import SweepError
from h2sim.io.names import in_file_name, in_picture
from h2sim.report.sweep_axes import parameter_name, result_name
from h2sim.report.sweep_fronts import parallel_figure, pareto_figure
from h2sim.report.sweep_slices import importance_figure, map_figure, slice_figure
from h2sim.report.sweep_table import column_of
from h2sim.report.sweep_words import base_name, short_names
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.store import Store

Made = tuple[str, str, Make]  # the file's name, the title, and what draws it


def draw_sweep(
    plan: Plan,
    store: Store,
    folder: Path,
    plots: Plots = PNG,
    *,
    slices: Sequence[Sequence[str]] = (),
) -> list[Path]:
    """Draws a sweep's valid machines into a folder, which is there; returns the files' paths.

    pareto, parallel (the front), slices-OBJECTIVE (along each parameter), map-FIELD-FIELD (the best over two) and
    importance, each with the energy table's name where the spec has several. slices: one parameter each, to look along
    these alone, or two, to map; by default along all, and a map of the two that explain most of the first objective.
    Raises SweepError for an unknown parameter or a sweep without valid machines.
    """
    along, pairs = _asked(plan, slices)
    findings = Findings.of(plan, store)
    paths: list[Path] = []
    for place, table in enumerate(findings.tables):
        rows = findings.ok(table)
        if not rows:
            continue
        suffix = f"-{in_file_name(table)}" if len(findings.tables) > 1 else ""
        machines = plan.machines
        told = {"arch_sha256": machines.base_sha256, "energy_table_sha256": machines.tables[place].sha256}
        told |= {"trace_sha256": " ".join(trace.sha256 for trace in plan.traces)}
        for name, title, make in _figures(findings, rows, table, along, pairs):
            paths += draw_picture(make, folder / f"{name}{suffix}", plots, title=title, told=told)
    if not paths:
        raise SweepError(f"{store.folder}: expected a sweep with valid machines to draw; got none")
    return paths


def _asked(plan: Plan, slices: Sequence[Sequence[str]]) -> tuple[list[str], list[tuple[str, str]]]:
    along: list[str] = []
    pairs: list[tuple[str, str]] = []
    for names in slices:
        found = [column_of(plan, name) for name in names]
        wrong = [name for name in found if name not in plan.machines.order]
        if wrong or len(set(found)) != len(found) or len(found) not in (1, 2):
            got = f"the result {wrong[0]}" if wrong else ", ".join(names) or "none"
            raise SweepError(f"slice: expected one parameter or two different ones; got {got[:80]}")
        if len(found) == 1:
            along.append(found[0])
        else:
            pairs.append((found[0], found[1]))
    return along, pairs


def _figures(
    findings: Findings,
    rows: list[Row],
    table: str,
    along: Sequence[str],
    pairs: Sequence[tuple[str, str]],
) -> Iterator[Made]:
    best = findings.front(rows)
    of = _subject(findings, table)
    on_front = f"{len(best):,} of {counted(len(rows), 'machine')}"
    if len(findings.directions) > 1:
        yield "pareto", f"Pareto front, {on_front}: {of}", lambda width: pareto_figure(findings, rows, table, width)
    varied = [p for p in findings.varied if len({repr(findings.parameter(p)(row)) for row in rows}) > 1]
    axes = findings.plan.spec.axes
    free = [path for path in varied if path not in axes or axes[path].derive is None]
    if not free:
        return
    if len(best) > 1:
        yield (
            "parallel",
            f"Machines on the front, {on_front}: {of}",
            lambda width: parallel_figure(findings, best, width),
        )
    for objective in findings.directions:
        yield (
            f"slices-{in_file_name(objective)}",
            f"{result_name(objective).capitalize()} along each parameter: {of}",
            lambda width, objective=objective: slice_figure(findings, rows, table, objective, along or free, width),  # type: ignore[misc]
        )
    found = findings.importance(rows)
    names = short_names(findings.plan.machines.order)
    ranked = [path for path in found[0].ranked if path in free]
    ranked += [path for path in free if path not in ranked]
    chosen = list(pairs) or ([(ranked[0], ranked[1])] if len(ranked) > 1 else [])
    for pair in chosen:
        yield (
            f"map-{'-'.join(in_file_name(names[path]) for path in pair)}",
            f"Best over {' and '.join(parameter_name(findings, path) for path in pair)}: {of}",
            lambda width, pair=pair: map_figure(findings, rows, table, pair, width),  # type: ignore[misc]
        )
    if len(rows) > 1:
        yield (
            "importance",
            f"What each parameter explains: {of}",
            lambda width: importance_figure(findings, found, width),
        )


def _subject(findings: Findings, table: str) -> str:
    """What all pictures of an energy table are of."""
    plan = findings.plan
    names = [in_picture(trace.name, 24) for trace in plan.traces]
    traces = names[0] if len(names) == 1 else f"{plan.spec.mean} mean of {len(names)} traces"
    return f"{in_picture(base_name(findings), 24)}, {traces}, energy table {in_picture(table, 24)}"
