"""Which machines no other one beats, and how much of what could be reached they reach.

A point dominates another if it is at least as good in every objective and better in one. Less is better everywhere in
here: who maximizes an objective negates it (`front`, where only the order counts) or takes its inverse (`relative`,
where the base machine's value is 1 in every objective).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from h2sim.sweeps.spec import Direction

Values = NDArray[np.float64]  # (points, objectives)
BOX = 2.0  # times the base machine in each objective: the far corner of the box whose dominated share is told


def front(values: ArrayLike, directions: Sequence[Direction] = ()) -> NDArray[np.int64]:
    """Indices of the points that no other point dominates, ascending; equal points are all kept.

    values: (points, objectives). directions: of each objective, `minimize` by default; a maximized one is negated.
    A point with an unknown value (NaN) is not among them. Sorted once and swept, n log n up to 3 objectives; beyond,
    each point is compared with the front before it.
    """
    signed = _signed(values, directions)
    known = np.flatnonzero(~np.isnan(signed).any(axis=1))
    if not len(known):
        return known
    different, which = np.unique(signed[known], axis=0, return_inverse=True)  # in lexicographic order
    return known[_first_of_each(different)[which.reshape(-1)]]


def _signed(values: ArrayLike, directions: Sequence[Direction]) -> Values:
    found = np.array(values, np.float64, ndmin=2)
    if found.size == 0:
        return found.reshape(0, max(1, len(directions)))
    if directions and len(directions) != found.shape[1]:
        raise ValueError(f"expected a direction per objective; got {len(directions)} for {found.shape[1]}")
    for column, direction in enumerate(directions):
        if direction == "maximize":
            found[:, column] *= -1
    return found


def _first_of_each(points: Values) -> NDArray[np.bool_]:
    """Which of different points in lexicographic order are on the front: only those before one can dominate it."""
    n_objectives = points.shape[1]
    if n_objectives == 1:
        return np.arange(len(points)) == 0
    if n_objectives == 2:
        best = np.minimum.accumulate(points[:, 1])
        before: NDArray[np.bool_] = np.concatenate([[True], points[1:, 1] < best[:-1]])
        return before
    if n_objectives == 3:
        stairs = _Stairs()
        return np.array([stairs.add(y, z) for _, y, z in points.tolist()], bool)
    kept = np.zeros(len(points), bool)
    found = np.empty_like(points)
    count = 0
    for index, point in enumerate(points):
        if not (found[:count] <= point).all(axis=1).any():
            kept[index] = True
            found[count] = point
            count += 1
    return kept


class _Stairs:
    """The front of points (y, z) added one by one. area: what they dominate up to a reference, kept along."""

    def __init__(self, reference: tuple[float, float] = (np.inf, np.inf)) -> None:
        self._y: list[float] = []  # ascending
        self._z: list[float] = []  # descending
        self._reference = reference
        self.area = 0.0

    def add(self, y: float, z: float) -> bool:
        """Adds a point; whether no point before is at least as good in both."""
        before = bisect_right(self._y, y)
        if before and self._z[before - 1] <= z:
            return False
        start = bisect_left(self._y, y)
        end = start
        while end < len(self._z) and self._z[end] >= z:
            end += 1
        if np.isfinite(self._reference[0]):
            self.area += self._gained(y, z, start, end)
        self._y[start:end], self._z[start:end] = [y], [z]
        return True

    def _gained(self, y: float, z: float, start: int, end: int) -> float:
        """The area of (y, z) that the stairs did not cover; those from start to end fall to it."""
        most_y, most_z = self._reference
        height = self._z[start - 1] if start else most_z
        gained, left = 0.0, y
        for index in range(start, end):
            gained += (self._y[index] - left) * (height - z)
            left, height = self._y[index], self._z[index]
        right = self._y[end] if end < len(self._y) else most_y
        return gained + (right - left) * (height - z)


def hypervolume(values: ArrayLike, reference: Sequence[float]) -> float:
    """The volume that points dominate, up to a reference point; less is better in every objective.

    values: (points, objectives), all finite or NaN (not known: left out). Exact: swept along one objective in 2 and 3
    of them; with more, slices along the last one, each of one objective fewer.
    """
    far = np.asarray(reference, np.float64)
    points = np.array(values, np.float64, ndmin=2)
    if points.size == 0:
        return 0.0
    points = points[(points < far).all(axis=1)]  # no NaN is
    return _volume(points[front(points)], far) if len(points) else 0.0


def _volume(points: Values, far: Values) -> float:
    """Of points inside the reference."""
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(far[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], far[-1])
    if points.shape[1] == 2:
        lowest = np.minimum.accumulate(points[:, 0])
        return float(np.sum((far[0] - lowest) * (ends - points[:, 1])))
    if points.shape[1] == 3:
        stairs, volume = _Stairs((float(far[0]), float(far[1]))), 0.0
        for (x, y, z), end in zip(points.tolist(), ends.tolist(), strict=True):
            stairs.add(x, y)
            volume += stairs.area * (end - z)
        return volume
    volume = 0.0
    for index in range(len(points)):
        depth = ends[index] - points[index, -1]
        if depth > 0:
            below = points[: index + 1, :-1]
            volume += _volume(below[front(below)], far[:-1]) * depth
    return float(volume)


def relative(values: ArrayLike, base: Sequence[float], directions: Sequence[Direction]) -> Values:
    """Objectives in units of the base machine's, less is better: value / base where less is, base / value where more.

    So 0.5 is twice as good as the base, either way. A maximized value of 0 is infinitely bad.
    """
    found = np.array(values, np.float64, ndmin=2)
    if found.size == 0:
        return found.reshape(0, len(base))
    with np.errstate(divide="ignore", invalid="ignore"):
        for column, (unit, direction) in enumerate(zip(base, directions, strict=True)):
            found[:, column] = unit / found[:, column] if direction == "maximize" else found[:, column] / unit
    return found


class LiveFront:
    """The front of a sweep that goes on, and how far it has come, in one number.

    That number is the share of a box that the points found so far dominate. The box begins at 0 and ends at BOX times
    the base machine in each objective, taken as in `relative`: a maximized objective is the base's value / the
    value. The base alone comes to (1 - 1 / BOX) per objective multiplied: 0.125 with three. It never falls as points
    are added, and sweeps of the same base and objectives can be compared by it.
    """

    def __init__(self, directions: Sequence[Direction], base: Sequence[float | None] | None = None) -> None:
        """base: objectives of the base machine; where one is not known, or not above 0, there is no hypervolume."""
        self._directions = tuple(directions)
        known = [value for value in base or () if value is not None and value > 0]
        self._base = known if len(known) == len(self._directions) else None
        self._front: Values = np.empty((0, len(self._directions)))
        self._share: float | None = None

    def add(self, points: Iterable[Sequence[float | int | None]]) -> bool:
        """Adds the objectives of points, unknown ones None; whether one of them is on the front."""
        fresh = np.array([[np.nan if v is None else v for v in point] for point in points], np.float64)
        if not fresh.size:
            return False
        both = np.concatenate([self._front, fresh.reshape(-1, len(self._directions))])
        kept = front(both, self._directions)
        if not (kept >= len(self._front)).any():
            return False
        self._front, self._share = both[kept], None
        return True

    @property
    def size(self) -> int:
        """How many points there are on the front, equal ones included."""
        return len(self._front)

    @property
    def hypervolume(self) -> float | None:
        """The share of the box that is dominated, 0 to 1; None without a base."""
        if self._base is None:
            return None
        if self._share is None:
            n = len(self._directions)
            volume = hypervolume(relative(self._front, self._base, self._directions), [BOX] * n)
            self._share = volume / BOX**n
        return self._share
