"""The page of the reproduction: every number of the source beside ours, what each hangs on, and the figures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from h2sim.document.markup import Markup, element
from h2sim.document.page import Folded, Legend, Page, PagePart, Picture, Prose, Section, Tile
from h2sim.document.svg import LogAxis, short, svg
from h2sim.document.values import Cell, Column, Line, Number, Table
from h2sim.reproduce.claims import Assumption
from h2sim.reproduce.page import ABOUT, chapters
from h2sim.reproduce.sensitivity import APART, DEFAULT, VERDICTS, Row
from h2sim.reproduce.summary import counts, number, ours, sections, summary, tally, theirs

if TYPE_CHECKING:
    import pandas as pd

    from h2sim.reproduce.report import Reproduction

ASIDE = "Choose a claim in the picture or the table: what it becomes under every assumption stands here."
FigureShown = tuple[str, str, str, bytes]  # stem, title, text, PNG
MOST_ROWS = 200  # of a figure's numbers on the page; all are in its CSV file
NAMES = {  # of the chapters that are Markdown, in the bar of sections
    "Two readings": "Readings",
    "What one changed": "One value",
    "One setting": "One setting",
    "What the assumptions": "Assumptions",
    "Sub-batches": "Sub-batches",
}
MOST_WORDS = 54  # letters of a claim in the picture
LEVEL = 15  # units of a claim's line in the picture


def reproduce_page(found: Reproduction, figures: Sequence[FigureShown]) -> Page:
    """figures: stem, title, text and PNG of each."""
    first, *more = summary(found.rows)
    return Page(
        title="H2Learn's evaluation, regenerated",
        subtitle="'theirs' is what the source prints, 'ours' what the simulator gives; written by h2sim reproduce",
        verdict=first,
        badge="SYNTHETIC masks",
        tiles=tuple(Tile(verdict, str(n), "tests") for verdict, n in counts(found.rows).items() if n),
        sections=tuple(_sections(found, more, figures)),
        aside=ASIDE,
    )


def _sections(found: Reproduction, more: Sequence[str], figures: Sequence[FigureShown]) -> Iterator[Section]:
    about = Folded("What the words mean", (Prose("\n".join(ABOUT)),))
    yield Section("summary", "Summary", "In words", (*map(Line, more), Line(f"{tally(found.rows)}."), about))
    yield _overview(found.rows)
    yield _numbers(found.rows)
    yield Section("figures", "Figures", "Figures", tuple(part for each in figures for part in _figure(found, *each)))
    told = chapters(found.rows, found.assumptions, found.scenario, found.sub_batches)
    for n, (title, text) in enumerate(told.items()):
        name = next((name for start, name in NAMES.items() if title.startswith(start)), title)
        yield Section(f"chapter-{n}", name, title, (Prose(text),))
    details = [
        Folded(row.claim.what, tuple(_details(row, found.assumptions)), key=f"claim-{row.name}") for row in found.rows
    ]
    yield Section("details", "Details", "Every claim in full", tuple(details))


def _overview(rows: Sequence[Row]) -> Section:
    """Ours over theirs of every test with a number, with the range over its assumptions."""
    shown = [r for r in rows if r.claim.relation in ("equal", "about") and r.claim.kind == "test" and r.ours > 0]
    head = Prose(
        "Ours over theirs, each claim a line; the band is within 5 %. The bar is the range over all values of each "
        "assumption alone, bounds left out."
    )
    legend = Legend((("better", "fits"), ("worse", "does not fit"), ("wait", "range over the assumptions")))
    picture = Picture(_draw(shown, 960, 330), _draw(shown, 380, 10))
    return Section("overview", "Overview", "Ours over theirs", (head, legend, picture))


def _draw(rows: Sequence[Row], width: int, left: int) -> Markup:
    """left: room for the claims' words; where there is none, they stand above their lines."""
    step = LEVEL if left > 100 else 2 * LEVEL
    height = step * len(rows) + 40
    ratios = [value for row in rows for value in _range(row)]
    axis = LogAxis.of([*ratios, 0.9, 1.1], left, width - 12, margin=0.02)
    parts = [
        element(
            "rect",
            x=axis.at(0.95),
            y=0,
            width=axis.at(1.05) - axis.at(0.95),
            height=height - 34,
            class_="area f-better",
        )
    ]
    for tick in axis.ticks():
        parts.append(element("line", x1=axis.at(tick), x2=axis.at(tick), y1=0, y2=height - 34, class_="grid"))
        parts.append(element("text", short(tick), x=axis.at(tick), y=height - 20, text_anchor="middle", class_="q"))
    parts.append(element("text", "ours / theirs", x=(left + width) / 2, y=height - 5, text_anchor="middle", class_="q"))
    for n, row in enumerate(rows):
        parts.append(_line(row, axis, step * n + step - 5, left))
    return svg(width, height, "Ours over theirs for every test; the table has the numbers", *parts, interactive=True)


def _range(row: Row) -> list[float]:
    """Ours over theirs, and its ends over the assumptions."""
    swept = [span for span in row.spans if span.kind not in APART]
    ends = [value / row.claim.theirs for span in swept for value in (span.low, span.high) if value > 0]
    return [row.ours / row.claim.theirs, *([min(ends), max(ends)] if ends else [])]


def _line(row: Row, axis: LogAxis, y: float, left: int) -> Markup:
    mine, *ends = _range(row)
    words = row.claim.what if len(row.claim.what) < MOST_WORDS else f"{row.claim.what[: MOST_WORDS - 3]}..."
    place = {"x": left - 8, "y": y + 3, "text_anchor": "end"} if left > 100 else {"x": 4, "y": y - LEVEL + 3}
    said = element("title", f"{row.claim.what}: ours {ours(row)}, theirs {theirs(row)}; {row.verdict}")
    bar = (
        element(
            "rect",
            x=axis.at(ends[0]),
            y=y - 2.5,
            width=max(1, axis.at(ends[1]) - axis.at(ends[0])),
            height=5,
            class_="f-wait",
        )
        if ends
        else None
    )
    dot = element("circle", cx=axis.at(mine), cy=y, r=4.5, class_=f"dot f-{'better' if row.fits else 'worse'}")
    return element("a", said, element("text", words, **place), bar, dot, href=f"#claim-{row.name}")


def _numbers(rows: Sequence[Row]) -> Section:
    """Every claim in one table, to sort and to filter by verdict."""
    named = [(title, row) for title, mine in sections(rows).items() for row in mine]
    columns = (
        Column("what", prose=True), Column("part", drop=1), Column("ours", right=True), Column("theirs", right=True),
        Column("error", right=True, drop=2), Column("verdict"),
    )  # fmt: skip
    table = Table(
        "", columns, tuple(_row(title, row) for title, row in named), keys=tuple(f"claim-{r.name}" for _, r in named)
    )
    choice = Picture(element("div", data_filter="numbers", data_column="5", data_words="Show", hidden=True))
    return Section("numbers", "Numbers", "Every number", (choice, table))


def _row(title: str, row: Row) -> tuple[Cell, ...]:
    kind = next((verdict for verdict in VERDICTS if row.verdict.startswith(verdict)), row.verdict)
    equal = row.claim.relation in ("equal", "about")
    error = Number(f"{row.error:+.1%}", abs(row.error)) if equal else Number("-", None)
    part = title.split(" (")[0]
    return row.claim.what, part, ours(row), theirs(row), error, kind


def _details(row: Row, assumptions: Mapping[str, Assumption]) -> Iterator[PagePart]:
    """A claim under every value of each assumption that it hangs on."""
    yield Line(f"ours {ours(row)}, theirs {theirs(row)} ({row.claim.where}): {row.verdict}")
    if row.claim.note:
        yield Line(row.claim.note)
    for span in row.spans:
        rows = tuple(
            (label.removeprefix(DEFAULT), number(value), "yes" if row.claim.met(value) else "no")
            for label, value in span.values
        )
        title = f"{span.assumption}: {assumptions[span.assumption].what}"
        yield Table(title, (Column("value"), Column("ours", right=True), Column("agrees")), rows)


def _figure(found: Reproduction, stem: str, title: str, text: str, png: bytes) -> Iterator[PagePart]:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    yield Picture(element("h3", title))
    yield Line(text)
    yield Picture(element("img", src=source, alt=f"{title}; its numbers stand below", class_="figure"))
    if stem in found.tables:
        yield Folded(f"Numbers of {title}", (_frame(found.tables[stem], stem),))


def _frame(frame: pd.DataFrame, stem: str) -> Table:
    shown = frame.head(MOST_ROWS)
    columns = tuple(Column(str(name), right=frame[name].dtype.kind in "if") for name in frame.columns)
    rows = tuple(tuple(_cell(value) for value in row) for row in shown.itertuples(index=False))
    left = (f"the first {MOST_ROWS} rows of {len(frame):,}; all are in {stem}.csv",) if len(frame) > len(shown) else ()
    return Table("", columns, rows, left)


def _cell(value: object) -> Cell:
    if isinstance(value, float):
        return Number("-", None) if value != value else Number(number(value), value)
    return str(value)
