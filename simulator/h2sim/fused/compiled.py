"""The unit on the CPU by numba: one pass over memory, with the membranes of one row at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from h2sim.arrays import Float32s, Ints
from h2sim.fused.values import Means, Norm, as_places
from h2sim.kernels import unit as kernels
from h2sim.neuron import Neuron

# memory, starts and step of x; those of what lies alike; steps, wide, channels and along
_Pair = tuple[Float32s, Ints, int, Float32s, Ints, int, int, int, Ints, int]


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a map lie, as kernels/unit.py takes them."""

    memory: Float32s
    starts: Ints
    step: int


class Compiled:
    """See values.Implementation. Half types are computed in a float32 copy."""

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        x, along = _readable(x)
        rows, out = _rows(x, along), np.empty((2, x.shape[2]))
        elements = x.numel() // x.shape[2]
        kernels.moments(
            rows.memory, rows.starts, rows.step, x.shape[0], *_across(x, along), elements, out
        )  # fmt: skip
        return torch.from_numpy(out)

    def spikes(self, x: torch.Tensor, norm: Norm | None, neuron: Neuron) -> torch.Tensor:
        read, along = _readable(x)
        s = torch.empty_like(read)
        kernels.spikes(*_pair(read, s, along), _norm(norm, x.shape[2]), _numbers(neuron))
        return s if s.dtype == x.dtype else torch.empty_like(x).copy_(s)

    def sums(self, x: torch.Tensor, grad: torch.Tensor, norm: Norm, neuron: Neuron) -> torch.Tensor:
        grad, along = _readable(grad)
        out = np.zeros((2, x.shape[2]))
        kernels.sums(*_pair(_like(x, grad, along), grad, along), _norm(norm, x.shape[2]), _numbers(neuron), out)
        return torch.from_numpy(out).float()

    def backward(
        self, x: torch.Tensor, grad: torch.Tensor, norm: Norm | None, means: Means | None, neuron: Neuron
    ) -> None:
        held, along = _readable(grad)
        of = torch.zeros(2, x.shape[2]) if means is None else torch.stack([means.of_dy, means.of_xh])
        pair = _pair(_like(x, held, along), held, along)
        kernels.backward(*pair, _norm(norm, x.shape[2]), _numbers(neuron), _array(of))
        if held.data_ptr() != grad.data_ptr():
            grad.copy_(held)


def _readable(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """x as kernels read it, float32 in rows, and whether channels lie side by side: as it is, or copied."""
    x = x.detach().float()
    along = _along(x)
    if along is None:
        x = x.contiguous()
        along = int(as_places(x).shape[3] == 1)
    return x, along


def _along(x: torch.Tensor) -> int | None:
    """1 if channels lie side by side, 0 if the places of one do, None if neither."""
    places = as_places(x)
    if places.data_ptr() != x.data_ptr():
        return None  # H and W are not one run
    _, _, of_channel, of_place = places.stride()
    if of_channel == 1 and (places.shape[3] == 1 or of_place != 1):
        return 1
    return 0 if of_place == 1 else None


def _like(x: torch.Tensor, other: torch.Tensor, along: int) -> torch.Tensor:
    """x in rows such as those of another map."""
    x = x.detach().float()
    return x if _along(x) == along else torch.empty_like(other).copy_(x)


def _pair(x: torch.Tensor, other: torch.Tensor, along: int) -> _Pair:
    """The kernels' arguments of two maps that lie alike."""
    first, second = _rows(x, along), _rows(other, along)
    return (
        first.memory, first.starts, first.step, second.memory, second.starts, second.step, x.shape[0],
        *_across(x, along),
    )  # fmt: skip


def _across(x: torch.Tensor, along: int) -> tuple[int, Ints, int]:
    """The kernels' wide, channels and along."""
    _, samples, channels, places = as_places(x).shape
    if along:
        return channels, np.zeros(samples * places, np.int64), 1
    return places, np.tile(np.arange(channels), samples), 0


def _rows(x: torch.Tensor, along: int) -> _Rows:
    places = as_places(x)
    step, of_sample, of_channel, of_place = places.stride()
    span = 1 + sum((size - 1) * stride for size, stride in zip(places.shape, places.stride(), strict=True))
    memory = places.as_strided((span,), (1,)).numpy()
    across = np.arange(places.shape[3]) * of_place if along else np.arange(places.shape[2]) * of_channel
    starts = np.arange(places.shape[1])[:, None] * of_sample + across
    return _Rows(memory, starts.reshape(-1).astype(np.int64), step)


def _norm(norm: Norm | None, channels: int) -> Float32s:
    """The kernels' norm."""
    if norm is None:
        return np.tile(np.array([[0], [1], [0], [1]], np.float32), channels)
    return _array(torch.stack([norm.mean, norm.scale, norm.beta, norm.inverse]))


def _array(values: torch.Tensor) -> Float32s:
    found: Float32s = values.detach().float().contiguous().numpy()
    return found


def _numbers(neuron: Neuron) -> Float32s:
    """The kernels' neuron."""
    low, high = neuron.window
    threshold = np.float32(neuron.threshold)
    strict = neuron.fires_at == "greater"
    numbers = {
        "decay": neuron.decay,
        "fires_from": np.nextafter(threshold, np.float32(np.inf)) if strict else threshold,
        "threshold": threshold,
        "low": low,
        "high": high,
        "scale": neuron.surrogate_scale,
        "attached": not neuron.detach_reset,
        "zeroed": neuron.reset == "zero",
        "before": threshold if neuron.reset == "subtract" else 0,
        "after": threshold if neuron.reset == "subtract-after-leak" else 0,
        "triangle": neuron.surrogate == "triangle",
    }
    return np.array([numbers[name] for name in kernels.NEURON], np.float32)
