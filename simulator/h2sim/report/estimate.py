"""The back-of-envelope estimate beside the simulation: in the terminal, as rows, as a document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from h2sim.compare.estimate import Energy, Estimate, LayerEstimate
from h2sim.compare.simulated import Components, PhaseCost, Simulated
from h2sim.report.text import TITLES, new_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from h2sim.result import Result

SCHEMA, SCHEMA_VERSION = "h2sim-estimate", 1
NJ = 1e-3  # nJ per pJ


def estimate_tables(console: Console, found: Estimate, measured: Simulated, result: Result) -> None:
    """What the estimate counts, what the simulation spends in the same layers, and what the whole step takes."""
    w, chosen = result.workload, found.assumptions
    console.print(f"h2sim estimate: {w.network} on {w.dataset} ({w.source}), T = {found.timesteps}, nJ per sample")
    console.print(
        f"assumed [A]: encode {chosen.encode}, padding {chosen.padding}, spike rate of eq. 18 {chosen.spike_rate}"
    )
    console.print()
    console.print(_counts(found))
    console.print()
    console.print(_beside(found, measured, result))
    console.print()
    console.print(_step(found, measured, result))
    console.print()
    console.print(f"operations: {found.source}, {found.node_nm:g} nm")
    console.print(f"scaled: {found.factor_says}")
    console.print("simulated: FP16 (sums in LUTs), as the machine trains; the estimates know no memory and no leakage")
    for note in found.notes:
        console.print(f"note: {note}")


def _counts(found: Estimate) -> Table:
    table = new_table(
        "Back of the envelope: inference, arithmetic alone (k operations and nJ per sample)",
        ["layer", "kind", "does"],
        ["ANN ops", "zeta in", "TASA", "SNN ops", "exact", "rate out", "eq. 18", "FP32", "INT32", "ANN FP32"],
    )
    for row in found.layers:
        exact = "-" if row.accumulates is None else _kilo(row.accumulates / found.samples)
        table.add_row(
            row.layer, row.kind, row.operation, _kilo(row.ann_flops), _rate(row.zeta), _rate(row.tasa),
            _kilo(row.snn_flops), exact, _rate(row.spike_rate), _kilo(row.diet_operations),
            _nj(row.energy.fp32_pj), _nj(row.energy.int32_pj), _nj(row.ann_energy.fp32_pj),
        )  # fmt: skip
    energy = found.energy
    table.add_row(
        "all", "", "", _kilo(found.ann_flops), "", "", _kilo(found.snn_flops), "", "", _kilo(found.diet_operations),
        _nj(energy.fp32_pj), _nj(energy.int32_pj), _nj(found.ann_energy.fp32_pj),
    )  # fmt: skip
    return table


def _beside(found: Estimate, measured: Simulated, result: Result) -> Table:
    node = f"{found.to_nm:g} nm"
    table = new_table(
        f"The same layers, simulated: forward on {result.arch.name}, table {result.energy_table.name} (nJ per sample)",
        ["layer"],
        [f"FP32 {node}", f"INT32 {node}", "compute", "registers", "neurons", "buffers", "leakage", "all", "x FP32"],
    )
    for row in found.layers:
        forward = measured.forward(row.layer)
        parts = forward.components if forward else Components()
        table.add_row(row.layer, *_pair(row.energy.times(found.factor), parts))
    if "forward" in measured.phases:
        total = measured.phase("forward").components
        table.add_row("all", *_pair(found.energy.times(found.factor), total))
    return table


def _pair(energy: Energy, parts: Components) -> tuple[str, ...]:
    simulated = (*asdict(parts).values(), parts.total_pj)
    return (_nj(energy.fp32_pj), _nj(energy.int32_pj), *map(_nj, simulated), _times(parts.total_pj, energy.fp32_pj))


def _step(found: Estimate, measured: Simulated, result: Result) -> Table:
    table = new_table(
        "What the estimate leaves out: the whole step, simulated (nJ per sample)",
        ["phase"],
        ["compute", "registers", "neurons", "buffers", "leakage", "all", "share", "x FP32 estimate"],
    )
    whole, scaled = measured.total_pj, found.energy.times(found.factor).fp32_pj
    for phase in measured.phases:
        parts = measured.phase(phase).components
        values = map(_nj, asdict(parts).values())
        share, times = _share(parts.total_pj, whole), _times(parts.total_pj, scaled)
        table.add_row(TITLES[phase], *values, _nj(parts.total_pj), share, times)
    idle = measured.idle_leakage_pj
    table.add_row("Idle", "-", "-", "-", "-", _nj(idle), _nj(idle), _share(idle, whole), _times(idle, scaled))
    sums = sum((measured.phase(p).components for p in measured.phases), Components())
    causes = asdict(sums) | {"leakage_pj": sums.leakage_pj + idle}
    table.add_row("all", *map(_nj, causes.values()), _nj(whole), _share(whole, whole), _times(whole, scaled))
    table.add_row("off chip, apart", *[""] * 5, _nj(measured.offchip_pj), "", _times(measured.offchip_pj, scaled))
    return table


def _kilo(operations: float) -> str:
    return f"{operations / 1e3:,.1f}" if operations else "-"


def _nj(picojoules: float) -> str:
    return f"{picojoules * NJ:,.2f}" if picojoules else "-"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _times(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"


def _share(value: float, whole: float) -> str:
    return f"{value / whole:.1%}" if whole else "-"


def layer_rows(found: Estimate, measured: Simulated) -> list[dict[str, Any]]:
    """One flat row per layer: the estimate's columns, its energy at both nodes, the simulated forward pass."""
    return [_flat(row, found, measured.forward(row.layer)) for row in found.layers]


def _flat(row: LayerEstimate, found: Estimate, forward: PhaseCost | None) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(row).items() if name not in ("energy", "ann_energy")}
    scaled = row.energy.times(found.factor)
    beside = asdict(forward.components) if forward else asdict(Components())
    return {
        **plain,
        "energy_fp32_pj": row.energy.fp32_pj,
        "energy_int32_pj": row.energy.int32_pj,
        "ann_energy_fp32_pj": row.ann_energy.fp32_pj,
        "ann_energy_int32_pj": row.ann_energy.int32_pj,
        "scaled_energy_fp32_pj": scaled.fp32_pj,
        "scaled_energy_int32_pj": scaled.int32_pj,
        **{f"simulated_{name}": value for name, value in beside.items()},
        "simulated_forward_pj": forward.components.total_pj if forward else 0.0,
        "simulated_offchip_pj": forward.offchip_pj if forward else 0.0,
    }


def to_dict(found: Estimate, measured: Simulated, result: Result) -> dict[str, Any]:
    """The h2sim-estimate document: plain dicts, units in the keys; everything per sample but spikes and accumulates."""
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "workload": asdict(result.workload),
        "arch": {"name": result.arch.name, "sha256": result.arch_sha256},
        "energy_table": {"name": result.energy_table.name, "sha256": result.energy_table.sha256},
        "samples": found.samples,
        "timesteps": found.timesteps,
        "assumptions": found.assumptions.model_dump(),
        "source": found.source,
        "node_nm": found.node_nm,
        "scaled_to_nm": found.to_nm,
        "scaling": {"factor": found.factor, "source": found.factor_says},
        "notes": list(found.notes),
        "layers": layer_rows(found, measured),
        "totals": {
            "ann_flops": found.ann_flops,
            "snn_flops": found.snn_flops,
            "diet_operations": found.diet_operations,
            "energy": asdict(found.energy),
            "ann_energy": asdict(found.ann_energy),
            "scaled_energy": asdict(found.energy.times(found.factor)),
        },
        "simulated": {
            "phases": {p: asdict(measured.phase(p).components) for p in measured.phases},
            "idle_leakage_pj": measured.idle_leakage_pj,
            "total_pj": measured.total_pj,
            "offchip_pj": measured.offchip_pj,
        },
    }
