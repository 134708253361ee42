"""The report's page: every number of the source beside ours, what each hangs on, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from h2sim.reproduce.claims import Assumption
from h2sim.reproduce.sensitivity import Row

SECTIONS = {
    "Machine (table 3.6)": ("peak", "fe-lut-size", "wue-lut-size", "fe-adders", "wue-adders", "area", "power"),
    "LUT engines (section 3.3.2)": ("fe-", "wue-"),
    "Backward Engine (section 3.3.2)": ("be-",),
    "Design space (figure 3.13)": ("halved-", "doubled-"),
    "SpinalFlow (figure 3.14a)": ("spinalflow-",),
    "V100 (figure 3.15)": ("v100-",),
    "Inference (table 3.7)": ("loihi-", "fpga-"),
}


def rows_table(rows: Sequence[Row], scenario: Mapping[str, float]) -> pd.DataFrame:
    """rows.csv: one line per claim; error relative to theirs; one_setting: ours under the setting of joint.py."""
    return pd.DataFrame([
        {
            "name": r.name, "what": r.claim.what, "ours": r.ours, "theirs": r.claim.theirs, "unit": r.claim.unit,
            "relation": r.claim.relation, "error": r.error, "one_setting": scenario[r.name],
            "verdict": r.verdict, "where": r.claim.where,
        }
        for r in rows
    ])  # fmt: skip


def spans_table(rows: Sequence[Row]) -> pd.DataFrame:
    """spans.csv: what every swept value of every assumption makes of every claim."""
    return pd.DataFrame([
        {"name": r.name, "assumption": span.assumption, "value": label, "ours": value, "theirs": r.claim.theirs}
        for r in rows
        for span in r.spans
        for label, value in span.values
    ])  # fmt: skip


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many claims fit (or hold), are explained by one assumption, by several together, or by none."""
    kinds = ("fits or holds", "explained by one assumption", "explained only by several", "not explained")
    found = dict.fromkeys(kinds, 0)
    for row in rows:
        found[kinds[_kind(row)]] += 1
    return found


def _kind(row: Row) -> int:
    if row.fits:
        return 0
    return next(
        i for i, start in ((1, "explained by"), (2, "explained only"), (3, "not")) if row.verdict.startswith(start)
    )


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
    tally = "; ".join(f"{n} {kind}" for kind, n in counts(rows).items())
    return [
        "# H2Learn's evaluation, regenerated",
        "",
        f"Written by `{command}`; a test holds every number of it to what the simulator gives.",
        "",
        "Nothing is fitted: the machine is `h2learn`, the prices are `28nm`, first principles. Networks have SYNTHETIC",
        "masks with the sparsities of table 3.2 (independent bits; spikes 90 % sparse [A]): the source's traces are",
        "not public. Theirs is chapter 3 of the dissertation. A number fits within 5 % unless its row in",
        "`baselines/claims.yaml` says otherwise; it is swept over the assumptions it hangs on",
        "(`baselines/assumptions.yaml`; all values in [spans.csv](spans.csv)). 'Explained' means that the range of the",
        "assumption reaches theirs, not that the source assumed it.",
        "",
        f"{len(rows)} claims: {tally}.",
        "",
        "![Ours over theirs, with the range of the assumptions](claims.png)",
    ]


def _scenario_lines(rows: Sequence[Row], scenario: Mapping[str, float]) -> list[str]:
    """Every claim that the one setting moves by 1 % or more."""
    before, after = (
        sum(r.claim.met(values[r.name]) for r in rows) for values in ({r.name: r.ours for r in rows}, scenario)
    )
    moved = [r for r in rows if abs(scenario[r.name] - r.ours) >= 0.01 * abs(r.ours)]
    lost = [r.claim.what for r in rows if r.fits and not r.claim.met(scenario[r.name])]
    gained = [r.claim.what for r in rows if not r.fits and r.claim.met(scenario[r.name])]
    lines = [
        "",
        "## One setting for all",
        "",
        "The setting of the figure 'area and power together' is chosen by those two numbers alone; everything else it",
        f"says is a test of it. Under it {after} of {len(rows)} claims fit or hold, under the shipped files {before}.",
        f"Gained: {'; '.join(gained) or 'none'}. Lost: {'; '.join(lost) or 'none'}. Where ratios of energies move away",
        "from theirs, larger buffers cannot be all that the printed area holds. What it moves:",
        "",
        "| what | shipped files | one setting | theirs |",
        "|---|---|---|---|",
    ]
    return lines + [f"| {r.claim.what} | {number(r.ours)} | {number(scenario[r.name])} | {_theirs(r)} |" for r in moved]


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
        "| assumption | default | swept over | moves most |",
        "|---|---|---|---|",
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
        lines.append(f"| {name}: {assumption.what} | {assumption.default} | {labels} | {most or 'nothing'} |")
    lines += ["", "Where each range is from:", ""]
    return [*lines, *(f"* {name}: {assumption.source}." for name, assumption in assumptions.items())]
