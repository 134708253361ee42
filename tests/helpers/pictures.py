"""What a reader would see wrong in a picture, found with matplotlib's renderer: text that is cut, small or overlaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from h2sim.document.style import LEAST_PT

SLACK = 1.0  # pixels that boxes may share: those of a text have air around


def faults(figure: Figure, is_vector: bool) -> list[str]:
    """Sentences; none where all is well. Draws the figure first, so that its layout is what is written."""
    figure.draw_without_rendering()
    data = [axis for axis in figure.axes if not _is_bar(axis)]
    return [
        *_bad_text(figure), *_overlaps(figure), *_covered(figure, data),
        *(f"no data: panel {index}" for index, axis in enumerate(data) if not _has_data(axis)),
        *_titles(figure, data, is_vector),
    ]  # fmt: skip


def watched(found: list[tuple[str, str]]) -> Callable[..., None]:
    """A `Figure.savefig` that also adds (file format, fault) to a list."""
    original = Figure.savefig

    def savefig(figure: Figure, target: Any, *args: Any, **more: Any) -> None:
        kind = more["format"]
        found.extend((kind, fault) for fault in faults(figure, kind != "png"))
        original(figure, target, *args, **more)

    return savefig


def _is_bar(axis: Axes) -> bool:
    return hasattr(axis, "_colorbar")


def texts(figure: Figure) -> Iterator[Text]:
    """All that is written and seen."""
    hidden = {id(t) for axis in figure.axes for t in _out_of_view(axis)}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            yield text


def _out_of_view(axis: Axes) -> Iterator[Text]:
    """Labels of ticks outside the axis's limits, which matplotlib does not draw, and of panels that are not seen."""
    for one, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        scaled = one.get_transform().transform
        low, high = sorted(scaled(np.array(limits)))
        for tick in (*one.get_major_ticks(), *one.get_minor_ticks()):
            place = scaled(np.array([tick.get_loc()], np.float64))[0]
            if not (low - 1e-9 * (high - low) <= place <= high + 1e-9 * (high - low) and axis.get_visible()):
                yield from (tick.label1, tick.label2)


def _bad_text(figure: Figure) -> Iterator[str]:
    page = figure.bbox
    for text in texts(figure):
        box, said = text.get_window_extent(), repr(text.get_text())
        if float(text.get_fontsize()) < LEAST_PT:
            yield f"{text.get_fontsize()} pt: {said}"
        if float(text.get_rotation()) % 90:
            yield f"aslant: {said}"
        if min(box.x0, box.y0) < -SLACK or box.x1 > page.x1 + SLACK or box.y1 > page.y1 + SLACK:
            yield f"cut: {said}"


def _overlaps(figure: Figure) -> Iterator[str]:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    order = sorted(boxes, key=lambda each: each[1].x0)
    edges = np.array([[b.x0, b.x1, b.y0, b.y1] for _, b in order]).reshape(-1, 4)
    for i, (text, box) in enumerate(order):
        rest = edges[i + 1 :]
        meets = (rest[:, 0] < box.x1 - SLACK) & (rest[:, 2] < box.y1 - SLACK) & (rest[:, 3] > box.y0 + SLACK)
        for j in np.flatnonzero(meets):
            yield f"overlap: {text!r} and {order[i + 1 + j][0]!r}"


def _covered(figure: Figure, data: list[Axes]) -> Iterator[str]:
    """Legends over a panel's data area, and panels over each other."""
    for legend in (*figure.legends, *filter(None, (axis.get_legend() for axis in figure.axes))):
        for axis in data:
            if _meet(legend.get_window_extent(), axis.get_window_extent()):
                yield "a legend over data"
    for a, b in combinations(data, 2):
        if _meet(a.get_window_extent(), b.get_window_extent()):
            yield "panels over each other"


def _meet(a: Bbox, b: Bbox) -> bool:
    return bool(a.x0 < b.x1 - SLACK and b.x0 < a.x1 - SLACK and a.y0 < b.y1 - SLACK and b.y0 < a.y1 - SLACK)


def _has_data(axis: Axes) -> bool:
    lines = [
        line for line in axis.lines if len(np.asarray(line.get_xdata())) > 2 or line.get_marker() not in ("", "None")
    ]
    return bool(axis.patches or axis.images or axis.collections or lines)


def _titles(figure: Figure, data: list[Axes], is_vector: bool) -> Iterator[str]:
    """A picture for a paper has headings over its panels at most, where there are several."""
    if is_vector and figure.get_suptitle():
        yield f"a title: {figure.get_suptitle()!r}"
    for axis in data if len(data) == 1 else []:
        if any(axis.get_title(loc=side) for side in ("left", "center", "right")):
            yield "a title over the only panel"
