"""The plots that correspond to figures 3.10 to 3.15, and the overview of all claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from h2sim.document.drawing import (
    bars,
    bars_mm,
    doubling,
    few,
    folded,
    grouped,
    legend,
    line_look,
    logarithmic,
    name_rows,
    panels,
    stacked,
    stroke,
    swatch,
)  # fmt: skip
from h2sim.document.style import (
    COMPONENTS,
    ENGINES,
    GREEN,
    GREY,
    IDEAL,
    INK,
    OTHER,
    OURS,
    SERIES,
    SKY,
    THEIRS,
    WIDE_MM,
    Look,
)  # fmt: skip
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.sensitivity import APART, Row
from h2sim.reproduce.setting import Setting

Theirs = Mapping[str, float]  # what the source reports, by claim
ENGINE_TITLES = {"forward": "Forward Engine", "weight_update": "Weight Update Engine", "backward": "Backward Engine"}
ARRAY, ACC, GLB = COMPONENTS["pe_array"], COMPONENTS["acc"], COMPONENTS["glb"]
SOMA, LEAKAGE = COMPONENTS["soma"], COMPONENTS["leakage"]
MM2, UM2 = "mm\u00b2", "\u00b5m\u00b2"
Looks = Mapping[str, tuple[str, Look]]  # by column of a table: what it is called, and its look


@dataclass(frozen=True)
class FigureOf:
    """One figure of the report.

    stem: name of its files. text: what it shows, or a function of its numbers that says it. points: makes its numbers,
    one row per mark. plot: draws them beside what the source reports, for a width in mm.
    """

    stem: str
    title: str
    text: str | Callable[[pd.DataFrame, Theirs], str]
    points: Callable[[Lab, Setting], pd.DataFrame]
    plot: Callable[[pd.DataFrame, Theirs, float], Figure]

    def caption(self, frame: pd.DataFrame, theirs: Theirs) -> str:
        """The figure's text; where the text is a function, what it makes of the numbers."""
        return self.text if isinstance(self.text, str) else self.text(frame, theirs)


def _stack(axis: Axes, labels: Sequence[str], frame: pd.DataFrame, looks: Looks, label: str) -> None:
    """Stacked bars, one per row of the frame. No labels: the panel beside has them."""
    stacked(axis, {name: (look, frame[column].to_numpy()) for column, (name, look) in looks.items()})
    _rows(axis, labels, len(frame), label)


def _bars(axis: Axes, labels: Sequence[str], values: pd.Series, label: str) -> None:
    """Bars of our own, one per row."""
    bars(axis, np.arange(len(values)), values.to_numpy(), OURS, height=0.7)
    _rows(axis, labels, len(values), label)


def _rows(axis: Axes, labels: Sequence[str], n: int, label: str) -> None:
    name_rows(axis, labels or [""] * n, told=bool(labels))
    axis.set_xlabel(label)
    few(axis.xaxis, 4)


def _beside(labels: Sequence[str], place: int, width_mm: float) -> Sequence[str]:
    """The labels where a panel is the first of its line."""
    return labels if place == 0 or width_mm < WIDE_MM else ()


def _entries(*looks: Looks) -> list[Patch]:
    """A legend's entries for the parts of several panels, each once."""
    every = {name: look for each in looks for name, look in each.values()}
    return [swatch(look, name) for name, look in every.items()]


def _theirs(axis: Axes, value: float) -> None:
    """A line at what the source reports."""
    axis.axvline(value, **line_look(THEIRS, marker=""))


def _their_line(label: str) -> Line2D:
    return stroke(THEIRS, label, marker="")


def lut_pe(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.10: area and energy of a LUT PE."""
    shown = frame[(frame["parallelism"].isin([1, 4])) & (frame["entries"] <= 64)]
    labels = [f"{r.design}, P = {r.parallelism}" for r in shown.itertuples()]
    figure, axes = panels(2, width_mm, bars_mm(len(shown)))
    areas = {"adder_area_um2": ("adders", ARRAY), "register_area_um2": ("LUTs, registers", GLB)}
    energies = {"adder_pj": ("adders", ARRAY), "lut_pj": ("LUTs, registers", GLB)}
    _stack(axes[0], labels, shown, areas, f"area of a PE and its Acc ({UM2})")
    _stack(axes[1], _beside(labels, 1, width_mm), shown, energies, "energy of a 3 \u00d7 3 window (pJ)")
    legend(figure, _entries(areas, energies), width_mm)
    return figure


def lut_engines(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.11: area, energy and throughput of the two LUT engines."""
    engines = ("forward", "weight_update")
    most = max(int((frame["engine"] == engine).sum()) for engine in engines)
    figure, axes = panels(6, width_mm, bars_mm(most) + 4)
    area = {"array_mm2": ("PE array, Acc", ARRAY), "glb_mm2": ("GLB", GLB), "other_mm2": ("Soma", SOMA)}
    energy = {"array_mj": ("PE array, Acc", ARRAY), "glb_mj": ("GLB", GLB), "other_mj": ("Soma", SOMA),
              "leakage_mj": ("leakage", LEAKAGE)}  # fmt: skip
    for line, engine in enumerate(engines):
        mine = frame[frame["engine"] == engine].reset_index(drop=True)
        labels = [f"{r.design} P = {r.parallelism}" for r in mine.itertuples()]
        first, second, third = axes[3 * line : 3 * line + 3]
        _stack(first, labels, mine, area, f"area ({MM2})")
        _stack(second, _beside(labels, 1, width_mm), mine, energy, "energy of the layer (mJ)")
        _bars(third, _beside(labels, 2, width_mm), 1 / mine["seconds"], "layers per second")
        for axis in (first, second, third) if width_mm < WIDE_MM else (first,):
            axis.set_title(ENGINE_TITLES[engine])
    legend(figure, _entries(area, energy), width_mm)
    return figure


def backward(area: pd.DataFrame, modes: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.12: area of the Backward Engine by PE group size; energy and speedup of its four designs."""
    figure, axes = panels(3, width_mm, bars_mm(max(len(area), len(modes))) + 4)
    array, grad = ("PE array (energy: with Acc)", ARRAY), ("Grad", SOMA)
    parts = {"pe_array_mm2": array, "acc_mm2": ("Acc", ACC), "grad_mm2": grad, "glb_mm2": ("GLB", GLB)}
    energy = {"array_mj": array, "glb_mj": ("GLB", GLB), "grad_mj": grad, "leakage_mj": ("leakage", LEAKAGE)}
    _stack(axes[0], [f"group of {n}" for n in area["group_size"]], area, parts, f"area ({MM2})")
    _stack(axes[1], list(modes["mode"]), modes, energy, "energy of the layer (mJ)")
    _bars(axes[2], _beside(list(modes["mode"]), 2, width_mm), modes["speedup"], "speedup over dense")
    _theirs(axes[2], theirs["be-speedup"])
    for axis, title in zip(axes, ("(a)", "(b)", "(b)"), strict=True):
        axis.set_title(title)
    legend(figure, [*_entries(parts, energy), _their_line("theirs, dual")], width_mm)
    return figure


def design_space(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.13: throughput over that of the published setting, by factor on one dimension."""
    figure, axes = panels(3, width_mm, 52.0, sharey=True)
    factors = sorted(frame["factor"].unique())
    for axis, dimension in zip(axes, ("rows", "columns", "parallelism"), strict=True):
        axis.plot(factors, factors, **line_look(IDEAL))
        for engine, look in ENGINES.items():
            mine = frame[(frame["engine"] == engine) & (frame["dimension"] == dimension)]
            axis.plot(mine["factor"], mine["throughput"], **line_look(look))
        doubling(axis, "x", factors)
        doubling(axis, "y", factors)
        axis.set_xlabel(f"{dimension}, times the published")
    for axis in axes if width_mm < WIDE_MM else axes[:1]:
        axis.set_ylabel("throughput, times\nthe published")
    entries = [stroke(look, ENGINE_TITLES[engine]) for engine, look in ENGINES.items()]
    legend(figure, [*entries, stroke(IDEAL, "in proportion")], width_mm)
    return figure


def machine(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.15: speedup over the V100, power, and area; one bar per network."""
    figure, axes = panels(3, width_mm, bars_mm(len(frame)) + 8)
    on_gpu = frame.dropna(subset=["speedup"])
    low, high = theirs["v100-speedup-lowest"], theirs["v100-speedup-highest"]
    axes[0].axvspan(low, high, color=THEIRS.colour, alpha=0.2, linewidth=0)
    _bars(axes[0], list(on_gpu["network"]), on_gpu["speedup"], "speedup over the V100's\nepochs of table 3.1")
    power = pd.DataFrame({"leakage": frame["leakage_w"], "events": frame["power_w"] - frame["leakage_w"]})
    looks = {"leakage": ("leakage", LEAKAGE), "events": ("events", OURS)}
    _stack(axes[1], list(frame["network"]), power, looks, "power (W)")
    _theirs(axes[1], theirs["power"])
    areas = pd.Series([frame["v100_mm2"].max(), frame["area_mm2"].iloc[0]])
    _bars(axes[2], ["V100", "ours"], areas, f"area ({MM2})")
    _theirs(axes[2], theirs["area"])
    for axis, title in zip(axes, ("(a)", "(b)", "(c)"), strict=True):
        axis.set_title(title)
    span = Patch(color=THEIRS.colour, alpha=0.2, linewidth=0, label=f"theirs: {low:g} to {high:g}")
    legend(figure, [*_entries(looks), span, _their_line("theirs (power: the highest)")], width_mm)
    return figure


def spinalflow(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.14a: speedup, energy saving and area saving of the Forward Engine over SpinalFlow, per layer."""
    columns = {
        "speedup": "speedup",
        "energy_saving": "energy saving",
        "area_saving_at_equal_throughput": "area saving at equal speed",
    }
    cases = {("first_spike", "published"): OURS, ("every_spike", "published"): ENGINES["weight_update"],
             ("first_spike", "simulated"): ENGINES["backward"]}  # fmt: skip
    names = list(frame["layer"].unique())
    figure, axes = panels(3, width_mm, bars_mm(len(names), len(cases)))
    told = {key: f"{key[0].replace('_', ' ')}, {_origin(key[1])}" for key in cases}
    for place, (axis, (column, title)) in enumerate(zip(axes, columns.items(), strict=True)):
        groups = {}
        for (coding, figures), look in cases.items():
            mine = frame[(frame["coding"] == coding) & (frame["figures"] == figures)].set_index("layer")[column]
            groups[told[coding, figures]] = (look, mine.reindex(names).to_numpy())
        grouped(axis, groups, left=1.0)
        axis.axvline(1, color=INK, linewidth=0.6)
        logarithmic(axis, "x", 4)
        name_rows(axis, names, told=not (place and width_mm >= WIDE_MM))
        axis.set_xlabel(f"{title} (times)")
    legend(figure, [swatch(look, told[key]) for key, look in cases.items()], width_mm)
    return figure


def _origin(figures: str) -> str:
    return "built up" if figures == "simulated" else "published power, area"


def layers(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Figure 3.14b: dense operations per second of each engine on each layer. The dashed line is a V100's peak."""
    most = int(frame.groupby("phase").size().max())
    figure, axes = panels(3, width_mm, bars_mm(most) + 4)
    for place, (axis, phase) in enumerate(zip(axes, ("forward", "backward", "weight_update"), strict=True)):
        mine = frame[frame["phase"] == phase].set_index("layer")["tops"]
        every = mine.reindex(list(frame["layer"].unique()))
        _bars(axis, _beside(list(every.index), place, width_mm), every, "dense tera-operations per second")
        axis.axvline(float(frame["v100_peak_tops"].max()), **line_look(THEIRS, marker=""))
        axis.set_title(phase.replace("_", " "))
    legend(figure, [swatch(OURS, "ours"), _their_line("V100, peak")], width_mm)
    return figure


def inference(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Table 3.7: latency and energy of a sample, by network and size of the input."""
    looks = {"loihi": OURS, "fpga": ENGINES["weight_update"]}
    figure, axes = panels(2, width_mm, bars_mm(len(frame)))
    both = [("latency_s", "latency", 1e6, "\u00b5s"), ("energy_j", "energy", 1e6, "\u00b5J")]
    for place, (axis, (column, what, scale, unit)) in enumerate(zip(axes, both, strict=True)):
        labels: list[str] = []
        for name, look in looks.items():
            mine = frame[frame["network"] == name]
            at = np.arange(len(labels), len(labels) + len(mine))
            bars(axis, at, scale * mine[column], look, height=0.7)
            axis.vlines(scale * theirs[f"{name}-{what}"], at[0] - 0.5, at[-1] + 0.5, colors=THEIRS.colour, ls="--")
            labels += list(mine["input"])
        name_rows(axis, labels, told=not (place and width_mm >= WIDE_MM))
        few(axis.xaxis)
        axis.set_xlabel(f"{what} of a sample ({unit})")
    entries = [swatch(look, f"network compared with {name}") for name, look in looks.items()]
    legend(figure, [*entries, _their_line("theirs")], width_mm)
    return figure


def joint(frame: pd.DataFrame, theirs: Theirs, width_mm: float) -> Figure:
    """Area against power; one line per SRAM flavour and reading of the power, one point per buffer size."""
    figure, (axis,) = panels(1, width_mm, 80.0)
    entries = []
    for sram, colour in zip(frame["sram"].unique(), SERIES, strict=False):
        for reading, marker, dash in (("step", "o", "-"), ("busiest", "s", "--")):
            mine = frame[(frame["sram"] == sram) & (frame["power_reading"] == reading)]
            look = Look(colour, "", marker, dash)
            axis.plot(mine["area_mm2"], mine["power_w"], **line_look(look))
            label = f"{sram}; {'mean of a step' if reading == 'step' else 'busiest layers at once'}"
            entries.append(stroke(look, label))
    axis.plot(theirs["area"], theirs["power"], ls="", marker="*", color=INK, markersize=9, zorder=5)
    entries.append(stroke(Look(INK, "", "*", ""), "theirs", markersize=9))
    axis.set(xlabel=f"area ({MM2}; points: buffers \u00d7 1 to \u00d7 10)", ylabel="highest power (W)")
    axis.set_ylim(0, 1.8 * theirs["power"])
    few(axis.xaxis)
    few(axis.yaxis)
    legend(figure, entries, width_mm)
    return figure


def claims(rows: Sequence[Row], width_mm: float) -> Figure:
    """All tests with a number: ours / theirs on a logarithmic axis, with the range over every assumption's values."""
    shown = [r for r in rows if r.claim.relation in ("equal", "about") and r.claim.kind == "test"]
    names = [folded(r.claim.what, 0.42 * width_mm, 6) for r in shown]
    lines = np.array([name.count("\n") + 1.4 for name in names])
    places = np.cumsum(lines) - lines / 2
    figure, (axis,) = panels(1, width_mm, 0.85 * bars_mm(int(lines.sum())))
    axis.axvspan(0.95, 1.05, color=GREEN, alpha=0.2, linewidth=0)
    axis.axvline(1, color=GREY, linewidth=0.6)
    for y, row in zip(places, shown, strict=True):
        swept = [span for span in row.spans if span.kind not in APART]
        ends = [value / row.claim.theirs for span in swept for value in (span.low, span.high) if value > 0]
        if ends:
            axis.plot([min(ends), max(ends)], [y, y], color=SKY, linewidth=2.5, solid_capstyle="butt")
        look = OURS if row.fits else OTHER
        axis.plot(row.ours / row.claim.theirs, y, marker=look.marker, color=look.colour, zorder=3)
    axis.set_yticks(places, names)
    axis.set_ylim(float(lines.sum()), 0.0)
    axis.tick_params(axis="y", length=0)
    axis.set_xscale("log")
    doubling(axis, "x", axis.get_xlim())
    axis.set_xlabel("ours / theirs")
    entries = [Line2D([], [], ls="", marker=look.marker, color=look.colour, label=label)
               for look, label in ((OURS, "fits"), (OTHER, "does not fit"))]  # fmt: skip
    swept_over = Patch(color=SKY, label="over the range of each assumption alone, bounds left out")
    legend(figure, [*entries, swept_over, Patch(color=GREEN, alpha=0.2, lw=0, label="within 5 %")], width_mm)
    return figure
