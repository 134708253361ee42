"""The points of a spec: which values its parameters take together, in the order in which they are tried.

A choice maps every parameter of the spec that is free to its value. Conditions, derived fields and constraints on
fields alone shape the space: what they exclude is no point. What a choice comes to is h2sim.sweeps.machines' business.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from h2sim.sweeps.spec import Axis, Spec

Choice = dict[str, Any]
MOST_MISSES = 2000  # draws in a row that bring nothing new, after which what is left is looked for in order
MOST_LISTED = 50_000  # choices of the axes on which constraints hang, up to which they are tried before the others
# fields on which counting hangs, dearest first: points that share them are neighbours, so that their counts are shared
DEAREST = (
    "tile",
    "tile.height",
    "tile.width",
    "engines.backward.mode",
    "engines.backward.parallelism",
    "engines.backward.empty_window_cycles",
    "engines.backward",
    "engines.forward",
    "engines.weight_update",
    "latency",
    "pipeline",
    "buffers",
    "clock_hz",
    "memory",
)


@dataclass(frozen=True)
class Space:
    """The free parameters of a spec. admits: whether a choice is a point, by the constraints on fields alone.

    choices: the values of each axis that has a list of them. deciding: the axes on which `admits` hangs; it takes
    choices of these alone, too.
    """

    axes: Mapping[str, Axis]
    choices: Mapping[str, list[Any]]
    admits: Callable[[Choice], bool]
    deciding: frozenset[str]

    @classmethod
    def of(cls, spec: Spec, admits: Callable[[Choice], bool], deciding: Collection[str]) -> Space:
        """The space of a spec: its parameters but those that are derived. deciding: may name these, too."""
        free = {path: axis for path, axis in spec.axes.items() if axis.derive is None}
        choices = {path: axis.choices() for path, axis in free.items()}
        return cls(free, choices, admits, frozenset(free).intersection(deciding))

    @property
    def size(self) -> int | None:
        """How many choices there are before constraints; None for numbers of a range."""
        if any(axis.is_continuous for axis in self.axes.values()):
            return None
        return prod(map(len, self.choices.values()))

    def grid(self) -> Iterator[Choice]:
        """All points, those that share the dearest counts one after the other."""
        order = sorted(self.axes, key=_dearness)
        tests = [path for path in order if path in self.deciding]
        if prod(len(self.choices[path]) for path in tests) > MOST_LISTED:
            yield from filter(self.admits, map(self._choice, self._products(order)))
            return
        beginnings = {places[:n] for places in self._admitted(tests) for n in range(len(places) + 1)}
        if beginnings:
            yield from map(self._choice, self._walk(order, {}, (), beginnings))

    def some(self, rng: np.random.Generator) -> Choice | None:
        """Some choice of the deciding axes that is admitted; None where there is none at all."""
        drawn = ({path: self._at(path, float(rng.random())) for path in self.deciding} for _ in range(MOST_MISSES))
        every = self._products(sorted(self.deciding))
        return next(filter(self.admits, itertools.chain(drawn, every)), None)

    def _products(self, paths: Sequence[str]) -> Iterator[Choice]:
        for values in itertools.product(*(self.choices[path] for path in paths)):
            yield dict(zip(paths, values, strict=True))

    def _choice(self, found: Choice) -> Choice:
        return {path: found[path] for path in self.axes}

    def _admitted(self, tests: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """The places, in their lists, of the values of the deciding axes that are admitted together."""
        for places in itertools.product(*(range(len(self.choices[path])) for path in tests)):
            if self.admits({path: self.choices[path][at] for path, at in zip(tests, places, strict=True)}):
                yield places

    def _walk(
        self, order: Sequence[str], found: Choice, tests: tuple[int, ...], beginnings: Set[tuple[int, ...]]
    ) -> Iterator[Choice]:
        """The product of the axes from the first that `found` lacks, without what leads to no admitted choice."""
        if len(found) == len(order):
            yield found
            return
        path = order[len(found)]
        for place, value in enumerate(self.choices[path]):
            then = (*tests, place) if path in self.deciding else tests
            if then in beginnings:
                yield from self._walk(order, {**found, path: value}, then, beginnings)

    def random(self, rng: np.random.Generator) -> Iterator[Choice]:
        """Points drawn one by one, without end while draws are admitted; the same one may come again."""
        misses = 0
        while misses < MOST_MISSES:
            choice = {path: self._at(path, float(rng.random())) for path in self.axes}
            if self.admits(choice):
                misses = 0
                yield choice
            else:
                misses += 1

    def latin_hypercube(self, count: int, rng: np.random.Generator) -> Iterator[Choice]:
        """Up to `count` points: the range of each axis in `count` equal parts, one point in each of them."""
        places = {path: (rng.permutation(count) + rng.random(count)) / count for path in self.axes}
        for index in range(count):
            choice = {path: self._at(path, float(places[path][index])) for path in self.axes}
            if self.admits(choice):
                yield choice

    def drawn(self, spec: Spec, count: int) -> Iterator[Choice]:
        """Different points of the drawn methods, then those of the grid: who takes `count` has as many as there are."""
        seen: set[str] = set()
        if self.size is None or self.size > count:
            rng = np.random.default_rng(spec.seed)
            if spec.method == "latin-hypercube":
                yield from _new(self.latin_hypercube(count, rng), seen)
            yield from _new(self.random(rng), seen)
        if self.size is not None:
            yield from _new(self.grid(), seen, most_misses=self.size)

    def _at(self, path: str, share: float) -> Any:
        """The value of an axis at a share of its range, 0 <= share < 1."""
        axis = self.axes[path]
        if not axis.is_continuous:
            return self.choices[path][min(int(share * len(self.choices[path])), len(self.choices[path]) - 1)]
        low, high = axis.bounds
        return low + share * (high - low) if axis.uniform is not None else low * (high / low) ** share

    def in_order(self, choices: Sequence[Choice]) -> list[Choice]:
        """The same choices, those that share the dearest counts one after the other; smaller values first."""
        order = sorted(self.axes, key=_dearness)
        return sorted(choices, key=lambda choice: [_sortable(choice.get(path)) for path in order])


def _dearness(path: str) -> int:
    fitting = (index for index, field in enumerate(DEAREST) if path == field or path.startswith(f"{field}."))
    return next(fitting, len(DEAREST))


def _sortable(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool | str):
        return 1, str(value)
    if isinstance(value, int | float):
        return 0, value
    return 2, str(value)


def _new(choices: Iterator[Choice], seen: set[str], most_misses: int = MOST_MISSES) -> Iterator[Choice]:
    """Those that were not seen before, until so many in a row were."""
    misses = 0
    for choice in choices:
        key = json.dumps(choice, sort_keys=True)
        misses = misses + 1 if key in seen else 0
        if misses > most_misses:
            return
        if not misses:
            seen.add(key)
            yield choice
