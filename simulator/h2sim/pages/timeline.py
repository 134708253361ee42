"""The steady step in time: a picture that needs no script, and every interval for the one that zooms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from h2sim.document import palette
from h2sim.document.markup import Markup, element
from h2sim.document.packed import deflated
from h2sim.document.page import Legend, PagePart, Picture, Prose, Section
from h2sim.document.svg import short, stripes, svg
from h2sim.memory.books import CAUSES, KINDS, Intervals
from h2sim.pages.view import PARTS, SAID, ResultView, RowView, engine_name
from h2sim.rivals.registry import H2LEARN

if TYPE_CHECKING:
    from h2sim.memory.books import Books

MEANINGS = {"dependency": "wait", "memory_read": "read", "memory_write": "write", "compute": "compute", "fill": "fill"}
LANE, LEFT, TOP = 40, 96, 22
BINS = {1000: 300, 400: 120}  # of a picture of so many units across
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Lane:
    """An engine or memory over the step: for each meaning, the share of every bin that it takes."""

    name: str
    shares: dict[str, NDArray[np.float64]]


def timeline_section(view: ResultView, books: Books | None) -> Section:
    """The zoomable timeline where every interval is at hand; else the rows' spans alone."""
    wide, narrow = (_draw(view, list(_lanes(books, bins)) if books else [], width) for width, bins in BINS.items())
    drawn = Picture(wide, narrow)
    legend = (Legend(tuple(SAID.items())),) if books else ()
    parts: list[PagePart] = [Prose(_words(books, view.found.arch.machine)), *legend, drawn]
    if books:
        parts.insert(1, Picture(element("div", id="timeline-zoom", hidden=True)))
    return Section("timeline", "Timeline", "Timeline of a steady step", tuple(parts))


def _words(books: Books | None, machine: str) -> str:
    if books is None and machine != H2LEARN:
        return "The span of every row on its engine."
    if books is None:
        return (
            "The span of every row on its engine. A stored result does not hold what happens within: "
            "`h2sim run --html` draws every interval, and `--timeline` writes them for Perfetto."
        )
    work, moved = len(books.engine_intervals().start), len(books.memory_intervals().start)
    return (
        f"Every interval of the steady period, exact to the cycle: {work:,} of engines, {moved:,} transfers. While an "
        "engine works on this sub-batch's backward pass, the Forward Engine works on the next sub-batch. "
        "Of a memory: red its reads, amber its writes."
    )


def _lanes(books: Books, bins: int) -> Iterator[Lane]:
    edges = np.linspace(0, max(1, books.makespan_cycles), bins + 1)
    causes = tuple(MEANINGS[cause] for cause in CAUSES)
    kinds = tuple(kind.partition("_")[0] for kind in KINDS)
    for names, found, meanings in (
        (books.engines, books.engine_intervals(), causes),
        (books.memories, books.memory_intervals(), kinds),
    ):
        for number, name in enumerate(names):
            yield Lane(name, _binned(found, number, meanings, edges))


def _binned(
    found: Intervals, track: int, meanings: Sequence[str], edges: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """The share of each bin that each meaning takes on a track."""
    shares: dict[str, NDArray[np.float64]] = {}
    for what, meaning in enumerate(meanings):
        mine = (found.track == track) & (found.what == what)
        covered = np.zeros(len(edges))
        for ends, sign in ((found.start[mine], 1.0), (found.end[mine], -1.0)):
            covered += sign * _after(np.sort(ends), edges)
        shares[meaning] = shares.get(meaning, np.zeros(len(edges) - 1)) + np.diff(covered) / np.diff(edges)
    return shares


def _after(times: Ints, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each edge, the sum over times before it of (edge - time)."""
    number = np.searchsorted(times, edges, side="left")
    sums = np.concatenate([[0.0], np.cumsum(times, dtype=np.float64)])
    return np.asarray(number * edges - sums[number], np.float64)


def _draw(view: ResultView, lanes: Sequence[Lane], width: int) -> Markup:
    """Lanes of shares, or of the rows' spans alone; each row's span is a link to it."""
    names = [lane.name for lane in lanes] or view.engines
    step, room = max(1, view.cycles or 1), width - LEFT - 4
    height = TOP + LANE * len(names) + 4
    parts: list[Markup] = list(_ruler(step, room, height, 8 if width > 600 else 3))
    for number, name in enumerate(names):
        y = TOP + LANE * number
        parts.append(element("text", _lane_name(name), x=4, y=y + LANE / 2 + 3))
        if lanes:
            parts += _stacked(lanes[number], y + 3, LANE - 8, room)
        parts += _spans([row for row in view.rows if row.row.engine == name], y + 3, step, room, bool(lanes))
    label = "Engines and memories over one steady step; the table of layers has the same numbers"
    return svg(width, height, label, *parts, interactive=True)


def _lane_name(name: str) -> str:
    return engine_name(name)


def _ruler(step: int, room: float, height: float, most: int) -> Iterator[Markup]:
    unit = next(u for e in range(20) for u in (10**e, 2 * 10**e, 5 * 10**e) if step / u <= most)
    for cycle in range(0, step + 1, unit):
        x = LEFT + room * cycle / step
        yield element("line", x1=x, x2=x, y1=TOP - 4, y2=height, class_="grid")
        anchor = "end" if x > LEFT + room - 40 else "middle" if cycle else "start"
        yield element("text", short(cycle) if cycle else "cycle 0", x=x, y=12, text_anchor=anchor, class_="q")


def _stacked(lane: Lane, y: float, height: float, room: float) -> Iterator[Markup]:
    """Each bin from its bottom up: compute first, then what it waited for."""
    bins = len(next(iter(lane.shares.values())))
    width = room / bins
    x = LEFT + width * (np.arange(bins) + 0.5)
    below = np.zeros(bins)
    for meaning in PARTS:
        found = lane.shares.get(meaning, np.zeros(bins))
        share = np.where(found > 0.002, found, 0.0)
        top = y + height * (1 - below - share)
        some = share > 0
        if some.any():
            at, high, long = (each[some].round(1).tolist() for each in (x, top, height * share))
            yield stripes(at, high, long, width + 0.1, meaning)
        below = below + share


def _spans(rows: Sequence[RowView], y: float, step: int, room: float, over: bool) -> Iterator[Markup]:
    """A frame around each row's time, with its name where it fits."""
    for each in rows:
        start, cycles = each.row.start_cycle, each.cycles
        if start is None or cycles is None:
            continue
        x, wide = LEFT + room * start / step, max(room * cycles / step, 0.8)
        said = element("title", f"{each.name}: cycles {start:,} to {start + cycles:,}")
        shape = {"x": x, "y": y, "width": wide, "height": LANE - 8}
        filled = "job" if over else f"job over f-{each.row.engine if each.row.engine in palette.MEANINGS else 's0'}"
        box = element("rect", said, class_=filled, **shape)
        fits = wide > 6.4 * len(each.brief) + 6
        name = element("text", each.brief, x=x + 4, y=y + LANE / 2, class_="halo") if fits else None
        yield element("a", box, name, href=f"#{each.key}")


def timeline_data(view: ResultView, books: Books) -> dict[str, Any]:
    """All intervals, packed: for each track in turn, gaps and lengths as variable-length integers, deflated."""
    keys = {(each.row.layer, each.row.phase): number for number, each in enumerate(view.rows)}
    rows = np.array([keys[job.key] for job in books.jobs], np.int64)
    tracks: list[dict[str, Any]] = []
    numbers: list[Ints] = []
    for kind, names, found in (
        ("engine", books.engines, books.engine_intervals()),
        ("memory", books.memories, books.memory_intervals()),
    ):
        for number, name in enumerate(names):
            mine = found.track == number
            start, end = found.start[mine], found.end[mine]
            gap = start - np.concatenate([[0], end[:-1]])
            columns = [rows[found.job[mine]], found.what[mine], gap, end - start]
            numbers.append(np.stack([*columns, found.n_bytes[mine]] if kind == "memory" else columns, axis=1).ravel())
            tracks.append({"name": _lane_name(name), "kind": kind, "count": int(mine.sum())})
    return {
        "timeline": {
            "cycles": books.makespan_cycles,
            "clock": view.found.step.clock_hz,
            "tracks": tracks,
            "rows": [_span(books, each) for each in view.rows],
            "causes": [MEANINGS[cause] for cause in CAUSES],
            "kinds": [kind.partition("_")[0] for kind in KINDS],
            "words": [SAID[MEANINGS[cause]] for cause in CAUSES],
            "moves": [kind.replace("_", " of ") for kind in KINDS],
            "packed": _packed(np.concatenate(numbers) if numbers else np.zeros(0, np.int64)),
        }
    }


def _span(books: Books, each: RowView) -> list[Any]:
    """Key, name, first cycle, end and track of a row."""
    start = each.row.start_cycle or 0
    return [each.key, each.name, start, start + (each.cycles or 0), books.engines.index(each.row.engine)]


def _packed(numbers: Ints) -> str:
    """Numbers of at least 0, seven bits a byte, the lowest first; deflated."""
    if numbers.size and numbers.min() < 0:
        raise ValueError("expected intervals of a track in the order of time")
    out = bytearray()
    for number in numbers.tolist():
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return deflated(bytes(out))
