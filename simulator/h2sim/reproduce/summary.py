"""What reproduces and what does not, in words: the tally of the verdicts and the three sentences made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from h2sim.reproduce.sensitivity import VERDICTS, Row

SECTIONS = {
    "Machine (table 3.6)": ("clock", "peak", "fe-lut-size", "wue-lut-size", "fe-adders", "wue-adders", "area", "power"),
    "LUT engines (section 3.3.2)": ("fe-", "wue-"),
    "Backward Engine (section 3.3.2)": ("be-",),
    "Design space (figure 3.13)": ("halved-", "doubled-"),
    "SpinalFlow (figure 3.14a)": ("spinalflow-",),
    "V100 (figure 3.15)": ("v100-",),
    "Inference (table 3.7)": ("loihi-", "fpga-"),
}
FURTHEST = 3  # how many unexplained tests the third sentence names
ACCOUNTED = {
    "explained by": "for {n} of them one assumption is enough",
    "explained only by": "for {n} it takes several together",
    "spanned by": "for {n} theirs only lies between what two values give",
    "consistent with": "for {n} the range itself was taken from the source's numbers, so that it explains nothing",
}
AGREE = ("fits", "holds")


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many tests have each verdict. Claims of the kinds given and restated are no tests and are not counted."""
    tests = _tests(rows)
    return {verdict: sum(_verdict(row) == verdict for row in tests) for verdict in VERDICTS}


def _tests(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.claim.kind == "test"]


def _verdict(row: Row) -> str:
    return next(verdict for verdict in VERDICTS if row.verdict.startswith(verdict))


def tally(rows: Sequence[Row]) -> str:
    """The number of tests by verdict, and how many claims are no tests."""
    found = ", ".join(f"{verdict} {n}" for verdict, n in counts(rows).items() if n)
    given, restated = (sum(row.claim.kind == kind for row in rows) for kind in ("given", "restated"))
    rest = f"{given} numbers that ours was built from and {restated} that restate others"
    return f"Tests: {len(_tests(rows))}; {found or 'none'}. Beside them {rest}"


def summary(rows: Sequence[Row]) -> tuple[str, ...]:
    """Sentences from the verdicts: what reproduces, what only other assumptions explain, what nothing explains.

    A fourth names what is undetermined, if anything is. One sentence if no claim is a test.
    """
    tests, found = _tests(rows), counts(rows)
    if not tests:
        return ("No test is among these claims: ours was built from their numbers, or they restate other claims.",)
    explained = {verdict: n for verdict, n in found.items() if n and verdict in ACCOUNTED}
    three = _reproduced(rows, found), _accounted(explained), _unexplained(tests, found["not explained"])
    return (*three, *_undetermined(tests))


def _reproduced(rows: Sequence[Row], found: Mapping[str, int]) -> str:
    parts = []
    for title, mine in sections(rows).items():
        tests = _tests(mine)
        if tests:
            parts.append(f"{title.split(' (')[0]} {sum(_verdict(row) in AGREE for row in tests)} of {len(tests)}")
    fit, hold, total = found["fits"], found["holds"], sum(found.values())
    verb = f"{fit + hold or 'none'} reproduce{'s' if fit + hold == 1 else ''}"
    what = f"{_many(fit, 'number')} within tolerance, {_many(hold, 'statement')} true"
    return f"Of {_many(total, 'test')}, {verb} ({what}): {', '.join(parts)}."


def _accounted(explained: Mapping[str, int]) -> str:
    if not explained:
        return "No other test agrees when what the source leaves open is assumed otherwise."
    how, n = "; ".join(ACCOUNTED[verdict].format(n=n) for verdict, n in explained.items()), sum(explained.values())
    verb = "agrees" if n == 1 else "agree"
    return f"{n} more {verb} only when what the source leaves open is assumed otherwise: {how}."


def _unexplained(tests: Sequence[Row], n: int) -> str:
    if not n:
        return "No test is left unexplained."
    left = sorted((row for row in tests if _verdict(row) == "not explained"), key=_distance, reverse=True)
    named = "; ".join(f"{row.claim.what} (ours {ours(row)}, theirs {theirs(row)})" for row in left[:FURTHEST])
    verb, which = ("do not", "furthest off") if n > 1 else ("does not", "namely")
    return f"{n} {verb} reproduce under any value that was swept, {which}: {named}."


def _undetermined(tests: Sequence[Row]) -> tuple[str, ...]:
    left = [row for row in tests if _verdict(row) == "undetermined"]
    if not left:
        return ()
    decides = " and ".join(dict.fromkeys(row.claim.withheld for row in left))
    verb = "is" if len(left) == 1 else "are"
    return (f"{len(left)} {verb} undetermined, for the source withholds what decides: {decides}.",)


def _distance(row: Row) -> float:
    """How far ours is from theirs as a factor, |ln(ours / theirs)|."""
    ratio = row.ours / row.claim.theirs
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def sections(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by section of the page; each row stands in the first section that one of its name's prefixes names."""
    found: dict[str, list[Row]] = {title: [] for title in SECTIONS}
    for row in rows:
        title = next((t for t, prefixes in SECTIONS.items() if row.name.startswith(prefixes)), None)
        if title:
            found[title].append(row)
    return found


def theirs(row: Row) -> str:
    """What the source prints, with its unit, and < or > where it is a bound."""
    bound = {"below": "< ", "above": "> ", "about": "about "}.get(row.claim.relation, "")
    return bound + number(row.claim.theirs) + ("x" if row.claim.unit == "x" else f" {row.claim.unit}")


def ours(row: Row) -> str:
    """What the simulator gives under the shipped files, with its unit."""
    return number(row.ours) + ("x" if row.claim.unit == "x" else f" {row.claim.unit}")


def number(value: float) -> str:
    """A value with four significant digits and separated thousands; below 0.01 three digits, by exponent if small."""
    if value and abs(value) < 1e-2:
        return f"{value:.3g}"
    if float(value).is_integer() and abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
