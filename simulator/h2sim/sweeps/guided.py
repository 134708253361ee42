"""Guided search: Optuna's NSGA-II or TPE proposes machines by what was found of those before.

The search is a function of the spec alone. A batch holds a fixed number of machines that are new, whatever runs them,
and the study is kept in memory only: a sweep that was killed asks and tells the same again, and its store answers for
all that was run before, so that it ends where it would have ended. A batch does not hang on the budget either: with a
larger one the same search goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from h2sim.sweeps.frame import Row, row_of
from h2sim.sweeps.machines import Design
from h2sim.sweeps.plan import Plan
from h2sim.sweeps.session import OK
from h2sim.sweeps.space import MOST_MISSES, Choice, Space
from h2sim.sweeps.spec import DEFAULT_BUDGET, Axis
from h2sim.sweeps.store import Store

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

BATCH = {"nsga2": 50, "tpe": 20}  # new choices that are proposed before one of them is told; NSGA-II's population
MOST_REPEATS = 200  # proposals in a row that were made before, after which the search has no more to say
MOST_LEFT = 200_000  # choices of a space of which the rest is then looked through, one by one
NO_MACHINE = 1000.0  # the violation of a point that has no results: farther off than any constraint that is missed


class Runner(Protocol):
    """What runs designs: the coordinator."""

    def run(self, designs: Iterable[Design]) -> None:
        """Runs all points of the designs that are not in the store. Returns when everything is written."""
        ...


def search(plan: Plan, store: Store, coordinator: Runner) -> None:
    """Runs as many different machines as the spec's budget asks for, as far as its space has them.

    What the sampler finds no more of a small space is run in order, as is a space that the budget covers anyway.
    """
    budget, size = plan.spec.budget or DEFAULT_BUDGET, plan.space.size
    tried: set[str] = set()
    if size is None or size > budget:
        _tell_sampler(store)
        with _quiet():
            _Search(plan, store, coordinator, tried).run(budget)
    if size is not None and size <= max(budget, MOST_LEFT):
        coordinator.run(_left(plan, tried, budget))


def _tell_sampler(store: Store) -> None:
    """Adds Optuna's version to those that the store knows: another one may propose other machines."""
    import optuna

    known = store.facts.get("optuna", [])
    if optuna.__version__ not in known:
        store.tell(optuna=[*known, optuna.__version__])


def _left(plan: Plan, tried: set[str], budget: int) -> Iterator[Design]:
    """Machines of the grid that were not tried, up to the budget."""
    if len(tried) >= budget:
        return
    for design in map(plan.machines.design, plan.space.grid()):
        if design.ids[0] not in tried:
            tried.add(design.ids[0])
            yield design
            if len(tried) >= budget:
                return


@dataclass(frozen=True)
class _Proposal:
    """A new choice. misses: of each constraint on fields alone; design: None where one is missed."""

    trial: Trial
    misses: list[float]
    design: Design | None


class _Search:
    """One study. tried: the ids of the designs that were run, with the first energy table."""

    def __init__(self, plan: Plan, store: Store, runner: Runner, tried: set[str]) -> None:
        self._plan, self._store, self._runner, self._tried = plan, store, runner, tried
        self._batch_size = BATCH[plan.spec.method]
        self._coding = _Coding(plan.space)
        self._choices: set[str] = set()  # that were made, as JSON
        self._next: dict[str, tuple[list[float], Design | None]] = {}  # choices that may be made next
        self._repeats = self._misses = 0  # proposals in a row that were made before; that came to no new machine
        self._study = self._begun()

    def _begun(self) -> Study:
        import optuna

        from h2sim.sweeps.fresh import Fresh

        spec = self._plan.spec
        sampler: BaseSampler
        if spec.method == "nsga2":
            sampler = optuna.samplers.NSGAIISampler(population_size=self._batch_size, seed=spec.seed)
        else:
            sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=spec.seed)
        fresh = Fresh(sampler, self._is_new, spec.seed)
        return optuna.create_study(sampler=fresh, directions=list(spec.objectives.values()))

    def run(self, budget: int) -> None:
        """Proposes, runs and tells until the budget is spent or nothing new is proposed."""
        full = True
        while full and len(self._tried) < budget:
            batch = list(self._new(budget))
            full = len(batch) == self._batch_size
            self._runner.run([each.design for each in batch if each.design])
            if full:
                for each in batch:
                    self._tell(each)

    def _new(self, budget: int) -> Iterator[_Proposal]:
        """The next batch, cut off where the budget is spent or nothing new comes. What is not new after all is told
        as failed, which no sampler counts."""
        from optuna.trial import TrialState

        count = 0
        while count < self._batch_size and len(self._tried) < budget:
            if self._repeats >= MOST_REPEATS or self._misses >= MOST_MISSES:
                return
            trial = self._study.ask(self._coding.distributions)
            proposal = self._proposal(trial)
            self._repeats = self._repeats + 1 if proposal is None else 0
            self._misses = 0 if proposal and proposal.design else self._misses + 1
            if proposal:
                count += 1
                yield proposal
            else:
                self._study.tell(trial, state=TrialState.FAIL)

    def _is_new(self, params: Mapping[str, Any]) -> bool:
        """Whether a choice was not made before and comes to a machine of its own, or to none."""
        choice = self._coding.choice(params)
        key = json.dumps(choice, sort_keys=True)
        if key not in self._choices and key not in self._next:
            misses = self._plan.machines.misses(choice)
            design = None if any(misses) else self._plan.machines.design(choice)
            if design and design.ids[0] in self._tried:
                self._choices.add(key)
            else:
                self._next[key] = misses, design
        return key not in self._choices

    def _proposal(self, trial: Trial) -> _Proposal | None:
        """None for what is not new."""
        if not self._is_new(trial.params):
            return None
        key = json.dumps(self._coding.choice(trial.params), sort_keys=True)
        misses, design = self._next[key]
        self._next.clear()
        self._choices.add(key)
        if design:
            self._tried.add(design.ids[0])
        return _Proposal(trial, misses, design)

    def _tell(self, proposal: _Proposal) -> None:
        row = self._row(proposal.design) if proposal.design else None
        machines = self._plan.machines
        values = [None if row is None else row.value(name) for name in self._plan.spec.objectives]
        violations = dict(zip(map(str, machines.on_fields), proposal.misses, strict=True))
        results = [0.0] * len(machines.on_results)
        if row is not None:
            results = machines.result_misses(row.design.parameters, row.design.arch, row.known)
        violations |= dict(zip(map(str, machines.on_results), results, strict=True))
        met = not any(violations.values())
        none = met and (row is None or row.status != OK or not all(map(_is_finite, values)))
        for name, violation in {**violations, "a machine": NO_MACHINE if none else 0.0}.items():
            proposal.trial.set_constraint(name, violation)
        self._study.tell(proposal.trial, self._finite(values))

    def _row(self, design: Design) -> Row | None:
        stored = next(iter(self._store.designs(design.ids[0])))
        return row_of(self._plan, stored, self._store.points_of(stored.id))

    def _finite(self, values: list[Any]) -> list[float]:
        """Objectives for the sampler; as bad as can be where they are not known, which a violation says, too."""
        worst = [math.inf if d == "minimize" else -math.inf for d in self._plan.spec.objectives.values()]
        return [v if _is_finite(v) else bad for v, bad in zip(values, worst, strict=True)]


def _is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


class _Coding:
    """How choices look to a sampler: numbers by their place in order, anything else by its place in the list without
    one, numbers of a range as they are. An axis of one value does not."""

    def __init__(self, space: Space) -> None:
        self._axes = space.axes
        self._values = {path: _ordered(values) for path, values in space.choices.items()}
        self.distributions: dict[str, BaseDistribution] = {
            path: self._distribution(path, axis)
            for path, axis in space.axes.items()
            if axis.is_continuous or len(self._values[path]) > 1
        }

    def _distribution(self, path: str, axis: Axis) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if axis.is_continuous:
            return FloatDistribution(*axis.bounds, log=axis.log_uniform is not None)
        values = self._values[path]
        if all(map(_is_number, values)):
            return IntDistribution(0, len(values) - 1)
        return CategoricalDistribution(range(len(values)))

    def choice(self, params: Mapping[str, Any]) -> Choice:
        """The choice that a sampler's parameters stand for."""
        return {
            path: params[path] if axis.is_continuous else self._values[path][params.get(path, 0)]
            for path, axis in self._axes.items()
        }


def _ordered(values: list[Any]) -> list[Any]:
    return sorted(values) if all(map(_is_number, values)) else values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which Optuna says nothing that is no warning; then its logger is as it was."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
