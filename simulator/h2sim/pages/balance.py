"""Compute against memory: the array's cycles of each row beside those that its bytes take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from h2sim.document.markup import Markup, element
from h2sim.document.page import Legend, Picture, Prose, Section
from h2sim.document.svg import LogAxis, axes, svg
from h2sim.pages.view import ResultView, engine_name

MOST_LABELS = 12  # names beside points; every other name is in the table and under the pointer
NAMES = ("cycles of transfers", "cycles of compute")
LETTER = 6.2  # units of a letter of a label


@dataclass(frozen=True)
class Point:
    """A row with both of its lengths, and the share of the step that it holds up."""

    key: str
    name: str
    engine: str
    transfers: int
    compute: int
    share: float


def balance_section(view: ResultView) -> Iterator[Section]:
    """A point a row; nothing where no row has both compute and transfers."""
    points = _points(view)
    if not points:
        return
    head = Prose(
        "A point above the diagonal computes longer than its transfers take on the memory that it loads most; below, "
        "memory holds it. The larger a point, the more of the step it holds up. Named are those that hold up most."
    )
    engines = [name for name in view.engines if any(point.engine == name for point in points)]
    legend = Legend(tuple((name, f"{engine_name(name)} Engine") for name in engines))
    picture = Picture(_draw(points, 960, 440), _draw(points, 380, 400))
    yield Section("balance", "Balance", "Compute or memory bound?", (head, picture, legend))


def _points(view: ResultView) -> list[Point]:
    most, step = view.busiest_memory_cycles(), view.cycles or 1
    found = []
    for each in view.rows:
        transfers, compute = most.get((each.row.layer, each.row.phase), 0), each.row.compute_cycles or 0
        if transfers and compute:
            share = (each.row.critical_cycles or 0) / step
            found.append(Point(each.key, each.brief, each.row.engine, transfers, compute, share))
    return found


def _draw(points: Sequence[Point], width: int, height: int) -> Markup:
    """Both axes have the same numbers, so that the diagonal is where compute and transfers are equal."""
    both = [float(value) for p in points for value in (p.transfers, p.compute)]
    across, up = LogAxis.of(both, 58, width - 12), LogAxis.of(both, height - 40, 12)
    drawn = [element("a", _dot(p, across, up), href=f"#{p.key}") for p in sorted(points, key=lambda p: -p.share)]
    label = (
        "Cycles of compute against cycles of transfers, a point a layer and phase; the table of layers has the numbers"
    )
    parts = [*_sides(across, up), *axes(across, up, height, NAMES), *drawn, *_labels(points, across, up)]
    return svg(width, height, label, *parts, interactive=True)


def _dot(point: Point, across: LogAxis, up: LogAxis) -> Markup:
    said = (
        f"{point.name}: compute {point.compute:,}, transfers {point.transfers:,} cycles; "
        f"holds up {point.share:.1%} of the step"
    )
    place = {"cx": across.at(point.transfers), "cy": up.at(point.compute), "r": _radius(point)}
    return element("circle", element("title", said), class_=f"dot f-{point.engine}", **place)


def _radius(point: Point) -> float:
    return 4.5 + 12 * math.sqrt(point.share)


def _sides(across: LogAxis, up: LogAxis) -> Iterator[Markup]:
    """The half where memory holds a row, the half where the array does, and the line between."""
    x0, x1, y0, y1 = across.start, across.end, up.start, up.end
    yield element("path", d=f"M{x0} {y0}L{x1} {y0}L{x1} {y1}Z", class_="area f-read")
    yield element("path", d=f"M{x0} {y0}L{x0} {y1}L{x1} {y1}Z", class_="area f-compute")
    yield element("line", x1=x0, y1=y0, x2=x1, y2=y1, class_="axis", stroke_dasharray="4 4")
    yield element("text", "memory bound", x=x1 - 6, y=y0 - 8, text_anchor="end", class_="q")
    yield element("text", "compute bound", x=x0 + 6, y=y1 + 13, class_="q")


def _labels(points: Sequence[Point], across: LogAxis, up: LogAxis) -> Iterator[Markup]:
    """Names of the points that hold up most, where they have room beside all points and other names."""
    taken = [_box(across.at(p.transfers), up.at(p.compute), _radius(p)) for p in points]
    for point in sorted(points, key=lambda p: -p.share)[:MOST_LABELS]:
        x, y, r, wide = across.at(point.transfers), up.at(point.compute), _radius(point), LETTER * len(point.name)
        for dx, dy, anchor in (
            (r + 3, 4.0, "start"),
            (-r - 3, 4.0, "end"),
            (0.0, -r - 5, "middle"),
            (0.0, r + 13, "middle"),
        ):
            left = x + dx - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
            box = (left, y + dy - 10, left + wide, y + dy + 3)
            inside = box[0] > across.start and box[2] < across.end and box[1] > up.end and box[3] < up.start
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield element("text", point.name, x=x + dx, y=y + dy, text_anchor=anchor, class_="halo")
                break


Box = tuple[float, float, float, float]


def _box(x: float, y: float, r: float) -> Box:
    return x - r, y - r, x + r, y + r


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
