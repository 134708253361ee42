"""Synthetic twins of a real trace: the same network and the same mean of each mask, with or without its structure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from h2sim.arrays import Array, Bools, Floats
from h2sim.trace.bits import popcount
from h2sim.trace.members import BITS
from h2sim.trace.model import FORMAT
from h2sim.trace.read import Trace
from h2sim.trace.structure import Structure, measured
from h2sim.trace.synth import MaskPlan, random_members


def like(
    trace: Trace, seed: int, structure: Structure | Literal["measured"] | None = None
) -> tuple[dict[str, Any], Iterator[tuple[str, Array]]]:
    """Metadata and members of a synthetic trace in which every mask has the mean of the same mask of `trace`.

    structure None: independent bits; 'measured': each mask has the silent samples, dead channels, clusters and shared
    places that were measured in its original; a Structure: every mask has that one. The metadata says what was
    measured. All timesteps and samples of a mask get the same mean: differences between them are not kept. An input of
    counts has each count as often as its original. What gates keep is drawn without structure, but for 'measured'.
    Raises TraceError as synthesise does.
    """
    meta, silent = trace.meta, silent_samples(trace)
    found = {f"{layer}.{kind}": _plan(trace, layer, kind, silent, structure) for layer, kind in _masks(trace)}
    share = structure.silent_samples if isinstance(structure, Structure) else float(silent.mean() if structure else 0)
    shares = _shares(trace)
    source: dict[str, Any] = {
        "kind": "synthetic",
        "method": "independent bits" if structure is None else "Gaussian fields cut at the density",
        "seed": seed,
        "like": {"network": meta.network, "dataset": meta.dataset, "sha256": trace.sha256},
        "zeros": {name: plan.zeros for name, plan in found.items()},
    }
    if structure is not None:
        source["silent_samples"] = f"{round(share * meta.batch)} of {meta.batch}"
        source["structure"] = {name: plan.structure.to_dict() for name, plan in found.items() if plan.structure}
    if shares is not None:
        source["zeros"]["input.counts"] = float(shares[0])
    data: dict[str, Any] = {
        "format": FORMAT,
        "version": meta.version,
        "network": meta.network,
        "dataset": "none",
        "timesteps": meta.timesteps,
        "batch": meta.batch,
        "phases": list(meta.phases),
        "neuron": meta.neuron.model_dump(mode="json"),
        "source": source,
        "layers": [layer.entry() for layer in meta.layers],
    }
    if meta.input:
        data["input"] = meta.input.model_dump(exclude_none=True)
    if meta.input_gradient:
        data["input_gradient"] = True

    def plan(layer: str, kind: str) -> MaskPlan:
        return found[f"{layer}.{kind}"]

    return data, random_members(meta, plan, seed, share, analog_steps=trace.analog_steps, shares=shares)


def _shares(trace: Trace) -> Floats | None:
    """How often each count of an input of counts comes, float64 (most + 1,); None for another input."""
    if not trace.meta.input or not trace.meta.input.most:
        return None
    counts = trace.input_counts()
    shares: Floats = np.bincount(counts.reshape(-1), minlength=trace.meta.input.most + 1) / counts.size
    return shares


def silent_samples(trace: Trace) -> Bools:
    """Which samples have a gradient of 0 in every layer: bool (N,), all False in an inference trace."""
    silent = np.full(trace.meta.batch, "backward" in trace.meta.phases)
    if silent.any():
        for layer in trace.meta.layers:
            if trace.has(f"{layer.name}.grad"):  # maps have none
                silent &= ~trace.mask(layer.name, "grad").any(axis=(0, 2))
    return silent


def _masks(trace: Trace) -> list[tuple[str, str]]:
    """The masks that a trace has, each as (layer or 'input', kind)."""
    names = [("input", "spikes"), *((layer.name, kind) for layer in trace.meta.layers for kind in BITS)]
    return [(layer, kind) for layer, kind in names if trace.has(f"{layer}.{kind}")]


def _plan(
    trace: Trace, layer: str, kind: str, silent: Bools, structure: Structure | Literal["measured"] | None
) -> MaskPlan:
    meta = trace.meta
    packed = trace.input_spikes() if layer == "input" else trace.mask(layer, kind)
    chw = meta.input_shape if layer == "input" else meta.layer(layer).out_chw
    zeros = 1 - popcount(packed) / (len(packed) * meta.batch * math.prod(chw))
    once = len(packed) < meta.timesteps
    if structure == "measured":
        found = measured(packed, chw, silent if kind == "grad" else np.zeros_like(silent))
        return MaskPlan(zeros, found, once)
    return MaskPlan(zeros, None if layer == "input" or kind == "kept" else structure, once)
