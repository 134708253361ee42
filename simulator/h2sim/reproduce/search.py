"""Which assumptions, changed together, make a claim agree: every pair of values, then all that help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from h2sim.reproduce.claims import Assumption, Claim, Span

Points = Sequence[tuple[str, str]]  # (assumption, label)
At = Callable[[Iterable[tuple[str, str]]], float]


@dataclass(frozen=True)
class Together:
    """Several assumptions changed at once: (assumption, label) of each, and what the claim then is.

    reached: whether ours then agrees with theirs; others: how many other pairs of values do as well.
    """

    points: tuple[tuple[str, str], ...]
    value: float
    reached: bool
    others: int = 0


def together(
    claim: Claim, ours: float, spans: Sequence[Span], assumptions: Mapping[str, Assumption], at: At
) -> Together | None:
    """What it takes to make ours agree where no assumption does alone: a pair of values, or more; None if none helps.

    spans: of all assumptions that may explain, those too that move nothing alone. Where a range is among the changed
    ones, ours may also lie beyond theirs, for a smaller change then gives theirs.
    """

    def reached(points: Points, value: float) -> bool:
        if claim.met(value):
            return True
        ranged = any(assumptions[name].kind == "range" for name, _ in points)
        return ranged and claim.relation == "equal" and (value >= claim.theirs) == claim.wants_more(ours)

    found = [(p, value) for p in _pairs(spans, assumptions) if reached(p, value := at(p))]
    if found:
        points, value = min(found, key=lambda pair: abs(pair[1] - ours))
        return Together(points, value, True, len(found) - 1)
    return _greedy(claim, ours, spans, assumptions, at, reached)


def _pairs(
    spans: Sequence[Span], assumptions: Mapping[str, Assumption]
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Every two values of two assumptions that do not set the same field."""
    for one, other in combinations(spans, 2):
        for (a, _), (b, _) in product(one.values[1:], other.values[1:]):
            pair = (one.assumption, a), (other.assumption, b)
            if not _clash(pair, assumptions):
                yield pair


def _clash(points: Points, assumptions: Mapping[str, Assumption]) -> bool:
    """Whether two of the points set one field, so that the second would undo the first."""
    fields = [_fields(assumptions[name].point(label).change) for name, label in points]
    return sum(map(len, fields)) > len(set[str]().union(*fields))


def _fields(change: Mapping[str, Any]) -> set[str]:
    """What a change sets: the fields of a setting, and of its mappings the keys."""
    return {
        f"{field}.{key}" if key else field
        for field, value in change.items()
        for key in (value if isinstance(value, Mapping) else ("",))
    }


def _greedy(
    claim: Claim,
    ours: float,
    spans: Sequence[Span],
    assumptions: Mapping[str, Assumption],
    at: At,
    reached: Callable[[Points, float], bool],
) -> Together | None:
    """Each assumption at the value that moves ours furthest to theirs, the largest effect first, until ours agrees.

    Then every one that proves unnecessary is dropped. If all together do not suffice, all are returned with reached =
    False. Of several that set one field only the first counts.
    """
    up = claim.wants_more(ours)
    best = [max(s.values, key=lambda item: item[1] if up else -item[1]) for s in spans]
    useful = [(abs(v - ours), s.assumption, label) for s, (label, v) in zip(spans, best, strict=True) if v != ours]
    chosen: list[tuple[str, str]] = []
    for _, name, label in sorted(useful, reverse=True):
        if _clash([*chosen, (name, label)], assumptions):
            continue
        chosen.append((name, label))
        if len(chosen) > 2 and reached(chosen, at(chosen)):  # pairs were tried before
            break
    else:
        return Together(tuple(chosen), at(chosen), False) if len(chosen) > 1 else None
    for point in list(chosen):
        rest = [p for p in chosen if p != point]
        if len(rest) > 1 and reached(rest, at(rest)):
            chosen = rest
    return Together(tuple(chosen), at(chosen), True)
