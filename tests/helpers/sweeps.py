"""Sweeps run in the process of the test, and stores of points that nobody simulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from h2sim.sweeps.coordinate import Tally
from h2sim.sweeps.plan import Plan, make_plan
from h2sim.sweeps.run import run_plan
from h2sim.sweeps.session import Found, Session, Setup
from h2sim.sweeps.spec import parse_spec
from h2sim.sweeps.store import Store
from h2sim.sweeps.workers import Batch, Done


class Inline:
    """A worker that is no process: a batch is run when it is collected."""

    def __init__(self, setup: Setup) -> None:
        self._session = Session(setup)
        self._batch: Batch | None = None

    def free(self) -> list[int]:
        return [] if self._batch else [0]

    def submit(self, place: int, batch: Batch) -> None:
        self._batch = batch

    def collect(self, timeout_s: float) -> list[Done]:
        batch, self._batch = self._batch, None
        return [] if batch is None else [Done(batch, [f for task in batch for f in self._session.run(task)])]

    def close(self) -> None:
        pass


def run_inline(
    spec: Mapping[str, Any],
    folder: Path,
    watch: Callable[[Tally, list[Found]], None] = lambda tally, found: None,
) -> tuple[Plan, Store]:
    """A spec run to its end; its plan and its open store."""
    plan = make_plan(parse_spec(spec), folder)
    return plan, run_plan(plan, folder, lambda plan: Inline(plan.setup), watch)


def stored(
    spec: Mapping[str, Any],
    folder: Path,
    results: Callable[[Mapping[str, Any]], Mapping[str, float | int | None]],
    base: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[Plan, Store]:
    """A store of all points of a spec, in which their results are what a function makes of their parameters.

    base: seconds, energy_j and area_mm2 of the base machine.
    """
    from h2sim.sweeps.machines import point_id
    from h2sim.sweeps.run import designs_of
    from h2sim.sweeps.session import OK
    from h2sim.sweeps.store import Stored

    plan = make_plan(parse_spec(spec), folder)
    store = Store(folder, write=True)
    machines, names = plan.machines, plan.spec.energy_tables
    designs, found = [], []
    for number, design in enumerate(designs_of(plan)):
        for table, key in enumerate(design.ids):
            sha256 = machines.tables[table].sha256
            designs.append(
                Stored(key, number, machines.base_sha256, sha256, names[table], design.parameters, design.arch,
                       design.table)
            )  # fmt: skip
            numbers = dict(results(design.parameters))
            found += [Found(point_id(key, t.sha256), key, t.sha256, OK, numbers) for t in plan.traces]
    store.add(designs, found)
    told = dict(zip(("seconds", "energy_j", "area_mm2"), base, strict=True))
    store.tell(base={trace.name: dict.fromkeys(names, told) for trace in plan.traces}, ended=True)
    store.keep_file("arch", machines.base_sha256, machines.base.model_dump_json())
    for kept in machines.tables:
        store.keep_file("energy table", kept.sha256, kept.model_dump_json())
    return plan, store
