"""A claim measured under every value of its assumptions, and the verdict that follows.

A verdict says whether ours agrees with theirs, and else which assumption explains the difference: 'explained by X
between a and b', 'not explained'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from h2sim.reproduce.claims import Assumption, Claim, Span
from h2sim.reproduce.search import Together, together
from h2sim.reproduce.setting import Setting

DEFAULT = "default: "
MeasureAt = Callable[[Setting], float]  # a claim's measure in one lab
Others = Mapping[str, tuple[Claim, MeasureAt]]  # claims and their measures by name: what may contradict a value


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


VERDICTS = (
    "fits", "holds", "explained by", "explained only by", "spanned by", "consistent with", "undetermined",
    "not explained",
)  # fmt: skip
EXPLAINS = ("range", "choice")  # kinds of assumptions that explain
APART = ("bound", "reading")  # kinds that stand apart from the range of a number


def regenerate(
    name: str, claim: Claim, assumptions: Mapping[str, Assumption], measure: MeasureAt, others: Others | None = None
) -> Row:
    """One claim, measured under the default setting and at every point of every assumption that it hangs on.

    A claim that fits is swept too: a figure that fits by chance should show it. others: the claims that an assumption
    may be `against`, with their measures.
    """
    ours = measure(Setting())
    spans = tuple(_span(other, assumptions[other], measure, ours) for other in claim.hangs_on)
    verdict = _Verdict(claim, ours, spans, assumptions, measure, others or {})
    return Row(name, claim, ours, spans, verdict.text())


def _span(name: str, assumption: Assumption, measure: MeasureAt, ours: float) -> Span:
    others = [(point.label, measure(Setting().changed(point.change))) for point in assumption.points]
    return Span(name, assumption.kind, ((DEFAULT + assumption.default, ours), *others))


@dataclass(frozen=True)
class _Alone:
    """Where one assumption alone makes ours agree: in words, and the labels of its values there."""

    text: str
    span: Span
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Verdict:
    """The verdict on one claim from its spans; `others`, `measure` and `assumptions` measure what is not in them."""

    claim: Claim
    ours: float
    spans: tuple[Span, ...]
    assumptions: Mapping[str, Assumption]
    measure: MeasureAt
    others: Others

    @property
    def moved(self) -> list[Span]:
        """The spans that move ours, without bounds and readings."""
        return [s for s in self.spans if s.kind not in APART and s.high - s.low > 5e-4 * abs(self.ours)]

    def text(self) -> str:
        """The verdict in words, and beside it what another reading of the source's words gives."""
        return self._word() + self._readings()

    def _word(self) -> str:
        if self.claim.withheld:
            return "; ".join([f"undetermined: the source withholds {self.claim.withheld}", *self._range("ours ")])
        if self.claim.met(self.ours):
            word = "fits" if self.claim.relation in ("equal", "about") else "holds"
            return "; ".join([word, *self._range(), *self._beside()])
        found = [alone for span in self.moved if (alone := _alone(self.claim, span))]
        for start, kinds in (("explained by", EXPLAINS), ("consistent with", ("theirs", "theirs-choice"))):
            texts = [a.text + self._contradicted(a) for a in found if a.span.kind in kinds]
            if texts:
                return f"{start} {'; or by '.join(texts)}"
        texts = [text for s in self.moved if s.kind == "choice" and (text := _spanned(self.claim, s))]
        if texts:
            return f"spanned by {'; and by '.join(texts)}"
        may = [s for s in self.spans if s.kind in EXPLAINS]
        several = together(self.claim, self.ours, may, self.assumptions, self._at)
        if several and several.reached:
            return _only_together(several)
        return self._not_explained(several)

    def _at(self, points: Iterable[tuple[str, str]]) -> float:
        return self.measure(self._setting(points))

    def _setting(self, points: Iterable[tuple[str, str]]) -> Setting:
        setting = Setting()
        for assumption, label in points:
            if not label.startswith(DEFAULT):
                setting = setting.changed(self.assumptions[assumption].point(label).change)
        return setting

    def _range(self, whose: str = "") -> list[str]:
        """Lowest to highest over what moves ours; empty if nothing does."""
        moved = self.moved
        if not moved:
            return []
        low, high = min(s.low for s in moved), max(s.high for s in moved)
        return [f"{whose}{low:.4g} to {high:.4g} over {', '.join(s.assumption for s in moved)}"]

    def _beside(self) -> list[str]:
        """Of a number that agrees: what it is at the values of assumptions that stand beside it."""
        return [
            f"with {name} {', '.join(f'{value:.4g}' for _, value in s.values[1:])} "
            f"({sum(self.claim.met(value) for _, value in s.values[1:])} of {len(s.values) - 1} agree)"
            for s in self.spans
            if (name := self.assumptions[s.assumption].beside)
        ]

    def _readings(self) -> str:
        """What other readings of the source's words give, each with whether it agrees."""
        return "".join(
            f"; read as {label}: {value:.4g}, {'agrees' if self.claim.met(value) else 'does not agree'}"
            for span in self.spans
            if span.kind == "reading"
            for label, value in span.values[1:]
        )

    def _contradicted(self, alone: _Alone) -> str:
        """The other claims that agree nowhere among the values at which this one does, and are further off there."""
        found: dict[str, list[str]] = {}
        for name in self.assumptions[alone.span.assumption].against:
            if name in self.others and (text := self._against(name, alone)):
                place = self.others[name][0].where.split(":")[0].split(", ")[-1]
                found.setdefault(place, []).append(text)
        named = " and ".join(f"{place} ({'; '.join(texts)})" for place, texts in found.items())
        return f", but contradicted there by {named}" if named else ""

    def _against(self, name: str, alone: _Alone) -> str:
        """What another claim is where this one agrees, if it is further from theirs there; else empty."""
        claim, measure = self.others[name]
        values = [measure(self._setting([(alone.span.assumption, label)])) for label in alone.labels]
        default = measure(Setting())
        if any(_distance(claim, value) <= _distance(claim, default) for value in values):
            return ""
        bound = {"below": "< ", "above": "> ", "about": "about "}.get(claim.relation, "")
        shown = " to ".join(dict.fromkeys(f"{value:.4g}" for value in values))
        unit = "" if claim.unit in ("x", "share") else f" {claim.unit}"
        return f"{name} {shown}{unit}, theirs {bound}{claim.theirs:g}"

    def _not_explained(self, several: Together | None) -> str:
        parts = self._range()
        if several:
            parts.append(f"{several.value:.4g} with all of them that help")
        up = self.claim.wants_more(self.ours)
        for span in self.spans:
            if span.kind != "bound":
                continue
            label, value = max(span.values[1:], key=lambda item: item[1] if up else -item[1])
            # one that leads elsewhere says nothing
            if abs(self.claim.error(value)) < abs(self.claim.error(self.ours)) - 0.01:
                parts.append(f"{value:.4g} at the bound {span.assumption}: {label}")
        return "not explained: " + ("; ".join(parts) or "it hangs on no assumption that is swept")


def _alone(claim: Claim, span: Span) -> _Alone | None:
    """Where one assumption alone makes ours agree: between two neighbouring values, or at one value.

    Only of a range something lies between two values. Neighbours are neighbours by what they make of ours, not by their
    order in the file: so a default in the middle of a range has two. None if ours agrees nowhere.
    """
    ordered = sorted(span.values, key=lambda item: item[1])
    if claim.relation == "equal" and span.kind in ("range", "theirs"):
        for (a, low), (b, high) in pairwise(ordered):
            if low <= claim.theirs <= high:
                text = f"{span.assumption} between {_short(a)} ({low:.4g}) and {_short(b)} ({high:.4g})"
                return _Alone(text, span, (a, b))
    met = [(label, value) for label, value in span.values if claim.met(value)]
    if not met:
        return None
    label, value = min(met, key=lambda item: abs(item[1] - span.values[0][1]))
    return _Alone(f"{span.assumption} at {label} ({value:.4g})", span, (label,))


def _spanned(claim: Claim, span: Span) -> str:
    """The two values of a choice between whose results theirs lies, in words; empty if there are none."""
    for (a, low), (b, high) in pairwise(sorted(span.values, key=lambda item: item[1])):
        if claim.relation == "equal" and low <= claim.theirs <= high:
            return f"{span.assumption}: {_short(a)} ({low:.4g}), {_short(b)} ({high:.4g})"
    return ""


def _only_together(several: Together) -> str:
    names = ", ".join(f"{name} at {label}" for name, label in several.points)
    more = f"; or by {several.others} other pair{'s' if several.others > 1 else ''}" if several.others else ""
    return f"explained only by {names} together ({several.value:.4g}){more}"


def _short(label: str) -> str:
    return "the default" if label.startswith(DEFAULT) else label


def _distance(claim: Claim, value: float) -> float:
    """How far a value is from theirs as a factor, |ln(value / theirs)|; 0 where it agrees."""
    if claim.met(value):
        return 0.0
    ratio = value / claim.theirs
    return abs(math.log(ratio)) if ratio > 0 else math.inf
