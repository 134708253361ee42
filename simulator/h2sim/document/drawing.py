"""What all pictures are drawn with: figures of an exact width, rows of bars, legends beside the data, plain ticks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from h2sim.document.style import (
    AXIS_PT,
    DPI,
    FONT,
    HATCH_PT,
    LABEL_PT,
    LINE_PT,
    NOTE_PT,
    TICK_PT,
    TITLE_PT,
    WIDE_MM,
    Look,
)
from h2sim.document.style import WHITE as EDGE

MM_PER_INCH, PT_PER_MM = 25.4, 72 / 25.4
MOST_MM = 2000.0  # matplotlib draws at most 65,536 pixels a side
ROW_MM, AROUND_MM = 3.4, 11.0  # of a row of bars, and of what stands around a panel of them
LINE_MM = 3.6  # of a legend
LETTER = 0.56  # mean width of a letter, of its size
STEPS = [1, 2, 2.5, 5, 10]  # between ticks
_LOOK: Any = {
    "font.family": FONT, "font.size": LABEL_PT, "axes.labelsize": LABEL_PT, "axes.titlesize": LABEL_PT,
    "xtick.labelsize": TICK_PT, "ytick.labelsize": TICK_PT, "legend.fontsize": TICK_PT, "figure.titlesize": TITLE_PT,
    "axes.linewidth": AXIS_PT, "xtick.major.width": AXIS_PT, "ytick.major.width": AXIS_PT, "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4, "xtick.major.size": 2.5, "ytick.major.size": 2.5, "lines.linewidth": LINE_PT,
    "lines.markersize": 3.0, "hatch.linewidth": HATCH_PT, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "figure.dpi": DPI, "text.hinting": "none",
    "svg.hashsalt": "h2sim", "svg.fonttype": "path", "pdf.fonttype": 42,
}  # fmt: skip


@contextmanager
def one_look() -> Iterator[None]:
    """A block in which figures are made and written in the house's style, whatever the user's own settings are."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": "agg"}), matplotlib.rc_context(_LOOK):
        yield


def panels(
    n: int, width_mm: float, heights_mm: float | Sequence[float], *, most: int = 3, narrow: int = 1, **more: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of a width with n panels: up to `most` beside each other, in a column of a paper up to `narrow`.

    heights_mm: of each panel, with what stands around it; panels of one row are as high as the highest of them.
    """
    columns = min(n, (most if n != 4 else min(most, 2)) if width_mm >= WIDE_MM else narrow)
    each = [heights_mm] * n if isinstance(heights_mm, int | float) else list(heights_mm)
    rows = [max(each[i : i + columns]) for i in range(0, n, columns)]
    height = min(sum(rows), MOST_MM)
    apart = ConstrainedLayoutEngine(w_pad=1.5 / MM_PER_INCH)
    figure = Figure(figsize=(width_mm / MM_PER_INCH, height / MM_PER_INCH), layout=apart)
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows, **more)
    every = list(grid.flat)
    for axis in every[n:]:
        axis.remove()
    return figure, every[:n]


def bars_mm(n_rows: int, n_groups: int = 1) -> float:
    """Height of a panel of so many rows of bars."""
    return n_rows * ROW_MM * (0.5 + 0.5 * n_groups) + AROUND_MM


def name_rows(axis: Axes, labels: Sequence[str], *, told: bool = True) -> None:
    """A label for each row, the first on top; where there is no room for all, every second, third and so on.

    told: whether they are written; a panel beside another one of the same rows leaves them out.
    """
    every = max(1, round(len(labels) * ROW_MM / MOST_MM))
    places = range(0, len(labels), every)
    axis.set_yticks(places, [labels[i] if told else "" for i in places])
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)


def stacked(axis: Axes, parts: Mapping[str, tuple[Look, ArrayLike]]) -> None:
    """A bar for each row, made of parts that follow each other."""
    left: Any = 0.0
    for label, (look, values) in parts.items():
        bars(axis, np.arange(np.size(values)), values, look, left=left, height=0.7, label=label)
        left = left + np.asarray(values, np.float64)


def grouped(axis: Axes, parts: Mapping[str, tuple[Look, ArrayLike]], left: float = 0.0) -> None:
    """For each row a bar of each group, one below the other. left: where bars begin, 1 for ratios."""
    apart = 0.84 / len(parts)
    for number, (label, (look, values)) in enumerate(parts.items()):
        at = np.arange(np.size(values)) + apart * (number - (len(parts) - 1) / 2)
        bars(axis, at, np.asarray(values, np.float64) - left, look, left=left, height=0.92 * apart, label=label)


def bars(axis: Axes, at: Any, values: Any, look: Look, **more: Any) -> None:
    """Horizontal bars of one look."""
    axis.barh(at, values, color=look.colour, hatch=look.hatch, edgecolor=EDGE, linewidth=0.3, **more)


def line_look(look: Look, **more: Any) -> dict[str, Any]:
    """A line's colour, dash and marker."""
    return {"color": look.colour, "linestyle": look.dash, "marker": look.marker, **more}


def swatch(look: Look, label: str) -> Patch:
    """A bar's entry of a legend."""
    return Patch(facecolor=look.colour, hatch=look.hatch, edgecolor=EDGE, linewidth=0.3, label=label)


def stroke(look: Look, label: str, **more: Any) -> Line2D:
    """A line's entry of a legend."""
    return Line2D([], [], **line_look(look, label=label, **more))


def legend(figure: Figure, entries: Sequence[Artist], width_mm: float) -> None:
    """A legend below all panels, with as many columns as the width has room for."""
    longest = max(len(str(entry.get_label())) for entry in entries)
    room = int(width_mm * PT_PER_MM / (longest * LETTER * TICK_PT + 5 * TICK_PT))
    columns = max(1, min(room, len(entries)))
    lines = -(-len(entries) // columns)
    even = -(-len(entries) // lines)  # as many in each line
    grow(figure, lines * LINE_MM + 1)
    figure.legend(handles=list(entries), loc="outside lower center", ncols=even, frameon=False)


def grow(figure: Figure, more_mm: float) -> None:
    """Makes a figure higher, so that what is added leaves the panels their size."""
    figure.set_figheight(figure.get_figheight() + more_mm / MM_PER_INCH)


def headline(figure: Figure, text: str, width_mm: float) -> None:
    """A title above all panels, in as many lines as it needs."""
    written = folded(text, width_mm, TITLE_PT)
    figure.suptitle(written, x=0.01, ha="left")
    grow(figure, (written.count("\n") + 1) * LINE_MM * TITLE_PT / TICK_PT)


def folded(text: str, width_mm: float, size_pt: float = LABEL_PT) -> str:
    """Text in lines that a width has room for."""
    return textwrap.fill(text, max(8, int(width_mm * PT_PER_MM / (LETTER * size_pt))))


def note(axis: Axes, text: str, place: tuple[float, float], offset: tuple[float, float] = (2, 0), **more: Any) -> None:
    """A small text beside a point; offset in points."""
    about = {"ha": "left", "va": "center", "fontsize": NOTE_PT, **more}
    axis.annotate(text, place, offset, textcoords="offset points", **about)


def few(axis: Axis, most: int = 5) -> None:
    """At most so many ticks, at round numbers."""
    axis.set_major_locator(MaxNLocator(most, steps=STEPS))


def whole(axis: Axis, most: int = 6) -> None:
    """Ticks at whole numbers alone."""
    axis.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))


def logarithmic(axes: Axes, which: str, most: int = 6) -> None:
    """A logarithmic axis with numbers written out: at 1, 2, 5, 10 and so on, where there is room for so many."""
    axes.set(**{f"{which}scale": "log"})
    log_ticks(axes, which, most)


def log_ticks(axes: Axes, which: str, most: int = 6) -> None:
    """Numbers at an axis that is logarithmic already."""
    axis: Axis = getattr(axes, f"{which}axis")
    low, high = sorted(getattr(axes, f"get_{which}lim")())
    decades = np.log10(high / low)
    subs = (1.0, 2.0, 5.0) if 3 * decades <= most else (1.0, 3.0) if 2 * decades <= most else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=most))
    plain = high <= 1e5 and low >= 1e-3
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}") if plain else LogFormatterMathtext())
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(FixedLocator([]))


def doubling(axes: Axes, which: str, values: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are powers of two within the values, written out: 1, 2, 4 and so on."""
    low, high = np.log2(min(values)), np.log2(max(values))
    exponents = np.arange(np.ceil(low - 1e-9), np.floor(high + 1e-9) + 1)
    every = -(-len(exponents) // 9)
    ticks = [2.0**e for e in exponents[::every]]
    axis: Axis = getattr(axes, f"{which}axis")
    axes.set(**{f"{which}scale": "log"})
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(FixedLocator([]))
