"""Several chips, for people: how a batch group, shared or one for each chip, scales; tables and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from h2sim.document import Line, Part, Table, percent, table
from h2sim.document.pictures import PNG, Plots, draw_picture
from h2sim.document.style import IDEAL, SCALING, THEIRS
from h2sim.io.names import in_picture
from h2sim.result import Chips, ChipsPoint, Result, Scaling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "chips", "idle", "sub-batches", "cycles", "samples/s", "speedup", "efficiency", "all-reduce", "on chip",
    "memories", "links",
)  # fmt: skip
TITLES = {
    "strong": "strong scaling: one batch group shared among all chips",
    "weak": "weak scaling: a batch group for each chip",
}


def chips_parts(chips: Chips) -> tuple[Part, ...]:
    """The links, both tables, and for each where more chips stop paying."""
    strong, weak = (_table(TITLES[name], scaling) for name, scaling in (("strong", chips.strong), ("weak", chips.weak)))
    return Line(_links(chips)), strong, weak


def _links(chips: Chips) -> str:
    gradients = f"{chips.gradient_bytes / 1e6:,.3f} MB of weight gradients"
    links = chips.interconnect
    if links is None:
        return f"Several chips: no interconnect; {gradients}"
    return (
        f"Several chips: ring all-reduce of {gradients}; links of {links.link_bytes_per_s / 1e9:g} GB/s each way, "
        f"{links.hop_cycles:,} cycles a hop, {links.energy_pj_per_bit:g} pJ/bit"
    )


def _table(title: str, scaling: Scaling) -> Table:
    return table(
        f"{title[0].upper()}{title[1:]}; energy per sample, uJ", [], COLUMNS, [_row(p) for p in scaling.shown],
        drop=("idle", "sub-batches", "all-reduce", "cycles", "links", "memories"), foot=(_verdict(scaling),),
        elsewhere="--json FILE",
    )  # fmt: skip


def _row(p: ChipsPoint) -> tuple[str, ...]:
    energies = [f"{1e6 * j / p.samples:,.2f}" for j in (p.energy_j, p.offchip_energy_j, p.link_energy_j)]
    counts = [f"{n:,}" for n in (p.n_chips, p.n_chips - p.working_chips, p.sub_batches_per_chip, p.cycles)]
    speed = (f"{p.samples_per_second:,.0f}", f"{p.speedup:.2f}")
    return (*counts, *speed, percent(p.efficiency, 1), percent(_share(p), 1), *energies)


def _share(point: ChipsPoint) -> float:
    """The all-reduce's part of the cycles."""
    return point.all_reduce_cycles / point.cycles if point.cycles else 0.0


def _verdict(scaling: Scaling) -> str:
    """Where it stops paying, of all numbers of chips up to the last, not only those in the table."""
    fastest, worth, asked = scaling.fastest, scaling.last_worth, len(scaling.points)
    more = ", all that were asked for" if fastest.n_chips == asked else ""
    return (
        f"highest throughput: {fastest.n_chips} chips{more}, {fastest.samples_per_second:,.0f} samples/s; "
        f"efficiency of at least {scaling.least_efficiency:.0%}: up to {worth.n_chips} chips"
    )


def draw_scaling(result: Result, folder: str, plots: Plots = PNG) -> list[Path]:
    """Draws scaling (throughput and efficiency by chips) into a folder (made if missing); returns the files' paths."""
    chips = result.chips
    if chips is None:
        raise ValueError("expected a result of several chips")
    place = Path(folder)
    place.mkdir(exist_ok=True)
    synthetic = "  (SYNTHETIC masks)" if result.workload.source == "synthetic" else ""
    title = f"Several chips: {in_picture(result.workload.network)} on {in_picture(result.arch.name)}{synthetic}"
    return draw_picture(lambda width: _scaling(chips, width), place / "scaling", plots, title=title, told=result.hashes)


def _scaling(chips: Chips, width_mm: float) -> Figure:
    from h2sim.document.drawing import doubling, few, legend, line_look, logarithmic, panels, stroke

    figure, (throughput, efficiency) = panels(2, width_mm, 55.0)
    x = [point.n_chips for point in chips.strong.points]
    one = chips.strong.points[0].samples_per_second
    throughput.plot(x, [n * one / 1e3 for n in x], **line_look(IDEAL))
    for name, scaling in (("strong", chips.strong), ("weak", chips.weak)):
        look = line_look(SCALING[name], markersize=3.0 if len(x) <= 32 else 0.0)
        throughput.plot(x, [point.samples_per_second / 1e3 for point in scaling.points], **look)
        efficiency.plot(x, [point.efficiency for point in scaling.points], **look)
    efficiency.axhline(chips.least_efficiency, **line_look(THEIRS, marker=""))
    for axis, label in ((throughput, "thousand samples per second"), (efficiency, "efficiency")):
        axis.set(xlabel="chips", ylabel=label)
        doubling(axis, "x", x)
    logarithmic(throughput, "y")
    efficiency.set_ylim(0, 1.05)
    few(efficiency.yaxis)
    entries = [stroke(SCALING[name], f"{name} scaling") for name in ("strong", "weak")]
    entries += [stroke(IDEAL, "ideal"), stroke(THEIRS, "still worth it", marker="")]
    legend(figure, entries, width_mm)
    return figure
