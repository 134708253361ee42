"""SpinalFlow's forward pass in the terminal: layers, energy by component, and what is published beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.report.text import new_table
from h2sim.rivals.spinalflow.run import SpinalFlowResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_spinalflow(console: Console, result: SpinalFlowResult) -> None:
    """The whole result: layers, energy, totals, assumptions."""
    meta = result.meta
    console.print(f"{result.machine.name}: forward pass of {meta.network} on {meta.dataset}, {meta.batch} samples")
    console.print(f"energy table: {result.energy_table}")
    for table in (layer_table(result), energy_table(result), total_table(result)):
        console.print()
        console.print(table)
    console.print()
    for line in result.assumptions:
        console.print(f"note: {line}")


def layer_table(result: SpinalFlowResult) -> Table:
    """Cycles, stalls and spikes per layer; a layer that cannot run has none."""
    table = new_table(
        "Layers (cycles; stalls: operands read, results written, waiting for others)",
        ["layer", "kind"],
        ["compute", "fill", "read", "write", "wait", "time us", "spikes in", "spikes out", "off-chip kB"],
    )
    refused = dict(result.unsupported)
    rows = {row.layer: row for row in result.rows}
    for layer in result.meta.layers:
        if layer.name in refused:
            table.add_row(layer.name, layer.kind, *["-"] * 8, "not supported")
            continue
        row = rows[layer.name]
        moved = (row.offchip_read_bytes + row.offchip_write_bytes) / 1e3
        table.add_row(
            row.layer, row.kind, f"{row.compute_cycles:,}", f"{row.fill_cycles:,}", f"{row.stalls.memory_read:,}",
            f"{row.stalls.memory_write:,}", f"{row.stalls.dependency:,}", f"{result.row_seconds(row) * 1e6:,.2f}",
            f"{row.events.sorted_spikes:,}", f"{row.events.output_spikes:,}", f"{moved:,.1f}",
        )  # fmt: skip
    return table


def energy_table(result: SpinalFlowResult) -> Table:
    """On-chip energy per layer and component."""
    names = ["PEs", "sorter", "filter", "input", "output", "leakage", "total"]
    table = new_table("On-chip energy (uJ), by component", ["layer"], names)
    for row in result.rows:
        table.add_row(row.layer, *(f"{pj * 1e-6:,.3f}" for pj in (*row.energy_pj, sum(row.energy_pj))))
    return table


def total_table(result: SpinalFlowResult) -> Table:
    """The whole pass: simulated beside published."""
    published = result.machine.published
    table = new_table("Forward pass", ["what"], ["simulated", "from published figures"])
    power_mw = result.energy_j / result.seconds * 1e3
    rows = [
        ("time", f"{result.seconds * 1e6:,.2f} us", "-"),
        ("average power", f"{power_mw:,.1f} mW", f"{published.power_w * 1e3:,.1f} mW"),
        ("of that leakage", f"{result.leakage_w * 1e3:,.1f} mW", "-"),
        ("energy, on chip", f"{result.energy_j * 1e6:,.2f} uJ", f"{result.published_energy_j * 1e6:,.2f} uJ"),
        ("energy, off chip (apart)", f"{result.offchip_energy_j * 1e6:,.2f} uJ", "-"),
        ("area", f"{result.area_mm2:.3f} mm2", f"{published.area_mm2:.3f} mm2"),
    ]
    for row in rows:
        table.add_row(*row)
    return table
