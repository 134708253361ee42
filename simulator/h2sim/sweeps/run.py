"""`h2sim.sweep`: a spec run to its end, resumed where it was broken off, and what it found as a frame."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h2sim._version import MODEL_VERSION, __version__
from h2sim.energy import parse_energy_table
from h2sim.errors import SweepError
from h2sim.rivals.registry import parse_machine
from h2sim.sweeps.coordinate import Coordinator, Watch, check_traces
from h2sim.sweeps.frame import frame_of
from h2sim.sweeps.machines import Design, Machines
from h2sim.sweeps.plan import Plan, make_plan, unsized
from h2sim.sweeps.session import Named
from h2sim.sweeps.spec import DEFAULT_BUDGET, DRAWN, Spec, load_spec, parse_spec
from h2sim.sweeps.store import SPEC, Store, only_writer
from h2sim.sweeps.workers import InlineWorkers, LocalWorkers, Workers

if TYPE_CHECKING:
    import pandas as pd

MOST_AT_ONCE = 10_000  # points of a grid that are made before they are asked for
Employ = Callable[[Plan], Workers]


def sweep(
    spec: str | Path | Mapping[str, Any],
    output: str | Path | None = None,
    *,
    workers: int | None = None,
    dask: str | None = None,
    retry_failed: bool = False,
) -> pd.DataFrame:
    """Runs every point of a spec (a file, or the same as a mapping) and returns a row per machine and energy table.

    output: the sweep's folder, where it is resumed if it is there already; None: a temporary one. workers: processes
    of this machine, by default one per core; 0: this process itself. dask: the address of a scheduler whose workers
    run the points instead.
    retry_failed: points that failed or were killed are run again. Columns: see h2sim.sweeps.frame. Raises H2SimError
    with a line per fault of the spec before any point is run.

    >>> import h2sim
    >>> space = {"traces": ["mnist-digits"], "parameters": {"engines.backward.rows": [8, 16, 32]}}
    >>> h2sim.sweep(space, workers=0)[["engines.backward.rows", "cycles"]]
       engines.backward.rows  cycles
    0                      8  104266
    1                     16   88472
    2                     32   85600
    """
    written = parse_spec(spec) if isinstance(spec, Mapping) else load_spec(spec)
    check_packages(written.spec)
    with ExitStack() as stack:
        if output is None:
            output = stack.enter_context(tempfile.TemporaryDirectory(prefix="h2sim-sweep-"))
        plan = make_plan(written, Path(output))
        store = run_plan(plan, Path(output), employ(workers, dask), lambda tally, found: None, retry=retry_failed)
        with store:
            return frame_of(plan, store)


def employ(workers: int | None, dask: str | None) -> Employ:
    """What opens the workers of a plan: this machine's cores but for nothing, or those of a cluster."""
    if dask:
        _needs("distributed", "cluster")
        from h2sim.sweeps.cluster import ClusterWorkers

        return lambda plan: ClusterWorkers(plan.setup, dask)
    if workers == 0:
        return lambda plan: InlineWorkers(plan.setup)
    return lambda plan: LocalWorkers(plan.setup, workers or os.cpu_count() or 1)


def check_packages(spec: Spec) -> None:
    """Raises SweepError where the method of a spec needs a package that is not there."""
    if spec.is_guided:
        _needs("optuna", "sweep")


def _needs(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise SweepError(
            f"{package}: expected the package, it comes with h2sim[{extra}] (pip install 'h2sim[{extra}]'); got none"
        )


def run_plan(plan: Plan, folder: Path, employ: Employ, watch: Watch, *, retry: bool = False) -> Store:
    """Runs what of a plan the folder does not hold yet; returns the open store. Raises SweepError, see `sweep`."""
    with only_writer(folder):
        store = Store(folder, write=True)
        try:
            _tell(plan, store)
            workers = employ(plan)
            try:
                coordinator = Coordinator(plan, store, workers, watch, retry=retry)
                if plan.spec.is_guided:
                    from h2sim.sweeps.guided import search

                    search(plan, store, coordinator)
                else:
                    coordinator.run(designs_of(plan))
                store.tell(ended=True, exhausted=_exhausted(plan, coordinator.designs))
            finally:
                workers.close()
        except BaseException:
            store.__exit__()
            raise
        return store


def designs_of(plan: Plan) -> Iterator[Design]:
    """The designs of a plan that is not guided, each once, up to its budget; those that share counts are neighbours."""
    drawn = plan.spec.method in DRAWN
    budget = (plan.spec.budget or DEFAULT_BUDGET) if drawn else plan.spec.budget
    source, seen = plan.choices(), set[str]()
    while budget is None or len(seen) < budget:
        chunk = list(islice(source, MOST_AT_ONCE if budget is None else budget - len(seen)))
        if not chunk:
            return
        for design in map(plan.machines.design, plan.space.in_order(chunk) if drawn else chunk):
            if design.ids[0] not in seen:
                seen.add(design.ids[0])
                yield design


def _exhausted(plan: Plan, designs: int) -> bool:
    """Whether the space held fewer machines than the budget asked for."""
    return plan.spec.method not in ("grid", "list") and designs < (plan.spec.budget or DEFAULT_BUDGET)


def _tell(plan: Plan, store: Store) -> None:
    """Writes what the folder must hold for its points to be read: the spec, the files, the base's own numbers."""
    known = store.facts
    base_key = [*plan.machines.base_ids, *(trace.sha256 for trace in plan.traces)]
    if known.get("base_key") != base_key:
        store.tell(base=check_traces(plan, _first(plan)), base_key=base_key)
    store.keep_file("arch", plan.machines.base_sha256, plan.machines.base.model_dump_json())
    for table in plan.machines.tables:
        store.keep_file("energy table", table.sha256, table.model_dump_json())
    store.write_spec(plan.spec.model_dump(mode="json", exclude_none=True))
    made_of = {
        "base": plan.machines.base_sha256,
        "tables": [table.sha256 for table in plan.machines.tables],
        "traces": [[trace.name, trace.path, trace.sha256] for trace in plan.traces],
    }
    store.tell(made_of=made_of, h2sim=__version__, model=MODEL_VERSION, ended=False)


def _first(plan: Plan) -> Iterable[Design]:
    """Designs to try a trace with."""
    return map(plan.machines.design, plan.space.grid() if plan.space.size is not None else plan.choices())


def load_sweep(folder: Path) -> tuple[Plan, Store]:
    """A sweep that was run, or is running: its plan and its store.

    Nothing but the folder is read: the files that the spec names may have changed since, or lie elsewhere. Raises
    SweepError for a folder that holds no sweep.
    """
    store = Store(folder)
    made_of = store.facts.get("made_of")
    if made_of is None or not store.spec_path.is_file():
        raise SweepError(f"{folder}: expected a sweep's folder, with {SPEC}; got none")
    written = load_spec(store.spec_path)
    base = parse_machine(json.loads(store.file(made_of["base"])), str(folder))
    tables = [parse_energy_table(json.loads(store.file(sha256)), str(folder)) for sha256 in made_of["tables"]]
    traces = tuple(Named(*trace) for trace in made_of["traces"])
    return Plan(written, Machines.of(written, base, tables, unsized), traces), store
