"""A sampler of Optuna's that proposes nothing twice; imported where a search begins, for Optuna takes long to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

TRIES = 8  # per axis, with so many axes drawn anew

Params = dict[str, Any]


class Fresh(BaseSampler):
    """Another sampler, whose proposals are moved until they are new: one axis is drawn anew, then two, and so on.

    Samplers are made for spaces in which hardly anything comes twice. Among a few thousand machines TPE proposes its
    favourite again and again, and children in NSGA-II are often some machine before. is_new: of a trial's parameters.
    """

    def __init__(self, sampler: BaseSampler, is_new: Callable[[Mapping[str, Any]], bool], seed: int) -> None:
        self._sampler, self._is_new = sampler, is_new
        self._rng = np.random.default_rng(seed)
        self._drawn = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Params:
        proposed = self._sampler.sample_relative(study, trial, search_space)
        if not proposed:
            return proposed  # the first ones, which are drawn
        for name, distribution in search_space.items():
            if name not in proposed:
                proposed[name] = self._sampler.sample_independent(study, trial, name, distribution)
        for names in self._moves(list(search_space)):
            if self._is_new(proposed):
                break
            moved = {n: self._drawn.sample_independent(study, trial, n, search_space[n]) for n in names}
            if self._is_new({**proposed, **moved}):
                return {**proposed, **moved}
        return proposed

    def _moves(self, names: list[str]) -> Iterator[list[str]]:
        """The axes that are drawn anew, one try after the other."""
        for count in range(1, len(names) + 1):
            for _ in range(TRIES * len(names)):
                yield [names[index] for index in self._rng.choice(len(names), count, replace=False)]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)
