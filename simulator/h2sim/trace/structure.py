"""Random masks with the structure that real traces show, which independent coin flips do not have.

Real masks have samples without any gradient, channels that are never active and channels that are more active than
others, spatial clusters, and places that are active in all channels and timesteps of a sample. A mask is made from a
Gaussian random field: of each timestep and sample the largest values are set, as many as the wanted density asks for.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from h2sim.arrays import Bools, Bytes, Float32s, Floats, Ints
from h2sim.errors import TraceError, at
from h2sim.trace.bits import packed_bytes

Chw = tuple[int, int, int]
LARGEST_CLUSTER = 16  # positions, that measuring finds


@dataclass(frozen=True)
class Structure:
    """How a mask differs from independent bits; every field at its default is no structure.

    silent_samples: share of samples whose gradient is 0 in every layer. dead_channels: share of each layer's channels
    whose masks are empty. cluster_positions: side, in positions, of the square over which the Gaussian field is
    averaged; 1 averages nothing. shared: share of the field's variance that all channels and timesteps of a sample
    have in common. channels: share of its variance that belongs to a channel, equal at all places and in all masks of
    a layer. Raises TraceError for a value that cannot be.
    """

    silent_samples: float = 0.0
    dead_channels: float = 0.0
    cluster_positions: int = 1
    shared: float = 0.0
    channels: float = 0.0

    def __post_init__(self) -> None:
        for name in ("silent_samples", "dead_channels", "shared", "channels"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
                raise TraceError(at("structure", name, "a share from 0 to 1", repr(value)))
        if self.shared + self.channels > 1 + 1e-9:
            together = f"{self.shared} + {self.channels}"
            raise TraceError(at("structure", "shared + channels", "a share of at most 1 together", together))
        if type(self.cluster_positions) is not int or not 1 <= self.cluster_positions <= 256:
            raise TraceError(at("structure", "cluster_positions", "an integer from 1 to 256", self.cluster_positions))

    def to_dict(self) -> dict[str, float]:
        """Its fields by name, as a trace's `source` holds them."""
        return asdict(self)


@dataclass(frozen=True)
class Channels:
    """What all masks of a layer have in common.

    order: int64 (C,), channels in the order in which they become dead; offsets: float32 (C,), what each adds to the
    field.
    """

    order: Ints
    offsets: Float32s

    @classmethod
    def draw(cls, channels: int, rng: np.random.Generator) -> Channels:
        """Draws them at random for a layer of that many channels."""
        return cls(rng.permutation(channels), rng.standard_normal(channels, dtype=np.float32))


def silent_set(samples: int, share: float, seed_rng: np.random.Generator) -> Bools:
    """Draws which samples have no gradient: bool (N,), of which round(share * N) are True."""
    silent = np.zeros(samples, bool)
    silent[seed_rng.permutation(samples)[: round(share * samples)]] = True
    return silent


def structured_mask(
    rng: np.random.Generator,
    timesteps: int,
    chw: Chw,
    density: float,
    structure: Structure,
    silent: Bools,
    layer: Channels,
    where: str,
) -> Bytes:
    """Draws a packed mask, uint8 (T, N, bytes), whose mean over all bits is `density`.

    silent, bool (N,): the samples that stay empty. The first round(dead_channels * C) channels of layer.order are dead.
    where: names the mask in errors. Raises TraceError where the samples and channels that are left cannot hold so many
    set bits.
    """
    channels, height, width = chw
    dead = layer.order[: round(structure.dead_channels * channels)]
    alive = np.setdiff1d(np.arange(channels), dead)
    live = (~silent).mean() * len(alive) / channels
    if density > live + 1e-12:
        wanted = f"at most {live:.4g} of the bits set, with the samples and channels that are not empty"
        raise TraceError(at(where, "density", wanted, f"{density:.4g}"))
    packed = np.zeros((timesteps, len(silent), packed_bytes(math.prod(chw))), np.uint8)
    bits_each = density / live * len(alive) * height * width if live else 0.0
    common = math.sqrt(structure.shared) * _field(rng, (len(silent), 1, height, width), structure.cluster_positions)
    common = common + math.sqrt(structure.channels) * layer.offsets[alive][:, None, None]
    rest = math.sqrt(max(0.0, 1 - structure.shared - structure.channels))
    for t in range(timesteps):
        field = common + rest * _field(rng, (len(silent), len(alive), height, width), structure.cluster_positions)
        for n in np.flatnonzero(~silent):
            mask = np.zeros(chw, bool)
            mask[alive] = _largest(field[n], bits_each, rng)
            packed[t, n] = np.packbits(mask.reshape(-1))
    return packed


def _largest(field: Float32s, count: float, rng: np.random.Generator) -> Bools:
    """Marks the `count` largest values, bool of the same shape; the fraction of a bit in `count` is set by chance.

    Of equal values the first are marked: argpartition would choose by the processor's vector width.
    """
    n_bits = min(field.size, int(count) + int(rng.random() < count - int(count)))
    if not n_bits:
        return np.zeros(field.shape, bool)
    values = field.reshape(-1)
    smallest = np.partition(values, field.size - n_bits)[field.size - n_bits]
    chosen: Bools = values > smallest
    chosen[np.flatnonzero(values == smallest)[: n_bits - int(chosen.sum())]] = True
    return chosen.reshape(field.shape)


def _field(rng: np.random.Generator, shape: tuple[int, ...], side: int) -> Float32s:
    """Gaussian noise, float32, averaged over side x side positions and scaled back to variance 1."""
    *outer, height, width = shape
    noise: Floats = rng.standard_normal((*outer, height + side - 1, width + side - 1), dtype=np.float32)
    if side == 1:
        return noise.astype(np.float32, copy=False)
    for axis in (-2, -1):
        total = np.cumsum(noise, axis=axis, dtype=np.float64)
        first = np.zeros_like(np.take(total, [0], axis=axis))
        total = np.concatenate([first, total], axis=axis)
        size = total.shape[axis] - side
        noise = np.take(total, range(side, side + size), axis) - np.take(total, range(size), axis)
    return (noise / side).astype(np.float32)


def measured(packed: Bytes, chw: Chw, silent: Bools) -> Structure:
    """Estimates the structure of a packed mask, uint8 (T, N, bytes).

    silent, bool (N,): samples without gradient, which are left out. cluster_positions comes from the correlation of
    neighbouring positions, shared from that of equal positions across channels and timesteps, channels from that within
    a channel. The correlation of two Gaussian fields is taken as sin(pi/2 * correlation of their masks), which is exact
    for masks that are half full.
    """
    bits = np.unpackbits(packed[:, ~silent], axis=2, count=math.prod(chw)).reshape(len(packed), -1, *chw)
    if not bits.size or not bits.any():
        return Structure()
    dead = ~bits.any(axis=(0, 1, 3, 4))
    alive = bits[:, :, ~dead]
    density = float(alive.mean())
    variance = density * (1 - density)
    if variance == 0 or chw[1] * chw[2] == 1:
        return Structure(dead_channels=float(dead.mean()))
    pairs = [(alive[..., 1:, :], alive[..., :-1, :]), (alive[..., 1:], alive[..., :-1])]
    both = [float((a & b).mean()) for a, b in pairs if a.size]
    near = _latent((sum(both) / len(both) - density**2) / variance)
    shared = _latent(float(alive.mean(axis=(0, 2)).var()) / variance)
    channels = _latent(float(alive.mean(axis=(0, 1, 3, 4)).var()) / variance)
    inner = (near - channels) / (1 - channels) if channels < 1 else 0.0
    cluster = round(1 / max(1 - inner, 1 / LARGEST_CLUSTER))
    scale = max(1.0, shared + channels)
    return Structure(0.0, float(dead.mean()), max(1, cluster), shared / scale, channels / scale)


def _latent(correlation: float) -> float:
    return math.sin(math.pi / 2 * min(1.0, max(0.0, correlation)))
