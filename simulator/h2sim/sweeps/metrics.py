"""What a point's row holds: results by name, the same numbers as in `h2sim run --json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from h2sim.activity import ENGINES, Engine, SteadyState
from h2sim.arch import Arch
from h2sim.energy import Cost
from h2sim.energy.area import Area
from h2sim.result import EngineSummary
from h2sim.rivals.result import RivalResult
from h2sim.sweeps.spec import Mean

Numbers = dict[str, float | int | None]
COMPONENTS: Mapping[Engine, tuple[str, ...]] = {
    "forward": ("pe_array", "acc", "soma", "glb", "leakage"),
    "weight_update": ("pe_array", "acc", "glb", "leakage"),
    "backward": ("pe_array", "acc", "grad", "glb", "leakage"),
}
_STEP = {
    "seconds": "time of a steady sub-batch, s",
    "cycles": "cycles of a steady sub-batch",
    "samples_per_second": "samples a second, pipeline full",
    "energy_j": "on-chip energy of a sub-batch, J",
    "area_mm2": "area, mm2",
    "offchip_energy_j": "energy of external memories for a sub-batch, J; no part of energy_j",
    "leakage_j": "leakage in energy_j, J",
    "average_power_w": "on-chip power, W",
    "energy_delay_js": "energy_j * seconds, J s",
}
_ENGINE = ("busy", "compute", "fill", "stall_memory_read", "stall_memory_write", "stall_dependency")
METRICS: Mapping[str, str] = {
    **_STEP,
    **{f"{e}_{what}_cycles": f"{what.replace('_', ' ')} cycles of the {e} engine" for e in ENGINES for what in _ENGINE},
    **{f"{e}_utilization": f"compute cycles of the {e} engine / cycles" for e in ENGINES},
    **{f"{e}_{part}_j": f"energy of {part} of the {e} engine, J" for e, parts in COMPONENTS.items() for part in parts},
    **{
        f"{e}_{part}_mm2": f"area of {part} of the {e} engine, mm2"
        for e, parts in COMPONENTS.items()
        for part in parts
        if part != "leakage"
    },
}
OF_MACHINE = tuple(name for name in METRICS if name.endswith("_mm2"))  # known before anything is simulated


def numbers_of(activity: SteadyState, cost: Cost, arch: Arch) -> Numbers:
    """The row of an H2Learn: of the step, then of each engine."""
    seconds = activity.steady_cycles / arch.clock_hz
    found: Numbers = {
        "seconds": seconds,
        "cycles": activity.steady_cycles,
        "samples_per_second": activity.samples / seconds if seconds else 0.0,
        "energy_j": cost.energy_j,
        "area_mm2": cost.area.total_um2 / 1e6,
        "offchip_energy_j": cost.offchip_energy_j,
        "leakage_j": cost.leakage_j,
        "average_power_w": cost.average_power_w,
    }
    found["energy_delay_js"] = cost.energy_j * seconds
    for engine in ENGINES:
        s = EngineSummary.of(activity, engine)
        cycles = (s.busy_cycles, s.compute_cycles, s.fill_cycles, s.memory_read, s.memory_write, s.dependency)
        found |= {f"{engine}_{what}_cycles": n for what, n in zip(_ENGINE, cycles, strict=True)}
        found[f"{engine}_utilization"] = s.utilization
        found |= {f"{engine}_{part}_j": joules for part, joules in cost.engine_energy_j(engine).items()}
    return {**found, **areas_of(cost.area)}


def areas_of(machine: Area) -> Numbers:
    """The results that hang on the machine alone."""
    parts: Numbers = {f"{block.engine}_{block.component}_mm2": block.area_um2 / 1e6 for block in machine.blocks}
    return {"area_mm2": machine.total_um2 / 1e6, **parts}


def numbers_of_rival(result: RivalResult) -> Numbers:
    """The row of a rival: what every machine has; its engines go by other names."""
    t = result.totals()
    return {
        "seconds": t.seconds,
        "cycles": t.cycles,
        "samples_per_second": result.samples / t.seconds if t.seconds else 0.0,
        "energy_j": t.energy_j,
        "area_mm2": sum(t.area_um2.values()) / 1e6,
        "offchip_energy_j": t.offchip_energy_j,
        "average_power_w": t.energy_j / t.seconds if t.seconds else 0.0,
        "energy_delay_js": t.energy_j * t.seconds,
    }


def mean(values: Sequence[float | int | None], kind: Mean) -> float | int | None:
    """The mean of a result over traces: of equal numbers that number itself; None where one is not known."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    if all(value == known[0] for value in known):
        return known[0]
    if kind == "arithmetic":
        return math.fsum(known) / len(known)
    if min(known) <= 0:
        return 0.0
    return math.exp(math.fsum(math.log(value) for value in known) / len(known))
