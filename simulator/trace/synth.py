"""Synthetic masks, for networks and sparsities of which no real trace is at hand. Marked synthetic everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from h2sim.errors import TraceError, at
from h2sim.trace.bits import packed_bytes
from h2sim.trace.model import FORMAT, VERSION, parse_meta
from h2sim.trace.network import Network

# table 5.6 of the source's dissertation: th_f 0.3, th_r - th_l 0.5
NEURON = {"threshold": 0.3, "decay": 0.25, "window": [0.05, 0.55], "surrogate_scale": 1.0, "reset": "zero"}


@dataclass(frozen=True)
class Sparsity:
    """Fractions of zeros in [0, 1]: of spikes, of the window mask (output), of the gradient mask (input)."""

    spikes: float
    window: float
    grad: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 <= value <= 1.0:
                raise TraceError(at("sparsity", name, "a fraction of zeros from 0 to 1", value))


def synthesise(
    network: Network, timesteps: int, batch: int, sparsity: Sparsity, seed: int
) -> tuple[dict[str, Any], Iterator[tuple[str, np.ndarray]]]:
    """Metadata and members of a trace whose bits are independent coin flips (real masks are not: see trace diff).

    The same arguments give the same bytes. Members come one at a time, ready for write_trace.
    """
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "network": network.name,
        "dataset": "none",
        "timesteps": timesteps,
        "batch": batch,
        "phases": ["forward", "backward", "weight_update"],
        "neuron": NEURON,
        "source": {"kind": "synthetic", "method": "independent bits", "seed": seed, "sparsity": asdict(sparsity)},
        "layers": list(network.layers),
    }
    parse_meta(meta, network.name)
    return meta, _members(network, timesteps, batch, sparsity, np.random.default_rng(seed))


def _members(
    network: Network, timesteps: int, batch: int, sparsity: Sparsity, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    if network.input_kind == "analog":
        yield "input.analog", rng.random((1, batch, *network.input_shape), dtype=np.float32)
    else:
        yield "input.spikes", _bits(rng, timesteps, batch, math.prod(network.input_shape), sparsity.spikes)
    for layer in network.layers:
        neurons = layer["out_features"] if layer["kind"] == "fc" else math.prod(layer["out_shape"])
        for kind, zeros in asdict(sparsity).items():
            if layer.get("spiking", True) or kind == "grad":
                yield f"{layer['name']}.{kind}", _bits(rng, timesteps, batch, neurons, zeros)


def _bits(rng: np.random.Generator, timesteps: int, batch: int, neurons: int, zeros: float) -> np.ndarray:
    """Packed (T, N, bytes) of independent bits, one timestep at a time."""
    packed = np.empty((timesteps, batch, packed_bytes(neurons)), np.uint8)
    for t in range(timesteps):
        packed[t] = np.packbits(rng.random((batch, neurons), dtype=np.float32) >= zeros, axis=-1)
    return packed
