"""A GPU trace as a Measurement: which energy counts, what is taken out of it, and what a reader must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2sim.compare.measurement import Measurement, Part

if TYPE_CHECKING:
    from h2sim.gpu.trace import GpuTrace


def as_measurement(trace: GpuTrace) -> Measurement:
    """The trace as a Measurement: the time of the whole step, and the energy that energy_without_memory gives."""
    energy_j, notes = energy_without_memory(trace)
    parts = tuple(Part(row.layer, row.phase, row.seconds, row.energy_j) for row in trace.rows if row.phase != "other")
    return Measurement(
        system=trace.device.name,
        kind="published" if trace.origin == "published" else "measured",
        network=trace.network,
        samples=trace.samples,
        seconds=trace.step.seconds,
        energy_j=energy_j,
        area_mm2=trace.device.area_mm2,
        node_nm=trace.device.node_nm,
        phases=trace.phases,
        parts=parts,
        assumptions=(*_times(trace), *notes, *trace.notes),
    )


def energy_without_memory(trace: GpuTrace) -> tuple[float | None, tuple[str, ...]]:
    """(energy of the step without external memory in J, notes for the reader).

    Energy of the step: as measured, else power limit x time [A]. Energy of the external memory: its power at full
    bandwidth x time x the share of the time in which it was busy (1 where that was not measured) [A]. That is the most
    that the memory can take, so the difference is the least that the GPU takes. The energy is None where neither energy
    nor power limit is known, and where the difference would not be positive. Where the memory's power is not known,
    nothing is subtracted.
    """
    device, seconds = trace.device, trace.step.seconds
    if trace.energy is not None:
        joules, notes = trace.energy.joules, [f"energy: {trace.energy.method}, idle power included"]
        busy = trace.energy.memory_busy_share
    elif device.power_w is not None:
        joules, notes = device.power_w * seconds, [f"[A] energy: the power limit, {device.power_w:g} W, times the time"]
        busy = None
    else:
        return None, ("energy: neither measured nor a power limit known",)
    full_w = device.full_memory_power_w
    if full_w is None:
        return joules, (*notes, "energy: external memory included, for its power is not known")
    memory_w = full_w * (1.0 if busy is None else busy)
    load = "full bandwidth" if busy is None else f"full bandwidth, busy {busy:.0%} of the time"
    notes.append(f"[A] energy: {memory_w:.1f} W taken out for the external memory, at {load}")
    left = joules - memory_w * seconds
    if left > 0:
        return left, tuple(notes)
    return None, (*notes, "energy: unknown, for the memory's largest share exceeds all that was measured")


def _times(trace: GpuTrace) -> list[str]:
    """Notes on what the times hold beside the layers' phases."""
    notes = [f"{trace.implementation}, batch {trace.batch if trace.batch else 'not given'}"]
    if trace.covers == "epoch":
        notes.append("[A] an epoch is one pass over the training samples, and holds all that its loop does")
    if trace.values is not None:
        notes.append(f"values: {trace.values.told}")
    other = [row.layer for row in trace.rows if row.phase == "other"]
    if other:
        notes.append(f"time includes what is no layer's: {', '.join(other)}")
    return notes
