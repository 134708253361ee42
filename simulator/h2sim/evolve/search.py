"""Differential evolution over layer thresholds by SciPy, and its control: one scale for all layers, by the same cost.

The search is a function of its settings alone: candidates of a generation are tried side by side and told together, so
that any number of workers finds the same. Everything that was tried is kept in a file; a search that was killed asks
again and is answered from there, so that it ends where it would have ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.arrays import Floats
from h2sim.errors import TrainingError, at
from h2sim.evolve.cost import Latency, Weights, cost, steps
from h2sim.io.faults import show
from h2sim.io.files import write_text

Accuracies = tuple[float, ...]
Try = Callable[[Sequence[float]], Accuracies]  # of thresholds, in the order of the layers
Told = Callable[[int, float], None]  # generations so far, the least cost


@dataclass(frozen=True)
class Search:
    """How thresholds are sought.

    population, generations: P and G. deviation: of the first thresholds, TH (1 + deviation N(0, 1)). bounds: of each
    threshold, as shares of TH. mutation, recombination: M and C of eq. 7-9. tolerance: of SciPy's, at which all costs
    of a generation are taken for one.
    """

    population: int = 25
    generations: int = 26
    deviation: float = 0.15
    bounds: tuple[float, float] = (0.05, 2.0)
    mutation: tuple[float, float] = (0.5, 1.5)
    recombination: float = 0.7
    tolerance: float = 0.01
    seed: int = 0
    weights: Weights = field(default_factory=Weights)

    def __post_init__(self) -> None:
        if self.population < 5:
            raise TrainingError(at("evolution", "population", "at least 5, three besides a parent", self.population))
        if not 0 < self.bounds[0] < self.bounds[1]:
            raise TrainingError(at("evolution", "bounds", "0 < low < high", list(self.bounds)))


@dataclass(frozen=True)
class Evolved:
    """What was found. nfe: cost evaluations that were asked for (eq. 10); by_generation: the least cost after each."""

    thresholds: tuple[float, ...]
    cost: float
    accuracies: Accuracies
    nfe: int
    by_generation: tuple[float, ...]


class Tried:
    """What was tried so far, by thresholds, in a file of one JSON line each; None: in memory alone.

    Raises TrainingError for a file that belongs to another search.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self._path, self._found = path, dict[str, Accuracies]()
        head = json.dumps(settings, sort_keys=True)
        if path is None:
            return
        if not path.exists():
            write_text(path, head + "\n")
            return
        lines = _lines(path)
        if lines[0] != head:
            raise TrainingError(at(str(path), "settings", "those of this search", "others"))
        for number, line in enumerate(lines[1:-1], 2):  # the last one may be cut off
            try:
                key, accuracies = json.loads(line)
                self._found[key] = tuple(float(accuracy) for accuracy in accuracies)
            except (ValueError, TypeError):
                raise TrainingError(at(str(path), f"line {number}", "thresholds and accuracies", show(line))) from None
        write_text(path, "\n".join(lines[:-1]) + "\n")

    def of(self, thresholds: Sequence[float]) -> Accuracies | None:
        """The accuracies of thresholds that were tried."""
        return self._found.get(_key(thresholds))

    def add(self, thresholds: Sequence[float], accuracies: Accuracies) -> None:
        """Keeps what was found."""
        self._found[_key(thresholds)] = accuracies
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps([_key(thresholds), accuracies]) + "\n")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _key(thresholds: Sequence[float]) -> str:
    return " ".join(float(value).hex() for value in thresholds)


def evolve(
    first: Sequence[float],
    tries: Callable[[Iterable[Sequence[float]]], Iterator[Accuracies]],
    how: Search,
    chance: float,
    tried: Tried,
    *,
    latency: Callable[[Sequence[float]], Latency] | None = None,
    told: Told = lambda generation, least: None,
) -> Evolved:
    """Seeks thresholds of least cost around `first`, TH. tries: the accuracies of several candidates, in their order.

    latency: what stands for J, of thresholds; None: the timestep. Raises TrainingError for thresholds that are not
    above 0.
    """
    from scipy.optimize import differential_evolution

    start: Floats = np.asarray(first, np.float64)
    if not bool((start > 0).all()):
        raise TrainingError(at("evolution", "thresholds", "numbers above 0", list(first)))
    bounds = [(float(how.bounds[0] * v), float(how.bounds[1] * v)) for v in start]
    asked, least = 0, list[float]()

    def costs(candidates: Iterable[Floats]) -> list[float]:
        nonlocal asked
        rows = [tuple(float(v) for v in each) for each in candidates]
        asked += len(rows)
        new = [row for row in dict.fromkeys(rows) if tried.of(row) is None]
        for row, found in zip(new, tries(new), strict=True):
            tried.add(row, found)
        return [_cost(row, tried, how, chance, latency) for row in rows]

    def workers(_: Any, candidates: Iterable[Floats]) -> list[float]:
        return costs(candidates)

    def generation(intermediate_result: Any) -> None:
        least.append(float(intermediate_result.fun))
        told(len(least), least[-1])

    found = differential_evolution(
        lambda x: costs([x])[0], bounds, strategy="rand1bin", mutation=how.mutation, recombination=how.recombination,
        init=_population(start, how, bounds), maxiter=how.generations, tol=how.tolerance, polish=False,
        updating="deferred", workers=workers, rng=np.random.default_rng(how.seed), callback=generation,
    )  # fmt: skip
    best = tuple(float(v) for v in found.x)
    accuracies = tried.of(best)
    assert accuracies is not None
    return Evolved(best, float(found.fun), accuracies, asked, tuple(least))


def _cost(
    row: Sequence[float], tried: Tried, how: Search, chance: float,
    latency: Callable[[Sequence[float]], Latency] | None,
) -> float:  # fmt: skip
    accuracies = tried.of(row)
    assert accuracies is not None
    return cost(accuracies, chance, how.weights, steps if latency is None else latency(row))


def _population(start: Floats, how: Search, bounds: Sequence[tuple[float, float]]) -> Floats:
    """The first generation: TH itself, then TH (1 + deviation N(0, 1)), within the bounds."""
    rng = np.random.default_rng([how.seed, 1])
    drawn = start * (1 + how.deviation * rng.standard_normal((how.population, len(start))))
    drawn[0] = start
    low, high = np.array(bounds).T
    found: Floats = drawn.clip(low, high)
    return found


def best_scale(
    first: Sequence[float],
    scales: Sequence[float],
    tries: Callable[[Iterable[Sequence[float]]], Iterator[Accuracies]],
    how: Search,
    chance: float,
    tried: Tried,
    *,
    latency: Callable[[Sequence[float]], Latency] | None = None,
) -> tuple[float, Evolved]:
    """The control that the source lacks: of one scale for all layers that of least cost, the first of equal ones."""
    rows = [tuple(float(v) * scale for v in first) for scale in scales]
    new = [row for row in dict.fromkeys(rows) if tried.of(row) is None]
    for row, accuracies in zip(new, tries(new), strict=True):
        tried.add(row, accuracies)
    costs = [_cost(row, tried, how, chance, latency) for row in rows]
    at_best = int(np.argmin(costs))
    curve = tried.of(rows[at_best])
    assert curve is not None
    return scales[at_best], Evolved(rows[at_best], costs[at_best], curve, len(rows), (costs[at_best],))


def settings_of_search(how: Search, **others: Any) -> dict[str, Any]:
    """All that decides what a search tries, for the head of its file; what the cost weighs does not."""
    kept = asdict(how)
    del kept["weights"], kept["generations"], kept["tolerance"]
    return {**kept, **others}
