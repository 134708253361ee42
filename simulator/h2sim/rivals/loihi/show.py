"""Loihi's forward pass in the terminal: totals, events, layers, assumptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from h2sim.report.text import new_table

if TYPE_CHECKING:
    from rich.console import Console

    from h2sim.rivals.loihi.run import LoihiResult


def show_loihi(console: Console, result: LoihiResult) -> None:
    """The whole summary of a run on Loihi."""
    synthetic = "SYNTHETIC masks" if result.source == "synthetic" else f"{result.source} masks"
    console.print(f"{result.machine}: {result.network}, inference of {result.samples} samples, {synthetic}")
    console.print(
        f"{result.cores} cores, {result.tiles} tiles of a chip, chips: {result.chips}; "
        f"{result.steps} steps a sample for {result.timesteps} timesteps"
    )
    console.print()
    console.print(loihi_layers(result))
    console.print()
    console.print(loihi_events(result))
    console.print()
    console.print(_time_line(result))
    console.print(f"energy {result.energy_j_per_sample:.3e} J a sample, without static power{_static(result)}")
    for line in result.assumptions:
        console.print(f"note: {line}", soft_wrap=True)


def loihi_layers(result: LoihiResult) -> Table:
    """One row a layer, over all samples."""
    names = ["neurons", "cores", "synaptic op.", "active", "inactive", "messages", "hops", "busy us", "energy uJ"]
    table = new_table("Layers, all samples", ["layer", "kind"], names)
    for row in result.layers:
        hops = row.hops_east_west + row.hops_north_south
        table.add_row(
            row.layer, row.kind, f"{row.neurons:,}", f"{row.cores:,}", f"{row.synaptic_operations:,}",
            f"{row.neurons_active:,}", f"{row.neurons_inactive:,}", f"{row.messages_sent:,}", f"{hops:,}",
            f"{row.busy_seconds * 1e6:.1f}", f"{row.energy_pj * 1e-6:.2f}",
        )  # fmt: skip
    return table


def loihi_events(result: LoihiResult) -> Table:
    """One row a kind of event, over all samples."""
    table = new_table("Events, all samples", ["event"], ["count", "energy uJ", "share"])
    for cost in result.events:
        energy = cost.energy_pj * 1e-12
        share = energy / result.energy_j if result.energy_j else 0.0
        table.add_row(cost.event.replace("_", " "), f"{cost.count:,}", f"{energy * 1e6:.3f}", f"{share:.1%}")
    return table


def _time_line(result: LoihiResult) -> str:
    parts = {"slowest core": result.compute_seconds, "flight": result.flight_seconds, "barrier": result.barrier_seconds}
    shares = ", ".join(f"{name} {seconds / result.seconds:.1%}" for name, seconds in parts.items())
    return f"time {result.seconds_per_sample:.3e} s a sample ({shares})"


def _static(result: LoihiResult) -> str:
    if result.static_energy_j is None:
        return ""
    return f"; leakage would add {result.static_energy_j / result.samples:.3e} J (weak)"
