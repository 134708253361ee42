"""A small network of version 2 whose input is counts, with a gate and a mean over time, written as a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from h2sim.trace import write_trace
from h2sim.trace.bits import pack
from tests.helpers.operands import NEURON

CONV = {"kind": "conv", "in_shape": [1, 4, 4], "out_shape": [1, 4, 4], "kernel": [3, 3], "stride": [1, 1],
        "padding": [1, 1]}  # fmt: skip


def gated(
    folder: Path,
    *,
    phases: tuple[str, ...] = ("forward", "backward", "weight_update"),
    seed: int = 0,
    mean: bool = True,
    **source: Any,
) -> Path:
    """Counts in, a convolution, an average of its spikes, a gate, a read-out; mean: over time; T = 3, N = 2."""
    rng = np.random.default_rng(seed)
    layers = [
        {"name": "conv1", "inputs": ["input"], **CONV},
        {"name": "pool1", "kind": "pool", "inputs": ["conv1"], "in_shape": [1, 4, 4], "out_shape": [1, 2, 2],
         "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "spiking": False},
        {"name": "gate1", "kind": "gate", "inputs": ["pool1"], "in_shape": [1, 2, 2], "out_shape": [1, 2, 2],
         "scale": [5, 4]},
        {"name": "fc1", "kind": "fc", "inputs": ["gate1"], "in_features": 4, "out_features": 3, "spiking": False,
         **({"mean_over_time": True} if mean else {})},
    ]  # fmt: skip
    meta = {
        "format": "h2sim-trace", "version": 2, "network": "gated", "dataset": "", "timesteps": 3, "batch": 2,
        "phases": list(phases), "neuron": NEURON, "source": {"kind": "training", **source},
        "input": {"kind": "counts", "most": 300}, "layers": layers,
    }  # fmt: skip
    members: dict[str, np.ndarray] = {
        "input.counts": rng.integers(0, 301, (3, 2, 1, 4, 4)).astype(np.uint16),
        "conv1.spikes": pack(rng.integers(0, 2, (3, 2, 16))),
        "gate1.kept": pack(np.array([[[1, 0, 1, 1], [1, 1, 1, 0]]])),
    }
    if len(phases) > 1:
        members |= {
            "conv1.window": pack(np.ones((3, 2, 16))), "conv1.grad": pack(rng.integers(0, 2, (3, 2, 16))),
            "fc1.grad": pack(np.array([[[1, 0, 1], [0, 0, 0]]]).repeat(1 if mean else 3, axis=0)),
        }  # fmt: skip
    write_trace(folder / "gated.npz", meta, members)
    return folder / "gated.npz"
