"""What people would rather look at: cycles per layer, energy and area by component, as PNG files."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from h2sim.activity import ENGINES, Engine, LayerActivity
from h2sim.document.pictures import save_png
from h2sim.io.names import in_picture
from h2sim.report.words import TITLES
from h2sim.result import Result

PARTS = {
    "compute": "#3b6ea5",
    "fill": "#9ec1e0",
    "stall: read": "#d1495b",
    "stall: write": "#edae49",
    "stall: wait": "#b8b8b8",
}
COMPONENTS = {
    "pe_array": "#3b6ea5",
    "acc": "#9ec1e0",
    "soma": "#66a182",
    "grad": "#66a182",
    "glb": "#edae49",
    "leakage": "#b8b8b8",
}


def draw(result: Result, folder: str) -> list[Path]:
    """Writes cycles.png, energy.png and area.png into a folder (made if missing); returns their paths."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    figures = {"cycles.png": _cycles(result), "energy.png": _energy(result), "area.png": _area(result)}
    for name, figure in figures.items():
        save_png(figure, place / name, fitted=name == "cycles.png", told=result.hashes)
    return [place / name for name in figures]


def _title(result: Result, what: str) -> str:
    w = result.workload
    synthetic = "  (SYNTHETIC masks)" if w.source == "synthetic" else ""
    return f"{what}: {in_picture(w.network)} on {in_picture(result.arch.name)}{synthetic}"


def _cycles(result: Result) -> Figure:
    """A panel per engine, a bar per row, split into compute, fill and stalls by cause."""
    by_engine = {e: [r for r in result.activity.layers if r.engine == e] for e in ENGINES}
    by_engine = {e: rows for e, rows in by_engine.items() if rows}
    heights = [len(rows) + 1.5 for rows in by_engine.values()]
    figure, axes = plt.subplots(
        len(by_engine), 1, sharex=True, squeeze=False, figsize=(10, 0.32 * sum(heights) + 1), height_ratios=heights
    )
    for axis, (engine, rows) in zip(axes[:, 0], by_engine.items(), strict=True):
        labels = [f"{in_picture(r.layer)} {r.phase.replace('_', ' ')}" for r in rows]
        left = [0.0] * len(rows)
        for part, colour in PARTS.items():
            widths = [_part(r, part) / 1e3 for r in rows]
            axis.barh(range(len(rows)), widths, left=left, color=colour, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axis.set_yticks(range(len(rows)), labels, fontsize=8)
        axis.invert_yaxis()
        axis.set_title(f"{TITLES[engine]} Engine", fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("thousand cycles")
    axes[0, 0].legend(fontsize=8, ncols=len(PARTS), loc="lower right", bbox_to_anchor=(1, 1.02), frameon=False)
    figure.suptitle(_title(result, "Cycles per layer"), x=0.02, ha="left", fontsize=11)
    return figure


def _part(row: LayerActivity, part: str) -> int:
    return {
        "compute": row.compute_cycles, "fill": row.fill_cycles, "stall: read": row.stalls.memory_read,
        "stall: write": row.stalls.memory_write, "stall: wait": row.stalls.dependency,
    }[part]  # fmt: skip


def _energy(result: Result) -> Figure:
    """A stacked bar per engine, by component, and off-chip energy apart."""
    values: dict[Engine, dict[str, float]] = {}
    for engine in ENGINES:
        values[engine] = {name: joules * 1e6 for name, joules in result.cost.engine_energy_j(engine).items()}
    figure, axis = _stacked(values, "energy per sub-batch, uJ")
    off = result.cost.offchip_energy_j * 1e6
    axis.bar(len(ENGINES), off, color="white", edgecolor="#555555", hatch="///", width=0.6)
    axis.annotate(f"{off:.3g}", (len(ENGINES), off), ha="center", va="bottom", fontsize=8)
    axis.set_xticks(range(len(ENGINES) + 1), [*(TITLES[e] for e in ENGINES), "off chip (apart)"])
    axis.set_title(
        _title(result, "Energy") + f", table {in_picture(result.energy_table.name)}", loc="left", fontsize=10
    )
    return figure


def _area(result: Result) -> Figure:
    """A stacked bar per engine, by component."""
    areas = result.cost.area.to_dict()
    figure, axis = _stacked({e: {k: v / 1e6 for k, v in areas[e].items()} for e in ENGINES}, "area, mm2")
    total = f"{areas['total'] / 1e6:.1f} mm2"
    of, table = in_picture(result.arch.name), in_picture(result.energy_table.name)
    axis.set_title(f"Area of {of}: {total}, table {table}", loc="left", fontsize=10)
    return figure


def _stacked(values: dict[Engine, dict[str, float]], label: str) -> tuple[Figure, Axes]:
    figure, axis = plt.subplots(figsize=(8, 4.5))
    seen = set()
    for x, parts in enumerate(values.values()):
        bottom = 0.0
        for name, value in parts.items():
            shown = "soma / grad" if name in ("soma", "grad") else name.replace("_", " ")
            axis.bar(x, value, bottom=bottom, color=COMPONENTS[name], width=0.6, label=None if shown in seen else shown)
            seen.add(shown)
            bottom += value
        axis.annotate(f"{bottom:.3g}", (x, bottom), ha="center", va="bottom", fontsize=8)
    axis.set_xticks(range(len(values)), [TITLES[e] for e in values])
    axis.set_ylabel(label)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)
    return figure, axis
