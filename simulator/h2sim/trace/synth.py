"""Synthetic traces of random masks, for networks of which no real trace is at hand; their metadata says so."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from h2sim.activity import PHASES
from h2sim.arrays import Array, Bools, Bytes, Floats
from h2sim.errors import TraceError, at
from h2sim.trace.bits import packed_bytes
from h2sim.trace.members import known_members
from h2sim.trace.model import FORMAT, VERSION, Input, Layer, TraceMeta
from h2sim.trace.network import Network
from h2sim.trace.operands import operands_of
from h2sim.trace.parse import parse_meta, version_of
from h2sim.trace.structure import Channels, Structure, silent_set, structured_mask
from h2sim.trace.windows import axis_of

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
    """Fractions of zeros from 0 to 1, of masks: spikes, window (output sparsity), grad (input sparsity), kept (gates).

    kept None: as a gate's scale says, 1 - 1 / scale. Raises TraceError for a value that is no such fraction.
    """

    spikes: float
    window: float
    grad: float
    kept: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            if not 0.0 <= value <= 1.0:
                raise TraceError(at("sparsity", name, "a fraction of zeros from 0 to 1", value))

    def to_dict(self) -> dict[str, float]:
        """The fractions that are given, by name, as a trace's `source` holds them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def of(self, layer: Layer, kind: str) -> float:
        """The fraction of zeros of a layer's mask."""
        if kind == "kept" and self.kept is None:
            return max(0.0, 1 - 1 / float(layer.scale))
        return float(getattr(self, kind))


@dataclass(frozen=True)
class Counts:
    """A network input of integers from 0 to `most`, of which the share `zeros` is 0 and all others are alike.

    Raises TraceError for what cannot be.
    """

    most: int
    zeros: float

    def __post_init__(self) -> None:
        if type(self.most) is not int or not 2 <= self.most <= 65535:
            raise TraceError(at("counts", "most", "an integer from 2 to 65535", repr(self.most)))
        if not 0.0 <= self.zeros <= 1.0:
            raise TraceError(at("counts", "zeros", "a fraction of zeros from 0 to 1", self.zeros))

    @property
    def shares(self) -> Floats:
        """How often each count from 0 to `most` comes, float64, their sum 1."""
        return np.array([self.zeros, *[(1 - self.zeros) / self.most] * self.most])


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
    counts: Counts | None = None,
) -> tuple[dict[str, Any], Iterator[tuple[str, Array]]]:
    """Metadata and members of a trace of random masks, of independent bits or with the given structure.

    `layers` gives single layers, by name, a sparsity of their own. `phases` of ('forward',) leaves the gradient masks
    out. `counts` makes the network input one of counts; without it that of a network of counts has as many zeros as
    spikes have. What a gate keeps of a sample is the same at all timesteps and has no structure: dropout is noise.
    Members come one at a time, as write_trace takes them. The same arguments give the same bytes. Each member has a
    random stream of its own, chosen by seed and name: with one seed, the set bits of a sparser mask are a subset of
    those of a denser one. Raises TraceError for sizes, a seed or a layer name that cannot be, for a layer that has no
    masks, and for a structure that leaves no room for the bits.
    """
    if type(seed) is not int or seed < 0:
        raise TraceError(at("synthesis", "seed", "an integer of at least 0", repr(seed)))
    method = "independent bits" if structure is None else "Gaussian fields cut at the density"
    source: dict[str, Any] = {"kind": "synthetic", "method": method, "seed": seed}
    if structure is not None:
        source["structure"] = structure.to_dict()
        source["silent_samples"] = f"{round(structure.silent_samples * batch)} of {batch}"
    source["sparsity"] = sparsity.to_dict()
    if counts is None and network.input_most is not None:
        counts = Counts(network.input_most, sparsity.spikes)
    if counts:
        source["counts"] = asdict(counts)
    data: dict[str, Any] = {
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
    if counts:
        data["input"] = Input(kind="counts", most=counts.most).model_dump()
    elif network.input_entry:
        data["input"] = network.input_entry
    data["version"] = version_of(data)
    meta = parse_meta(data, network.name)
    own = _own(meta, layers or {})
    if own:
        source["layer_sparsity"] = {name: value.to_dict() for name, value in own.items()}

    def plan(layer: str, kind: str) -> MaskPlan:
        if layer == "input":
            return MaskPlan(sparsity.spikes)
        found = meta.layer(layer)
        zeros = own.get(layer, sparsity).of(found, kind)
        once = kind == "kept" or (kind == "grad" and found.mean_over_time)
        return MaskPlan(zeros, None if kind == "kept" else structure, once)

    silent = structure.silent_samples if structure else 0.0
    return data, random_members(meta, plan, seed, silent, shares=counts.shares if counts else None)


def _own(meta: TraceMeta, layers: Mapping[str, Sparsity]) -> dict[str, Sparsity]:
    """What single layers are to have, of gates alone what they keep; refused where a layer has no mask at all."""
    masked = {name.rpartition(".")[0] for name, expected in known_members(meta) if expected.neurons is not None}
    own = {}
    for name, sparsity in layers.items():
        layer = meta.layer(name)
        if name not in masked:
            raise TraceError(at("sparsity", name, "a layer that has masks", f"{layer.kind}, whose map is derived"))
        own[name] = sparsity if layer.kind == "gate" else replace(sparsity, kept=None)
    return own


@dataclass(frozen=True)
class MaskPlan:
    """What one random mask is to be: its share of zeros from 0 to 1, and its structure (None: independent bits).

    once: it is the same at all timesteps, and the file holds it once.
    """

    zeros: float
    structure: Structure | None = None
    once: bool = False


def random_members(
    meta: TraceMeta,
    plan: Callable[[str, str], MaskPlan],
    seed: int,
    silent_samples: float,
    *,
    analog_steps: int = 1,
    shares: Floats | None = None,
) -> Iterator[tuple[str, Array]]:
    """Draws the members of a trace of random masks, one at a time: all that the format asks for, and no more.

    plan(layer or 'input', kind of mask) says what each mask is to be. silent_samples: the share of samples whose
    gradient masks are empty, in all layers that have a structure. analog_steps: timesteps of an analog input. shares:
    of each count of an input of counts. A maximum of currents routes to any of its window, each as likely.
    """
    silent = silent_set(meta.batch, silent_samples, _stream(seed, "samples"))
    routed = _routed(meta)
    for name, expected in known_members(meta):
        layer, _, kind = name.rpartition(".")
        if name in routed:
            yield name, _route(meta, routed[name], _stream(seed, name))
        elif not expected.required:
            continue
        elif kind == "analog":
            shape = (analog_steps, meta.batch, *meta.input_shape)
            yield name, _stream(seed, name).random(shape, dtype=np.float32)
        elif kind == "counts":
            assert shares is not None
            yield name, _counts(meta, _stream(seed, name), shares)
        else:
            chw = meta.input_shape if layer == "input" else meta.layer(layer).out_chw
            yield name, _mask(meta, seed, layer, kind, chw, plan(layer, kind), silent)


def _routed(meta: TraceMeta) -> dict[str, Layer]:
    """The members that say where the maxima of currents route to, which no mask tells, by name."""
    if "backward" not in meta.phases:
        return {}
    operands = operands_of(meta)
    layers = [layer for layer in meta.layers if layer.is_map and layer.kind == "pool" and layer.mode == "max"]
    return {f"{layer.name}.route": layer for layer in layers if operands[layer.inputs[0]].kind == "analog"}


def _route(meta: TraceMeta, layer: Layer, rng: np.random.Generator) -> Bytes:
    """Offsets in the windows of a maximum, uint8 (T, N, C, H, W), of elements inside the map alone."""
    shape = (meta.timesteps, meta.batch, *layer.out_chw)
    rows, columns = axis_of(layer, 0).reads, axis_of(layer, 1).reads
    if rows.shape[1] * columns.shape[1] > 256:
        raise TraceError(at(layer.name, "window", "at most 256 elements, to say which is largest",
                            rows.shape[1] * columns.shape[1]))  # fmt: skip
    down, right = (
        _one_inside(reads, rng.random(shape), axis) for reads, axis in ((rows, 3), (columns, 4))
    )  # fmt: skip
    found: Bytes = (down * columns.shape[1] + right).astype(np.uint8)
    return found


def _one_inside(reads: Array, chance: Floats, axis: int) -> Array:
    """Of each window along an axis of the map the place of one element inside it, by a chance from 0 to 1."""
    inside = reads >= 0
    places = np.argsort(~inside, axis=1, kind="stable")  # those inside first, in their order
    window = np.arange(len(reads)).reshape([-1 if n == axis else 1 for n in range(5)])
    found: Array = places[window, (chance * inside.sum(axis=1)[window]).astype(np.int64)]
    return found


def _counts(meta: TraceMeta, rng: np.random.Generator, shares: Floats) -> Array:
    """Integers (T, N, C, H, W), each drawn with its share; more zeros make the others smaller, none larger."""
    up_to = np.cumsum(shares)
    dtype = np.uint8 if len(shares) <= 256 else np.uint16
    counts = np.empty((meta.timesteps, meta.batch, *meta.input_shape), dtype)
    for t in range(meta.timesteps):
        counts[t] = np.searchsorted(up_to / up_to[-1], rng.random(counts.shape[1:]), side="right")
    return counts


def _mask(
    meta: TraceMeta, seed: int, layer: str, kind: str, chw: tuple[int, int, int], plan: MaskPlan, silent: Bools
) -> Bytes:
    member, steps = f"{layer}.{kind}", 1 if plan.once else meta.timesteps
    if plan.structure is None:
        return _bits((steps, meta.batch), seed, member, math.prod(chw), plan.zeros)
    empty = silent if kind == "grad" else np.zeros_like(silent)
    channels = Channels.draw(chw[0], _stream(seed, f"{layer}.channels"))
    rng = _stream(seed, member)
    return structured_mask(rng, steps, chw, 1 - plan.zeros, plan.structure, empty, channels, member)


def _stream(seed: int, member: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(member.encode())]))


def _bits(samples: tuple[int, int], seed: int, member: str, neurons: int, zeros: float) -> Bytes:
    """Draws a packed mask, uint8 (T, N, bytes), of independent bits, one timestep at a time."""
    rng, (steps, batch) = _stream(seed, member), samples
    packed = np.empty((steps, batch, packed_bytes(neurons)), np.uint8)
    for t in range(steps):
        packed[t] = np.packbits(rng.random((batch, neurons), dtype=np.float32) >= np.float32(zeros), axis=-1)
    return packed
