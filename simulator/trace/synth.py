"""Synthetic masks, for networks and sparsities of which no real trace is at hand. Marked synthetic everywhere."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from h2sim.errors import TraceError, at
from h2sim.trace.bits import packed_bytes
from h2sim.trace.members import MASKS
from h2sim.trace.model import FORMAT, PHASES, VERSION, TraceMeta
from h2sim.trace.network import Network
from h2sim.trace.parse import parse_meta

# table 5.6 of the source's dissertation: th_f 0.3, th_r - th_l 0.5
NEURON = {
    "threshold": 0.3,
    "decay": 0.25,
    "window": [0.05, 0.55],
    "surrogate_scale": 1.0,
    "reset": "zero",
    "detach_reset": False,
}


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
    network: Network,
    timesteps: int,
    batch: int,
    sparsity: Sparsity,
    seed: int,
    *,
    layers: Mapping[str, Sparsity] | None = None,
    phases: tuple[str, ...] = PHASES,
) -> tuple[dict[str, Any], Iterator[tuple[str, np.ndarray]]]:
    """Metadata and members of a trace whose bits are independent coin flips (real masks are not: see trace diff).

    `layers` overrides the sparsity by layer name; `phases` of ('forward',) leaves the gradient masks out. The same
    arguments give the same bytes. Each member has a random stream of its own, by seed and name, so that with one
    seed a sparser mask's bits are a subset of a denser one's. Members come one at a time, ready for write_trace.
    Raises TraceError for sizes, a seed or a layer name that cannot be.
    """
    own = dict(layers or {})
    if type(seed) is not int or seed < 0:
        raise TraceError(at("synthesis", "seed", "an integer of at least 0", repr(seed)))
    source: dict[str, Any] = {"kind": "synthetic", "method": "independent bits", "seed": seed}
    source["sparsity"] = asdict(sparsity)
    if own:
        source["layer_sparsity"] = {name: asdict(value) for name, value in own.items()}
    data = {
        "format": FORMAT,
        "version": VERSION,
        "network": network.name,
        "dataset": "none",
        "timesteps": timesteps,
        "batch": batch,
        "phases": list(phases),
        "neuron": dict(NEURON),
        "source": source,
        "layers": list(network.layers),
    }
    meta = parse_meta(data, network.name)
    for name in own:
        meta.layer(name)
    return data, _members(meta, sparsity, own, seed)


def _members(
    meta: TraceMeta, sparsity: Sparsity, own: Mapping[str, Sparsity], seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    if meta.analog:
        shape = (1, meta.batch, *meta.input_shape)
        yield "input.analog", _stream(seed, "input.analog").random(shape, dtype=np.float32)
    else:
        yield "input.spikes", _bits(meta, seed, "input.spikes", math.prod(meta.input_shape), sparsity.spikes)
    for layer in meta.layers:
        for kind in MASKS:
            if "backward" in meta.phases if kind == "grad" else layer.spiking:
                name = f"{layer.name}.{kind}"
                yield name, _bits(meta, seed, name, layer.neurons, getattr(own.get(layer.name, sparsity), kind))


def _stream(seed: int, member: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(member.encode())]))


def _bits(meta: TraceMeta, seed: int, member: str, neurons: int, zeros: float) -> np.ndarray:
    """Packed (T, N, bytes) of independent bits, drawn one timestep at a time."""
    rng = _stream(seed, member)
    packed = np.empty((meta.timesteps, meta.batch, packed_bytes(neurons)), np.uint8)
    for t in range(meta.timesteps):
        packed[t] = np.packbits(rng.random((meta.batch, neurons), dtype=np.float32) >= np.float32(zeros), axis=-1)
    return packed
