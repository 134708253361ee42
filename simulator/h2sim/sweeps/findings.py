"""What a sweep found, seen as a whole: the machine it began with, which machines are best, and on the front.

Machines are compared under one energy table at a time: a table is what is assumed of the technology, no choice of the
architect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from h2sim.io.kept import cached_property
from h2sim.sweeps.frame import Row, parameter_of, rows_of
from h2sim.sweeps.importance import Importance, importance
from h2sim.sweeps.metrics import METRICS, Numbers, mean
from h2sim.sweeps.pareto import LiveFront, front
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import OK
from h2sim.sweeps.spec import Direction
from h2sim.sweeps.store import Store, Stored

MAIN = ("seconds", "energy_j", "area_mm2")  # results that are always kept


@dataclass(frozen=True)
class Findings:
    """The rows of a sweep with the results that are asked for, and its base machine's.

    bases: the row of the machine as its file says, by energy table; its results are empty where it cannot run.
    """

    plan: Plan
    rows: tuple[Row, ...]
    bases: Mapping[str, Row]

    @classmethod
    def of(cls, plan: Plan, store: Store, names: Iterable[str] = ()) -> Findings:
        """names: results to keep beside objectives and MAIN."""
        rows = tuple(rows_of(plan, store, {*MAIN, *plan.spec.objectives, *names}))
        return cls(plan, rows, {table: base_row(plan, store, table) for table in plan.spec.energy_tables})

    @property
    def directions(self) -> Mapping[str, Direction]:
        """The objectives, the most important one first."""
        return self.plan.spec.objectives

    @property
    def tables(self) -> list[str]:
        """The energy tables of the spec, the one that guides a search first."""
        return list(self.plan.spec.energy_tables)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many rows there are of each status."""
        found: dict[str, int] = {}
        for row in self.rows:
            found[row.status] = found.get(row.status, 0) + 1
        return found

    def ok(self, table: str) -> list[Row]:
        """The rows of an energy table that are valid machines with all objectives known."""
        return [
            row
            for row in self.rows
            if row.status == OK
            and row.design.energy_table == table
            and all(row.value(name) is not None for name in self.directions)
        ]

    def values(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """The objectives of rows, (rows, objectives)."""
        return np.array([[row.value(name) for name in self.directions] for row in rows], np.float64).reshape(
            len(rows), len(self.directions)
        )

    def front(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that no other of them beats."""
        return [rows[i] for i in front(self.values(rows), list(self.directions.values()))]

    def live_front(self, table: str, rows: Iterable[Row] = ()) -> LiveFront:
        """A front with these rows on it, which more can be added to; the base machine gives its scale."""
        live = LiveFront(list(self.directions.values()), [self.bases[table].value(name) for name in self.directions])
        live.add([[row.value(name) for name in self.directions] for row in rows])
        return live

    def best(self, rows: Iterable[Row], result: str, direction: Direction | None = None) -> Row | None:
        """The row with the best value of a result; of equal ones the best in the objectives, then the first."""
        sign = -1 if (direction or self.directions.get(result, "minimize")) == "maximize" else 1
        others = [(name, -1 if d == "maximize" else 1) for name, d in self.directions.items()]
        known = [row for row in rows if row.value(result) is not None]
        return min(
            known,
            key=lambda row: (sign * row.value(result), *(s * row.value(n) for n, s in others), row.design.number),
            default=None,
        )

    def no_worse(self, rows: Iterable[Row], result: str, table: str) -> list[Row]:
        """Rows with no more of a result than the base machine, such as its area; none where that is not known."""
        most = self.bases[table].value(result)
        return [] if most is None else [row for row in rows if (row.value(result) or 0) <= most]

    def gain(self, row: Row, name: str, table: str) -> float | None:
        """How many times better a row is than the base machine in a result: 1.4 is 1.4 times as fast."""
        mine, base = row.value(name), self.bases[table].value(name)
        if not mine or not base:
            return None
        return float(mine / base if self.directions.get(name) == "maximize" else base / mine)

    def parameter(self, path: str) -> Callable[[Row], Any]:
        """A parameter's value in a row."""
        return lambda row: parameter_of(self.plan, row, path)

    @cached_property
    def varied(self) -> list[str]:
        """The parameters and variables that take more than one value, in the order of the spec."""
        return [
            p for p in self.plan.machines.order if len({repr(parameter_of(self.plan, r, p)) for r in self.rows}) > 1
        ]

    def importance(self, rows: Sequence[Row]) -> list[Importance]:
        """What each parameter explains, by objective. Fields that are derived follow from others: left out."""
        axes = self.plan.spec.axes
        free = [p for p in self.plan.machines.order if p not in axes or axes[p].derive is None]
        columns = {path: [parameter_of(self.plan, row, path) for row in rows] for path in free}
        return [importance(columns, [row.value(name) for row in rows], name) for name in self.directions]


def base_row(plan: Plan, store: Store, table: str) -> Row:
    """The machine as its file says, whatever the constraints say of it; without results where it cannot run."""
    known = store.facts.get("base", {})
    of_trace = {t.name: known.get(t.name, {}).get(table, {}) for t in plan.traces}
    names = [name for name in METRICS if all(name in each for each in of_trace.values())]
    numbers: Numbers = {n: mean([each[n] for each in of_trace.values()], plan.spec.mean) for n in names}
    at = plan.spec.energy_tables.index(table)
    machines = plan.machines
    design = Stored(machines.base_ids[at], -1, machines.base_sha256, machines.tables[at].sha256, table, {}, {}, {})
    return Row(design, OK, None, numbers, of_trace)
