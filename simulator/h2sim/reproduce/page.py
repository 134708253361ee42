"""The report's page: every number of the source beside ours, what each hangs on, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from h2sim.reproduce.claims import Assumption
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
FITTED = ("area", "power", "v100-area")  # by which, or through which, the one setting is chosen


def rows_table(rows: Sequence[Row], scenario: Mapping[str, float]) -> pd.DataFrame:
    """rows.csv: one line per claim; error relative to theirs; one_setting: ours under the setting of joint.py."""
    return pd.DataFrame([
        {
            "name": r.name, "what": r.claim.what, "kind": r.claim.kind, "ours": r.ours,
            "theirs": r.claim.theirs, "unit": r.claim.unit,
            "relation": r.claim.relation, "error": r.error, "one_setting": scenario[r.name],
            "verdict": r.verdict, "where": r.claim.where,
        }
        for r in rows
    ])  # fmt: skip


def spans_table(rows: Sequence[Row]) -> pd.DataFrame:
    """spans.csv: what every swept value of every assumption makes of every claim."""
    return pd.DataFrame([
        {
            "name": r.name, "assumption": span.assumption, "kind": span.kind, "value": label, "ours": value,
            "theirs": r.claim.theirs,
        }
        for r in rows
        for span in r.spans
        for label, value in span.values
    ])  # fmt: skip


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many of the tests among the claims have each verdict."""
    tests = [row for row in rows if row.claim.kind == "test"]
    return {verdict: sum(_verdict(row) == verdict for row in tests) for verdict in VERDICTS}


def _verdict(row: Row) -> str:
    return next(verdict for verdict in VERDICTS if row.verdict.startswith(verdict))


def tally(rows: Sequence[Row]) -> str:
    """The counts in words, and how many claims are no tests."""
    found = ", ".join(f"{verdict} {n}" for verdict, n in counts(rows).items() if n)
    given, restated = (sum(row.claim.kind == kind for row in rows) for kind in ("given", "restated"))
    tests = sum(row.claim.kind == "test" for row in rows)
    rest = f"{given} numbers that ours was built from and {restated} that restate others"
    return f"Tests: {tests}; {found or 'none'}. Beside them {rest}"


def page(
    rows: Sequence[Row],
    assumptions: Mapping[str, Assumption],
    figures: Sequence[tuple[str, str, str]],
    scenario: Mapping[str, float],
    command: str,
) -> str:
    """README.md of the report; figures are (file stem, title, text)."""
    lines = _head(rows, command)
    done: set[str] = set()
    for title, prefixes in SECTIONS.items():
        mine = [r for r in rows if r.name not in done and any(r.name == p or r.name.startswith(p) for p in prefixes)]
        done |= {r.name for r in mine}
        lines += ["", f"## {title}", "", "| what | ours | theirs | error | verdict |", "|---|---|---|---|---|"]
        lines += [_line(r) for r in mine]
        notes = dict.fromkeys(f"* {r.claim.what}: {r.claim.note}." for r in mine if r.claim.note)
        lines += ["", *notes] if notes else []
    lines += _one_value_lines(rows)
    lines += _scenario_lines(rows, scenario)
    lines += ["", "## Figures", ""]
    for stem, title, text in figures:
        lines += [
            f"### {title}",
            "",
            text,
            "",
            f"![{title}]({stem}.png)",
            "",
            f"Numbers: [{stem}.csv]({stem}.csv).",
            "",
        ]
    return "\n".join([*lines, *_assumption_lines(rows, assumptions), ""])


def _head(rows: Sequence[Row], command: str) -> list[str]:
    return [
        "# H2Learn's evaluation, regenerated",
        "",
        f"Written by `{command}`; a test holds every number of it to what the simulator gives.",
        "",
        "Nothing is fitted but where it says so: the machine is `h2learn`, the prices are `28nm`, first principles.",
        "Networks have SYNTHETIC masks with the sparsities of table 3.2 (independent bits; spikes 90 % sparse [A]):",
        "the source's traces are not public. Independent bits flatter the Backward Engine (`reports/masks.md`): a",
        "trace of our own training of the MNIST network stands beside the V100's row. Theirs is chapter 3 of the",
        "dissertation.",
        "A number fits within 5 % unless its row in `baselines/claims.yaml` says otherwise; it is swept over the",
        "assumptions it hangs on (`baselines/assumptions.yaml`; all values in [spans.csv](spans.csv)).",
        "",
        "* *explained by* a range that reaches theirs, or a choice one value of which does: not that it was chosen;",
        "* *spanned by* a choice between whose values theirs lies, though none gives it;",
        "* *explained only by* several together, none of which could be left out;",
        "* *consistent with* a range that was taken from the source's own numbers, so that it cannot explain them;",
        "* *not explained*; a bound idealises or changes what the source gives, and is printed only to show where the",
        "  difference lies.",
        "",
        f"{tally(rows)}.",
        "",
        "![Ours over theirs, with the range of the assumptions](claims.png)",
    ]


def _one_value_lines(rows: Sequence[Row]) -> list[str]:
    """What one changed value would gain and lose, of the claims that hang on its assumption."""
    turned: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for row in rows:
        for span in row.spans:
            for label, value in span.values[1:] if row.claim.kind == "test" else ():
                gained, lost = turned.setdefault((span.assumption, label), ([], []))
                if row.claim.met(value) != row.fits:
                    (lost if row.fits else gained).append(row.name)
    shown = [(key, gained, lost) for key, (gained, lost) in turned.items() if gained]
    shown.sort(key=lambda item: (len(item[2]) - len(item[1]), item[0]))
    return [
        "",
        "## What one changed value gains and loses",
        "",
        "Every value that makes a test agree which did not, and which tests it costs, of those that hang on it.",
        "",
        "| assumption | value | gains | loses |",
        "|---|---|---|---|",
        *(
            f"| {name} | {label} | {', '.join(gained)} | {', '.join(lost) or 'none'} |"
            for (name, label), gained, lost in shown
        ),
    ]


def _scenario_lines(rows: Sequence[Row], scenario: Mapping[str, float]) -> list[str]:
    """Every claim that the one setting moves by 1 % or more."""
    tests = [r for r in rows if r.claim.kind == "test" and r.name not in FITTED]
    before, after = sum(r.fits for r in tests), sum(r.claim.met(scenario[r.name]) for r in tests)
    lost = [r.claim.what for r in tests if r.fits and not r.claim.met(scenario[r.name])]
    gained = [r.claim.what for r in tests if not r.fits and r.claim.met(scenario[r.name])]
    moved = [r for r in rows if abs(scenario[r.name] - r.ours) >= 0.01 * abs(r.ours)]
    return [
        "",
        "## One setting for all",
        "",
        "The setting of the figure 'area and power together' is fitted to those two numbers; everything else it says",
        f"is a test of it. Of {len(tests)} other tests {after} fit or hold under it, {before} under the shipped files.",
        "Gained:",
        f"{'; '.join(gained) or 'none'}. Lost: {'; '.join(lost) or 'none'}. So larger buffers of that kind, always on,",
        "are not what the printed area holds, or not all of it. What the setting moves:"
        if len(lost) >= len(gained)
        else "are a better account of the source's machine than the shipped files. What the setting moves:",
        "",
        "| what | shipped files | one setting | theirs |",
        "|---|---|---|---|",
        *(f"| {r.claim.what} | {number(r.ours)} | {number(scenario[r.name])} | {_theirs(r)} |" for r in moved),
    ]


def _theirs(row: Row) -> str:
    bound = {"below": "< ", "above": "> ", "about": "about "}.get(row.claim.relation, "")
    return bound + number(row.claim.theirs) + ("x" if row.claim.unit == "x" else f" {row.claim.unit}")


def _line(row: Row) -> str:
    error = f"{row.error:+.1%}" if row.claim.relation in ("equal", "about") else ""
    unit = "" if row.claim.unit == "x" else f" {row.claim.unit}"
    times = "x" if row.claim.unit == "x" else ""
    return f"| {row.claim.what} | {number(row.ours)}{times}{unit} | {_theirs(row)} | {error} | {row.verdict} |"


def number(value: float) -> str:
    """Four figures, thousands separated, small ones with an exponent."""
    if value and abs(value) < 1e-2:
        return f"{value:.3g}"
    if float(value).is_integer() and abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _assumption_lines(rows: Sequence[Row], assumptions: Mapping[str, Assumption]) -> list[str]:
    """What every assumption moves: the claims by the share of theirs that its range spans."""
    lines = [
        "## What the assumptions move",
        "",
        "| assumption | kind | default | swept over | moves most |",
        "|---|---|---|---|---|",
    ]
    for name, assumption in assumptions.items():
        moved = [
            (abs(span.high - span.low) / abs(row.claim.theirs), row.name)
            for row in rows
            for span in row.spans
            if span.assumption == name
        ]
        most = ", ".join(f"{claim} by {share:.1%}" for share, claim in sorted(moved, reverse=True)[:3] if share > 5e-4)
        labels = "; ".join(point.label for point in assumption.points)
        lines.append(
            f"| {name}: {assumption.what} | {assumption.kind} | {assumption.default} | {labels} | {most or 'nothing'} |"
        )
    lines += ["", "Where each range is from:", ""]
    return [*lines, *(f"* {name}: {assumption.source}." for name, assumption in assumptions.items())]
