"""Figure 3.13: throughput of each engine when its rows, columns or parallelism alone is scaled."""

from __future__ import annotations

import pandas as pd

from h2sim.activity import Engine, Phase
from h2sim.arch import Arch
from h2sim.reproduce.designs import variants
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting

PHASES: dict[Engine, Phase] = {"forward": "forward", "weight_update": "weight_update", "backward": "backward"}
SHORT: dict[Engine, str] = {"forward": "fe", "weight_update": "wue", "backward": "be"}
DIMENSIONS = ("rows", "columns", "parallelism")
FACTORS = (0.25, 0.5, 1, 2, 4)


def scaled(lab: Lab, setting: Setting, engine: Engine) -> dict[tuple[str, float], Arch]:
    """h2learn with one dimension of an engine times a factor, by (dimension, factor): the machines of the sweep.

    Where the factor is above 1 and reading.grown_buffers holds [A], the engine's buffers grow by the same factor.
    """
    sweep, grown = f"figure-3.13-{engine.replace('_', '-')}", setting.reading.grown_buffers
    key = ("scaled", engine, setting.model_dump_json())
    found = lab.once(key, lambda: variants(lab, setting, sweep, grown=grown))
    return {(v.parameters["dimension"], v.parameters["factor"]): v.arch for v in found}


def cycles(lab: Lab, setting: Setting, engine: Engine, dimension: str, factor: float) -> int:
    """Steady cycles of the layer conv2 of conv256, alone on the scaled engine."""
    return lab.layer(scaled(lab, setting, engine)[dimension, factor], setting, PHASES[engine]).steady_cycles


def speedup(engine: Engine, dimension: str, from_factor: float, to_factor: float) -> Measure:
    """Throughput at `to_factor` over throughput at `from_factor`: cycles(from_factor) / cycles(to_factor)."""
    return lambda lab, setting: (
        cycles(lab, setting, engine, dimension, from_factor) / cycles(lab, setting, engine, dimension, to_factor)
    )


MEASURES: dict[str, Measure] = {
    f"{step}-{SHORT[engine]}-{dimension}": speedup(engine, dimension, *factors)
    for step, factors in {"halved": (0.5, 1), "doubled": (1, 2)}.items()
    for engine in PHASES
    for dimension in DIMENSIONS
}


def points(lab: Lab, setting: Setting) -> pd.DataFrame:
    """One row per engine, dimension and factor: cycles, stall cycles, and throughput.

    throughput: cycles at the published setting over cycles at this one.
    """
    rows = []
    for engine in PHASES:
        for dimension in DIMENSIONS:
            base = cycles(lab, setting, engine, dimension, 1)
            for factor in FACTORS:
                arch = scaled(lab, setting, engine)[dimension, factor]
                activity = lab.layer(arch, setting, PHASES[engine])
                row = activity.layers[0]
                rows.append({
                    "engine": engine, "dimension": dimension, "factor": factor,
                    "size": getattr(getattr(arch.engines, engine), dimension), "cycles": activity.steady_cycles,
                    "compute_cycles": row.compute_cycles, "stall_cycles": row.stalls.total,
                    "throughput": base / activity.steady_cycles,
                })  # fmt: skip
    return pd.DataFrame(rows)
