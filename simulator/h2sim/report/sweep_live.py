"""The line that says how far a running sweep is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from h2sim.document import times
from h2sim.report.sweep_words import GAINED, result_text
from h2sim.sweeps.coordinate import Tally
from h2sim.sweeps.findings import Findings, base_row
from h2sim.sweeps.frame import Row, row_of
from h2sim.sweeps.pareto import LiveFront
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import OK, Found
from h2sim.sweeps.spec import DEFAULT_BUDGET
from h2sim.sweeps.store import Store

LEAST_RATE = 0.1  # results a second, below which no end is foretold


def expected_points(plan: Plan) -> int | None:
    """How many results a plan comes to at most; None where constraints on fields or a guided search leave it open.

    Two choices that come to one machine are one result, so there may be fewer.
    """
    spec, size = plan.spec, plan.space.size
    each = len(plan.traces) * len(spec.energy_tables)
    if spec.method == "list":
        return len(spec.points) * each
    if spec.method == "grid":
        if size is None or plan.machines.on_fields:
            return None if spec.budget is None else spec.budget * each
        return min(size, spec.budget or size) * each
    budget = spec.budget or DEFAULT_BUDGET
    return (budget if size is None else min(size, budget)) * each


class LiveLine:
    """What is told after each batch: results, rate and time left, the best in each objective, the share of the box.

    folder: of the sweep, whose base machine and earlier points count too; without it only numbers of results are told.
    """

    def __init__(self, plan: Plan, folder: Path | None = None) -> None:
        self._plan, self._folder = plan, folder
        self._table = plan.spec.energy_tables[0]
        self._expected = expected_points(plan)
        self._store: Store | None = None
        self._base: Row | None = None
        self._front: LiveFront | None = None
        self._best: dict[str, Row] = {}  # by objective

    def told(self, tally: Tally, found: Sequence[Found]) -> str:
        """The line. found: what was just written."""
        done = tally.there + tally.done
        of = f" of {self._expected:,}" if self._expected is not None and self._expected >= done else ""
        parts = [f"{done:,}{of} results", f"{tally.rate:,.1f}/s{self._left(tally, done)}"]
        bad = {s: n for s, n in sorted(tally.by_status.items()) if s != OK and n}
        parts += [f"{n:,} {status}" for status, n in bad.items()]
        if self._folder is not None:
            self._take(found)
            parts += self._best_so_far()
        return "; ".join(parts)

    def _left(self, tally: Tally, done: int) -> str:
        if self._expected is None or tally.rate < LEAST_RATE or self._expected <= done:
            return ""
        seconds = (self._expected - done) / tally.rate
        return f", {_duration(seconds)} left"

    def _take(self, found: Sequence[Found]) -> None:
        if self._store is None or self._front is None:
            assert self._folder is not None
            self._store = Store(self._folder)
            findings = Findings.of(self._plan, self._store)
            rows = findings.ok(self._table)
            self._base = base_row(self._plan, self._store, self._table)
            self._front = findings.live_front(self._table, rows)
            self._keep_best(rows)
            return
        rows = [row for row in map(self._row, dict.fromkeys(f.design for f in found if f.status == OK)) if row]
        names = list(self._plan.spec.objectives)
        self._front.add([[row.value(name) for name in names] for row in rows])
        self._keep_best(rows)

    def _keep_best(self, rows: Sequence[Row]) -> None:
        for name, direction in self._plan.spec.objectives.items():
            sign = -1 if direction == "maximize" else 1
            known = [r for r in (self._best.get(name), *rows) if r is not None and r.value(name) is not None]
            if known:
                self._best[name] = min(known, key=lambda row: sign * row.value(name))

    def _row(self, design: str) -> Row | None:
        """The row of a design of the first table, if it is a valid machine."""
        assert self._store is not None
        stored = next(self._store.designs(design), None)
        if stored is None or stored.energy_table != self._table:
            return None
        row = row_of(self._plan, stored, self._store.points_of(design))
        return row if row and row.status == OK else None

    def _best_so_far(self) -> list[str]:
        if not self._best or self._front is None or self._base is None:
            return []
        told = []
        for name, row in self._best.items():
            value, base = row.value(name), self._base.value(name)
            told.append(f"best {name} {result_text(name, value)}")
            if value and base:
                ratio = value / base if self._plan.spec.objectives[name] == "maximize" else base / value
                told[-1] += f" ({times(ratio)}{' ' + GAINED[name] if name in GAINED else ''})"
        share = self._front.hypervolume
        told.append(f"front {self._front.size:,}" + ("" if share is None else f", hypervolume {share:.3f}"))
        return told


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
