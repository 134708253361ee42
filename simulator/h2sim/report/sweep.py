"""A sweep as documents: what it found, how far it is, its machines in a table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from h2sim.arch import Arch
from h2sim.document import Cell, Column, Document, Line, Note, Part, Table, counted, percent, table, times
from h2sim.errors import H2SimError
from h2sim.facade import simulate
from h2sim.report.bounds import NAMES, by_resource
from h2sim.report.sweep_live import LiveLine, expected_points
from h2sim.report.sweep_point import machine_of, point_table_yaml, point_yaml, table_of
from h2sim.report.sweep_table import table_document
from h2sim.report.sweep_words import (
    GAINED,
    base_name,
    best_name,
    gain_text,
    result_text,
    row_cells,
    row_columns,
    short_names,
    varied_among,
)
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.importance import Importance
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import FAILED, INVALID, KILLED, OK
from h2sim.sweeps.spec import DEFAULT_BUDGET
from h2sim.sweeps.store import Store
from h2sim.trace import load_trace

__all__ = [
    "LiveLine",
    "point_table_yaml",
    "point_yaml",
    "status_document",
    "sweep_document",
    "table_document",
]
RUNNING, ENDED, BROKEN_OFF = "running", "ended", "broken off before its end"
IMPORTANCE = "What each parameter explains of the variance"
MOST_ERRORS = 8  # kinds of errors that are listed
FASTEST, LEAST_ENERGY = ("seconds", "area_mm2"), ("energy_j", "seconds")  # (best in, at no more of, than the base)


def sweep_document(plan: Plan, store: Store, *, limits: bool = True) -> Document:
    """What a sweep found. limits: simulate the best machine once more, to say what limits it."""
    findings = Findings.of(plan, store)
    first = findings.tables[0]
    ok = findings.ok(first)
    if not ok:
        return Document(_none_valid(findings), tuple([*_trouble(findings), *_notes(findings, store)]))
    best, said = _headline(findings, ok, first)
    parts: list[Part] = list(_best_machines(findings))
    parts += [_importance(findings, ok)] if findings.varied and len(ok) > 1 else []
    parts += [*_trouble(findings), *map(Line, _fronts(findings)), *_notes(findings, store)]
    limit = _limit(plan, store, best) if limits else ""
    return Document(said + limit, tuple(parts))


def _none_valid(findings: Findings) -> str:
    n, under = len(findings.rows), _under(findings)
    return f"no valid machine among {counted(n, 'point')}{under}." if n else "no point is there yet."


def _under(findings: Findings) -> str:
    constraints = findings.plan.spec.constraints
    return f" under {' and '.join(constraints)}" if constraints else ""


def _headline(findings: Findings, ok: Sequence[Row], first: str) -> tuple[Row, str]:
    """The machine to look at first, and why: the best in the first objective at no more area than the base."""
    base, objective = base_name(findings), next(iter(findings.directions))
    of = f"{counted(len(ok), 'machine')}{_under(findings)}"
    with_table = f", energy table {first}" if len(findings.tables) > 1 else ""
    over = findings.best(ok, objective)
    assert over is not None
    within = findings.best(findings.no_worse(ok, "area_mm2", first), objective)
    gain = findings.gain(over, objective, first)
    if gain is None:
        value = result_text(objective, over.value(objective))
        return over, f"best of {of}{with_table}: {over.id}, {objective} {value} ({base} itself cannot be compared)."
    if objective != "area_mm2" and within and (findings.gain(within, objective, first) or 0) > 1:
        than = gain_text(findings.gain(within, objective, first), objective, base)
        return within, f"best of {of}{with_table}: {within.id}, {than} at equal or less area."
    if gain > 1:
        area = findings.gain(over, "area_mm2", first)
        at_area = f" with {times(1 / area)} its area" if area and objective != "area_mm2" else ""
        none = f"; none is {_better(objective)} at equal or less area" if objective != "area_mm2" else ""
        return over, f"best of {of}{with_table}: {over.id}, {gain_text(gain, objective, base)}{at_area}{none}."
    same = f"{over.id} comes to the same" if gain == 1 else f"{over.id} comes to {times(gain)}"
    return over, f"none of {of}{with_table} is {_better(objective)} than {base}: {same}."


def _better(objective: str) -> str:
    return {"energy_j": "thriftier"}.get(objective, GAINED.get(objective, f"better in {objective}"))


def _limit(plan: Plan, store: Store, row: Row) -> str:
    """A sentence on what bounds a machine on the first trace, from simulating it once more; else why there is none."""
    spec = plan.spec
    if not isinstance(plan.machines.base, Arch) or spec.options.layer is not None:
        return ""
    named = plan.traces[0]
    try:
        machine = machine_of(store, row.design)
        assert isinstance(machine, Arch)
        ideal = spec.options.ideal_memory
        result = simulate(machine, load_trace(named.path), table_of(store, row.design), bounds=True, ideal_memory=ideal)
    except (H2SimError, OSError) as error:
        return f" What limits it could not be found again: {str(error).splitlines()[0]}."
    bounds = result.activity.bounds
    if bounds is None or not sum(part.cycles for part in bounds.parts):
        return ""
    total = sum(part.cycles for part in bounds.parts)
    resource, cycles = by_resource(bounds.parts)[0]
    on = f" on {named.name}" if len(plan.traces) > 1 else ""
    said = f" What limits it{on}: {NAMES.get(resource, resource)}, {cycles / total:.0%} of the step"
    if not bounds.ideal_memory_cycles:
        return f"{said}."
    return f"{said}; with memory that takes no time it would be {times(total / bounds.ideal_memory_cycles)} faster."


def _best_machines(findings: Findings) -> Iterator[Table]:
    """By energy table: the base, the best machine in each objective and the best at no more of something than the base;
    then what these machines are."""
    base, objectives = base_name(findings), list(findings.directions)
    for name in findings.tables:
        kept = [(base, findings.bases[name]), *_winners(findings, name)]
        if len(kept) == 1:
            continue
        columns = [Column("what", prose=True), *row_columns(findings, (), objectives, objectives, with_table=False)]
        rows = [(what, *row_cells(findings, r, (), objectives, objectives, with_table=False)) for what, r in kept]
        under = f", energy table {name}" if len(findings.tables) > 1 else ""
        yield Table(f"Best machines{under}", tuple(columns), tuple(rows))
        different = list({row.id: row for _, row in kept}.values())
        paths = varied_among(findings, different)
        if paths:
            cells = [tuple(row_cells(findings, row, paths, (), (), with_table=False)) for row in different]
            yield Table("What they are", tuple(row_columns(findings, paths, (), (), with_table=False)), tuple(cells))


def _winners(findings: Findings, table_name: str) -> Iterator[tuple[str, Row]]:
    ok, base = findings.ok(table_name), base_name(findings)
    for name, direction in findings.directions.items():
        best = findings.best(ok, name)
        if best:
            yield best_name(name, direction), best
    for (result, held), than in ((FASTEST, "at no more area than"), (LEAST_ENERGY, "at no slower than")):
        best = findings.best(findings.no_worse(ok, held, table_name), result, "minimize")
        if best:
            yield f"{best_name(result, 'minimize')} {than} {base}", best


def _importance(findings: Findings, ok: Sequence[Row]) -> Table:
    """A row per parameter, a column per objective: the share of its variance that the parameter explains."""
    found = findings.importance(ok)
    names = short_names(effect.parameter for effect in found[0].effects)
    rows: list[list[Cell]] = []
    for path in sorted(names, key=lambda p: -max((share_of(each, p) or 0.0) for each in found)):
        rows.append([names[path], *(percent(share_of(each, path), 0) for each in found)])
    if found[0].rest is not None:
        rows.append(["(interactions)", *(percent(each.rest, 0) for each in found)])
    warnings = dict.fromkeys(warning for each in found for warning in each.warnings)
    return table(
        IMPORTANCE, ["parameter"], list(findings.directions), rows,
        foot=(f"({found[0].method}; {found[0].n:,} machines)", *warnings),
    )  # fmt: skip


def share_of(found: Importance, path: str) -> float | None:
    """What a parameter explains by itself."""
    return next(effect.share for effect in found.effects if effect.parameter == path)


def _trouble(findings: Findings) -> list[Part]:
    """How many points are ok, and why the others are not."""
    counts = findings.counts
    if not set(counts) - {OK}:
        return [Line(f"{counted(counts.get(OK, 0), 'point')}, all ok.")] if counts else []
    groups: dict[tuple[str, str], list[str]] = {}
    for row in findings.rows:
        if row.status != OK:
            error = row.error or "-"
            groups.setdefault((row.status, _kind_of(error)), []).append(error)
    order = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rows: list[tuple[Cell, ...]] = [(OK, f"{counts.get(OK, 0):,}", "")]
    rows += [(status, f"{len(errors):,}", errors[0]) for (status, _), errors in order[:MOST_ERRORS]]
    left = order[MOST_ERRORS:]
    if left:
        rows.append(("others", f"{sum(len(errors) for _, errors in left):,}", f"of {len(left)} more kinds"))
    columns = (Column("status"), Column("points", right=True), Column("such as", prose=True))
    foot = [f"({FAILED} and {KILLED} points: h2sim sweep SPEC -o DIR --retry-failed runs them again)"]
    foot = foot if counts.get(FAILED) or counts.get(KILLED) else []
    return [Table("Points", columns, tuple(rows), tuple(foot))]


def _kind_of(error: str) -> str:
    """An error without what differs from point to point: what was got, and numbers."""
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", error.partition(" got ")[0])


def _fronts(findings: Findings) -> Iterator[str]:
    """The size of the Pareto front and its hypervolume, a sentence per energy table."""
    several = len(findings.tables) > 1
    for name in findings.tables:
        ok = findings.ok(name)
        if ok:
            live = findings.live_front(name, ok)
            of = f" under {name}" if several else ""
            share = live.hypervolume
            volume = f"; it dominates {share:.1%} of the box of {_box(findings)}" if share is not None else ""
            yield (
                f"Pareto front{of}: {counted(live.size, 'machine')} of {len(ok):,} in "
                f"{', '.join(findings.directions)}{volume}."
            )


def _box(findings: Findings) -> str:
    return f"twice {base_name(findings)} in each objective"


def _notes(findings: Findings, store: Store) -> Iterator[Note]:
    plan = findings.plan
    if store.facts.get("exhausted"):
        budget = plan.spec.budget or DEFAULT_BUDGET
        yield Note(f"the space is exhausted: it holds fewer machines than the budget of {budget:,}")
    samplers = store.facts.get("optuna", [])
    if len(samplers) > 1:
        yield Note(
            f"the search was guided by Optuna {' and then '.join(samplers)}: from a new folder it may go elsewhere"
        )
    others = store.other_models()
    if others:
        yield Note(f"{counted(others, 'machine')} of another version of h2sim's model left out; run the spec again")
    changed = sorted({f"energy_table.{path}" for row in findings.rows for path in row.design.energy})
    if changed:
        yield Note(
            f"points change prices ({', '.join(changed)}); {base_name(findings)} is priced as the table's file says"
        )


def status_document(plan: Plan, store: Store) -> Document:
    """How far a sweep is: read from its folder, whoever runs it."""
    findings = Findings.of(plan, store)
    counts, expected = store.counts(), expected_points(plan)
    done = sum(counts.values())
    of = f" of {expected:,}" if expected is not None and expected >= done else ""
    by_status = ", ".join(f"{counts[s]:,} {s}" for s in (OK, INVALID, FAILED, KILLED) if counts.get(s))
    state = _state(store)
    verdict = f"{state}: {done:,}{of} results" + (f" ({by_status})." if by_status else ".")
    parts: list[Part] = []
    if any(findings.ok(name) for name in findings.tables):
        parts += _best_machines(findings)
    parts += [*map(Line, _fronts(findings)), *_notes(findings, store)]
    if state == BROKEN_OFF:
        parts.append(Note("the same command again goes on where it was broken off"))
    return Document(verdict, tuple(parts))


def _state(store: Store) -> str:
    if is_running(store.folder):
        return RUNNING
    return ENDED if store.facts.get("ended") else BROKEN_OFF


def is_running(folder: Path) -> bool:
    """Whether a process runs the sweep of a folder: it holds the lock. Asking takes the lock for an instant."""
    import fcntl

    try:
        handle = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
