"""A rival's step for people, the same report for all: layers, energy, the bill, totals beside what is published."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from h2sim.document import Document, Line, Note, Part, Table, amount, counted, percent, significant, table
from h2sim.rivals.prices import LEAKAGE

if TYPE_CHECKING:
    from h2sim.rivals.result import RivalResult
    from h2sim.rivals.rows import Row


def rival_document(result: RivalResult) -> Document:
    """The whole result: verdict, what the machine says of itself, tables, and what to know of the figures."""
    parts: list[Part] = [Line(line) for line in result.lines()]
    parts += [*_layers(result), *result.tables(), _energy(result), _bill(result), _totals(result)]
    notes = (f"{result.masks}; prices: {result.prices.name}", *result.assumptions)
    return Document(result.verdict(), (*parts, *map(Note, notes)))


def verdict(result: RivalResult) -> str:
    """What a step takes, on what basis, and how much of the network it is."""
    t = result.totals()
    what = "the training step" if len(result.phases) == 3 else f"the {', '.join(map(_spoken, result.phases))} pass"
    basis = f", {result.basis}" if result.basis else ""
    left_out = f"; {counted(len(result.left_out), 'layer')} left out" if result.left_out else ""
    area_mm2 = 1e-6 * math.fsum(t.area_um2.values())
    return (
        f"{result.workload.network} on {result.system}{basis}: {what} of {counted(result.samples, 'sample')} takes "
        f"{amount(t.seconds, 's')} and {amount(t.energy_j, 'J')} on chip, on {area_mm2:.3f} mm2{left_out}."
    )


def _spoken(phase: str) -> str:
    return phase.replace("_", " ")


def _layers(result: RivalResult) -> Iterator[Table]:
    """Cycles, stalls, time and bytes of every row; a layer that cannot run has none. Nothing without a clock."""
    rows = result.to_rows()
    if not all(row.cycles for row in rows):
        return
    lines = [*map(_layer, rows), *((name, "all", *["-"] * 7, "not supported") for name, _ in result.left_out)]
    basis = f"; {result.basis}" if result.basis else ""
    yield table(
        f"Layers (cycles; stalls: operands read, results written, waiting for others{basis})",
        ["layer", "phase"],
        ["compute", "fill", "read", "write", "wait", "time us", "energy uJ", "off-chip kB"],
        lines,
        drop=["fill", "off-chip kB", "energy uJ"],
        elsewhere="--csv FILE",
    )


def _layer(row: Row) -> tuple[str, ...]:
    c = row.cycles
    assert c is not None
    moved = row.offchip_read_bytes + row.offchip_write_bytes
    return (
        row.layer, _spoken(row.phase), f"{c.compute:,}", f"{c.fill:,}", f"{c.stalls.memory_read:,}",
        f"{c.stalls.memory_write:,}", f"{c.stalls.dependency:,}", f"{row.seconds * 1e6:,.2f}",
        f"{math.fsum(row.energy_pj.values()) * 1e-6:,.3f}", f"{moved / 1e3:,.1f}",
    )  # fmt: skip


def _energy(result: RivalResult) -> Table:
    """On-chip energy by component, of the whole step."""
    t = result.totals()
    rows = [(name.replace("_", " "), amount(joule, "J"), percent(joule / t.energy_j if t.energy_j else None))
            for name, joule in t.energy_by_component_j.items()]  # fmt: skip
    return table("On-chip energy, by component", ["component"], ["energy", "share"], rows)


def _bill(result: RivalResult) -> Table:
    """What happened, how often, at what price; what has no sourced price is told, and is in no energy."""
    rows = [
        (line.component.replace("_", " "), line.action.replace("_", " "), f"{line.count:,}",
         significant(line.unit_pj, 4), f"{line.energy_pj * 1e-6:,.3f}")
        for line in result.bill()
    ]  # fmt: skip
    rows += [(u.component, u.action.replace("_", " "), f"{u.number:,}", "unpriced", "-") for u in result.unpriced]
    return table(
        "The bill: count x price of every event, all samples",
        ["component", "event"], ["count", "pJ each", "energy uJ"], rows,
        drop=["pJ each"], elsewhere="--json FILE",
    )  # fmt: skip


def _leakage_w(result: RivalResult) -> float | None:
    """None for a machine whose leakage is in no figure."""
    t = result.totals()
    joule = t.energy_by_component_j.get(LEAKAGE)
    return None if joule is None or not t.seconds else joule / t.seconds


def _totals(result: RivalResult) -> Table:
    """The whole step: simulated beside published."""
    t, told = result.totals(), result.published
    told_energy = amount(told["energy_j"], "J") if "energy_j" in told else "-"
    rows = [
        ("time", amount(t.seconds, "s"), "-"),
        ("average power", amount(t.energy_j / t.seconds if t.seconds else None, "W"), amount(told.get("power_w"), "W")),
        ("of that leakage", amount(_leakage_w(result), "W"), "-"),
        ("energy, on chip", amount(t.energy_j, "J"), told_energy),
        ("energy, off chip (apart)", amount(t.offchip_energy_j, "J"), "-"),
        ("area", f"{math.fsum(t.area_um2.values()) * 1e-6:.3f} mm2",
         f"{told['area_mm2']:.3f} mm2" if "area_mm2" in told else "-"),
    ]  # fmt: skip
    return table("Step", ["what"], ["simulated", "from published figures"], rows)
