"""Systems side by side: a result as a Measurement, and the ratios of two Measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from h2sim.activity import PHASES, Phase
from h2sim.arch import peak_flops
from h2sim.compare.measurement import Measurement, Part
from h2sim.compare.stored import StoredResult, StoredRow, stored
from h2sim.errors import ComparisonError, at


def measurement_of(document: dict[str, Any] | StoredResult, where: str, *, steady: bool = False) -> Measurement:
    """A result as a Measurement.

    The step of a training result is a batch group with its weight update, for a GPU's step has an update too. With
    `steady`, or if the document has no batch group, it is one sub-batch in the steady state. The step of an inference
    result is the latency of the first sub-batch.

    A part's time is how long the layer holds its engine: compute, fill, and waiting for memory, but not waiting for
    other layers. A part's energy includes the leakage of that time. With power gating nothing leaks in the time by
    which a batch group exceeds its sub-batches' steady states. Raises ComparisonError with one line per fault.
    """
    found = document if isinstance(document, StoredResult) else stored(document, where)
    rival = found.notes if found.arch.machine != "h2learn" else ()  # ours stand beside the run
    notes = (*(("SYNTHETIC masks",) if found.workload.source == "synthetic" else ()), *rival)
    seconds, sub_batches, energy_j = _step(found, where, steady)
    return Measurement(
        system=found.arch.name,
        kind="simulated",
        network=found.workload.network,
        samples=found.step.samples * sub_batches,
        seconds=seconds,
        energy_j=energy_j,
        area_mm2=found.total_area_um2 / 1e6,
        node_nm=found.energy_table.node_nm,
        phases=found.phases,
        parts=tuple(_part(row, found, sub_batches, f"{where}: {row.layer}") for row in found.layers),
        assumptions=notes,
        left_out=tuple(found.left_out),
        clock_hz=found.step.clock_hz,
        published_power_w=found.published.get("power_w"),
        basis=found.step.basis,
        **_size(found),
    )


def _size(found: StoredResult) -> dict[str, Any]:
    """Lanes, bits of a weight and bandwidth: a rival says them, an H2Learn's follow from its parameters."""
    told = found.arch
    if told.machine == "h2learn" and told.parameters:
        arch = found.machine()
        lanes = round(peak_flops(arch) / (2 * arch.clock_hz))
        return {"lanes": lanes, "weight_bits": 16, "bandwidth_bytes_per_s": arch.memory.bandwidth_bytes_per_s}
    return {
        "lanes": told.lanes, "weight_bits": told.weight_bits, "bandwidth_bytes_per_s": told.bandwidth_bytes_per_s
    }  # fmt: skip


def _step(found: StoredResult, where: str, steady: bool) -> tuple[float, int, float]:
    """Seconds, sub-batches and on-chip joules of what a result is compared by."""
    step = found.step
    if step.clock_hz is None or step.steady_cycles is None or step.first_cycles is None:
        if step.seconds is None:
            raise ComparisonError(at(where, "step.seconds", "the time of a machine without a clock", "none"))
        return step.seconds, 1, step.energy_j
    sub_batches, cycles = 1, step.steady_cycles
    if found.phases == ("forward",):
        cycles = step.first_cycles
    elif step.batch and not steady:
        sub_batches, cycles = step.batch.sub_batches, step.batch.cycles
    leakage_j = math.fsum(engine.energy_j.get("leakage", 0.0) for engine in found.engines.values())
    waiting = (cycles - sub_batches * step.steady_cycles) / step.steady_cycles if step.steady_cycles else 0.0
    waited_j = waiting * leakage_j if found.idle_leaks else 0.0
    return cycles / step.clock_hz, sub_batches, sub_batches * step.energy_j + waited_j


def _part(row: StoredRow, found: StoredResult, sub_batches: int, where: str) -> Part:
    energy_pj, clock_hz = math.fsum(row.energy_pj.values()), found.step.clock_hz
    if row.seconds is not None:  # a rival says itself what its engine is held by the row
        return Part(row.layer, row.phase, row.seconds, 1e-12 * energy_pj, row.fused)
    stalls = row.stall_cycles
    if stalls is None or clock_hz is None or row.start_cycle is None or row.end_cycle is None:
        raise ComparisonError(at(where, "seconds", "the time of a row without cycles", "none"))
    compute = row.compute_cycles or 0
    cycles = compute + (row.fill_cycles or 0) + stalls.memory_read + stalls.memory_write
    held, leakage_pj = row.end_cycle - row.start_cycle, row.energy_pj.get("leakage", 0.0)
    waited_pj = leakage_pj * (held - cycles) / held if held > cycles and found.idle_leaks else 0.0
    energy_j = 1e-12 * (energy_pj - waited_pj)
    return Part(row.layer, row.phase, sub_batches * cycles / clock_hz, sub_batches * energy_j, compute == 0)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time and energy per sample of ours and theirs, for one layer and phase. Ratios above 1 are in favour of ours.

    phase: None for the whole step. fused: on one of the systems the layer runs inside another layer's time, so that its
    own time means nothing.
    """

    layer: str
    phase: Phase | None
    ours_seconds: float
    theirs_seconds: float
    ours_energy_j: float | None
    theirs_energy_j: float | None
    fused: bool = False

    @property
    def speedup(self) -> float | None:
        """theirs_seconds / ours_seconds; None if ours is 0, or one of the two is fused."""
        return self.theirs_seconds / self.ours_seconds if self.ours_seconds and not self.fused else None

    @property
    def energy_saving(self) -> float | None:
        """theirs_energy_j / ours_energy_j; None if one of them is unknown or 0."""
        return self.theirs_energy_j / self.ours_energy_j if self.ours_energy_j and self.theirs_energy_j else None


@dataclass(frozen=True)
class Comparison:
    """Two systems on one network.

    step: the whole step; None where the two do not cover the same. phases, layers: those that both have.
    """

    ours: Measurement
    theirs: Measurement
    step: Ratio | None
    phases: tuple[Ratio, ...]
    layers: tuple[Ratio, ...]

    @property
    def area_saving(self) -> float | None:
        """Area of theirs over area of ours; None if one is unknown, or if the two do not cover the same phases."""
        if set(self.ours.phases) != set(self.theirs.phases):
            return None
        return self.theirs.area_mm2 / self.ours.area_mm2 if self.ours.area_mm2 and self.theirs.area_mm2 else None


def only_in(system: Measurement, other: Measurement) -> dict[Phase, tuple[str, ...]]:
    """The layers of each phase that one system has rows of and the other has none of, in order."""
    lone = [p for p in system.parts if not other.part(p.layer, p.phase)]
    found: dict[Phase, tuple[str, ...]] = {phase: tuple(p.layer for p in lone if p.phase == phase) for phase in PHASES}
    return {phase: found[phase] for phase in PHASES if found[phase]}


def compare(ours: Measurement, theirs: Measurement) -> Comparison:
    """Ratios per sample of every layer and phase that both systems have.

    The whole step is compared only if both cover the same phases and neither leaves out a layer. Raises ComparisonError
    if the networks differ.
    """
    if ours.network != theirs.network:
        where = f"{ours.system} and {theirs.system}"
        raise ComparisonError(at(where, "network", f"one, {ours.network}", theirs.network))
    alike = set(ours.phases) == set(theirs.phases) and not (ours.left_out or theirs.left_out)
    step = _whole(ours, theirs) if alike else None
    shared = [(p, q) for p in ours.parts if (q := theirs.part(p.layer, p.phase))]
    layers = tuple(_ratio(p.layer, p.phase, p, q, ours, theirs) for p, q in shared)
    order: dict[Phase, None] = dict.fromkeys(p.phase for p, _ in shared)
    phases = tuple(_phase(phase, ours, theirs, shared) for phase in order)
    return Comparison(ours, theirs, step, phases, layers)


def _whole(ours: Measurement, theirs: Measurement) -> Ratio:
    return Ratio(
        layer="step",
        phase=None,
        ours_seconds=ours.seconds_per_sample,
        theirs_seconds=theirs.seconds_per_sample,
        ours_energy_j=ours.energy_j_per_sample,
        theirs_energy_j=theirs.energy_j_per_sample,
    )


def _phase(phase: Phase, ours: Measurement, theirs: Measurement, shared: list[tuple[Part, Part]]) -> Ratio:
    """The layers of a phase that both have."""
    pairs = [(p, q) for p, q in shared if p.phase == phase]
    mine, other = (
        _together(phase, [pair[side] for pair in pairs], system) for side, system in ((0, ours), (1, theirs))
    )
    return _ratio("shared layers", phase, mine, other, ours, theirs)


def _together(phase: Phase, parts: list[Part], system: Measurement) -> Part:
    """These layers one after the other.

    Where they are all of the system's parts, the system's own step is taken, for its layers may overlap.
    """
    if system.phases == (phase,) and len(parts) == len(system.parts):
        return Part("shared layers", phase, system.seconds, system.energy_j)
    energies = [p.energy_j for p in parts if p.energy_j is not None]
    energy = math.fsum(energies) if len(energies) == len(parts) else None
    return Part("shared layers", phase, math.fsum(p.seconds for p in parts), energy)


def _ratio(layer: str, phase: Phase, p: Part, q: Part, ours: Measurement, theirs: Measurement) -> Ratio:
    def energy(part: Part, samples: int) -> float | None:
        return None if part.energy_j is None else part.energy_j / samples

    return Ratio(
        layer=layer,
        phase=phase,
        ours_seconds=p.seconds / ours.samples,
        theirs_seconds=q.seconds / theirs.samples,
        ours_energy_j=energy(p, ours.samples),
        theirs_energy_j=energy(q, theirs.samples),
        fused=p.fused or q.fused,
    )
