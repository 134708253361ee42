"""The report's page: every number of the source beside ours, what each hangs on, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import pandas as pd

from h2sim.compare.interval import NAME as INTERVAL
from h2sim.compare.interval import Interval
from h2sim.reproduce.claims import Assumption
from h2sim.reproduce.sensitivity import DEFAULT, Row
from h2sim.reproduce.sub_batches import SubBatches
from h2sim.reproduce.summary import number, ours, sections, summary, tally, theirs

FITTED = ("area", "power", "v100-area")  # the numbers that choose the one setting of joint.py
LINE = 118  # characters of a line of the page
ABOUT = (  # what the words on the page mean
    "'Theirs' is what chapter 3 of the dissertation prints; 'ours' is what the simulator gives for the machine",
    "`h2learn` with the energy table `28nm`. Both are built from first principles. Nothing is fitted to the",
    "source's results, except where this page says so.",
    "The source's traces are not public. So the networks run on SYNTHETIC masks: independent bits with the",
    "sparsities of table 3.2, and 90 % of the spikes 0 [A]. Independent bits flatter the Backward Engine",
    "(`reports/masks.md`). For the MNIST network the V100's row therefore also has a trace of our own training.",
    "",
    "A number fits if it is within 5 % of theirs, or within the tolerance of its row in",
    "`simulator/h2sim/reproduce/claims.yaml`. A statement holds if ours is on the side of the bound that it names.",
    "Every claim is measured again at each value of each assumption that it hangs on. The assumptions stand in",
    "`simulator/h2sim/reproduce/assumptions.yaml`, all measured values in [spans.csv](spans.csv). The verdicts:",
    "",
    "* *fits*, *holds*: ours agrees with theirs under the shipped files.",
    "* *explained by* an assumption: ours agrees somewhere in its range, or at one value of a choice. That is no",
    "  proof that the source chose this value.",
    "* *explained only by* several assumptions together: ours agrees if all of them are changed, and no longer if",
    "  one is left out. All pairs of values are tried, those too that move nothing alone.",
    "* *spanned by* a choice: theirs lies between what two of its values give, and none of them gives it.",
    "* *consistent with* a range: ours agrees within it, but the range was taken from the source's own numbers,",
    "  and so explains nothing. Where other tests then fail, and are further off than before, they contradict it.",
    "* *undetermined*: the source withholds what decides, so that nothing can be said of ours.",
    "* *not explained*: ours does not agree anywhere. Where an idealised machine (a bound) comes closer, its",
    "  number stands beside, to show where the difference lies.",
    "",
    "Beside a number that fits or holds and hangs on independent bits stands what it is with structured masks.",
    "*read as*: another reading of the source's words, which would hold for all numbers alike. It is shown and not",
    "judged by.",
)


def rows_table(rows: Sequence[Row], scenario: Mapping[str, float]) -> pd.DataFrame:
    """rows.csv, one line per claim.

    error: (ours - theirs) / theirs. one_setting: ours under the setting of joint.py.
    """
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
    """spans.csv, one line per claim, assumption that it hangs on, and value of that assumption.

    ours: what the claim becomes when that assumption alone has that value.
    """
    return pd.DataFrame([
        {
            "name": r.name, "assumption": span.assumption, "kind": span.kind, "value": label, "ours": value,
            "theirs": r.claim.theirs,
        }
        for r in rows
        for span in r.spans
        for label, value in span.values
    ])  # fmt: skip


def page(
    rows: Sequence[Row],
    assumptions: Mapping[str, Assumption],
    figures: Sequence[tuple[str, str, str]],
    scenario: Mapping[str, float],
    command: str,
    sub_batches: Sequence[SubBatches] = (),
) -> str:
    """README.md of the report, in Markdown.

    figures: (file stem, title, text) of each. scenario: every claim under the one setting of joint.py, by name.
    command: what writes the report. sub_batches: summaries of several sub-batches of real training.
    """
    lines = _head(rows, command)
    for title, mine in sections(rows).items():
        lines += ["", f"## {title}", "", "| what | ours | theirs | error | verdict |", "|---|---|---|---|---|"]
        lines += [_line(r) for r in mine]
        notes = dict.fromkeys(f"* {r.claim.what}: {r.claim.note}." for r in mine if r.claim.note)
        lines += ["", *notes] if notes else []
    lines += _reading_lines(rows)
    lines += _sub_batch_lines(sub_batches)
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


def chapters(
    rows: Sequence[Row],
    assumptions: Mapping[str, Assumption],
    scenario: Mapping[str, float],
    sub_batches: Sequence[SubBatches] = (),
) -> dict[str, str]:
    """What the page says beside its numbers and figures: title -> Markdown."""
    written = (
        _reading_lines(rows), _sub_batch_lines(sub_batches), _one_value_lines(rows), _scenario_lines(rows, scenario),
        _assumption_lines(rows, assumptions),
    )  # fmt: skip
    found = {}
    for lines in written:
        at = next((n for n, line in enumerate(lines) if line.startswith("## ")), None)
        if at is not None:
            found[lines[at].removeprefix("## ")] = "\n".join(lines[at + 1 :]).strip()
    return found


def _head(rows: Sequence[Row], command: str) -> list[str]:
    return [
        "# H2Learn's evaluation, regenerated",
        "",
        *(line for text in summary(rows) for line in wrap(f"* {text}", LINE, subsequent_indent="  ")),
        "",
        f"This page is written by `{command}`.",
        "A test holds every number of it to what the simulator gives now.",
        "",
        *ABOUT,
        "",
        f"{tally(rows)}.",
        "",
        "![Ours over theirs, with the range of the assumptions](claims.png)",
    ]


def _reading_lines(rows: Sequence[Row]) -> list[str]:
    """Both readings of what an engine is, side by side, for every claim that hangs on it."""
    found = [(row, span) for row in rows for span in row.spans if span.kind == "reading"]
    if not found:
        return []
    judged, other = (found[0][1].values[i][0].removeprefix(DEFAULT) for i in (0, 1))
    lines = [
        "",
        "## Two readings of an engine",
        "",
        "An engine's area and energy can be those of the whole engine, or of its PE array and Acc. One reading has to",
        "hold for both quantities and all engines. Judged is the whole engine: the source states its savings 'in",
        "Forward Engine' and 'in Weight Update Engine', and figure 3.11, which shows them, holds the GLB. Which of the",
        "two fits better is no criterion.",
        "",
        f"| what | theirs | {judged} | so it | {other} | so it |",
        "|---|---|---|---|---|---|",
    ]
    for row, span in found:
        (_, one), (_, two) = span.values
        words = ["agrees" if row.claim.met(value) else "does not" for value in (one, two)]
        lines.append(f"| {row.claim.what} | {theirs(row)} | {number(one)} | {words[0]} | {number(two)} | {words[1]} |")
    return lines


def _sub_batch_lines(found: Sequence[SubBatches]) -> list[str]:
    """What one sub-batch of real training says of others: means and intervals of the committed summaries."""
    if not found:
        return []
    machines = {True: "this page's", False: "another than this page's: make the summary anew"}
    lines = [
        "",
        "## Sub-batches of real training",
        "",
        "A row with masks of real training hangs on one sub-batch of 4. These are means over several sub-batches of",
        f"one run, each with its interval ({INTERVAL}). `reports/sub-batches.sh` trains, traces and runs; its",
        "summaries stand in `workloads/sub-batches`. Whether a neuron fires at its threshold (section 2.2) or only",
        "above it (the authors' code) belongs to the trace, so it is swept by training anew (`NAME-greater`).",
        "",
        "| run | n | Backward Engine, cycles | one differs by | steady cycles | speedup over the V100 | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        backward, steady = one.intervals["backward_compute_cycles"], one.intervals["steady_cycles"]
        lines.append(
            f"| {one.name} ({one.network}) | {backward.n} | {_within(backward)} | "
            f"{backward.deviation / backward.mean:.1%} | {_within(steady)} | {_speedup(one)} | "
            f"{machines[one.current]} |"
        )
    return lines


def _within(found: Interval) -> str:
    return f"{number(found.mean)} ({number(found.low)} to {number(found.high)})"


def _speedup(one: SubBatches) -> str:
    """The V100's time of a sample over ours, from the interval's ends; '-' for a network that it did not run."""
    if one.v100_seconds is None:
        return "-"
    seconds = one.intervals["seconds_per_sample"]
    ends = [one.v100_seconds / value for value in (seconds.mean, seconds.high, seconds.low)]
    return f"{number(ends[0])}x ({number(ends[1])} to {number(ends[2])})"


def _one_value_lines(rows: Sequence[Row]) -> list[str]:
    """Every value that makes a failing test agree, with the tests that it gains and loses."""
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
        "One line for each value of an assumption that makes at least one failing test agree. Gains: the tests that",
        "then agree. Loses: the tests that agreed before and then do not. Only tests that hang on the assumption",
        "count.",
        "",
        "| assumption | value | gains | loses |",
        "|---|---|---|---|",
        *(
            f"| {name} | {label} | {', '.join(gained)} | {', '.join(lost) or 'none'} |"
            for (name, label), gained, lost in shown
        ),
    ]


def _scenario_lines(rows: Sequence[Row], scenario: Mapping[str, float]) -> list[str]:
    """What the one setting gains and loses among the tests, and every claim that it moves by 1 % or more."""
    tests = [r for r in rows if r.claim.kind == "test" and r.name not in FITTED]
    before, after = sum(r.fits for r in tests), sum(r.claim.met(scenario[r.name]) for r in tests)
    lost = [r.claim.what for r in tests if r.fits and not r.claim.met(scenario[r.name])]
    gained = [r.claim.what for r in tests if not r.fits and r.claim.met(scenario[r.name])]
    moved = [r for r in rows if abs(scenario[r.name] - r.ours) >= 0.01 * abs(r.ours)]
    return [
        "",
        "## One setting for all",
        "",
        "The setting that comes nearest to the printed area and power together (see the figure of both) is fitted to",
        "those two numbers. Every other claim tests it.",
        f"Of {len(tests)} other tests {after} fit or hold under this setting, and {before} under the shipped files.",
        f"Gained: {'; '.join(gained) or 'none'}. Lost: {'; '.join(lost) or 'none'}.",
        "So the setting's larger buffers, always on, are not what the printed area holds, or not all of it."
        if len(lost) >= len(gained)
        else "So the setting's larger buffers are a better account of the source's machine than the shipped files.",
        "",
        "Every claim that the setting moves by 1 % or more:",
        "",
        "| what | shipped files | one setting | theirs |",
        "|---|---|---|---|",
        *(f"| {r.claim.what} | {number(r.ours)} | {number(scenario[r.name])} | {theirs(r)} |" for r in moved),
    ]


def _line(row: Row) -> str:
    error = f"{row.error:+.1%}" if row.claim.relation in ("equal", "about") else ""
    return f"| {row.claim.what} | {ours(row)} | {theirs(row)} | {error} | {row.verdict} |"


def _assumption_lines(rows: Sequence[Row], assumptions: Mapping[str, Assumption]) -> list[str]:
    """Every assumption with the three claims that it moves most, and the source of its range."""
    lines = [
        "## What the assumptions move",
        "",
        "The last column names the three claims that an assumption moves most, each with its share: (highest - lowest)",
        "/ theirs, over the values of that assumption alone.",
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
