"""SpinalFlow's forward pass for people: layers, energy by component, and what is published beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.document import Document, Note, Table, amount, table
from h2sim.rivals.spinalflow.schema import SECONDARY

if TYPE_CHECKING:
    from h2sim.rivals.spinalflow.run import SpinalFlowResult


def spinalflow_document(result: SpinalFlowResult) -> Document:
    """The whole result: layers, energy, totals, assumptions."""
    meta = result.meta
    left_out = f"; {len(result.left_out)} of {len(meta.layers)} layers left out" if result.left_out else ""
    verdict = (
        f"{meta.network} on {result.system} ({SECONDARY}): the forward pass of {meta.batch} samples takes "
        f"{amount(result.seconds, 's')} and {amount(result.energy_j, 'J')} on chip, on {result.area_mm2:.3f} mm2"
        f"{left_out}."
    )
    notes = [Note(line) for line in (f"{result.masks}; energy table: {result.prices.name}", *result.assumptions)]
    return Document(verdict, (layer_table(result), energy_table(result), total_table(result), *notes))


def layer_table(result: SpinalFlowResult) -> Table:
    """Cycles, stalls and spikes per layer; a layer that cannot run has none."""
    refused, rows = dict(result.left_out), {row.layer: row for row in result.rows}
    lines = []
    for layer in result.meta.layers:
        if layer.name in refused:
            lines.append([layer.name, layer.kind, *["-"] * 8, "not supported"])
            continue
        row = rows[layer.name]
        lines.append([
            row.layer, row.kind, f"{row.compute_cycles:,}", f"{row.fill_cycles:,}", f"{row.stalls.memory_read:,}",
            f"{row.stalls.memory_write:,}", f"{row.stalls.dependency:,}", f"{result.row_seconds(row) * 1e6:,.2f}",
            f"{row.events.sorted_spikes:,}", f"{row.events.output_spikes:,}", f"{row.offchip_bytes / 1e3:,.1f}",
        ])  # fmt: skip
    return table(
        "Layers (cycles; stalls: operands read, results written, waiting for others)",
        ["layer", "kind"],
        ["compute", "fill", "read", "write", "wait", "time us", "spikes in", "spikes out", "off-chip kB"],
        lines,
        drop=["kind", "fill", "off-chip kB", "spikes out"],
        elsewhere="--csv FILE",
    )


def energy_table(result: SpinalFlowResult) -> Table:
    """On-chip energy per layer and component."""
    names = ["PEs", "sorter", "filter", "input", "output", "leakage", "total"]
    rows = [(r.layer, *(f"{pj * 1e-6:,.3f}" for pj in (*r.energy_pj, sum(r.energy_pj)))) for r in result.rows]
    return table("On-chip energy (uJ), by component", ["layer"], names, rows)


def total_table(result: SpinalFlowResult) -> Table:
    """The whole pass: simulated beside published."""
    published = result.machine.published
    power_mw = result.energy_j / result.seconds * 1e3
    rows = [
        ("time", f"{result.seconds * 1e6:,.2f} us", "-"),
        ("average power", f"{power_mw:,.1f} mW", f"{published.power_w * 1e3:,.1f} mW"),
        ("of that leakage", f"{result.leakage_w * 1e3:,.1f} mW", "-"),
        ("energy, on chip", f"{result.energy_j * 1e6:,.2f} uJ", f"{result.published_energy_j * 1e6:,.2f} uJ"),
        ("energy, off chip (apart)", f"{result.offchip_energy_j * 1e6:,.2f} uJ", "-"),
        ("area", f"{result.area_mm2:.3f} mm2", f"{published.area_mm2:.3f} mm2"),
    ]
    return table("Forward pass", ["what"], ["simulated", "from published figures"], rows)
