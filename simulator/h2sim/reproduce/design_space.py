"""Figure 3.13: throughput of each engine when its rows, columns or parallelism alone is scaled."""

from __future__ import annotations

import pandas as pd

from h2sim.activity import Engine, Phase
from h2sim.arch import Arch, load_arch
from h2sim.reproduce.engines import Measure
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.setting import Setting

PHASES: dict[Engine, Phase] = {"forward": "forward", "weight_update": "weight_update", "backward": "backward"}
SHORT: dict[Engine, str] = {"forward": "fe", "weight_update": "wue", "backward": "be"}
DIMENSIONS = ("rows", "columns", "parallelism")
FACTORS = (0.25, 0.5, 1, 2, 4)


def scaled(lab: Lab, setting: Setting, engine: Engine, dimension: str, factor: float) -> Arch:
    """h2learn with one dimension of one engine times `factor`, rounded, at least 1.

    Where the factor is above 1 and reading.grown_buffers holds [A], the bytes and banks of the engine's buffers grow by
    the same factor.
    """
    published = getattr(getattr(lab.arch(setting).engines, engine), dimension)
    fields: dict[str, int] = {f"engines.{engine}.{dimension}": max(1, round(published * factor))}
    if factor > 1 and setting.reading.grown_buffers:
        buffers = getattr(load_arch("h2learn").engines, engine).buffers
        for name in type(buffers).model_fields:
            buffer, path = getattr(buffers, name), f"engines.{engine}.buffers.{name}"
            own = setting.arch.get(f"{path}.bytes")
            size = buffer.bytes if own is None else int(own)
            fields |= {f"{path}.bytes": int(size * factor), f"{path}.banks": int(buffer.banks * factor)}
    return lab.arch(setting, fields)


def cycles(lab: Lab, setting: Setting, engine: Engine, dimension: str, factor: float) -> int:
    """Steady cycles of the layer conv2 of conv256, alone on the scaled engine."""
    return lab.layer(scaled(lab, setting, engine, dimension, factor), setting, PHASES[engine]).steady_cycles


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
                arch = scaled(lab, setting, engine, dimension, factor)
                activity = lab.layer(arch, setting, PHASES[engine])
                row = activity.layers[0]
                rows.append({
                    "engine": engine, "dimension": dimension, "factor": factor,
                    "size": getattr(getattr(arch.engines, engine), dimension), "cycles": activity.steady_cycles,
                    "compute_cycles": row.compute_cycles, "stall_cycles": row.stalls.total,
                    "throughput": base / activity.steady_cycles,
                })  # fmt: skip
    return pd.DataFrame(rows)
