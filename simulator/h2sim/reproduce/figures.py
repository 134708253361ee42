"""The plots that correspond to figures 3.10 to 3.15, and the overview of all claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from h2sim.document.pictures import save_png
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.sensitivity import APART, Row
from h2sim.reproduce.setting import Setting

BLUE, LIGHT, RED, GOLD, GREY, GREEN = "#3b6ea5", "#9ec1e0", "#d1495b", "#edae49", "#b8b8b8", "#66a182"
Theirs = Mapping[str, float]  # what the source reports, by claim
ENGINE_TITLES = {"forward": "Forward Engine", "weight_update": "Weight Update Engine", "backward": "Backward Engine"}


@dataclass(frozen=True)
class FigureOf:
    """One figure of the report.

    stem: name of its files. text: what it shows, or a function of its numbers that says it. points: makes its numbers,
    one row per mark. plot: draws them beside what the source reports.
    """

    stem: str
    title: str
    text: str | Callable[[pd.DataFrame, Theirs], str]
    points: Callable[[Lab, Setting], pd.DataFrame]
    plot: Callable[[pd.DataFrame, Theirs], Figure]

    def caption(self, frame: pd.DataFrame, theirs: Theirs) -> str:
        """The figure's text; where the text is a function, what it makes of the numbers."""
        return self.text if isinstance(self.text, str) else self.text(frame, theirs)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG without date or program name, so that equal figures are equal files. Written aside, then renamed."""
    figure.tight_layout()
    save_png(figure, path, dpi=100, tight=False)


def _stack(
    axis: Axes, labels: Sequence[str], frame: pd.DataFrame, columns: dict[str, tuple[str, str]], unit: str
) -> None:
    """Stacked bars, one per row of the frame; columns: {column: (label, colour)}."""
    bottom = pd.Series(0.0, index=range(len(frame)))
    for column, (label, colour) in columns.items():
        values = frame[column].reset_index(drop=True)
        axis.bar(range(len(frame)), values, bottom=bottom, color=colour, label=label, width=0.7)
        bottom += values
    axis.set_xticks(range(len(frame)), labels, fontsize=7, rotation=45, ha="right")
    axis.set_ylabel(unit)
    _clean(axis)


def _clean(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)


def lut_pe(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.10: area and energy of a LUT PE."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    shown = frame[(frame["parallelism"].isin([1, 4])) & (frame["entries"] <= 64)]
    labels = [f"{r.design}, P={r.parallelism}" for r in shown.itertuples()]
    areas = {"adder_area_um2": ("adders", BLUE), "register_area_um2": ("LUTs, registers", GOLD)}
    energies = {"adder_pj": ("adders", BLUE), "lut_pj": ("LUT or register reads", GOLD)}
    _stack(axes[0], labels, shown, areas, "um2 per PE and its Acc")
    _stack(axes[1], labels, shown, energies, "pJ per 3x3 window")
    axes[0].legend(fontsize=7, frameon=False)
    left_out = frame[(frame["parallelism"] == 4) & (frame["sub_luts"] == 1)].iloc[0]
    large = left_out["adder_area_um2"] + left_out["register_area_um2"]
    axes[0].set_title(f"(a) area; {left_out['design']} left out: {large:,.0f} um2 at P=4", loc="left", fontsize=9)
    axes[1].set_title("(b) energy", loc="left", fontsize=9)
    return figure


def lut_engines(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.11: area, energy and throughput of the two LUT engines."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7))
    for line, engine in zip(axes, ("forward", "weight_update"), strict=True):
        mine = frame[frame["engine"] == engine].reset_index(drop=True)
        labels = [f"{r.design} P={r.parallelism}" for r in mine.itertuples()]
        area = {"array_mm2": ("PE array, Acc", BLUE), "glb_mm2": ("GLB", GOLD), "other_mm2": ("Soma", GREEN)}
        energy = {"array_mj": ("PE array, Acc", BLUE), "glb_mj": ("GLB", GOLD), "other_mj": ("Soma", GREEN),
                  "leakage_mj": ("leakage", GREY)}  # fmt: skip
        _stack(line[0], labels, mine, area, "mm2")
        _stack(line[1], labels, mine, energy, "mJ for the layer")
        line[2].bar(range(len(mine)), 1 / mine["seconds"], color=BLUE, width=0.7)
        line[2].set_xticks(range(len(mine)), labels, fontsize=7, rotation=45, ha="right")
        line[2].set_ylabel("layers per second")
        _clean(line[2])
        line[0].set_title(ENGINE_TITLES[engine], loc="left", fontsize=9)
    axes[0][1].legend(fontsize=7, frameon=False)
    return figure


def backward(area: pd.DataFrame, modes: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.12: area of the Backward Engine by PE group size; energy and speedup of its four designs."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    parts = {
        "pe_array_mm2": ("PE array", BLUE),
        "acc_mm2": ("Acc", LIGHT),
        "grad_mm2": ("Grad", GREEN),
        "glb_mm2": ("GLB", GOLD),
    }
    _stack(axes[0], [f"group of {n}" for n in area["group_size"]], area, parts, "mm2")
    axes[0].legend(fontsize=7, frameon=False)
    energy = {
        "array_mj": ("PE array, Acc", BLUE),
        "glb_mj": ("GLB", GOLD),
        "grad_mj": ("Grad", GREEN),
        "leakage_mj": ("leakage", GREY),
    }
    _stack(axes[1], list(modes["mode"]), modes, energy, "mJ for the layer")
    axes[1].legend(fontsize=7, frameon=False)
    axes[2].bar(range(len(modes)), modes["speedup"], color=BLUE, width=0.7)
    axes[2].axhline(theirs["be-speedup"], color=RED, linewidth=1, linestyle="--", label="theirs, dual")
    axes[2].set_xticks(range(len(modes)), list(modes["mode"]), fontsize=7, rotation=45, ha="right")
    axes[2].set_ylabel("speedup over dense")
    axes[2].legend(fontsize=7, frameon=False)
    _clean(axes[2])
    for axis, title in zip(axes, ("(a) area", "(b) energy", "(b) speedup"), strict=True):
        axis.set_title(title, loc="left", fontsize=9)
    return figure


def design_space(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.13: throughput over that of the published setting, by factor on one dimension."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    for axis, dimension in zip(axes, ("rows", "columns", "parallelism"), strict=True):
        for engine, colour in (("forward", BLUE), ("weight_update", GOLD), ("backward", RED)):
            mine = frame[(frame["engine"] == engine) & (frame["dimension"] == dimension)]
            axis.plot(mine["factor"], mine["throughput"], "o-", color=colour, markersize=4, label=ENGINE_TITLES[engine])
        ideal = sorted(frame["factor"].unique())
        axis.plot(ideal, ideal, ":", color=GREY, label="in proportion")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xlabel(f"{dimension}, times the published")
        _clean(axis)
    axes[0].set_ylabel("throughput, times the published")
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def machine(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.15: speedup over the V100, power, and area; one bar per network."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    on_gpu = frame.dropna(subset=["speedup"])
    axes[0].bar(range(len(on_gpu)), on_gpu["speedup"], color=BLUE, width=0.6)
    axes[0].set_xticks(range(len(on_gpu)), list(on_gpu["network"]))
    low, high = theirs["v100-speedup-lowest"], theirs["v100-speedup-highest"]
    axes[0].axhspan(low, high, color=RED, alpha=0.15, label=f"theirs: {low:g} to {high:g}")
    axes[0].legend(fontsize=7, frameon=False)
    axes[0].set_title("(a) speedup over the V100's epochs of table 3.1", loc="left", fontsize=9)
    axes[1].bar(range(len(frame)), frame["leakage_w"], color=GREY, width=0.6, label="leakage")
    axes[1].bar(
        range(len(frame)),
        frame["power_w"] - frame["leakage_w"],
        bottom=frame["leakage_w"],
        color=BLUE,
        width=0.6,
        label="events",
    )
    axes[1].axhline(theirs["power"], color=RED, linestyle="--", linewidth=1, label="theirs, highest")
    axes[1].set_xticks(range(len(frame)), list(frame["network"]), rotation=30)
    axes[1].set_title("(b) power, W", loc="left", fontsize=9)
    axes[1].legend(fontsize=7, frameon=False)
    areas = [frame["v100_mm2"].max(), frame["area_mm2"].iloc[0]]
    axes[2].bar(range(2), areas, color=[GREY, BLUE], width=0.5)
    axes[2].axhline(theirs["area"], color=RED, linestyle="--", linewidth=1, label="theirs, H2Learn")
    axes[2].set_xticks(range(2), ["V100", "ours"])
    axes[2].set_title("(c) area, mm2", loc="left", fontsize=9)
    axes[2].legend(fontsize=7, frameon=False)
    for axis in axes:
        _clean(axis)
    return figure


def spinalflow(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.14a: speedup, energy saving and area saving of the Forward Engine over SpinalFlow, per layer."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    columns = {
        "speedup": "speedup",
        "energy_saving": "energy saving",
        "area_saving_at_equal_throughput": "area saving at equal speed",
    }
    bars = (("first_spike", "published", BLUE), ("every_spike", "published", GOLD), ("first_spike", "simulated", LIGHT))
    names = list(frame["layer"].unique())
    for axis, (column, title) in zip(axes, columns.items(), strict=True):
        for index, (coding, figures, colour) in enumerate(bars):
            mine = frame[(frame["coding"] == coding) & (frame["figures"] == figures)].reset_index(drop=True)
            label = f"{coding.replace('_', ' ')}, {'built up' if figures == 'simulated' else 'published power, area'}"
            axis.bar([x + 0.27 * (index - 1) for x in range(len(mine))], mine[column], 0.27, color=colour, label=label)
        axis.axhline(1, color=RED, linewidth=1, linestyle="--")
        axis.set_yscale("log")
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_title(f"{title} over SpinalFlow (secondary figures)", loc="left", fontsize=9)
        _clean(axis)
    axes[2].legend(fontsize=6, frameon=False)
    return figure


def layers(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Figure 3.14b: dense operations per second of each engine on each layer. The dashed line is a V100's peak."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    for axis, phase in zip(axes, ("forward", "backward", "weight_update"), strict=True):
        mine = frame[frame["phase"] == phase].reset_index(drop=True)
        axis.bar(range(len(mine)), mine["tops"], color=BLUE, width=0.7)
        axis.axhline(mine["v100_peak_tops"].max(), color=RED, linestyle="--", linewidth=1, label="V100, peak")
        axis.set_xticks(range(len(mine)), list(mine["layer"]), rotation=45, ha="right")
        axis.set_title(phase.replace("_", " "), loc="left", fontsize=9)
        _clean(axis)
    axes[0].set_ylabel("dense tera-operations per second")
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def inference(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Table 3.7: latency and energy of a sample, by network and size of the input."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, column, what, unit in ((axes[0], "latency_s", "latency", "s"), (axes[1], "energy_j", "energy", "J")):
        labels, x = [], 0
        for name, colour in (("loihi", BLUE), ("fpga", GOLD)):
            mine = frame[frame["network"] == name]
            span = range(x, x + len(mine))
            axis.bar(span, mine[column], color=colour, width=0.7, label=f"network compared with {name}")
            axis.hlines(theirs[f"{name}-{what}"], x - 0.5, x + len(mine) - 0.5, color=RED, linestyle="--", linewidth=1)
            labels += list(mine["input"])
            x += len(mine)
        axis.set_xticks(range(x), labels, rotation=45, ha="right")
        axis.set_ylabel(f"{unit} per sample (dashed: theirs)")
        _clean(axis)
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def joint(frame: pd.DataFrame, theirs: Theirs) -> Figure:
    """Area against power; one line per SRAM flavour and reading of the power, one point per buffer size."""
    figure, axis = plt.subplots(figsize=(10, 5))
    for sram, colour in zip(frame["sram"].unique(), (BLUE, LIGHT, RED, GOLD, GREEN), strict=True):
        for reading, style in (("step", "o-"), ("busiest", "s--")):
            mine = frame[(frame["sram"] == sram) & (frame["power_reading"] == reading)]
            label = f"{sram}; {'mean of a step' if reading == 'step' else 'busiest layers at once'}"
            axis.plot(mine["area_mm2"], mine["power_w"], style, color=colour, markersize=4, linewidth=1, label=label)
    axis.plot(theirs["area"], theirs["power"], "*", color="black", markersize=14, label="theirs")
    axis.set_xlabel("area, mm2 (points: buffers x1 to x10)")
    axis.set_ylabel("highest power, W")
    axis.set_ylim(0, 1.8 * theirs["power"])
    axis.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    _clean(axis)
    return figure


def claims(rows: Sequence[Row]) -> Figure:
    """All tests with a number: ours / theirs on a logarithmic axis, with the range over every assumption's values."""
    shown = [r for r in rows if r.claim.relation in ("equal", "about") and r.claim.kind == "test"]
    figure, axis = plt.subplots(figsize=(10, 0.24 * len(shown) + 1.2))
    axis.axvline(1, color=GREY, linewidth=1)
    axis.axvspan(0.95, 1.05, color=GREEN, alpha=0.15)
    for y, row in enumerate(shown):
        swept = [span for span in row.spans if span.kind not in APART]
        ends = [value / row.claim.theirs for span in swept for value in (span.low, span.high) if value > 0]
        if ends:
            axis.plot([min(ends), max(ends)], [y, y], color=LIGHT, linewidth=4, solid_capstyle="butt")
        axis.plot(row.ours / row.claim.theirs, y, "o", color=BLUE if row.fits else RED, markersize=4)
    axis.set_yticks(range(len(shown)), [r.claim.what for r in shown])
    axis.invert_yaxis()
    axis.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set_xlabel(
        "ours / theirs; bar: over the range of each assumption alone, bounds left out; green: within 5 %", fontsize=8
    )
    _clean(axis)
    return figure
