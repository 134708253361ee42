"""Points of a sweep against `h2sim.simulate` of the same machine: `python -m tests.sweeps.equality --points 500`.

Each random point of the study's space, and of buffers, latencies and modes beside it, is simulated twice: as a worker
does it, with all that points share, and by itself on traces that were opened for it alone. All numbers must be equal.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import h2sim
from h2sim.activity import ENGINES
from h2sim.sweeps.frame import frame_of
from h2sim.sweeps.plan import Plan, make_plan
from h2sim.sweeps.run import employ, run_plan
from h2sim.sweeps.spec import parse_spec

PARAMETERS: dict[str, Any] = {
    "engines.forward.rows": [16, 32, 64, 100],
    "engines.forward.columns": [4, 16, 33],
    "engines.forward.parallelism": [1, 4],
    "engines.forward.sub_lut_size": [4, 8],
    "engines.forward.lut": [True, False],
    "engines.weight_update.rows": [5, 10],
    "engines.weight_update.columns": [32, 128],
    "engines.weight_update.parallelism": [2, 4],
    "engines.backward.rows": [8, 12, 16, 32],
    "engines.backward.columns": [16, 24, 64],
    "engines.backward.parallelism": [1, 3, 4],
    "engines.backward.mode": ["dense", "input_only", "output_only", "dual"],
    "engines.backward.empty_window_cycles": [0, 1],
    "tile": {"values": [[8, 8], [4, 8], [7, 5], [3, 3]]},
    "buffers": ["keep", "fit", 0.3],
    "memory.bandwidth_bytes_per_s": ["16 GB/s", "128 GB/s", "1 TB/s"],
    "memory.burst_bytes": [512, 4096],
    "clock_hz": ["500 MHz", "800 MHz"],
    "power_gating": ["none", "engine", "buffer"],
    "latency.fp16_add": [1, 2],
}


def spec(traces: list[Any], points: int, seed: int) -> dict[str, Any]:
    """A sweep of random points of all parameters."""
    return {"traces": traces, "energy_tables": ["28nm", "45nm"], "method": "random", "budget": points, "seed": seed,
            "parameters": PARAMETERS}  # fmt: skip


def alone(machine: h2sim.Arch, trace: str, table: str) -> dict[str, Any]:
    """What `h2sim run` says of a machine, by the names of a sweep's columns; the trace is opened for it alone."""
    result = h2sim.simulate(machine, h2sim.load_trace(trace), table)
    found: dict[str, Any] = {
        "seconds": result.steady_seconds,
        "cycles": result.activity.steady_cycles,
        "energy_j": result.cost.energy_j,
        "area_mm2": result.cost.area.total_um2 / 1e6,
        "offchip_energy_j": result.cost.offchip_energy_j,
    }
    for engine in ENGINES:
        summary = asdict(result.engine(engine))
        found |= {f"{engine}_{what}_cycles": summary[what] for what in ("busy_cycles", "compute_cycles", "fill_cycles")}
        found |= {f"{engine}_{part}_j": joules for part, joules in result.cost.engine_energy_j(engine).items()}
    return {name.replace("_cycles_cycles", "_cycles"): value for name, value in found.items()}


def differing(plan: Plan, folder: Path, workers: int = 2) -> Iterator[str]:
    """Runs a plan, and says of each number of each point that differs from its machine's own simulation which it is."""
    made = [
        design for design in map(plan.machines.design, islice(plan.choices(), plan.spec.budget)) if not design.fault
    ]
    designs = {key: (design, table) for design in made for table, key in enumerate(design.ids)}
    with run_plan(plan, folder, employ(workers, None), lambda tally, found: None) as store:
        frame = frame_of(plan, store)
        points = list(store.points())
    if len(frame) != len(designs) + sum(frame["status"] == "invalid"):
        yield f"expected a row for each of {len(designs)} designs; got {len(frame)}"
    paths = {trace.sha256: trace.path for trace in plan.traces}
    for point in points:
        if point.status != "ok":
            continue
        design, table = designs[point.design]
        machine = plan.machines.base.with_(design.arch)
        for name, value in alone(machine, paths[point.trace], plan.spec.energy_tables[table]).items():
            if point.numbers[name] != value:
                yield f"{design.parameters} {name}: {value!r} alone, {point.numbers[name]!r} in the sweep"


def main() -> None:
    """Compares so many random points, and says how many numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        traces = ["mnist-digits", "mnist-table34", {"network": "cifar10", "sparsity": "table-3.2", "batch": 1}]
        found = list(
            differing(make_plan(parse_spec(spec(traces, given.points // 6, given.seed)), Path(folder)), Path(folder))
        )
    print(f"{given.points // 6} machines x 2 energy tables x 3 traces: {len(found)} numbers differ")
    for line in found[:20]:
        print(line)
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
