"""What people read in the terminal: tables of a result, a verification, a trace, a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from h2sim.activity import ENGINES
from h2sim.arch import Arch, peak_flops

if TYPE_CHECKING:
    from rich.console import Console

    from h2sim.result import Result
    from h2sim.rtl.area import UnitArea
    from h2sim.trace import LayerSummary, Trace
    from h2sim.verify import VerifyReport

TITLES = {"forward": "Forward", "weight_update": "Weight update", "backward": "Backward"}


def new_table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0)
    )
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def summary(console: Console, result: Result, layers: tuple[str, ...], source: dict[str, Any]) -> None:
    """The whole summary of a run; `layers` narrows the rows shown (empty: all)."""
    w = result.workload
    memory = ", ideal memory" if result.ideal_memory else ""
    console.print(
        f"h2sim run: {result.arch.name} ({result.arch.engines.backward.mode}{memory}), {w.network} on {w.dataset}"
    )
    console.print(f"trace: {_source_line(source)}; energy table: {result.energy_table.name}")
    if source.get("batch_norm"):
        console.print("note: the network has batch norm; its arithmetic is not modelled")
    console.print()
    console.print(_engine_table(result))
    console.print()
    console.print(_layer_table(result, layers))
    console.print()
    _step(console, result)


def _source_line(source: dict[str, Any]) -> str:
    kind = source.get("kind")
    if kind == "synthetic":
        return f"SYNTHETIC masks ({source.get('method', 'method not said')}), not from training"
    known = ("framework", "recipe", "epoch", "accuracy", "loss", "readout")
    return f"{kind}" + "".join(f", {name} {source[name]}" for name in known if name in source)


def _engine_table(result: Result) -> Table:
    table = new_table(
        "Engines, one steady sub-batch (cycles)",
        ["engine"],
        ["busy", "compute", "fill", "read", "write", "wait", "utilisation", "occupancy", "energy uJ", "area mm2"],
    )
    areas = result.cost.area.to_dict()
    for engine in ENGINES:
        s = result.engine(engine)
        energy = sum(result.cost.engine_energy_j(engine).values()) * 1e6
        table.add_row(
            TITLES[engine], f"{s.busy_cycles:,}", f"{s.compute_cycles:,}", f"{s.fill_cycles:,}", f"{s.memory_read:,}",
            f"{s.memory_write:,}", f"{s.dependency:,}", f"{s.utilization:.1%}", f"{s.occupancy:.1%}", f"{energy:.2f}",
            f"{sum(areas[engine].values()) / 1e6:.2f}",
        )  # fmt: skip
    return table


def _layer_table(result: Result, layers: tuple[str, ...]) -> Table:
    table = new_table(
        "Layers (stalls: operands read, results written, waiting for others)",
        ["layer", "phase", "engine"],
        ["start", "compute", "fill", "read", "write", "wait", "occupancy", "off-chip kB", "energy uJ"],
    )
    for number, row in enumerate(result.activity.layers):
        if layers and row.layer not in layers:
            continue
        energy = sum(result.cost.layer_energy_pj(number).values()) * 1e-6
        moved = (row.offchip_read_bytes + row.offchip_write_bytes) / 1e3
        occupancy = f"{row.useful_operations / row.peak_operations:.1%}" if row.peak_operations else "-"
        table.add_row(
            row.layer, row.phase, row.engine, f"{row.start_cycle:,}", f"{row.compute_cycles:,}", str(row.fill_cycles),
            f"{row.stalls.memory_read:,}", f"{row.stalls.memory_write:,}", f"{row.stalls.dependency:,}", occupancy,
            f"{moved:,.1f}", f"{energy:.3f}",
        )  # fmt: skip
    return table


def _step(console: Console, result: Result) -> None:
    a, cost, table = result.activity, result.cost, new_table("Step", ["what"], ["value"])
    seconds, per_sample = result.steady_seconds, max(1, a.samples)
    useful = sum(row.useful_operations for row in a.layers)
    rows = [
        ("first sub-batch", f"{a.first_cycles:,} cycles"),
        ("steady state", f"{a.steady_cycles:,} cycles per sub-batch of {a.samples} = {seconds * 1e6:,.2f} us"),
        ("throughput", f"{result.samples_per_second:,.0f} samples/s"),
        (f"batch of {a.sub_batches} sub-batches", f"{a.batch_cycles:,} cycles, {a.update_cycles:,} of them the update"),
        ("energy, on chip", f"{cost.energy_j * 1e6:,.2f} uJ = {cost.energy_j * 1e6 / per_sample:,.2f} uJ per sample"),
        ("energy, off chip (apart)", f"{cost.offchip_energy_j * 1e6:,.2f} uJ"),
        ("average power, on chip", f"{cost.average_power_w:.3f} W"),
        ("area", f"{cost.area.total_um2 / 1e6:.2f} mm2"),
        ("peak throughput", f"{peak_flops(result.arch) / 1e12:.2f} TFLOPS (as table 3.6 counts)"),
        (
            "useful lane operations",
            f"{useful / seconds / 1e12 if seconds else 0:.2f} T per second (LUT reads, BE pairs)",
        ),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)


def verify_table(console: Console, report: VerifyReport) -> None:
    """Largest difference per layer and quantity."""
    table = new_table(
        "Values through the engines' data paths against the trace",
        ["layer", "quantity"],
        ["checked", "wrong", "undecided", "largest difference", "tolerance", ""],
    )
    for row in report.rows:
        table.add_row(
            row.layer, row.quantity, f"{row.checked:,}", f"{row.wrong:,}", f"{row.undecided:,}",
            f"{row.max_difference:.3g}", f"{row.tolerance:.3g}", "ok" if row.passed else "WRONG",
        )  # fmt: skip
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}")
    console.print(report.headline)


def trace_table(console: Console, trace: Trace, rows: list[LayerSummary]) -> None:
    """Spike rate and sparsities per layer."""
    meta = trace.meta
    console.print(f"{trace.path.name}: {meta.network} on {meta.dataset}, T = {meta.timesteps}, batch {meta.batch}")
    console.print(f"source: {_source_line(meta.source)}")
    values = "with values" if trace.has_values else "masks only: cannot be verified"
    console.print(f"phases: {', '.join(meta.phases)}; {values}")
    console.print()
    table = new_table(
        "Output sparsity: neurons outside the window; input sparsity: dm = 0",
        ["layer", "kind", "shape"],
        ["neurons", "spike rate", "output sp.", "input sp.", "samples without gradient"],
    )
    for row in rows:
        shape = "x".join(map(str, row.out_shape))
        shares = [percent(v) for v in (row.spike_rate, row.output_sparsity, row.input_sparsity)]
        silent = "-" if row.samples_without_gradient is None else f"{row.samples_without_gradient} of {meta.batch}"
        table.add_row(row.layer, row.kind, shape, f"{row.neurons:,}", *shares, silent)
    console.print(table)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def arch_table(console: Console, machines: list[Arch]) -> None:
    """Machines, a line each."""
    table = new_table("Machines", ["name", "forward", "weight update", "backward"], ["clock MHz", "peak TFLOPS"])
    for arch in machines:
        sizes = [f"{e.rows}x{e.columns}x{e.parallelism}" for e in (getattr(arch.engines, name) for name in ENGINES)]
        table.add_row(arch.name, *sizes, f"{arch.clock_hz / 1e6:g}", f"{peak_flops(arch) / 1e12:.2f}")
    console.print(table)


def keys_table(console: Console, keys: dict[str, str]) -> None:
    """Keys and their meanings."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("key", no_wrap=True)
    table.add_column("meaning")
    for key, meaning in keys.items():
        table.add_row(key, meaning)
    console.print(table)


def rtl_table(console: Console, rows: list[tuple[str, str, int, int]], cycles: int, mutations: dict) -> None:
    """What a co-simulation found: (engine, kind of layer, cases, disagreeing cases) and the mutations' counts."""
    table = new_table("RTL against the simulator", ["engine", "layer"], ["cases", "disagree"])
    for engine, kind, cases, wrong in rows:
        table.add_row(TITLES[engine], kind, f"{cases:,}", str(wrong))
    console.print(table)
    total, wrong = sum(row[2] for row in rows), sum(row[3] for row in rows)
    console.print(f"{total:,} cases, {wrong} disagree; {cycles:,} RTL cycles")
    if mutations:
        table = new_table("Mutations of the simulator", ["engine", "mutation"], ["cases that notice"])
        for engine, noticed in mutations.items():
            for name, count in noticed.items():
                table.add_row(TITLES[engine], name, f"{count:,}")
        console.print()
        console.print(table)


def unit_area_table(console: Console, rows: list[UnitArea], charged: dict[str, float]) -> None:
    """Synthesised units: cells and flip-flops of one, how many, um2 where cells have areas, what the table charges."""
    right = ["instances", "cells", "flip-flops", "um2", "all, mm2", "table, um2"]
    table = new_table("Units, synthesised one by one", ["unit"], right)
    for row in rows:
        area = (
            ("-", "-")
            if row.area_um2 is None
            else (f"{row.area_um2:,.1f}", f"{row.area_um2 * row.instances / 1e6:.3f}")
        )
        table.add_row(
            row.module, f"{row.instances:,}", f"{row.cells:,}", f"{row.flip_flops:,}", *area, _um2(charged, row)
        )
    console.print(table)


def _um2(charged: dict[str, float], row: UnitArea) -> str:
    return f"{charged[row.module]:,.0f}" if row.module in charged else "-"
