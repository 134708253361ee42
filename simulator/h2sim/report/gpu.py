"""What people read of GPU traces: a line each, or one whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.report.text import new_table

if TYPE_CHECKING:
    from rich.console import Console

    from h2sim.gpu import GpuTrace


def gpu_traces_table(console: Console, traces: dict[str, GpuTrace]) -> None:
    """Traces by name, a line each; time and energy are per sample."""
    right = ["samples", "ms per sample", "mJ per sample"]
    table = new_table("GPU traces", ["name", "origin", "device", "network", "implementation"], right)
    for name, trace in traces.items():
        found = trace.to_measurement()
        energy = found.energy_j_per_sample
        table.add_row(
            name, trace.origin, trace.device.name, trace.network, trace.implementation, f"{trace.samples:,}",
            f"{found.seconds_per_sample * 1e3:.4f}", "-" if energy is None else f"{energy * 1e3:.2f}",
        )  # fmt: skip
    console.print(table)


def gpu_trace_report(console: Console, trace: GpuTrace) -> None:
    """One trace: what it is of, its rows, the step, its energy, versions, sources and notes."""
    batch = f", batch {trace.batch}" if trace.batch else ""
    steps = f", T = {trace.timesteps}" if trace.timesteps else ""
    console.print(f"{trace.origin} on {trace.device.name}: {trace.network}{steps}{batch}, {trace.implementation}")
    console.print(f"data: {trace.dataset}; one {trace.covers} of {trace.samples:,} samples")
    if trace.rows:
        console.print()
        console.print(_rows(trace))
    console.print()
    console.print(_step(trace))
    for title, held in (("versions", trace.software), ("sources", trace.sources)):
        if held:
            console.print(f"\n{title}:")
            for name, text in held.items():
                console.print(f"  {name}: {text}")
    if trace.command:
        console.print(f"\ncommand: {trace.command}")
    console.print()
    for note in dict.fromkeys((*trace.to_measurement().assumptions, *trace.notes)):
        console.print(f"note: {note}")


def _rows(trace: GpuTrace):
    total = sum(row.seconds for row in trace.rows)
    table = new_table(
        "Rows (quartiles where measured)", ["layer", "phase"], ["ms", "lower", "upper", "share", "kernels", "mJ"]
    )
    for row in trace.rows:
        table.add_row(
            row.layer, row.phase, f"{row.seconds * 1e3:.4f}", _ms(row.lower_quartile_seconds),
            _ms(row.upper_quartile_seconds), f"{row.seconds / total:.1%}" if total else "-",
            "-" if row.kernels is None else f"{row.kernels:,}",
            "-" if row.energy_j is None else f"{row.energy_j * 1e3:.3f}",
        )  # fmt: skip
    return table


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.4f}"


def _step(trace: GpuTrace):
    step, found = trace.step, trace.to_measurement()
    table = new_table(trace.covers.capitalize(), ["what"], ["value"])
    rows = [("time", _seconds(step.seconds)), ("time per sample", _seconds(found.seconds_per_sample))]
    if step.lower_quartile_seconds is not None and step.upper_quartile_seconds is not None:
        quartiles = f"{_seconds(step.lower_quartile_seconds)} to {_seconds(step.upper_quartile_seconds)}"
        rows.append((f"quartiles of {step.repeats}", quartiles))
    if step.marked_seconds is not None:
        rows.append(("with marks", f"{_seconds(step.marked_seconds)} ({step.marks_overhead:+.1%})"))
    if trace.rows:
        total = sum(row.seconds for row in trace.rows)
        rows.append(("sum of the rows", f"{_seconds(total)} ({total / (step.marked_seconds or step.seconds):.1%})"))
    rows += _energy(trace)
    if trace.peak_memory_bytes is not None:
        rows.append(("most memory held", f"{trace.peak_memory_bytes / 2**20:,.1f} MiB"))
    for name, value in trace.device:
        if name != "name" and value is not None:
            rows.append((f"device: {name}", f"{value:g}"))
    for row in rows:
        table.add_row(*row)
    return table


def _energy(trace: GpuTrace) -> list[tuple[str, str]]:
    rows, found = [], trace.to_measurement()
    if trace.energy is not None:
        held = trace.energy
        rows.append(("energy measured", f"{held.joules:.6g} J ({held.method})"))
        if held.above_idle_joules is not None and held.idle_w is not None:
            rows.append(("energy above idle", f"{held.above_idle_joules:.6g} J (idle {held.idle_w:.1f} W)"))
    if found.energy_j is not None:
        rows.append(("energy compared (see notes)", f"{found.energy_j:.6g} J"))
        rows.append(("energy compared, per sample", f"{found.energy_j / found.samples * 1e3:.6g} mJ"))
    return rows


def _seconds(value: float) -> str:
    return f"{value:,.3f} s" if value >= 1 else f"{value * 1e3:,.4f} ms"
