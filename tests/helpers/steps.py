"""Random steps of version 2: networks whose layers with weights and neurons read maps, over one level or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2sim.arch import Arch, load_arch
from h2sim.trace import Trace, load_trace, parse_meta, write_trace
from h2sim.trace.bits import pack
from tests.helpers.operands import MAKERS, Drawn, N, T, draw

NORM = {"kind": "batch", "training": True}
LAYER_NORM = {"kind": "layer", "training": True, "over": ["C", "H", "W"]}


def draw_step(seed: int, folder: Path, phases: int = 3) -> Trace:
    """An open trace of random maps under convolutions, of groups and norms, pools and sums that fire, and maps of
    those; at times it ends in a mean over time, or a map."""
    drawn = draw(seed, steps=5)
    rng = np.random.default_rng(seed + 10_000)
    for _ in range(4):
        READERS[int(rng.integers(len(READERS)))](drawn, rng)
    for _ in range(3):
        MAKERS[int(rng.integers(len(MAKERS)))](drawn)
    _conv(drawn, rng)
    _norm_of_map(drawn, rng)
    if rng.random() < 0.5:
        _mean_over_time(drawn, rng)
    meta = drawn.meta() | {"phases": drawn.meta()["phases"][:phases]}
    meta["layers"] = [_with_norm(entry, rng) for entry in meta["layers"]]
    if rng.random() < 0.5:
        meta["input_gradient"] = True
    for name in parse_meta(meta, "random").under_mean:
        if f"{name}.kept" in drawn.members:
            drawn.members[f"{name}.kept"] = drawn.members[f"{name}.kept"][:1]
    write_trace(folder / "step.npz", meta, drawn.members)
    return load_trace(folder / "step.npz")


def small_machine(seed: int) -> Arch:
    """A machine whose arrays are small, so that layers need several groups, and planes meet their limit."""
    rng = np.random.default_rng(seed)
    return load_arch("h2learn").with_(
        {
            "tile": [int(rng.integers(2, 6)), int(rng.integers(2, 6))],
            "engines.forward.rows": int(rng.integers(1, 9)),
            "engines.forward.columns": int(rng.integers(1, 5)),
            "engines.forward.parallelism": int(rng.integers(1, 4)),
            "engines.forward.most_planes": {"conv": int(rng.integers(1, 6)), "fc": int(rng.integers(1, 4))},
            "engines.weight_update.rows": int(rng.integers(1, 4)),
            "engines.weight_update.columns": int(rng.integers(1, 5)),
            "engines.backward.rows": int(rng.integers(1, 5)),
            "engines.backward.columns": int(rng.integers(1, 5)),
            "engines.backward.mode": str(rng.choice(["dense", "input_only", "output_only", "dual"])),
            "engines.backward.dm_compressed": bool(rng.random() < 0.3),
        }
    )


def _masks(drawn: Drawn, rng: np.random.Generator, name: str, neurons: int, spiking: bool, steps: int = T) -> None:
    for kind in ("spikes", "window", "grad") if spiking else ("grad",):
        drawn.members[f"{name}.{kind}"] = pack(rng.integers(0, 2, (steps, N, neurons)))


def _conv(drawn: Drawn, rng: np.random.Generator) -> None:
    source = drawn.pick(drawn.shapes)
    channels, height, width = drawn.shapes[source]
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    out, spiking = groups * int(rng.integers(1, 3)), bool(rng.random() < 0.7)
    shape = (out, height, width)
    entry: dict[str, Any] = {"kind": "conv", "inputs": [source], "in_shape": [channels, height, width],
                             "out_shape": list(shape), "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1],
                             "groups": groups, "spiking": spiking}  # fmt: skip
    _own(drawn, rng, entry, shape, spiking)


def _pool(drawn: Drawn, rng: np.random.Generator) -> None:
    source = drawn.pick(drawn.shapes)
    channels, height, width = drawn.shapes[source]
    mode = "average" if source in drawn.analog else str(rng.choice(["average", "max"]))
    entry = {"kind": "pool", "inputs": [source], "in_shape": [channels, height, width], "mode": mode,
             "out_shape": [channels, height // 2, width // 2], "kernel": [2, 2], "stride": [2, 2],
             "padding": [0, 0]}  # fmt: skip
    if height > 1 and width > 1:
        _own(drawn, rng, entry, (channels, height // 2, width // 2), True)


def _sum(drawn: Drawn, rng: np.random.Generator) -> None:
    source = drawn.pick(drawn.shapes)
    shape = drawn.shapes[source]
    alike = [other for other, there in drawn.shapes.items() if there == shape]
    entry = {"kind": "add", "inputs": [source, drawn.pick(alike)], "in_shape": list(shape), "out_shape": list(shape)}
    _own(drawn, rng, entry, shape, True)


READERS = (_conv, _conv, _pool, _sum)


def _own(drawn: Drawn, rng: np.random.Generator, entry: dict[str, Any], shape: Any, spiking: bool) -> None:
    """Adds a layer with neurons, or a current."""
    made = drawn.add(entry, shape, binary=spiking)
    drawn.analog.discard(made)
    if not spiking:
        drawn.analog.add(made)
    _masks(drawn, rng, made, int(np.prod(shape)), spiking)


def _norm_of_map(drawn: Drawn, rng: np.random.Generator) -> None:
    source = drawn.pick(drawn.shapes)
    shape = drawn.shapes[source]
    norm = NORM if rng.random() < 0.5 else LAYER_NORM
    entry = {"kind": "norm", "inputs": [source], "in_shape": list(shape), "out_shape": list(shape), "norm": norm}
    made = drawn.add(entry, shape)
    drawn.analog.add(made)
    _conv(drawn, rng)


def _mean_over_time(drawn: Drawn, rng: np.random.Generator) -> None:
    free = [name for name in drawn.shapes if name not in drawn.analog and name != "input"]
    if not free:
        return
    source = drawn.pick(free)
    size = int(np.prod(drawn.shapes[source]))
    entry = {"kind": "fc", "inputs": [source], "in_features": size, "out_features": 3, "spiking": False,
             "mean_over_time": True}  # fmt: skip
    made = drawn.add(entry, (3, 1, 1))
    _masks(drawn, rng, made, 3, False, int(rng.choice([1, T])))


def _with_norm(entry: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """At times a norm on what a layer makes, before its neurons if it has any."""
    own = entry["kind"] == "conv" or (entry["kind"] in ("pool", "add") and entry.get("spiking", True))
    if own and rng.random() < 0.3:
        return {**entry, "norm": [NORM] if rng.random() < 0.7 else [NORM, LAYER_NORM]}
    return entry
