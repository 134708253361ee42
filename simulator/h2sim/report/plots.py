"""What people would rather look at: cycles per layer, energy and area by component."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from h2sim.activity import ENGINES, LayerActivity
from h2sim.document import significant
from h2sim.document.drawing import bars_mm, few, legend, name_rows, note, panels, stacked, swatch
from h2sim.document.pictures import PNG, Plots, draw_picture
from h2sim.document.style import COMPONENTS, CYCLES
from h2sim.io.names import in_picture
from h2sim.report.words import TITLES
from h2sim.result import Result

Parts = Mapping[str, float]  # by component


def draw(result: Result, folder: str, plots: Plots = PNG) -> list[Path]:
    """Draws cycles, energy and area into a folder (made if missing); returns the files' paths."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    of, table = in_picture(result.arch.name), f", table {in_picture(result.energy_table.name)}"
    total = f"{result.cost.area.to_dict()['total'] / 1e6:.1f} mm\u00b2"
    pictures = {
        "cycles": (_title(result, "Cycles per layer"), lambda width: _cycles(result, width)),
        "energy": (_title(result, "Energy") + table, lambda width: _energy(result, width)),
        "area": (f"Area of {of}: {total}{table}", lambda width: _area(result, width)),
    }
    return [
        path
        for name, (title, make) in pictures.items()
        for path in draw_picture(make, place / name, plots, title=title, told=result.hashes)
    ]


def _title(result: Result, what: str) -> str:
    w = result.workload
    synthetic = "  (SYNTHETIC masks)" if w.source == "synthetic" else ""
    return f"{what}: {in_picture(w.network)} on {in_picture(result.arch.name)}{synthetic}"


def _cycles(result: Result, width_mm: float) -> Figure:
    """A panel per engine, a bar per row, split into compute, fill and stalls by cause."""
    every = {engine: [r for r in result.activity.layers if r.engine == engine] for engine in ENGINES}
    by_engine = {engine: rows for engine, rows in every.items() if rows}
    heights = [bars_mm(len(rows)) - 2 for rows in by_engine.values()]
    figure, axes = panels(len(by_engine), width_mm, heights, most=1, sharex=True)
    for axis, (engine, rows) in zip(axes, by_engine.items(), strict=True):
        stacked(axis, {part: (look, [_part(r, part) / 1e3 for r in rows]) for part, look in CYCLES.items()})
        name_rows(axis, _row_names(rows))
        axis.set_title(f"{TITLES[engine]} Engine")
    few(axes[-1].xaxis)
    axes[-1].set_xlabel("cycles (thousands)")
    legend(figure, [swatch(look, part) for part, look in CYCLES.items()], width_mm)
    return figure


def _row_names(rows: Sequence[LayerActivity]) -> list[str]:
    """The layers; with their phases where an engine has several."""
    several = len({row.phase for row in rows}) > 1
    return [in_picture(row.layer) + (f" {row.phase.replace('_', ' ')}" if several else "") for row in rows]


def _part(row: LayerActivity, part: str) -> int:
    return {
        "compute": row.compute_cycles, "fill": row.fill_cycles, "stall: read": row.stalls.memory_read,
        "stall: write": row.stalls.memory_write, "stall: wait": row.stalls.dependency,
    }[part]  # fmt: skip


def _energy(result: Result, width_mm: float) -> Figure:
    """A stacked bar per engine, by component, and off-chip energy apart."""
    values = {TITLES[e]: {k: 1e6 * j for k, j in result.cost.engine_energy_j(e).items()} for e in ENGINES}
    off = {"offchip": 1e6 * result.cost.offchip_energy_j}
    return _by_component({**values, "off chip (apart)": off}, "energy of a sub-batch (\u00b5J)", width_mm)


def _area(result: Result, width_mm: float) -> Figure:
    """A stacked bar per engine, by component."""
    areas = result.cost.area.to_dict()
    return _by_component(
        {TITLES[e]: {k: um2 / 1e6 for k, um2 in areas[e].items()} for e in ENGINES}, "area (mm\u00b2)", width_mm
    )


def _by_component(rows: Mapping[str, Parts], label: str, width_mm: float) -> Figure:
    """A stacked bar for each row, with its sum behind it."""
    figure, (axis,) = panels(1, width_mm, bars_mm(round(1.5 * len(rows))))
    shown = {_spoken(name): COMPONENTS[name] for name in COMPONENTS if any(name in parts for parts in rows.values())}
    stacked(axis, {name: (look, [_sum(parts, name) for parts in rows.values()]) for name, look in shown.items()})
    name_rows(axis, list(rows))
    _sums(axis, [sum(parts.values()) for parts in rows.values()])
    axis.set_xlabel(label)
    legend(figure, [swatch(look, name) for name, look in shown.items()], width_mm)
    return figure


def _sum(parts: Parts, spoken: str) -> float:
    """Components that have one name in the picture, added up."""
    return sum(value for name, value in parts.items() if _spoken(name) == spoken)


def _spoken(component: str) -> str:
    names = {"soma": "Soma, Grad", "grad": "Soma, Grad", "pe_array": "PE array", "acc": "Acc", "glb": "GLB"}
    return {**names, "offchip": "off chip"}.get(component, component)


def _sums(axis: Axes, sums: Iterable[float]) -> None:
    for row, value in enumerate(sums):
        note(axis, significant(value), (value, row))
    axis.margins(x=0.12)
    few(axis.xaxis)
