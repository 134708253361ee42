"""How fast points run: `python reports/sweeps/rates.py [--points N]` writes reports/sweeps/rates.md.

The CIFAR10 network (SYNTHETIC masks of table 3.2, batch 4, T = 10), nine parameters and three energy tables, measured
in one run: `h2sim.simulate` point by point on an open trace, then a worker's session, then whole sweeps with one and
two worker processes. Quiet machines only: these figures mean nothing beside other work.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import h2sim
from h2sim.sweeps.plan import Plan, make_plan
from h2sim.sweeps.run import designs_of, employ, run_plan
from h2sim.sweeps.session import Session, Task
from h2sim.sweeps.spec import parse_spec

HERE = Path(__file__).parent
PARAMETERS: dict[str, Any] = {
    "tile": {"values": [[8, 8], [4, 8], [8, 4], [4, 4]]},
    "engines.forward.rows": [32, 64, 128],
    "engines.forward.columns": [8, 16, 32],
    "engines.weight_update.columns": [64, 128, 256],
    "engines.weight_update.parallelism": [2, 4, 8],
    "engines.backward.rows": [8, 16, 32],
    "engines.backward.columns": [32, 64, 128],
    "engines.backward.parallelism": [2, 4, 8],
    "memory.bandwidth_bytes_per_s": ["64 GB/s", "96 GB/s", "128 GB/s", "192 GB/s", "256 GB/s", "384 GB/s"],
}
TRACE = {"network": "cifar10", "sparsity": "table-3.2", "name": "cifar10"}


def plan_of(folder: Path, points: int, **fields: Any) -> Plan:
    """Random points of the nine parameters, priced by one table."""
    spec = {"traces": [TRACE], "method": "random", "budget": points, "parameters": PARAMETERS, **fields}
    return make_plan(parse_spec(spec), folder)


def alone(plan: Plan, points: int) -> float:
    """CPU seconds a point of `h2sim.simulate`, machine after machine on one open trace, in random order."""
    designs = list(designs_of(plan))
    random.Random(0).shuffle(designs)
    trace, table = h2sim.load_trace(plan.traces[0].path), plan.machines.tables[0]
    h2sim.simulate(plan.machines.base, trace, table)
    began = time.process_time()
    for design in designs[:points]:
        h2sim.simulate(plan.machines.base.with_(design.arch), trace, table)
    return (time.process_time() - began) / points


def session(plan: Plan, *, shuffled: bool) -> float:
    """CPU seconds a point of a worker's session, in the order of a sweep or in random order; its first point apart."""
    designs, worker = list(designs_of(plan)), Session(plan.setup)
    if shuffled:
        random.Random(0).shuffle(designs)
    tasks = [Task(d.parameters, d.arch, d.table, d.ids, ((0, 0),)) for d in designs]
    worker.run(tasks[0])
    began = time.process_time()
    for task in tasks[1:]:
        worker.run(task)
    return (time.process_time() - began) / (len(tasks) - 1)


def whole(plan: Plan, folder: Path, workers: int) -> float:
    """Seconds a point of a whole sweep, from its first process to its last row in the store."""
    began = time.monotonic()
    with run_plan(plan, folder, employ(workers, None), lambda tally, found: None):
        pass
    return (time.monotonic() - began) / (plan.spec.budget or 1)


def row(what: str, seconds: float, one: float, kind: str = "") -> tuple[str, ...]:
    """A line of the table: seconds a point, of a CPU or by the clock, and how many times faster than `one`."""
    return what, f"{seconds * 1e3:.1f} ms{kind}", f"{3600 / seconds:,.0f}", f"{one / seconds:.1f}"


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    given = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        plan = plan_of(place, given.points)
        one = alone(plan, min(300, given.points))
        mixed, ordered = session(plan, shuffled=True), session(plan, shuffled=False)
        single, double = whole(plan, place / "1", 1), whole(plan, place / "2", 2)
        three = plan_of(place, given.points, energy_tables=["28nm", "28nm-lstp", "45nm"])
        priced = whole(three, place / "3", 2) / 3
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows = [
        row("`h2sim.simulate`, point by point, random order", one, one, " CPU"),
        row("a worker's session, random order", mixed, one, " CPU"),
        row("a worker's session, a sweep's order", ordered, one, " CPU"),
        row("a whole sweep, 1 worker", single, one),
        row("a whole sweep, 2 workers", double, one),
        row("the same with 3 energy tables, a point each", priced, one),
    ]
    text = (
        f"# How fast points run\n\n{given.points:,} random machines of nine parameters on the CIFAR10 network "
        f"(SYNTHETIC masks, batch 4, T = 10), {os.cpu_count()} cores.\nMade by `python reports/sweeps/rates.py "
        f"--points {given.points}`; sweeps include their start, the drawing of the first counts and the store.\n\n"
        "| what | a point | points an hour | times simulate |\n|---|---:|---:|---:|\n"
    )
    text += "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text += f"\nTwo workers are {single / double:.2f}x as fast as one. "
    text += f"A worker's largest resident set was {peak:,.0f} MB.\n"
    (HERE / "rates.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
