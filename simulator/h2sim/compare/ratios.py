"""Systems side by side: a result as a Measurement, and the ratios of two Measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from h2sim.activity import Phase
from h2sim.compare.measurement import Measurement, Part
from h2sim.compare.stored import StoredResult, StoredRow, stored
from h2sim.errors import ComparisonError, at


def measurement_of(document: dict[str, Any] | StoredResult, where: str, *, steady: bool = False) -> Measurement:
    """A result as a Measurement.

    Training: a batch group with its weight update, as a GPU's step has one; `steady` takes the steady state of one
    sub-batch instead, and so does a document that says nothing of batch groups. Inference: the first sub-batch, its
    latency. A part's time is what its engine is held by that layer: compute, fill, and waiting for its memory, not for
    other layers; its energy holds the leakage of that time. Raises ComparisonError with a line per fault.
    """
    found = document if isinstance(document, StoredResult) else stored(document, where)
    notes = (*(("SYNTHETIC masks",) if found.workload.source == "synthetic" else ()), *found.notes)
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
        parts=tuple(_part(row, found.step.clock_hz, sub_batches, f"{where}: {row.layer}") for row in found.layers),
        assumptions=notes,
        left_out=tuple(found.left_out),
    )


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
    return cycles / step.clock_hz, sub_batches, sub_batches * step.energy_j + waiting * leakage_j


def _part(row: StoredRow, clock_hz: int | None, sub_batches: int, where: str) -> Part:
    energy_pj = math.fsum(row.energy_pj.values())
    if row.seconds is not None:  # a rival says itself what its engine is held by the row
        return Part(row.layer, row.phase, row.seconds, 1e-12 * energy_pj, row.fused)
    stalls = row.stall_cycles
    if stalls is None or clock_hz is None or row.start_cycle is None or row.end_cycle is None:
        raise ComparisonError(at(where, "seconds", "the time of a row without cycles", "none"))
    compute = row.compute_cycles or 0
    cycles = compute + (row.fill_cycles or 0) + stalls.memory_read + stalls.memory_write
    held, leakage_pj = row.end_cycle - row.start_cycle, row.energy_pj.get("leakage", 0.0)
    waited_pj = leakage_pj * (held - cycles) / held if held > cycles else 0.0
    energy_j = 1e-12 * (energy_pj - waited_pj)
    return Part(row.layer, row.phase, sub_batches * cycles / clock_hz, sub_batches * energy_j, compute == 0)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Theirs over ours, per sample: above 1 is in favour of ours. phase None: the whole step.

    fused: the layer runs inside another's time on one of them, so that its own time says nothing.
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
        """Their time over ours; None where ours takes none, or one is fused."""
        return self.theirs_seconds / self.ours_seconds if self.ours_seconds and not self.fused else None

    @property
    def energy_saving(self) -> float | None:
        """Their energy over ours; None where one is unknown."""
        return self.theirs_energy_j / self.ours_energy_j if self.ours_energy_j and self.theirs_energy_j else None


@dataclass(frozen=True)
class Comparison:
    """Two systems on one network: the step, the phases, the layers that both have."""

    ours: Measurement
    theirs: Measurement
    step: Ratio | None
    phases: tuple[Ratio, ...]
    layers: tuple[Ratio, ...]

    @property
    def area_saving(self) -> float | None:
        """Their area over ours; None where one is unknown, or one machine trains and the other does not."""
        if set(self.ours.phases) != set(self.theirs.phases):
            return None
        return self.theirs.area_mm2 / self.ours.area_mm2 if self.ours.area_mm2 and self.theirs.area_mm2 else None


def compare(ours: Measurement, theirs: Measurement) -> Comparison:
    """Per sample: the whole step where both cover the same phases and no layer is left out; every phase and layer that
    both have.

    Raises ComparisonError for two different networks.
    """
    if ours.network != theirs.network:
        where = f"{ours.system} and {theirs.system}"
        raise ComparisonError(at(where, "network", f"one, {ours.network}", theirs.network))
    alike = set(ours.phases) == set(theirs.phases) and not (ours.left_out or theirs.left_out)
    step = _whole(ours, theirs) if alike else None
    shared = [(p, q) for p in ours.parts if (q := theirs.part(p.layer, p.phase))]
    layers = tuple(_ratio(p.layer, p.phase, p, q, ours, theirs) for p, q in shared)
    phases = tuple(_phase(phase, ours, theirs, shared) for phase in dict.fromkeys(p.phase for p, _ in shared))
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
    """These layers one after the other; the system's own step where they are all of it, for its layers may overlap."""
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
