"""An h2sim result as a Measurement, and the ratios of two Measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from h2sim.activity import Phase
from h2sim.compare.measurement import Measurement, Part
from h2sim.errors import ComparisonError, at
from h2sim.io.faults import describe
from h2sim.io.strict import Frozen, Name

Amount = Annotated[float, Field(strict=True, ge=0, le=1e30, allow_inf_nan=False)]
Cycles = Annotated[int, Field(strict=True, ge=0, le=1 << 62)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1, le=1 << 53)]


class _Workload(Frozen):
    network: Name
    source: str
    sha256: str


class _Name(Frozen):
    name: Name


class _Table(_Name):
    node_nm: Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)] | None = None


class _Batch(Frozen):
    sub_batches: AtLeastOne
    cycles: Cycles


class _Step(Frozen):
    steady_cycles: Cycles
    first_cycles: Cycles
    samples: AtLeastOne
    clock_hz: AtLeastOne
    energy_j: Amount
    batch: _Batch | None = None


class _EngineEnergy(Frozen):
    leakage: Amount


class _Engine(Frozen):
    compute_cycles: Cycles
    fill_cycles: Cycles
    energy_j: _EngineEnergy


class _Stalls(Frozen):
    memory_read: Cycles
    memory_write: Cycles


class _Layer(Frozen):
    layer: Name
    phase: Phase
    start_cycle: Cycles
    end_cycle: Cycles
    compute_cycles: Cycles
    fill_cycles: Cycles
    stall_cycles: _Stalls
    energy_pj: dict[str, Amount]


class _Area(Frozen):
    total: Amount


class _Document(Frozen):
    schema_: Annotated[Literal["h2sim-result"], Field(alias="schema")]
    version: Literal[1]
    arch: _Name
    workload: _Workload
    energy_table: _Table
    step: _Step
    engines: dict[str, _Engine]
    layers: Annotated[list[_Layer], Field(min_length=1)]
    area_um2: _Area


def load_result(path: str | Path) -> dict[str, Any]:
    """The h2sim-result document in a file that `h2sim run --json` wrote. Raises ComparisonError if it is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise ComparisonError(f"{path}: cannot be read: {fault.strerror}") from None
    except (ValueError, RecursionError):
        raise ComparisonError(at(str(path), "file", "an h2sim-result document (h2sim run --json)", "no JSON")) from None
    if not isinstance(data, dict):
        raise ComparisonError(at(str(path), "top level", "an h2sim-result document", type(data).__name__))
    return data


def measurement_of(document: dict[str, Any], where: str, *, steady: bool = False) -> Measurement:
    """An h2sim-result document as a Measurement.

    The step of a training result is a batch group with its weight update, for a GPU's step has an update too. With
    `steady`, or if the document has no batch group, it is one sub-batch in the steady state. The step of an inference
    result is the latency of the first sub-batch.

    A part's time is how long the layer holds its engine: compute, fill, and waiting for memory, but not waiting for
    other layers. A part's energy includes the leakage of that time. Raises ComparisonError with one line per fault.
    """
    try:
        found = _Document.model_validate(document)
    except ValidationError as error:
        raise ComparisonError("\n".join(describe(error, _Document, where))) from None
    _check_whole(found, where)
    step, phases = found.step, _each_once(layer.phase for layer in found.layers)
    sub_batches, cycles = 1, step.steady_cycles
    if phases == ("forward",):
        cycles = step.first_cycles
    elif step.batch and not steady:
        sub_batches, cycles = step.batch.sub_batches, step.batch.cycles
    leakage_j = math.fsum(engine.energy_j.leakage for engine in found.engines.values())
    waiting = (cycles - sub_batches * step.steady_cycles) / step.steady_cycles if step.steady_cycles else 0.0
    notes = ("SYNTHETIC masks",) if found.workload.source == "synthetic" else ()
    return Measurement(
        system=found.arch.name,
        kind="simulated",
        network=found.workload.network,
        samples=step.samples * sub_batches,
        seconds=cycles / step.clock_hz,
        energy_j=sub_batches * step.energy_j + waiting * leakage_j,
        area_mm2=found.area_um2.total / 1e6,
        node_nm=found.energy_table.node_nm,
        phases=phases,
        parts=tuple(_part(layer, step.clock_hz, sub_batches) for layer in found.layers),
        assumptions=notes,
    )


def _each_once(phases: Iterable[Phase]) -> tuple[Phase, ...]:
    """The phases in the order of their first mention."""
    found: list[Phase] = []
    for phase in phases:
        if phase not in found:
            found.append(phase)
    return tuple(found)


def _check_whole(found: _Document, where: str) -> None:
    """Raises ComparisonError if rows of the step are missing, or if its cycles do not add up."""
    for field in ("compute_cycles", "fill_cycles"):
        engines = sum(getattr(engine, field) for engine in found.engines.values())
        rows = sum(getattr(layer, field) for layer in found.layers)
        if rows != engines:
            wanted = f"all rows of the step, with the {engines} {field} of its engines (h2sim run without --layer)"
            raise ComparisonError(at(where, "layers", wanted, rows))
    step, batch = found.step, found.step.batch
    if batch and batch.cycles < step.first_cycles + (batch.sub_batches - 1) * step.steady_cycles:
        wanted = "at least step.first_cycles and step.steady_cycles of all other sub-batches"
        raise ComparisonError(at(where, "step.batch.cycles", wanted, batch.cycles))


def _part(layer: _Layer, clock_hz: int, sub_batches: int) -> Part:
    stalls = layer.stall_cycles
    cycles = layer.compute_cycles + layer.fill_cycles + stalls.memory_read + stalls.memory_write
    row, leakage_pj = layer.end_cycle - layer.start_cycle, layer.energy_pj.get("leakage", 0.0)
    waited_pj = leakage_pj * (row - cycles) / row if row > cycles else 0.0
    energy = 1e-12 * (math.fsum(layer.energy_pj.values()) - waited_pj)
    fused = layer.compute_cycles == 0
    return Part(layer.layer, layer.phase, sub_batches * cycles / clock_hz, sub_batches * energy, fused)


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
    phases = tuple(_phase(phase, ours, theirs, shared) for phase in _each_once(p.phase for p, _ in shared))
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
