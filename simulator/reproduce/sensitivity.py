"""Ours beside theirs, and what an assumption makes of ours: 'explained by X between a and b', or 'not explained'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from h2sim.reproduce.claims import Assumption, Claim
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting


@dataclass(frozen=True)
class Span:
    """What one assumption makes of a figure: (label, value) of its default and its points, in order."""

    assumption: str
    values: tuple[tuple[str, float], ...]

    @property
    def low(self) -> float:
        return min(value for _, value in self.values)

    @property
    def high(self) -> float:
        return max(value for _, value in self.values)


@dataclass(frozen=True)
class Together:
    """Several assumptions changed at once, each at the point that brings ours nearest to theirs."""

    points: tuple[tuple[str, str], ...]
    value: float


@dataclass(frozen=True)
class Row:
    """One claim, regenerated; verdict: in words."""

    name: str
    claim: Claim
    ours: float
    spans: tuple[Span, ...]
    together: Together | None
    verdict: str

    @property
    def error(self) -> float:
        return self.claim.error(self.ours)

    @property
    def fits(self) -> bool:
        return self.claim.met(self.ours)


def regenerate(
    lab: Lab, claims: Mapping[str, Claim], assumptions: Mapping[str, Assumption], measures: Mapping[str, Measure]
) -> Iterator[Row]:
    """Every claim under the default setting and, where it does not fit, under the points of what it hangs on."""
    for name, claim in claims.items():
        yield regenerate_one(lab, name, claim, assumptions, measures[name])


def regenerate_one(lab: Lab, name: str, claim: Claim, assumptions: Mapping[str, Assumption], measure: Measure) -> Row:
    """One claim; its assumptions are swept also where it fits, for a figure that fits by chance should show it."""
    default = Setting()
    ours = measure(lab, default)
    spans = tuple(_span(lab, other, assumptions[other], measure, ours) for other in claim.hangs_on)
    fits = claim.met(ours)
    alone = [text for span in spans if (text := _bracket(claim, span))]
    together = None if fits or alone or len(spans) < 2 else _together(lab, claim, ours, spans, assumptions, measure)
    return Row(name, claim, ours, spans, together, _verdict(claim, ours, alone, together, spans))


def _span(lab: Lab, name: str, assumption: Assumption, measure: Measure, ours: float) -> Span:
    others = [(point.label, measure(lab, Setting().changed(point.change))) for point in assumption.points]
    return Span(name, (("default: " + assumption.default, ours), *others))


def _bracket(claim: Claim, span: Span) -> str:
    """Between which neighbouring values of one assumption ours meets theirs; empty if between none.

    Values are neighbours in order of what they make of ours, so that a default in the middle of a range has two.
    """
    ordered = sorted(span.values, key=lambda item: item[1])
    met = [label for label, value in ordered if claim.met(value)]
    if claim.relation in ("below", "above"):
        return f"{span.assumption} at {met[0]}" if met else ""
    for (a, low), (b, high) in pairwise(ordered):
        if low <= claim.theirs <= high:
            return f"{span.assumption} between {a} ({low:.4g}) and {b} ({high:.4g})"
    return f"{span.assumption} at {met[0]}" if met else ""


def _together(
    lab: Lab,
    claim: Claim,
    ours: float,
    spans: tuple[Span, ...],
    assumptions: Mapping[str, Assumption],
    measure: Measure,
) -> Together:
    """All assumptions that move ours towards theirs, each at the point that goes farthest, in one setting.

    Of two that choose an energy table the first is taken.
    """
    upwards = claim.theirs > ours if claim.relation != "below" else False
    setting, chosen = Setting(), []
    for span in spans:
        label, value = max(span.values, key=lambda item: item[1] if upwards else -item[1])
        change = next((p.change for p in assumptions[span.assumption].points if p.label == label), None)
        if change is None or value == ours or ("table" in change and "table" in setting.model_fields_set):
            continue
        setting = setting.changed(change)
        chosen.append((span.assumption, label))
    return Together(tuple(chosen), measure(lab, setting))


def _verdict(claim: Claim, ours: float, alone: list[str], together: Together | None, spans: tuple[Span, ...]) -> str:
    if claim.met(ours):
        return "fits" if claim.relation in ("equal", "about") else "holds"
    if alone:
        return "explained by " + "; or by ".join(alone)
    if together and len(together.points) > 1:
        names = ", ".join(f"{name} at {label}" for name, label in together.points)
        passed = claim.relation == "equal" and (together.value - claim.theirs) * (ours - claim.theirs) <= 0
        reached = passed or claim.met(together.value)
        return f"{'explained only by' if reached else 'not explained:'} {names} together ({together.value:.4g})"
    if spans:
        low, high = min(s.low for s in spans), max(s.high for s in spans)
        return f"not explained: {low:.4g} to {high:.4g} over {', '.join(s.assumption for s in spans)}"
    return "not explained: it hangs on no assumption that is swept"
