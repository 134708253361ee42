"""The back-of-envelope estimate beside the simulation: in the terminal, as rows, as a document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from h2sim.compare.estimate import Energy, Estimate, LayerEstimate
from h2sim.compare.simulated import Components, PhaseCost, Simulated
from h2sim.document import Column, Document, Line, Note, Part, Table, amount, table, times
from h2sim.report.words import TITLES

if TYPE_CHECKING:
    from h2sim.result import Result

SCHEMA, SCHEMA_VERSION = "h2sim-estimate", 1
NJ = 1e-3  # nJ per pJ
COUNT_COLUMNS = (
    "ANN ops", "zeta in", "TASA", "SNN ops", "exact", "rate out", "eq. 18", "FP32", "INT32", "ANN FP32",
)  # fmt: skip
CAUSES = ("compute", "registers", "neurons", "buffers", "leakage")


def estimate_document(found: Estimate, measured: Simulated, result: Result) -> Document:
    """What the estimate counts, what the simulation spends in the same layers, and what the whole step takes."""
    chosen = found.assumptions
    rate = f"spike rate of eq. 18 {chosen.spike_rate}"
    parts: list[Part] = [
        Line(f"assumed [A]: encode {chosen.encode}, padding {chosen.padding}, {rate}"),
        _counts(found), _beside(found, measured, result), _step(found, measured, result),
        Line(f"operations: {found.source}, {found.node_nm:g} nm"),
        Line(f"scaled: {found.factor_says}"),
        Line("simulated: FP16 (sums in LUTs), as the machine trains; the estimates know no memory and no leakage"),
    ]  # fmt: skip
    return Document(verdict(found, measured, result), (*parts, *map(Note, found.notes)))


def verdict(found: Estimate, measured: Simulated, result: Result) -> str:
    """The envelope's energy of inference beside the simulated forward pass and the simulated step, nJ per sample."""
    w, envelope = result.workload, found.energy.times(found.factor).fp32_pj
    synthetic = ", SYNTHETIC masks" if w.source == "synthetic" else ""
    work = f"{w.network} on {w.dataset}{synthetic}, T = {found.timesteps}, per sample"
    parts = [f"the estimate says {_joules(envelope)} for inference (FP32 at {found.to_nm:g} nm)"]
    if "forward" in measured.phases:
        forward = measured.phase("forward").components.total_pj
        parts.append(f"the simulation counts {_joules(forward)} for the forward pass{_beyond(forward, envelope)}")
    parts.append(f"{_joules(measured.total_pj)} for the whole step{_beyond(measured.total_pj, envelope)}")
    return f"{work}: {', '.join(parts)}."


def _joules(picojoules: float) -> str:
    return amount(picojoules * 1e-12, "J", 3)


def _beyond(value: float, base: float) -> str:
    return f" ({times(value / base)})" if base else ""


def _counts(found: Estimate) -> Table:
    energy = found.energy
    total = (
        "all", "", "", _kilo(found.ann_flops), "", "", _kilo(found.snn_flops), "", "", _kilo(found.diet_operations),
        _nj(energy.fp32_pj), _nj(energy.int32_pj), _nj(found.ann_energy.fp32_pj),
    )  # fmt: skip
    return table(
        "Back of the envelope: inference, arithmetic alone (k operations and nJ per sample)",
        ["layer", "kind", "does"], COUNT_COLUMNS, [*(_count(row, found.samples) for row in found.layers), total],
        drop=("TASA", "kind", "exact", "ANN FP32", "rate out", "INT32", "zeta in", "eq. 18", "does"),
        elsewhere="--csv FILE",
    )  # fmt: skip


def _count(row: LayerEstimate, n_samples: int) -> tuple[str, ...]:
    exact = "-" if row.accumulates is None else _kilo(row.accumulates / n_samples)
    return (
        row.layer, row.kind, row.operation, _kilo(row.ann_flops), _rate(row.zeta), _rate(row.tasa),
        _kilo(row.snn_flops), exact, _rate(row.spike_rate), _kilo(row.diet_operations),
        _nj(row.energy.fp32_pj), _nj(row.energy.int32_pj), _nj(row.ann_energy.fp32_pj),
    )  # fmt: skip


def _beside(found: Estimate, measured: Simulated, result: Result) -> Table:
    node, rows = f"{found.to_nm:g} nm", []
    for row in found.layers:
        forward = measured.forward(row.layer)
        parts = forward.components if forward else Components()
        rows.append((row.layer, *_pair(row.energy.times(found.factor), parts)))
    if "forward" in measured.phases:
        rows.append(("all", *_pair(found.energy.times(found.factor), measured.phase("forward").components)))
    scaled = (Column(f"{name} {node}", right=True, key=name, drop=drop) for name, drop in (("FP32", 0), ("INT32", 1)))
    causes = [Column(name, right=True, drop=drop) for drop, name in enumerate(CAUSES, start=2)]
    return table(
        f"The same layers, simulated: forward on {result.arch.name}, table {result.energy_table.name} (nJ per sample)",
        ["layer"], [*scaled, *causes, "all", "x FP32"], rows, elsewhere="--csv FILE",
    )  # fmt: skip


def _pair(energy: Energy, parts: Components) -> tuple[str, ...]:
    simulated = (*asdict(parts).values(), parts.total_pj)
    return (_nj(energy.fp32_pj), _nj(energy.int32_pj), *map(_nj, simulated), _times(parts.total_pj, energy.fp32_pj))


def _step(found: Estimate, measured: Simulated, result: Result) -> Table:
    whole, scaled, rows = measured.total_pj, found.energy.times(found.factor).fp32_pj, []
    for phase in measured.phases:
        parts = measured.phase(phase).components
        values = map(_nj, asdict(parts).values())
        share, ratio = _share(parts.total_pj, whole), _times(parts.total_pj, scaled)
        rows.append((TITLES[phase], *values, _nj(parts.total_pj), share, ratio))
    idle = measured.idle_leakage_pj
    rows.append(("Idle", "-", "-", "-", "-", _nj(idle), _nj(idle), _share(idle, whole), _times(idle, scaled)))
    sums = sum((measured.phase(p).components for p in measured.phases), Components())
    causes = asdict(sums) | {"leakage_pj": sums.leakage_pj + idle}
    rows.append(("all", *map(_nj, causes.values()), _nj(whole), _share(whole, whole), _times(whole, scaled)))
    rows.append(("off chip, apart", *[""] * 5, _nj(measured.offchip_pj), "", _times(measured.offchip_pj, scaled)))
    return table(
        "What the estimate leaves out: the whole step, simulated (nJ per sample)",
        ["phase"], [*CAUSES, "all", "share", "x FP32 estimate"], rows, drop=CAUSES, elsewhere="--json FILE",
    )  # fmt: skip


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
