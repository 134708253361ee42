"""How much of an objective's variance each parameter explains: first-order functional ANOVA (Hutter, Hoos and
Leyton-Brown, ICML 2014), straight from what was simulated, without a model between.

The main effect of a parameter is the variance of the mean of the objective at each of its values. On a full grid that
is the ANOVA decomposition itself: the shares add up to 1 with what interactions leave. Elsewhere, where parameters are
not drawn evenly against each other, means of groups are an estimate, and so many groups explain something of any
numbers: what chance explains is taken off (epsilon squared, Kelley 1935). A guided search looks where it is good, so
what it found says how much a parameter matters there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 12  # of a parameter of numbers off the grid; one with more values is cut into bins
N_BINS = 8  # with equally many machines each, as far as equal values let them
LEAST_PER_BIN = 5  # machines
EXACT = "main effects of a functional ANOVA, exact on a full grid"
ESTIMATED = "main effects of a functional ANOVA by means of groups, less what chance explains (epsilon squared)"

Groups = NDArray[np.int64]  # (n,): the group of each machine


@dataclass(frozen=True)
class Effect:
    """What a parameter explains alone: a share of the variance, 0 to 1; None where it cannot be said."""

    parameter: str
    share: float | None
    n_values: int


@dataclass(frozen=True)
class Importance:
    """The parameters' shares of one objective, the largest first.

    n: machines; method: how the shares came about; rest: what interactions explain, on a full grid alone.
    warnings: a sentence each.
    """

    objective: str
    n: int
    method: str
    effects: tuple[Effect, ...]
    rest: float | None
    warnings: tuple[str, ...]

    @property
    def ranked(self) -> list[str]:
        """Parameters that explain something, the largest share first."""
        return [effect.parameter for effect in self.effects if effect.share]


def importance(
    parameters: Mapping[str, Sequence[Any]], values: Sequence[float | int], objective: str = ""
) -> Importance:
    """Shares of the variance of `values` by parameter.

    parameters: by name, a value per machine, as plain data; values: the objective of each machine, all known.
    """
    y = np.asarray(values, np.float64)
    groups = {name: _groups(column) for name, column in parameters.items()}
    is_grid = _is_grid(groups, len(y))
    warnings = [f"{name} takes one value: nothing is known of it" for name, g in groups.items() if _count(g) < 2]
    if len(y) < 2 or np.ptp(y) == 0:
        warnings.append(f"{objective or 'the objective'} takes one value: there is no variance to explain")
        effects = tuple(Effect(name, None, _count(g)) for name, g in groups.items())
        return Importance(objective, len(y), EXACT if is_grid else ESTIMATED, effects, None, tuple(warnings))
    found = [_effect(name, parameters[name], g, y, is_grid) for name, g in groups.items()]
    if not is_grid:
        warnings += _together(groups)
        warnings += [
            f"{effect.parameter}: too few machines for its {effect.n_values} values"
            for effect in found
            if effect.share is None and effect.n_values > 1
        ]
    found.sort(key=lambda effect: (-(effect.share if effect.share is not None else -1.0), effect.parameter))
    rest = max(0.0, 1.0 - sum(effect.share or 0.0 for effect in found)) if is_grid else None
    return Importance(objective, len(y), EXACT if is_grid else ESTIMATED, tuple(found), rest, tuple(warnings))


def _groups(column: Sequence[Any]) -> Groups:
    """Machines with equal values have equal numbers."""
    if column and all(type(value) in (int, float) for value in column):
        return np.unique(np.array(column, np.float64), return_inverse=True)[1].astype(np.int64)
    keys = [_key(value) for value in column]
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def _key(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, sort_keys=True, default=str)
    return float(value)


def _count(groups: Groups) -> int:
    return int(groups.max()) + 1 if len(groups) else 0


def _is_grid(groups: Mapping[str, Groups], n: int) -> bool:
    """Whether every combination of values is there, each equally often."""
    size = prod(_count(g) for g in groups.values())
    if not n or not groups or size > n:
        return False
    place = np.zeros(n, np.int64)
    for g in groups.values():
        place = place * _count(g) + g
    times = np.bincount(place, minlength=size)
    return bool((times == times[0]).all())


def _effect(name: str, column: Sequence[Any], groups: Groups, y: NDArray[np.float64], is_grid: bool) -> Effect:
    n_values = _count(groups)
    if n_values < 2:
        return Effect(name, None, n_values)
    if not is_grid and n_values > MOST_GROUPS and all(type(value) in (int, float) for value in column):
        groups = _binned(np.array(column, np.float64))
    k, n = _count(groups), len(y)
    sizes = np.bincount(groups)
    means = np.bincount(groups, weights=y) / sizes
    total = float(np.sum((y - y.mean()) ** 2))
    between = float(np.sum(sizes * (means - y.mean()) ** 2))
    if is_grid:
        return Effect(name, min(1.0, between / total), n_values)
    if n <= k or k < 2:
        return Effect(name, None, n_values)
    within = max(0.0, total - between)
    return Effect(name, min(1.0, max(0.0, (between - (k - 1) * within / (n - k)) / total)), n_values)


def _binned(column: NDArray[np.float64]) -> Groups:
    """Groups of neighbouring values, of about as many machines each."""
    n_bins = max(2, min(N_BINS, len(column) // LEAST_PER_BIN))
    edges = np.unique(np.quantile(column, np.arange(1, n_bins) / n_bins))
    return np.unique(np.searchsorted(edges, column, side="right"), return_inverse=True)[1].astype(np.int64)


def _together(groups: Mapping[str, Groups]) -> list[str]:
    """A sentence for each two parameters of which one says what the other is: their shares are one and the same."""
    several = {name: g for name, g in groups.items() if _count(g) > 1}
    return [
        f"{one} and {other} change together: their shares are the same effect"
        for (one, a), (other, b) in combinations(several.items(), 2)
        if _count(a) == _count(b) == len(np.unique(a * _count(b) + b)) and _count(a) < len(a)
    ]
