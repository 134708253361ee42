"""Pictures of a sweep along its parameters: one axis, two axes, and what each explains."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from h2sim.document.drawing import bars, folded, legend, name_rows, note, panels, swatch
from h2sim.document.style import BASE, CLOUD, FAINT, FRONT, GRADIENT, HATCHES, LABEL_PT, MEDIAN, NOTE_PT, SERIES, Look
from h2sim.report.sweep_axes import Numbers, ParameterAxis, ResultAxis, bar_ticks, parameter_name, result_name
from h2sim.report.sweep_fronts import cloud_look, star
from h2sim.report.sweep_words import base_name
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.importance import Importance

MOST_SLICES = 12  # panels of one figure
MOST_TOLD = 8  # cells a side in which numbers stand


def slice_figure(
    findings: Findings, rows: Sequence[Row], table: str, objective: str, paths: Sequence[str], width_mm: float
) -> Figure:
    """A panel per parameter: an objective of all machines, and the best and the median at each value."""
    values = np.array([row.value(objective) for row in rows], np.float64)
    base = findings.bases[table].value(objective)
    result = ResultAxis.of(objective, np.append(values, np.nan if base is None else base))
    shown = result.shown(values)
    figure, every = panels(min(len(paths), MOST_SLICES), width_mm, 46.0, narrow=2)
    best = np.max if findings.directions.get(objective) == "maximize" else np.min
    for panel, path in zip(every, paths, strict=False):
        axis = ParameterAxis.of(findings, path, rows)
        panel.scatter(axis.at, shown, **cloud_look(len(rows)))
        taken = [g for g in range(len(axis.centre)) if (axis.group == g).any()]
        for reduce, colour, mark in ((np.median, MEDIAN.colour, "s"), (best, FRONT.colour, "o")):
            line = [float(reduce(shown[axis.group == g])) for g in taken]
            panel.plot(axis.centre[taken], line, color=colour, marker=mark, ms=3, lw=1.1, zorder=3)
        at = axis.where(findings, findings.bases[table])
        if base is not None and at is not None:
            panel.scatter(
                at, result.shown(base), marker="*", s=60, color=BASE.colour, edgecolors="white", lw=0.5, zorder=5
            )
        axis.set(panel, "x")
        result.set(panel, "y")
        panel.set_ylabel("")
    figure.supylabel(result.label, fontsize=LABEL_PT)
    legend(
        figure,
        [
            Line2D([], [], ls="", marker="o", ms=3, color=CLOUD, label="machine"),
            Line2D([], [], color=FRONT.colour, marker="o", ms=3, lw=1.1, label="best"),
            Line2D([], [], color=MEDIAN.colour, marker="s", ms=3, lw=1.1, label="median"),
            star(base_name(findings)),
        ],
        width_mm,
    )
    return figure


def map_figure(findings: Findings, rows: Sequence[Row], table: str, pair: tuple[str, str], width_mm: float) -> Figure:
    """A panel per objective: its best value over all machines with each two values of two parameters."""
    names = list(findings.directions)[:MOST_SLICES]
    figure, every = panels(len(names), width_mm, 58.0)
    across, up = (ParameterAxis.of(findings, path, rows) for path in pair)
    at = across.where(findings, findings.bases[table]), up.where(findings, findings.bases[table])
    for panel, name in zip(every, names, strict=True):
        values = np.array([row.value(name) for row in rows], np.float64)
        result = ResultAxis.of(name, values)
        best = _best(across, up, result.shown(values), findings.directions[name] == "maximize")
        _map(figure, panel, across, up, result, best, at)
        if at[0] is not None and at[1] is not None:
            panel.scatter(at[0], at[1], marker="*", s=70, color=BASE.colour, edgecolors="white", lw=0.6, zorder=5)
    if None not in at:
        legend(figure, [star(f"values of {base_name(findings)}")], width_mm)
    return figure


def _best(across: ParameterAxis, up: ParameterAxis, values: Numbers, most: bool) -> Numbers:
    """(groups of up, groups of across): the best value of each cell, NaN where there is no machine."""
    found = np.full((len(up.centre), len(across.centre)), -np.inf if most else np.inf)
    (np.maximum if most else np.minimum).at(found, (up.group, across.group), values)
    found[~np.isfinite(found)] = np.nan
    return found


def _map(
    figure: Figure,
    panel: Axes,
    across: ParameterAxis,
    up: ParameterAxis,
    result: ResultAxis,
    best: Numbers,
    base: tuple[float | None, float | None],
) -> None:
    """base: the place of its star, below which a number goes."""
    low, high = float(np.nanmin(best)), float(np.nanmax(best))
    is_log = low > 0 and high / low > 20
    norm = LogNorm(low, high) if is_log else Normalize(low, high if high > low else low + abs(low or 1))
    colours = matplotlib.colormaps[GRADIENT].with_extremes(bad=FAINT)
    image = panel.pcolormesh(
        across.edges, up.edges, np.ma.masked_invalid(best), cmap=colours, norm=norm, edgecolors="white", linewidth=0.3
    )
    panel.set_facecolor(FAINT)
    across.set(panel, "x")
    up.set(panel, "y")
    panel.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panel, location="top", aspect=30, pad=0.02, label=f"best {result.label}")
    bar.outline.set_linewidth(0.4)
    bar_ticks(bar)
    if max(best.shape) <= MOST_TOLD and across.is_discrete and up.is_discrete:
        for (row, column), value in np.ndenumerate(best):
            if np.isfinite(value):
                place = float(across.centre[column]), float(up.centre[row])
                panel.annotate(
                    f"{value:.3g}", place, (0, -8.5 if place == base else 0), textcoords="offset points",
                    ha="center", va="center", fontsize=NOTE_PT, color="white" if norm(value) < 0.55 else "black",
                )  # fmt: skip


def importance_figure(findings: Findings, found: Sequence[Importance], width_mm: float) -> Figure:
    """A bar per parameter and objective: the share of the variance; the most important parameter on top."""
    names = {effect.parameter: parameter_name(findings, effect.parameter) for effect in found[0].effects}
    known = [effect.parameter for effect in found[0].effects if effect.n_values > 1]
    shares = {path: [_share(each, path) for each in found] for path in known}
    order = sorted(known, key=lambda path: (-max(shares[path]), path))
    rows: list[tuple[str, Sequence[float]]] = [(names[p], shares[p]) for p in order]
    if found[0].rest is not None:
        rows.append(("(interactions)", [each.rest or 0.0 for each in found]))
    height = 4.2 * len(found) * len(rows) ** 0.9 + 20
    figure, (panel,) = panels(1, width_mm, height)
    thick, looks = 0.8 / len(found), tuple(map(Look, SERIES, HATCHES))
    for index in range(len(found)):
        at = np.arange(len(rows)) + (index - (len(found) - 1) / 2) * thick
        widths = [100 * row[index] for _, row in rows]
        bars(panel, at, widths, looks[index % len(looks)], height=thick * 0.92)
        for place, width in zip(at, widths, strict=True):
            note(panel, f"{width:.0f}", (width, place))
    name_rows(panel, [name for name, _ in rows])
    most = max((max(shown) for _, shown in rows), default=1.0)
    panel.set(
        xlim=(0, min(105.0, 115 * max(most, 0.1))),
        xlabel=folded("share of the variance that it explains alone (%)", 0.6 * width_mm),
    )
    entries = [swatch(looks[i % len(looks)], result_name(each.objective)) for i, each in enumerate(found)]
    legend(figure, entries, width_mm)
    return figure


def _share(found: Importance, path: str) -> float:
    return next(effect.share or 0.0 for effect in found.effects if effect.parameter == path)
