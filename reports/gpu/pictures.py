"""Figures 4.2, 4.6 and 4.7 as pictures, in h2sim's one look."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from measure import CIFAR10, STEPS
from published import View, parts, share

from h2sim.document.drawing import (
    bars_mm,
    doubling,
    grouped,
    legend,
    line_look,
    name_rows,
    panels,
    stacked,
    stroke,
    swatch,
)
from h2sim.document.pictures import Plots, draw_picture
from h2sim.document.style import HATCHES, IDEAL, SERIES, THEIRS, Look

MARKERS = ("o", "s", "^", "D")
LOOKS = [Look(colour, hatch, marker) for colour, hatch, marker in zip(SERIES, HATCHES, MARKERS, strict=False)]
BEST = {False: 0.41, True: 0.33}  # figure 4.6: the least share of vanilla's peak
OVER_CONV = {False: (1.69, 1.82), True: (2.05, 2.23)}  # figure 4.2a
NORMS = {False: "LIF", True: "batch norm and LIF"}
BEST_LOOK = Look(THEIRS.colour, "", "", THEIRS.dash)
PANEL_MM = 48.0


def draw(view: View, folder: Path, plots: Plots) -> list[Path]:
    """Draws what there are points of; returns the files' paths."""
    made = {
        "figure-4.2": (over_conv, "Peak memory of vanilla training over that of its operations alone"),
        "figure-4.6": (shares, "Peak memory of h2sim.fused as a share of vanilla's"),
        "figure-4.7": (breakdown, "Memory of a step: medium network, batch norm, T 10, batch 64"),
    }
    paths = []
    for name, (make, title) in made.items():
        paths += draw_picture(lambda width, make=make: make(view, width), folder / name, plots, title=title)
    return paths


def over_conv(view: View, width_mm: float) -> Figure:
    """Figure 4.2a: a row per network and T, a bar without and one with batch norm; dashed what the source prints."""
    keys = dict.fromkeys([*((n, t, view.batch) for n in CIFAR10 for t in STEPS), ("medium", 10, 64)])
    rows = [(f"{n}, T {t}, batch {b}", [_over_conv(view, n, t, b, norm) for norm in NORMS]) for n, t, b in keys]
    rows = [(name, values) for name, values in rows if all(values)]
    looks = dict(zip(NORMS, LOOKS, strict=False))
    figure, (axis,) = panels(1, width_mm, bars_mm(len(rows), 2) + 4)
    grouped(axis, {text: (looks[norm], [values[norm] for _, values in rows]) for norm, text in NORMS.items()}, 1)
    entries = [swatch(looks[norm], text) for norm, text in NORMS.items()]
    for norm, text in NORMS.items():
        edge = Look(looks[norm].colour, "", "", THEIRS.dash)
        for place in OVER_CONV[norm]:
            axis.axvline(place, **line_look(edge))
        entries.append(stroke(edge, f"{text}, the source"))
    name_rows(axis, [name for name, _ in rows])
    axis.set_xlabel("peak over that of convolutions and products alone (times)")
    legend(figure, entries, width_mm)
    return figure


def _over_conv(view: View, network: str, steps: int, batch: int, norm: bool) -> float | None:
    conv = view.get(network, False, steps, "conv", batch)
    return view.over("peak_bytes", view.get(network, norm, steps, "vanilla", batch), conv)


def shares(view: View, width_mm: float) -> Figure:
    """Figure 4.6, memory: a panel without and one with batch norm, a line per network; checkpoint of the large one."""
    figure, axes = panels(2, width_mm, PANEL_MM, sharey=True)
    for axis, norm in zip(axes, NORMS, strict=True):
        axis.axhline(BEST[norm], **line_look(BEST_LOOK))
        known = [(t, share(view, "large", norm, t, "checkpoint")) for t in STEPS]
        axis.plot(*zip(*known, strict=True), **line_look(IDEAL))
        for network, look in zip(CIFAR10, LOOKS, strict=False):
            axis.plot(STEPS, [share(view, network, norm, t) for t in STEPS], **line_look(look))
        doubling(axis, "x", STEPS)
        axis.set_ylim(0, 1)
        axis.set_title("with batch norm" if norm else "without batch norm")
        axis.set_xlabel("timesteps")
        axis.set_ylabel("share of vanilla's peak")
    entries = [stroke(look, name) for name, look in zip(CIFAR10, LOOKS, strict=False)]
    told = [
        stroke(IDEAL, "large, torch.utils.checkpoint"),
        stroke(Look(THEIRS.colour, "", "", "--"), "the source's best"),
    ]
    legend(figure, [*entries, *told], width_mm)
    return figure


def breakdown(view: View, width_mm: float) -> Figure:
    """Figure 4.7a: a bar of vanilla and one of h2sim.fused, made of what the memory holds."""
    found = [parts(view, way) or {} for way in ("vanilla", "fused-sliced")]
    figure, (axis,) = panels(1, width_mm, bars_mm(2) + 4)
    kinds = {name: (look, [each[name] for each in found]) for name, look in zip(found[0], LOOKS, strict=False)}
    stacked(axis, kinds)
    name_rows(axis, ["vanilla", "h2sim.fused"])
    axis.set_xlabel("MB")
    legend(figure, [swatch(look, name) for name, (look, _) in kinds.items()], width_mm)
    return figure
