"""Plots of comparisons: the step's ratios as figure 3.15, the layers' as figure 3.14b."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from h2sim.compare.ratios import Comparison
from h2sim.document.pictures import save_png
from h2sim.io.names import in_picture

COLOURS = {"forward": "#3b6ea5", "backward": "#d1495b", "weight_update": "#edae49", None: "#66a182"}


def draw(found: Sequence[Comparison], folder: str) -> list[Path]:
    """Writes step.png and, where layers are shared, layers.png into a folder (made if missing); returns their paths."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    with_layers = [c for c in found if c.layers]
    figures = {"step.png": _step(found)} | ({"layers.png": _layers(with_layers)} if with_layers else {})
    for name, figure in figures.items():
        save_png(figure, place / name, tight=False, fitted=True)
    return [place / name for name in figures]


def _step(found: Sequence[Comparison]) -> Figure:
    """Speedup, energy saving and area saving over every rival; of the shared layers where the steps differ."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 0.5 * len(found) + 2))
    labels, values = [], []
    for c in found:
        ratio = c.step or (c.phases[0] if c.phases else None)
        shared = "" if c.step else " (shared layers)"
        labels.append(f"{in_picture(c.theirs.system)}, {c.theirs.kind}{shared}")
        values.append((ratio.speedup if ratio else None, ratio.energy_saving if ratio else None, c.area_saving))
    for index, (axis, title) in enumerate(zip(axes, ("speedup", "energy saving", "area saving"), strict=True)):
        for y, row in enumerate(values):
            if row[index] is None:
                axis.annotate("not known", (0, y), fontsize=8, va="center")
                continue
            axis.barh(y, row[index], color=COLOURS["forward"], height=0.6)
            axis.annotate(f" {row[index]:.3g}x", (row[index], y), fontsize=8, va="center")
        axis.axvline(1, color="#888888", linewidth=1)
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_yticks(range(len(labels)), labels if index == 0 else [""] * len(labels), fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    ours = found[0].ours
    figure.suptitle(f"{in_picture(ours.system)} on {in_picture(ours.network)}, against", x=0.02, ha="left", fontsize=10)
    return figure


def _layers(found: Sequence[Comparison]) -> Figure:
    """Speedup of every shared layer and phase, a panel per rival."""
    height = sum(0.22 * len(c.layers) + 1 for c in found)
    figure, axes = plt.subplots(
        len(found), 1, squeeze=False, figsize=(9, height), height_ratios=[len(c.layers) + 3 for c in found]
    )
    for axis, comparison in zip(axes[:, 0], found, strict=True):
        shown = [r for r in comparison.layers if r.speedup is not None]
        axis.barh(range(len(shown)), [r.speedup for r in shown], color=[COLOURS[r.phase] for r in shown], height=0.7)
        labels = [f"{in_picture(str(r.layer))} {str(r.phase).replace('_', ' ')}" for r in shown]
        axis.set_yticks(range(len(shown)), labels, fontsize=7)
        axis.invert_yaxis()
        axis.axvline(1, color="#888888", linewidth=1)
        axis.set_xscale("log")
        axis.tick_params(labelsize=7)
        axis.set_title(f"speedup over {in_picture(comparison.theirs.system)}, per layer", loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
