"""Several chips, for people: how a batch group, shared or one for each chip, scales; tables and a picture."""

from __future__ import annotations

from pathlib import Path

from h2sim.document import Line, Part, Table, percent, table
from h2sim.document.pictures import save_png
from h2sim.io.names import in_picture
from h2sim.result import Chips, ChipsPoint, Result, Scaling

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


def draw_scaling(result: Result, folder: str) -> Path:
    """Writes scaling.png (throughput and efficiency by chips) into a folder (made if missing); returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    chips = result.chips
    if chips is None:
        raise ValueError("expected a result of several chips")
    figure, (throughput, efficiency) = plt.subplots(1, 2, figsize=(10, 4))
    x = [point.n_chips for point in chips.strong.points]
    one = chips.strong.points[0].samples_per_second
    throughput.plot(x, [n * one for n in x], color="#b8b8b8", linestyle="--", label="ideal")
    for name, scaling, colour in (("strong", chips.strong, "#3b6ea5"), ("weak", chips.weak, "#edae49")):
        marker = {"color": colour, "marker": ".", "label": name}
        throughput.plot(x, [point.samples_per_second for point in scaling.points], **marker)
        efficiency.plot(x, [point.efficiency for point in scaling.points], **marker)
    efficiency.axhline(chips.least_efficiency, color="#b8b8b8", linestyle="--", label="worth it")
    for axis, label in ((throughput, "samples per second"), (efficiency, "efficiency")):
        axis.set(xlabel="chips", ylabel=label)
        axis.set_xscale("log", base=2)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8, frameon=False)
    throughput.set_yscale("log")
    efficiency.set_ylim(0, 1.05)
    synthetic = "  (SYNTHETIC masks)" if result.workload.source == "synthetic" else ""
    of = f"{in_picture(result.workload.network)} on {in_picture(result.arch.name)}"
    figure.suptitle(f"Several chips: {of}{synthetic}", x=0.02, ha="left")
    place = Path(folder)
    place.mkdir(exist_ok=True)
    save_png(figure, place / "scaling.png", fitted=True, told=result.hashes)
    return place / "scaling.png"
