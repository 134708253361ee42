"""A claim measured under every value of its assumptions, and the verdict that follows.

A verdict says whether ours agrees with theirs, and else which assumption explains the difference: 'explained by X
between a and b', 'not explained'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from h2sim.reproduce.claims import Assumption, Claim, Kind
from h2sim.reproduce.setting import Setting

DEFAULT = "default: "
MeasureAt = Callable[[Setting], float]  # a claim's measure in one lab


@dataclass(frozen=True)
class Span:
    """A claim under every value of one assumption: (label, measured) of the default, then of each point in order."""

    assumption: str
    kind: Kind
    values: tuple[tuple[str, float], ...]

    @property
    def low(self) -> float:
        """The lowest measured value."""
        return min(value for _, value in self.values)

    @property
    def high(self) -> float:
        """The highest measured value."""
        return max(value for _, value in self.values)


@dataclass(frozen=True)
class Together:
    """Several assumptions changed at once: (assumption, label) of each, and what the claim then is.

    reached: whether ours then agrees with theirs; if so, it no longer does where any one of them is left out.
    """

    points: tuple[tuple[str, str], ...]
    value: float
    reached: bool


@dataclass(frozen=True)
class Row:
    """One claim, measured. ours: under the default setting. verdict: in words, beginning with one of VERDICTS."""

    name: str
    claim: Claim
    ours: float
    spans: tuple[Span, ...]
    verdict: str

    @property
    def error(self) -> float:
        """(ours - theirs) / theirs."""
        return self.claim.error(self.ours)

    @property
    def fits(self) -> bool:
        """Whether ours agrees with theirs under the default setting."""
        return self.claim.met(self.ours)


VERDICTS = ("fits", "holds", "explained by", "explained only by", "spanned by", "consistent with", "not explained")


def regenerate(name: str, claim: Claim, assumptions: Mapping[str, Assumption], measure: MeasureAt) -> Row:
    """One claim, measured under the default setting and at every point of every assumption that it hangs on.

    A claim that fits is swept too: a figure that fits by chance should show it.
    """
    ours = measure(Setting())
    spans = tuple(_span(other, assumptions[other], measure, ours) for other in claim.hangs_on)

    def at(points: Iterable[tuple[str, str]]) -> float:
        setting = Setting()
        for assumption, label in points:
            setting = setting.changed(assumptions[assumption].point(label).change)
        return measure(setting)

    return Row(name, claim, ours, spans, _verdict(claim, ours, spans, assumptions, at))


def _span(name: str, assumption: Assumption, measure: MeasureAt, ours: float) -> Span:
    others = [(point.label, measure(Setting().changed(point.change))) for point in assumption.points]
    return Span(name, assumption.kind, ((DEFAULT + assumption.default, ours), *others))


At = Callable[[Iterable[tuple[str, str]]], float]


def _verdict(claim: Claim, ours: float, spans: Sequence[Span], assumptions: Mapping[str, Assumption], at: At) -> str:
    moved = [s for s in spans if s.kind != "bound" and s.high - s.low > 5e-4 * abs(ours)]
    if claim.met(ours):
        word = "fits" if claim.relation in ("equal", "about") else "holds"
        if not moved:
            return word
        low, high = min(s.low for s in moved), max(s.high for s in moved)
        return f"{word}; {low:.4g} to {high:.4g} over {', '.join(s.assumption for s in moved)}"
    found = [(s, text) for s in moved if (text := _alone(claim, s))]
    for start, kinds in (
        ("explained by", ("range", "choice")),
        ("consistent with", ("theirs", "theirs-choice")),
    ):
        texts = [text for s, text in found if s.kind in kinds]
        if texts:
            return f"{start} {'; or by '.join(texts)}"
    texts = [text for s in moved if s.kind == "choice" and (text := _spanned(claim, s))]
    if texts:
        return f"spanned by {'; and by '.join(texts)}"
    together = _together(claim, ours, [s for s in moved if s.kind in ("range", "choice")], assumptions, at)
    if together and together.reached:
        names = ", ".join(f"{name} at {label}" for name, label in together.points)
        return f"explained only by {names} together ({together.value:.4g})"
    return _not_explained(claim, ours, spans, moved, together)


def _alone(claim: Claim, span: Span) -> str:
    """Where one assumption alone makes ours agree, in words: between two neighbouring values, or at one value.

    Only of a range something lies between two values. Neighbours are neighbours by what they make of ours, not by their
    order in the file: so a default in the middle of a range has two. Empty if ours agrees nowhere.
    """
    ordered = sorted(span.values, key=lambda item: item[1])
    if claim.relation == "equal" and span.kind in ("range", "theirs"):
        for (a, low), (b, high) in pairwise(ordered):
            if low <= claim.theirs <= high:
                return f"{span.assumption} between {_short(a)} ({low:.4g}) and {_short(b)} ({high:.4g})"
    met = [(label, value) for label, value in span.values if claim.met(value)]
    if not met:
        return ""
    label, value = min(met, key=lambda item: abs(item[1] - span.values[0][1]))
    return f"{span.assumption} at {label} ({value:.4g})"


def _spanned(claim: Claim, span: Span) -> str:
    """The two values of a choice between whose results theirs lies, in words; empty if there are none."""
    for (a, low), (b, high) in pairwise(sorted(span.values, key=lambda item: item[1])):
        if claim.relation == "equal" and low <= claim.theirs <= high:
            return f"{span.assumption}: {_short(a)} ({low:.4g}), {_short(b)} ({high:.4g})"
    return ""


def _short(label: str) -> str:
    return "the default" if label.startswith(DEFAULT) else label


def _together(
    claim: Claim, ours: float, spans: Sequence[Span], assumptions: Mapping[str, Assumption], at: At
) -> Together | None:
    """Assumptions that together make ours agree with theirs; None if fewer than two of them help.

    Each takes the value that moves ours furthest towards theirs. They are added in order of their effect alone, largest
    first, until ours agrees; then every one that proves unnecessary is dropped. If all together do not suffice, all are
    returned with reached = False. Where a range is among them, ours may also lie beyond theirs, for a smaller change
    then gives theirs. Of several that choose an energy table only the first counts.
    """
    up = claim.wants_more(ours)

    def reached(points: Sequence[tuple[str, str]]) -> bool:
        value, ranged = at(points), any(assumptions[name].kind == "range" for name, _ in points)
        return claim.met(value) or (ranged and claim.relation == "equal" and (value >= claim.theirs) == up)

    best = [max(s.values, key=lambda item: item[1] if up else -item[1]) for s in spans]
    useful = [(abs(v - ours), s.assumption, label) for s, (label, v) in zip(spans, best, strict=True) if v != ours]
    chosen: list[tuple[str, str]] = []
    tables = 0
    for _, name, label in sorted(useful, reverse=True):
        table = "table" in assumptions[name].point(label).change
        if table and tables:
            continue
        tables += table
        chosen.append((name, label))
        if len(chosen) > 1 and reached(chosen):
            break
    else:
        return Together(tuple(chosen), at(chosen), False) if len(chosen) > 1 else None
    for point in list(chosen):
        rest = [p for p in chosen if p != point]
        if len(rest) > 1 and reached(rest):
            chosen = rest
    return Together(tuple(chosen), at(chosen), True)


def _not_explained(
    claim: Claim, ours: float, spans: Sequence[Span], moved: Sequence[Span], together: Together | None
) -> str:
    parts = []
    if moved:
        low, high = min(s.low for s in moved), max(s.high for s in moved)
        parts.append(f"{low:.4g} to {high:.4g} over {', '.join(s.assumption for s in moved)}")
    if together:
        parts.append(f"{together.value:.4g} with all of them that help")
    up = claim.wants_more(ours)
    for span in spans:
        if span.kind != "bound":
            continue
        label, value = max(span.values[1:], key=lambda item: item[1] if up else -item[1])
        if abs(claim.error(value)) < abs(claim.error(ours)) - 0.01:  # one that leads elsewhere says nothing
            parts.append(f"{value:.4g} at the bound {span.assumption}: {label}")
    return "not explained: " + ("; ".join(parts) or "it hangs on no assumption that is swept")
