"""What people read of GPU traces: a line each, or one whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from h2sim.document import Column, Document, Line, Note, Part, Table, amount, counted, percent, significant, table

if TYPE_CHECKING:
    from h2sim.gpu import GpuTrace


def gpu_traces_document(traces: Mapping[str, GpuTrace]) -> Document:
    """Traces by name, a line each; time and energy are per sample."""
    rows = []
    for name, trace in traces.items():
        found = trace.to_measurement()
        rows.append((
            name, trace.origin, trace.device.name, trace.network, trace.implementation, f"{trace.samples:,}",
            amount(found.seconds_per_sample, "s"), amount(found.energy_j_per_sample, "J"),
        ))  # fmt: skip
    listed = table(
        "GPU traces", ["name", "origin", "device", "network", "implementation"],
        ["samples", "time per sample", "energy per sample"], rows,
        drop=("samples", "implementation", "device", "origin", "network"),
    )  # fmt: skip
    measured = sum(trace.origin == "measured" for trace in traces.values())
    verdict = f"{counted(len(traces), 'GPU trace')} shipped, {measured} of them measured and the others published."
    return Document(verdict, (listed,))


def gpu_trace_document(trace: GpuTrace) -> Document:
    """One trace: what it is of, its rows, the step, its energy, versions, sources and notes."""
    found = trace.to_measurement()
    parts: list[Part] = [
        Line(f"data: {trace.dataset}; one {trace.covers} of {trace.samples:,} samples"),
        *([_rows(trace)] if trace.rows else []),
        _step(trace),
    ]
    for title, held in (("versions", trace.software), ("sources", trace.sources)):
        if held:
            parts += [Line(f"{title}:"), *(Line(f"  {name}: {text}") for name, text in held.items())]
    if trace.command:
        parts.append(Line(f"command: {trace.command}"))
    return Document(_verdict(trace), (*parts, *map(Note, dict.fromkeys((*found.assumptions, *trace.notes)))))


def _verdict(trace: GpuTrace) -> str:
    """Time and energy per sample, on what, of what."""
    found, batch = trace.to_measurement(), f", batch {trace.batch}" if trace.batch else ""
    steps = f", T = {trace.timesteps}" if trace.timesteps else ""
    energy = "energy not known" if found.energy_j is None else amount(found.energy_j_per_sample, "J", 3)
    return (
        f"{trace.origin} on {trace.device.name}: {trace.network}{steps}{batch}, {trace.implementation}: "
        f"{amount(found.seconds_per_sample, 's', 3)} and {energy} per sample."
    )


def _rows(trace: GpuTrace) -> Table:
    total = sum(row.seconds for row in trace.rows)
    rows = [
        (
            row.layer, row.phase, f"{row.seconds * 1e3:.4f}", _ms(row.lower_quartile_seconds),
            _ms(row.upper_quartile_seconds), percent(row.seconds / total, 1) if total else "-",
            "-" if row.kernels is None else f"{row.kernels:,}",
            "-" if row.energy_j is None else f"{row.energy_j * 1e3:.3f}",
            "-" if row.flops is None else significant(row.flops / 1e6),
            "-" if row.bytes is None else significant(row.bytes / 1e6),
            "-" if (share := row.roof_share(trace.device)) is None else percent(share, 1),
        )
        for row in trace.rows
    ]  # fmt: skip
    return table(
        "Rows (quartiles where measured)", ["layer", "phase"],
        ["ms", "lower", "upper", "share", "kernels", "mJ", "MFLOP", "MB", "of roof"], rows,
        drop=("kernels", "lower", "upper", "mJ", "MB", "MFLOP", "of roof", "share"),
    )  # fmt: skip


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.4f}"


def _step(trace: GpuTrace) -> Table:
    step, found = trace.step, trace.to_measurement()
    rows = [("time", _seconds(step.seconds)), ("time per sample", _seconds(found.seconds_per_sample))]
    if step.lower_quartile_seconds is not None and step.upper_quartile_seconds is not None:
        quartiles = f"{_seconds(step.lower_quartile_seconds)} to {_seconds(step.upper_quartile_seconds)}"
        rows.append(("quartiles", f"{quartiles} (of {step.repeats} steps)"))
    if step.marked_seconds is not None:
        rows.append(("with marks", f"{_seconds(step.marked_seconds)} ({step.marks_overhead:+.1%})"))
    if trace.rows:
        total = sum(row.seconds for row in trace.rows)
        rows.append(("sum of the rows", f"{_seconds(total)} ({total / (step.marked_seconds or step.seconds):.1%})"))
    rows += [*_energy(trace), *_conditions(trace)]
    if trace.peak_memory_bytes is not None:
        rows.append(("most memory held", f"{trace.peak_memory_bytes / 2**20:,.1f} MiB"))
    for name, value in trace.device:
        if name != "name" and value is not None:
            rows.append((f"device: {name}", f"{value:,.15g}"))
    return table(trace.covers.capitalize(), ["what", Column("value", prose=True)], [], rows)


def _energy(trace: GpuTrace) -> list[tuple[str, str]]:
    rows, found = [], trace.to_measurement()
    if trace.energy is not None:
        held = trace.energy
        rows.append(("energy measured", f"{held.joules:.6g} J ({held.method})"))
        if held.above_idle_joules is not None and held.idle_w is not None:
            rows.append(("energy above idle", f"{held.above_idle_joules:.6g} J (idle {held.idle_w:.1f} W)"))
    if trace.energy is not None and trace.energy.shorter_joules is not None:
        rows.append(("energy, a second window", f"{trace.energy.shorter_joules:.6g} J"))
    if found.energy_j is not None:
        rows.append(("energy compared (see notes)", f"{found.energy_j:.6g} J"))
        rows.append(("energy compared, per sample", f"{found.energy_j / found.samples * 1e3:.6g} mJ"))
    return rows


def _conditions(trace: GpuTrace) -> list[tuple[str, str]]:
    """Clocks, temperature and throttling while energy was measured, where that is known."""
    found = trace.conditions
    if found is None:
        return []
    clocks = (("cores", found.sm_clock_mhz, found.lowest_sm_clock_mhz),
              ("memory", found.memory_clock_mhz, found.lowest_memory_clock_mhz))  # fmt: skip
    rows = [(f"clock of {of}", f"{mid:g} MHz, lowest {low:g}") for of, mid, low in clocks if mid and low]
    if found.temperature_c is not None:
        rows.append(("highest temperature", f"{found.temperature_c:g} C"))
    return [*rows, ("slowed down by", ", ".join(found.throttled) or "nothing that NVML tells")]


def _seconds(value: float) -> str:
    return f"{value:,.3f} s" if value >= 1 else f"{value * 1e3:,.4f} ms"
