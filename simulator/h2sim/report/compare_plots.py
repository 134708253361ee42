"""Plots of comparisons: the step's ratios as figure 3.15, the layers' as figure 3.14b."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from h2sim.compare.ratios import Comparison
from h2sim.document import times
from h2sim.document.drawing import bars, bars_mm, legend, logarithmic, name_rows, note, panels, swatch
from h2sim.document.pictures import PNG, Plots, draw_picture
from h2sim.document.style import GREY, OTHER, OURS, PHASES, WIDE_MM
from h2sim.io.names import in_picture

RATIOS = ("speedup", "energy saving", "area saving")
MOST_LETTERS, FEWER = 40, 28  # of a rival's name beside its bar, and in a column


def draw(found: Sequence[Comparison], folder: str, plots: Plots = PNG) -> list[Path]:
    """Draws step and, where layers are shared, layers into a folder (made if missing); returns the files' paths."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    ours = found[0].ours
    of = f"{in_picture(ours.system)} on {in_picture(ours.network)}"
    paths = []
    if any(value is not None for c in found for value in _ratios(c)):
        paths += draw_picture(lambda width: _step(found, width), place / "step", plots, title=f"{of}, against others")
    shared = [c for c in found if any(ratio.speedup is not None for ratio in c.layers)]
    if shared:
        title = f"Layers of {of}, against others"
        paths += draw_picture(lambda width: _layers(shared, width), place / "layers", plots, title=title)
    return paths


def _ratios(c: Comparison) -> tuple[float | None, ...]:
    """RATIOS of the step; of the shared layers where the steps differ."""
    ratio = c.step or (c.phases[0] if c.phases else None)
    return (ratio.speedup if ratio else None, ratio.energy_saving if ratio else None, c.area_saving)


def _step(found: Sequence[Comparison], width_mm: float) -> Figure:
    """A panel for each ratio that any rival has, a row per rival."""
    values = [_ratios(c) for c in found]
    known = [i for i in range(len(RATIOS)) if any(row[i] is not None for row in values)]
    figure, axes = panels(len(known), width_mm, bars_mm(len(found)) + 6)
    is_beside = width_mm >= WIDE_MM
    for place, (axis, index) in enumerate(zip(axes, known, strict=True)):
        _against_one(axis, [row[index] for row in values])
        name_rows(axis, [_name(c, MOST_LETTERS if is_beside else FEWER) for c in found], told=not (place and is_beside))
        axis.set_xlabel(f"{RATIOS[index]} (times)")
    legend(figure, [swatch(OURS, "ours is better"), swatch(OTHER, "the other is better")], width_mm)
    return figure


def _name(c: Comparison, most: int) -> str:
    shared = "" if c.step or not c.phases else " (shared layers)"
    return f"{in_picture(c.theirs.system, most)}, {c.theirs.kind}{shared}"


def _against_one(axis: Axes, values: Sequence[float | None]) -> None:
    """Bars of ratios from 1, each with its number; above 1 is in favour of ours."""
    shown = np.array([1.0 if value is None else value for value in values])
    axis.axvline(1, color=GREY, linewidth=0.6)
    for look, mine in ((OURS, shown >= 1), (OTHER, shown < 1)):
        bars(axis, np.flatnonzero(mine), shown[mine] - 1, look, left=1, height=0.6)
    low, high = min(1.0, shown.min()), max(1.0, shown.max())
    room = (high / low) ** 0.35 * 1.2  # for the numbers, to the right of the longest bar
    logarithmic(axis, "x", 4)
    axis.set_xlim(low / 1.1, high * room)
    logarithmic(axis, "x", 4)
    for row, value in enumerate(values):
        note(axis, "not known" if value is None else times(value).replace("x", "\u00d7"), (max(1.0, shown[row]), row))


def _layers(found: Sequence[Comparison], width_mm: float) -> Figure:
    """Speedup of every shared layer and phase, a panel per rival."""
    every = [[ratio for ratio in c.layers if ratio.speedup is not None] for c in found]
    figure, axes = panels(len(found), width_mm, [bars_mm(len(rows)) + 4 for rows in every], most=1)
    for axis, comparison, rows in zip(axes, found, every, strict=True):
        speedups = np.array([row.speedup for row in rows], np.float64)
        axis.axvline(1, color=GREY, linewidth=0.6)
        for phase, look in PHASES.items():
            mine = np.array([row.phase == phase for row in rows])
            bars(axis, np.flatnonzero(mine), speedups[mine] - 1, look, left=1, height=0.7)
        name_rows(axis, [in_picture(str(row.layer)) for row in rows])
        axis.set_xlim(min(1.0, speedups.min()) / 1.1, max(1.0, speedups.max()) * 1.1)
        logarithmic(axis, "x")
        axis.set_xlabel(f"speedup over {in_picture(comparison.theirs.system, FEWER)} (times)")
    shown = [phase for phase in PHASES if any(row.phase == phase for rows in every for row in rows)]
    legend(figure, [swatch(PHASES[phase], phase.replace("_", " ")) for phase in shown], width_mm)
    return figure
