"""What Loihi alone has to say of a forward pass: its cores, its layers, where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.document import Table, amount, table

if TYPE_CHECKING:
    from h2sim.rivals.loihi.run import LoihiResult


def verdict(result: LoihiResult) -> str:
    """What a sample takes, and on how many cores."""
    return (
        f"{result.workload.network} on {result.system}: inference takes {amount(result.seconds_per_sample, 's')} and "
        f"{amount(result.energy_j_per_sample, 'J')} a sample, on {result.cores:,} cores of {_chips(result.chips)}."
    )


def lines(result: LoihiResult) -> tuple[str, ...]:
    """How the network lies on the cores, and what the time goes to."""
    return (
        f"{result.samples} samples, {result.masks}; {result.steps} steps a sample for {result.timesteps} timesteps; "
        f"{result.tiles} tiles of a chip in use.",
        f"Time: {_time_shares(result)}. Static power is not in the energy{_static(result)}.",
    )


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


def _chips(chips: int) -> str:
    return "one chip" if chips == 1 else f"{chips} chips"


def _time_shares(result: LoihiResult) -> str:
    parts = {"slowest core": result.compute_seconds, "flight": result.flight_seconds, "barrier": result.barrier_seconds}
    return ", ".join(f"{name} {seconds / result.seconds:.1%}" for name, seconds in parts.items())


def _static(result: LoihiResult) -> str:
    if result.static_energy_j is None:
        return ""
    return f"; leakage would add {amount(result.static_energy_j / result.samples, 'J')} a sample (weak)"
