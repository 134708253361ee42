"""A run as a document: what the step takes, then engines, layers and the step's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from h2sim.activity import ENGINES, LayerActivity
from h2sim.arch import peak_flops
from h2sim.document import Column, Document, Line, Part, Table, amount, percent, significant, table
from h2sim.document.html import to_html
from h2sim.report.bounds import bound_sentence, bounds_table
from h2sim.report.what_if import WhatIf, what_if_table
from h2sim.report.words import TITLES, source_line

if TYPE_CHECKING:
    from h2sim.result import Result

ENGINE_COLUMNS = (
    "busy", "compute", "fill", "read", "write", "wait", "utilisation", "occupancy", "energy uJ", "area mm2",
)  # fmt: skip
LAYER_COLUMNS = (
    "start", "compute", "fill", "read", "write", "wait", "critical", "occupancy", "off-chip kB", "energy uJ",
)  # fmt: skip


def run_document(
    result: Result, layers: tuple[str, ...], source: dict[str, Any], changes: Sequence[WhatIf] = ()
) -> Document:
    """The whole summary of a run; `layers` narrows the rows shown (empty: all), `source` is the trace's.

    changes: what single changes of the machine would do.
    """
    parts: list[Part] = [Line(_setting(result)), Line(f"trace: {source_line(source)}")]
    bounds = result.activity.bounds
    parts += [bounds_table(bounds.parts)] if bounds else []
    parts += [what_if_table(result, changes)] if changes else []
    parts += [_engines(result), _layers(result, layers), _step(result)]
    parts += [Line(f"note: {note}") for note in result.notes]
    if result.chips:
        from h2sim.report.chips import chips_parts

        parts += chips_parts(result.chips)
    return Document(verdict(result), tuple(parts))


def result_html(result: Result) -> str:
    """The summary as a fragment of HTML, for notebooks."""
    bounds = result.activity.bounds
    parts = (*((bounds_table(bounds.parts),) if bounds else ()), _engines(result), _layers(result, ()), _step(result))
    return to_html(Document(verdict(result), (Line(_setting(result)), *parts)))


def verdict(result: Result) -> str:
    """Time, throughput, energy, power and area of one step, in a sentence."""
    w, cost, n_samples = result.workload, result.cost, result.activity.samples
    synthetic = ", SYNTHETIC masks" if w.source == "synthetic" else ""
    ideal = ", ideal memory" if result.ideal_memory else ""
    time, energy, power = (
        amount(value, unit, 3)
        for value, unit in ((result.steady_seconds, "s"), (cost.energy_j, "J"), (cost.average_power_w, "W"))
    )
    bounds = result.activity.bounds
    bound = f" {bound_sentence(bounds.parts, bounds.ideal_memory_cycles)}" if bounds else ""
    rate, area = significant(result.samples_per_second), significant(cost.area.total_um2 / 1e6)
    return (
        f"{w.network} on {result.arch.name}{synthetic}{ideal}: {time} per sub-batch of {n_samples} "
        f"({rate} samples/s), {energy} on chip, {power}, {area} mm2.{bound}"
    )


def _setting(result: Result) -> str:
    mode = f"Backward Engine mode {result.arch.engines.backward.mode}"
    gating = f"; power gating: {result.arch.power_gating}" if result.arch.power_gating != "none" else ""
    return f"data set: {result.workload.dataset}; {mode}; energy table: {result.energy_table.name}{gating}"


def _engines(result: Result) -> Table:
    areas, rows = result.cost.area.to_dict(), []
    for engine in ENGINES:
        s = result.engine(engine)
        energy = sum(result.cost.engine_energy_j(engine).values()) * 1e6
        cycles = (s.busy_cycles, s.compute_cycles, s.fill_cycles, s.memory_read, s.memory_write, s.dependency)
        shares = (percent(s.utilization, 1), percent(s.occupancy, 1))
        area = sum(areas[engine].values()) / 1e6
        rows.append((TITLES[engine], *(f"{n:,}" for n in cycles), *shares, f"{energy:.2f}", f"{area:.2f}"))
    return table(
        "Engines, one steady sub-batch (cycles)", ["engine"], ENGINE_COLUMNS, rows,
        drop=("fill", "busy", "area mm2", "occupancy", "write", "read"), elsewhere="--json FILE",
    )  # fmt: skip


def _layers(result: Result, layers: tuple[str, ...]) -> Table:
    numbered = enumerate(result.activity.layers)
    return table(
        "Layers (cycles; stalls: operands read, results written, waiting for others)",
        ["layer", "phase", "engine"], LAYER_COLUMNS,
        [_layer(result, number, row) for number, row in numbered if not layers or row.layer in layers],
        drop=("engine", "start", "fill", "off-chip kB", "occupancy", "write", "read"), elsewhere="--csv FILE",
    )  # fmt: skip


def _layer(result: Result, number: int, row: LayerActivity) -> tuple[str, ...]:
    energy = sum(result.cost.layer_energy_pj(number).values()) * 1e-6
    moved = (row.offchip_read_bytes + row.offchip_write_bytes) / 1e3
    occupancy = percent(row.useful_operations / row.peak_operations, 1) if row.peak_operations else "-"
    stalls = (row.stalls.memory_read, row.stalls.memory_write, row.stalls.dependency)
    bounds = result.activity.bounds
    critical = f"{bounds.critical_cycles[number]:,}" if bounds else "-"
    cycles = (f"{n:,}" for n in (row.start_cycle, row.compute_cycles, row.fill_cycles, *stalls))
    return row.layer, row.phase, row.engine, *cycles, critical, occupancy, f"{moved:,.1f}", f"{energy:.3f}"


def _step(result: Result) -> Table:
    a, cost = result.activity, result.cost
    seconds, per_sample = result.steady_seconds, cost.energy_j / max(1, a.samples)
    useful = sum(row.useful_operations for row in a.layers) / seconds if seconds else 0
    rows = [
        ("first sub-batch", f"{a.first_cycles:,} cycles"),
        ("steady state", f"{a.steady_cycles:,} cycles per sub-batch of {a.samples} = {amount(seconds, 's')}"),
        ("throughput", f"{result.samples_per_second:,.0f} samples/s"),
        ("batch group", f"{a.batch_cycles:,} cycles for {a.sub_batches} sub-batches"),
        ("weight update of a group", f"{a.update_cycles:,} cycles of them"),
        ("energy, on chip", f"{amount(cost.energy_j, 'J')} = {amount(per_sample, 'J')} per sample"),
        ("energy, off chip (apart)", amount(cost.offchip_energy_j, "J")),
        ("average power, on chip", amount(cost.average_power_w, "W")),
        ("area", f"{cost.area.total_um2 / 1e6:.2f} mm2"),
        ("peak throughput", f"{peak_flops(result.arch) / 1e12:.2f} TFLOPS (as table 3.6 counts)"),
        ("useful lane operations", f"{useful / 1e12:.2f} T per second (LUT reads, BE pairs)"),
    ]
    return table("Step", ["what", Column("value", prose=True)], [], rows)
