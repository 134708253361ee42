"""Whether a guided search beats chance, on a space that can be tried whole: reports/sweeps/search.md.

    python reports/sweeps/search.py         # from the root of a checkout, with the extra sweep; 10 minutes

All machines of the space are simulated once. Searches are then run as `h2sim sweep` runs them, with that sweep's store
to answer for every point; only the time that the sampler takes is theirs.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from h2sim.sweeps import guided
from h2sim.sweeps.frame import rows_of
from h2sim.sweeps.machines import Design
from h2sim.sweeps.pareto import front, hypervolume
from h2sim.sweeps.plan import Plan, make_plan
from h2sim.sweeps.run import employ, run_plan
from h2sim.sweeps.spec import parse_spec

SPACE: dict[str, Any] = {
    "traces": "mnist-digits",
    "parameters": {
        "engines.forward.rows": {"log2": [16, 128]},
        "engines.forward.columns": {"log2": [8, 64]},
        "engines.weight_update.columns": {"log2": [32, 256]},
        "engines.backward.rows": {"log2": [8, 64]},
        "engines.backward.columns": {"log2": [16, 128]},
        "tile": {"values": [[4, 4], [4, 8], [8, 8]]},
        "memory.bandwidth_bytes_per_s": {"values": [64 * 10**9, 128 * 10**9, 256 * 10**9]},
    },
}
LIMIT = "area_mm2 <= 36.9505"  # what the table 28nm gives h2learn
METHODS = ("random", "nsga2", "tpe")
BUDGETS = (100, 300, 1000)  # machines that are tried
SIMULATED = (100, 300, 700)  # of machines that meet the limit
SEEDS = (0, 1, 2, 3, 4)
BOX = 2.0  # times h2learn, in each objective: the corner from which volumes are measured
TOO_NEAR = 0.01  # of the volume: a smaller lead over chance is none
REPORT = Path(__file__).with_suffix(".md")


class Whole:
    """All machines of the space: what was found of each, and the volume of their front."""

    def __init__(self, folder: Path) -> None:
        plan = make_plan(parse_spec({**SPACE, "method": "grid"}), folder)
        begun = time.perf_counter()
        self.store = run_plan(plan, folder, employ(0, None), lambda tally, found: None)
        self.minutes = (time.perf_counter() - begun) / 60
        self.folder = folder
        self.designs = {_key(choice): plan.machines.design(choice) for choice in plan.space.grid()}
        base = self.store.facts["base"]["mnist-digits"]["28nm"]
        self.names = list(plan.spec.objectives)
        self._base = np.array([base[name] for name in self.names])
        limited = self.plan("grid", 1)
        found = {
            r.design.id: [r.value(n) for n in self.names] for r in rows_of(limited, self.store) if r.status == "ok"
        }
        self.values = {design: np.array(values) / self._base for design, values in found.items()}

    def plan(self, method: str, seed: int, budget: int | None = None) -> Plan:
        """A search of the space under the limit. Machines are made only once."""
        spec = {
            **SPACE,
            "constraints": [LIMIT],
            "method": method,
            "seed": seed,
            **({"budget": budget} if budget else {}),
        }
        plan = make_plan(parse_spec(spec), self.folder)
        object.__setattr__(plan.machines, "design", lambda choice: self.designs[_key(choice)])
        return plan

    def volume(self, designs: Iterable[str]) -> float:
        """Of the front of these machines."""
        met = [self.values[design] for design in designs if design in self.values]
        return hypervolume(np.array(met), [BOX] * len(self.names)) if met else 0.0

    @cached_property
    def best(self) -> float:
        """The volume of the true front."""
        return self.volume(self.values)

    @cached_property
    def n_front(self) -> int:
        """Machines of the true front, equal ones counted once."""
        values = np.array(list(self.values.values()))
        return len(np.unique(values[front(values)], axis=0))


class Noted:
    """In place of a coordinator: notes what would be run."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def run(self, designs: Iterable[Design]) -> None:
        self.ids += [design.ids[0] for design in designs]


def _key(choice: dict[str, Any]) -> str:
    return json.dumps(choice, sort_keys=True)


def searched(whole: Whole, method: str, seed: int) -> tuple[list[str], float]:
    """The machines that a search tries, in order, and the seconds of this process that it takes."""
    begun = time.process_time()
    if method not in guided.BATCH:
        plan = whole.plan(method, seed, len(whole.designs) - 1)
        drawn = dict.fromkeys(
            plan.machines.design(choice).ids[0] for choice in islice(plan.choices(), 4 * max(BUDGETS))
        )
        return list(drawn), 0.0
    noted = Noted()
    guided.search(whole.plan(method, seed, max(BUDGETS)), whole.store, noted)
    return noted.ids, time.process_time() - begun


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = Whole(Path(folder))
        found = {}
        for method in METHODS:
            found[method] = [searched(whole, method, seed) for seed in SEEDS]
            print(
                method,
                *[f"{whole.volume(ids[: max(BUDGETS)]) / whole.best:.4f}" for ids, _ in found[method]],
                flush=True,
            )
        tried = {method: [ids for ids, _ in each] for method, each in found.items()}
        met = {m: [[design for design in ids if design in whole.values] for ids in each] for m, each in tried.items()}
        seconds = {method: float(np.mean([took for _, took in each])) for method, each in found.items()}
        shares = {m: sum(d in whole.values for ids in e for d in ids[: max(BUDGETS)]) for m, e in tried.items()}
        shares = {m: n / max(BUDGETS) / len(SEEDS) for m, n in shares.items()}
        REPORT.write_text(report(whole, table(whole, tried, BUDGETS), table(whole, met, SIMULATED), shares, seconds))
        whole.store.__exit__()


def table(whole: Whole, tried: Mapping[str, list[list[str]]], budgets: Sequence[int]) -> tuple[str, float]:
    """The volumes of the first so many of these machines, by method, what that says of chance; the largest lead."""
    lines = [f"| method | {' | '.join(f'{budget} machines' for budget in budgets)} |", f"|---|{'---|' * len(budgets)}"]
    said, chance, most = [], np.empty(0), 0.0
    for method, each in tried.items():
        shares = np.array([[whole.volume(ids[:budget]) / whole.best for budget in budgets] for ids in each])
        cells = [f"{100 * c.mean():.1f} ({100 * c.min():.1f} - {100 * c.max():.1f})" for c in shares.T]
        lines.append(f"| {method} | {' | '.join(cells)} |")
        if method == "random":
            chance = shares.mean(axis=0)
            continue
        for budget, lead in zip(budgets, shares.mean(axis=0) - chance, strict=True):
            word = "better than" if lead > TOO_NEAR else "worse than" if lead < -TOO_NEAR else "as good as"
            most = max(most, lead)
            said.append(f"* {method}, {budget} machines: {word} random ({100 * lead:+.1f} points).")
    return "\n".join([*lines, "", *said]), 100 * most


def report(
    whole: Whole,
    by_tried: tuple[str, float],
    by_met: tuple[str, float],
    shares: Mapping[str, float],
    seconds: Mapping[str, float],
) -> str:
    """The text of search.md."""
    (tried, lead), (met, own) = by_tried, by_met
    size, n_met, most = len(whole.designs), len(whole.values), max(BUDGETS)
    cost = ", ".join(f"{1000 * seconds[m] / most:.1f} ms for {m}" for m in guided.BATCH)
    parts = ", ".join(f"{100 * share:.0f} % of {method}" for method, share in shares.items())
    objectives, seeds, near = ", ".join(whole.names), len(SEEDS), 100 * TOO_NEAR
    made = f"Optuna {optuna.__version__}, Python {platform.python_version()}"
    return f"""# Does a guided search beat chance?

Made by `python reports/sweeps/search.py` with {made}. The points are not kept.

By machines tried, a guided search is up to {lead:.1f} points ahead of random draws; by machines simulated up to
{own:.1f}, the rest being what it saves by keeping to the limit. Below, where it is no better than chance, it says so.

The space: {size} machines around h2learn on `mnist-digits` with the table 28nm (rows and columns of the arrays, tile,
bandwidth: `SPACE` in the script), of which {n_met} meet `{LIMIT}`.
All were simulated ({whole.minutes:.0f} minutes on one core). Objectives, all minimized: {objectives}.
{whole.n_front} machines that differ in results make the true front.

Both tables: the volume that the front found dominates, of the true front's, in percent, as mean of {seeds} seeds
(lowest - highest). Volumes are measured from {BOX:g} times h2learn in each objective. A lead below {near:g} point
counts as none; with so few seeds, one of a few points says little, either.

## By machines tried

As the budget counts: machines that do not meet the limit, too. Of {most} machines these met it:
{parts}.

{tried}

## By machines simulated

What breaks the limit on the area costs no simulation, for the area is known before. So here only machines that meet it
count, which leaves random the lead that its misses cost nothing.

{met}

## What the sampler takes

Its own processor time with a budget of {most}, all points answered by the store, per machine:
{cost}.
A resumed search takes as much to come to where it was, beside making its machines (about 2.5 ms each). Both look at
all that was tried before each proposal: their time grows with the square of the budget.
"""


if __name__ == "__main__":
    main()
