"""Synthetic traces of random masks, for networks of which no real trace is at hand; their metadata says so."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from h2sim.activity import PHASES
from h2sim.arrays import Array, Bools, Bytes
from h2sim.errors import TraceError, at
from h2sim.trace.bits import packed_bytes
from h2sim.trace.members import MASKS
from h2sim.trace.model import FORMAT, VERSION, TraceMeta
from h2sim.trace.network import Network
from h2sim.trace.parse import parse_meta
from h2sim.trace.structure import Channels, Structure, silent_set, structured_mask

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
    """Fractions of zeros from 0 to 1, of three masks: spikes, window (output sparsity) and grad (input sparsity).

    Raises TraceError for a value that is no such fraction.
    """

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
    structure: Structure | None = None,
) -> tuple[dict[str, Any], Iterator[tuple[str, Array]]]:
    """Metadata and members of a trace of random masks, of independent bits or with the given structure.

    `layers` gives single layers, by name, a sparsity of their own. `phases` of ('forward',) leaves the gradient masks
    out. Members come one at a time, as write_trace takes them. The same arguments give the same bytes. Each member has
    a random stream of its own, chosen by seed and name: with one seed, the set bits of a sparser mask are a subset of
    those of a denser one. Raises TraceError for sizes, a seed or a layer name that cannot be, and for a structure that
    leaves no room for the bits.
    """
    own = dict(layers or {})
    if type(seed) is not int or seed < 0:
        raise TraceError(at("synthesis", "seed", "an integer of at least 0", repr(seed)))
    method = "independent bits" if structure is None else "Gaussian fields cut at the density"
    source: dict[str, Any] = {"kind": "synthetic", "method": method, "seed": seed}
    if structure is not None:
        source["structure"] = structure.to_dict()
        source["silent_samples"] = f"{round(structure.silent_samples * batch)} of {batch}"
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
        "neuron": {**NEURON, **(network.neuron or {})},
        "source": source,
        "layers": list(network.layers),
    }
    meta = parse_meta(data, network.name)
    for name in own:
        meta.layer(name)

    def plan(layer: str, kind: str) -> MaskPlan:
        zeros = getattr(sparsity if layer == "input" else own.get(layer, sparsity), kind)
        return MaskPlan(zeros, structure if structure and layer != "input" else None)

    return data, random_members(meta, plan, seed, structure.silent_samples if structure else 0.0)


@dataclass(frozen=True)
class MaskPlan:
    """What one random mask is to be: its share of zeros from 0 to 1, and its structure (None: independent bits)."""

    zeros: float
    structure: Structure | None = None


def random_members(
    meta: TraceMeta, plan: Callable[[str, str], MaskPlan], seed: int, silent_samples: float, analog_steps: int = 1
) -> Iterator[tuple[str, Array]]:
    """Draws the members of a trace of random masks, one at a time.

    plan(layer or 'input', kind of mask) says what each mask is to be. silent_samples: the share of samples whose
    gradient masks are empty, in all layers that have a structure. analog_steps: timesteps of an analog input.
    """
    silent = silent_set(meta.batch, silent_samples, _stream(seed, "samples"))
    if meta.analog:
        shape = (analog_steps, meta.batch, *meta.input_shape)
        yield "input.analog", _stream(seed, "input.analog").random(shape, dtype=np.float32)
    else:
        yield "input.spikes", _mask(meta, seed, "input", "spikes", meta.input_shape, plan("input", "spikes"), silent)
    for layer in meta.layers:
        for kind in MASKS:
            if "backward" in meta.phases if kind == "grad" else layer.spiking:
                mask = _mask(meta, seed, layer.name, kind, layer.out_chw, plan(layer.name, kind), silent)
                yield f"{layer.name}.{kind}", mask


def _mask(
    meta: TraceMeta, seed: int, layer: str, kind: str, chw: tuple[int, int, int], plan: MaskPlan, silent: Bools
) -> Bytes:
    member = f"{layer}.{kind}"
    if plan.structure is None:
        return _bits(meta, seed, member, math.prod(chw), plan.zeros)
    empty = silent if kind == "grad" else np.zeros_like(silent)
    channels = Channels.draw(chw[0], _stream(seed, f"{layer}.channels"))
    rng = _stream(seed, member)
    return structured_mask(rng, meta.timesteps, chw, 1 - plan.zeros, plan.structure, empty, channels, member)


def _stream(seed: int, member: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(member.encode())]))


def _bits(meta: TraceMeta, seed: int, member: str, neurons: int, zeros: float) -> Bytes:
    """Draws a packed mask, uint8 (T, N, bytes), of independent bits, one timestep at a time."""
    rng = _stream(seed, member)
    packed = np.empty((meta.timesteps, meta.batch, packed_bytes(neurons)), np.uint8)
    for t in range(meta.timesteps):
        packed[t] = np.packbits(rng.random((meta.batch, neurons), dtype=np.float32) >= np.float32(zeros), axis=-1)
    return packed
