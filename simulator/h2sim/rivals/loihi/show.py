"""Loihi's forward pass for people: totals, events, layers, assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.document import Document, Line, Note, Table, amount, table

if TYPE_CHECKING:
    from h2sim.rivals.loihi.run import LoihiResult


def loihi_document(result: LoihiResult) -> Document:
    """The whole summary of a run on Loihi."""
    verdict = (
        f"{result.workload.network} on {result.system}: inference takes {amount(result.seconds_per_sample, 's')} and "
        f"{amount(result.energy_j_per_sample, 'J')} a sample, on {result.cores:,} cores of {_chips(result.chips)}."
    )
    placed = Line(
        f"{result.samples} samples, {result.masks}; {result.steps} steps a sample for {result.timesteps} timesteps; "
        f"{result.tiles} tiles of a chip in use."
    )
    parts = Line(f"Time: {_time_shares(result)}. Static power is not in the energy{_static(result)}.")
    notes = [Note(line) for line in result.assumptions]
    return Document(verdict, (placed, loihi_layers(result), loihi_events(result), parts, *notes))


def loihi_layers(result: LoihiResult) -> Table:
    """One row a layer, over all samples."""
    names = ["neurons", "cores", "synaptic op.", "active", "inactive", "messages", "hops", "busy us", "energy uJ"]
    rows = [
        (
            row.layer, row.kind, f"{row.neurons:,}", f"{row.cores:,}", f"{row.synaptic_operations:,}",
            f"{row.neurons_active:,}", f"{row.neurons_inactive:,}", f"{row.messages_sent:,}",
            f"{row.hops_east_west + row.hops_north_south:,}", f"{row.busy_seconds * 1e6:.1f}",
            f"{row.energy_pj * 1e-6:.2f}",
        )
        for row in result.layers
    ]  # fmt: skip
    drop = ["kind", "inactive", "hops", "messages"]
    return table("Layers, all samples", ["layer", "kind"], names, rows, drop=drop, elsewhere="--csv FILE")


def loihi_events(result: LoihiResult) -> Table:
    """One row a kind of event, over all samples."""
    rows = []
    for cost in result.events:
        energy_j = cost.energy_pj * 1e-12
        share = energy_j / result.energy_j if result.energy_j else 0.0
        rows.append((cost.event.replace("_", " "), f"{cost.count:,}", f"{energy_j * 1e6:.3f}", f"{share:.1%}"))
    return table("Events, all samples", ["event"], ["count", "energy uJ", "share"], rows)


def _chips(chips: int) -> str:
    return "one chip" if chips == 1 else f"{chips} chips"


def _time_shares(result: LoihiResult) -> str:
    parts = {"slowest core": result.compute_seconds, "flight": result.flight_seconds, "barrier": result.barrier_seconds}
    return ", ".join(f"{name} {seconds / result.seconds:.1%}" for name, seconds in parts.items())


def _static(result: LoihiResult) -> str:
    if result.static_energy_j is None:
        return ""
    return f"; leakage would add {amount(result.static_energy_j / result.samples, 'J')} a sample (weak)"
