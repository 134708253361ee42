"""Pictures of a sweep's front: each two objectives, and what the machines on it have in common."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from h2sim.document import significant
from h2sim.document.drawing import legend, panels
from h2sim.document.style import BASE, CLOUD, FRONT, GRADIENT, INK, NOTE_PT
from h2sim.io.names import in_picture
from h2sim.report.sweep_axes import Numbers, ParameterAxis, ResultAxis, bar_ticks
from h2sim.report.sweep_words import base_name
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.pareto import front

MOST_PANELS = 6
MOST_SOLID = 400  # points that are drawn as shapes in vector formats


def cloud_look(n: int) -> dict[str, Any]:
    """How n points are drawn so that few are seen and many do not run together."""
    size = float(np.clip(3000 / max(n, 1), 1.2, 10))
    return {
        "s": size, "color": CLOUD, "alpha": float(np.clip(2000 / max(n, 1), 0.12, 0.8)), "linewidths": 0,
        "rasterized": n > MOST_SOLID, "zorder": 1,
    }  # fmt: skip


def star(name: str) -> Line2D:
    """The base machine in a legend."""
    return Line2D([], [], ls="", marker="*", ms=8, color=BASE.colour, mec="white", mew=0.4, label=in_picture(name))


def pareto_figure(findings: Findings, rows: Sequence[Row], table: str, width_mm: float) -> Figure:
    """A panel for each two objectives: all machines faint, the front in the colour of a third, the base as a star."""
    values = findings.values(rows)
    base = np.array([np.nan if v is None else v for v in map(findings.bases[table].value, findings.directions)])
    axes_of = [ResultAxis.of(n, np.append(values[:, i], base[i])) for i, n in enumerate(findings.directions)]
    pairs = list(combinations(range(len(axes_of)), 2))[:MOST_PANELS]
    figure, every = panels(len(pairs), width_mm, 58.0 if len(axes_of) > 2 else 52.0)
    on_front = front(values, list(findings.directions.values()))
    for panel, (x, y) in zip(every, pairs, strict=True):
        third = next((i for i in range(len(axes_of)) if i not in (x, y)), None)
        _pair(figure, panel, findings, axes_of, values, on_front, base, (x, y, third))
    handles = [
        Line2D([], [], ls="", marker="o", ms=3, color=CLOUD, label="machine"),
        Line2D([], [], ls="", marker="o", ms=4.5, mfc=FRONT.colour, mec=INK, mew=0.4, label="on the front"),
        star(base_name(findings)),
    ]
    if len(axes_of) > 2:
        handles.append(Line2D([], [], color=INK, lw=0.8, label="front of the two"))
    legend(figure, handles, width_mm)
    return figure


def _pair(
    figure: Figure,
    panel: Axes,
    findings: Findings,
    axes_of: Sequence[ResultAxis],
    values: Numbers,
    on_front: Any,
    base: Numbers,
    which: tuple[int, int, int | None],
) -> None:
    x, y, third = which
    across, up = axes_of[x].shown(values[:, x]), axes_of[y].shown(values[:, y])
    panel.scatter(across, up, **cloud_look(len(values)))
    look: dict[str, Any] = {"s": 16, "edgecolors": INK, "linewidths": 0.4, "zorder": 4}
    if third is None:
        panel.scatter(across[on_front], up[on_front], color=FRONT.colour, **look)
    else:
        axis = axes_of[third]
        shown = axis.shown(values[on_front, third])
        norm = _norm(axis.is_log, shown)
        marks = panel.scatter(across[on_front], up[on_front], c=shown, cmap=GRADIENT, norm=norm, **look)
        bar = figure.colorbar(marks, ax=panel, location="top", aspect=30, pad=0.02, label=axis.label)
        bar.outline.set_linewidth(0.4)
        bar_ticks(bar)
    directions = list(findings.directions.values())
    two = front(values[:, [x, y]], [directions[x], directions[y]])
    two = two[np.lexsort((up[two], across[two]))]
    corner = "post" if directions[y] == directions[x] == "minimize" else "pre"
    if directions[x] == directions[y]:
        panel.step(across[two], up[two], where=corner, color=INK, lw=0.8, zorder=3)  # type: ignore[arg-type]
    if np.isfinite(base[[x, y]]).all():
        place = axes_of[x].shown(base[x]), axes_of[y].shown(base[y])
        panel.scatter(*place, marker="*", s=75, color=BASE.colour, edgecolors="white", linewidths=0.5, zorder=5)
    axes_of[x].set(panel, "x")
    axes_of[y].set(panel, "y")


def _norm(is_log: bool, values: Numbers) -> Normalize:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Normalize(low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
    return LogNorm(low, high) if is_log else Normalize(low, high)


def parallel_figure(findings: Findings, rows: Sequence[Row], width_mm: float) -> Figure:
    """The machines of the front as lines through their parameters and objectives, coloured by the first objective."""
    paths = [p for p in findings.varied if len({repr(findings.parameter(p)(row)) for row in rows}) > 1]
    spec = findings.plan.spec.axes
    paths = [path for path in paths if path not in spec or spec[path].derive is None]
    values = findings.values(rows)
    results = [ResultAxis.of(name, values[:, i]) for i, name in enumerate(findings.directions)]
    columns, marks = [], []
    for path in paths:
        axis = ParameterAxis.of(findings, path, rows)
        columns.append(_unit(axis.at, axis.is_log))
        marks.append((axis.label, _parameter_marks(axis)))
    for index, result in enumerate(results):
        shown = result.shown(values[:, index])
        columns.append(_unit(shown, result.is_log))
        marks.append((result.label, [(0.0, significant(shown.min())), (1.0, significant(shown.max()))]))
    figure, (panel,) = panels(1, width_mm, 62.0)
    _lines(figure, panel, np.column_stack(columns), results[0], results[0].shown(values[:, 0]))
    narrow = width_mm / max(1, len(marks)) < 24
    for place, (_, ticks) in enumerate(marks):
        panel.axvline(place, color=INK, lw=0.6, zorder=1)
        for at, text in ticks:
            panel.annotate(
                text, (place, at), (2, 0), textcoords="offset points", fontsize=NOTE_PT, va="center", zorder=5,
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
            )  # fmt: skip
    panel.set_xticks(range(len(marks)), [_name(label, narrow) for label, _ in marks], rotation=90 if narrow else 0)
    panel.set(xlim=(-0.15, len(marks) - 1 + 0.35), ylim=(-0.06, 1.06), yticks=[])
    panel.tick_params(axis="x", length=0)
    panel.spines[:].set_visible(False)
    return figure


def _lines(figure: Figure, panel: Axes, places: Numbers, first: ResultAxis, colour: Numbers) -> None:
    """A line per machine; the best in the first objective lies on top."""
    order = np.argsort(-colour, kind="stable")
    points = np.stack([np.broadcast_to(np.arange(places.shape[1]), places.shape), places], -1)[order]
    norm = _norm(first.is_log, colour)
    alpha = float(np.clip(60 / len(places), 0.15, 0.9))
    lines = LineCollection(list(points), cmap=GRADIENT, norm=norm, linewidths=0.9, alpha=alpha, zorder=2)
    lines.set_array(colour[order])
    lines.set_rasterized(len(places) > MOST_SOLID)
    panel.add_collection(lines)
    bar_ticks(figure.colorbar(ScalarMappable(norm, GRADIENT), ax=panel, label=first.label, aspect=30, pad=0.01))


def _unit(values: Numbers, is_log: bool) -> Numbers:
    """Values from 0 to 1; all 0.5 where there is one."""
    scaled = np.log(values) if is_log else values
    low, high = scaled.min(), scaled.max()
    return (scaled - low) / (high - low) if high > low else np.full(len(scaled), 0.5)


def _parameter_marks(axis: ParameterAxis) -> list[tuple[float, str]]:
    if not axis.is_discrete:
        return [(0.0, significant(axis.at.min())), (1.0, significant(axis.at.max()))]
    n = len(axis.text)
    step = -(-n // 8)
    return [(index / max(1, n - 1), axis.text[index]) for index in range(0, n, step)]


def _name(label: str, narrow: bool) -> str:
    """The unit, and long names, in further lines."""
    name, bracket, unit = label.rpartition(" (")
    if narrow or not bracket:
        return label if narrow else label.replace(" ", "\n", 1) if len(label) > 12 else label
    words = name.split(" ")
    half = -(-len(words) // 2)
    folded = name if len(name) <= 12 else " ".join(words[:half]) + "\n" + " ".join(words[half:])
    return f"{folded.rstrip()}\n({unit}"
