"""The unit of fusion, [BN ->] LIF -> reader, of which only x is kept: the four algorithms of chapter 4 of the source.

The backward pass computes normed values, membranes and spikes again. Where a map outweighs the reader's weights, both
passes go through the samples in slices: of one slice at a time there are spikes and their gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from h2sim.fused.readers import OfWeights, Reader
from h2sim.fused.statistics import summed
from h2sim.fused.values import Implementation, Means, Norm, as_places
from h2sim.neuron import Neuron

SLICE_BYTES = 4 << 20  # [A] maps up to this size are not sliced


Work = Literal["spikes", "reading", "weights", "inputs", "neurons"]  # spikes: of x, in both passes
Watch = Callable[[Work], None]


def unwatched(work: Work) -> None:
    """What watches nothing."""


@dataclass(frozen=True)
class Unit:
    """How a unit computes.

    sliced: see the module. merged: a norm's statistics are those of all processes together. watch: told what begins:
    the spikes of x, the reader's product, the gradients of its weights and of what it reads, those of the neurons.
    """

    neuron: Neuron
    reader: Reader
    implementation: Implementation
    sliced: bool = True
    merged: bool = False
    watch: Watch = unwatched


@dataclass(frozen=True)
class Parameters:
    """What a unit reads beside x. count: elements behind a norm's statistics, float64 (1,); None: they are fixed."""

    norm: Norm | None = None
    count: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None


@dataclass(frozen=True)
class UnitGradients:
    """dL/d(x, gamma, beta, weight, bias) of a unit; None what it does not have."""

    x: torch.Tensor
    gamma: torch.Tensor | None = None
    beta: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None


def forward(unit: Unit, x: torch.Tensor, given: Parameters) -> torch.Tensor:
    """x of the next layer (T, N, ...) from x (T, N, C, ...)."""
    whole: torch.Tensor | None = None
    x = regular(x)
    for part in slices(unit, x, given.weight):
        unit.watch("spikes")
        s = unit.implementation.spikes(x[:, part], given.norm, unit.neuron)
        unit.watch("reading")
        out = unit.reader(s, given.weight, given.bias)
        if whole is None:
            whole = empty(out, x)
            if out.shape == whole.shape and out.stride() == whole.stride():
                return out
        whole[:, part] = out
    assert whole is not None
    return whole


def regular(x: torch.Tensor) -> torch.Tensor:
    """x, or a copy where H and W are not one run of places."""
    return x if as_places(x).data_ptr() == x.data_ptr() else x.contiguous()


def empty(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Memory for what a reader gives of all samples: channels last if x lies so. out: of some samples."""
    shape = (*x.shape[:2], *out.shape[2:])
    if len(shape) == 5 and x.dim() == 5 and x.flatten(0, 1).is_contiguous(memory_format=torch.channels_last):
        frames = (shape[0] * shape[1], *shape[2:])
        laid = torch.empty(frames, dtype=out.dtype, device=out.device, memory_format=torch.channels_last)
        return torch.unflatten(laid, 0, shape[:2])
    return out.new_empty(shape)


def backward(
    unit: Unit, grad: torch.Tensor, x: torch.Tensor, given: Parameters, wants_weight: bool = True
) -> UnitGradients:
    """The gradients from grad = dL/d(what forward gave). The norm's are of this process alone, also where merged."""
    if (laid := regular(x)) is not x:
        found = backward(unit, grad, laid, given, wants_weight)
        return replace(found, x=torch.empty_like(x).copy_(found.x))
    held, of_weight, of_bias = into_spikes(unit, grad, x, given, wants_weight)
    unit.watch("neurons")
    if given.norm is None:
        unit.implementation.backward(x, held, None, None, unit.neuron)
        return UnitGradients(held, weight=of_weight, bias=of_bias)
    sums = unit.implementation.sums(x, held, given.norm, unit.neuron)
    unit.implementation.backward(x, held, given.norm, means_of(sums, given.count, unit.merged), unit.neuron)
    return UnitGradients(held, sums[1].clone(), sums[0].clone(), of_weight, of_bias)


def means_of(sums: torch.Tensor, count: torch.Tensor | None, merged: bool) -> Means | None:
    """The means over the elements behind the statistics; None where those are fixed."""
    if count is None:
        return None
    means = summed(sums, merged) / count.to(sums.dtype)
    return Means(means[0], means[1])


def into_spikes(
    unit: Unit, grad: torch.Tensor, x: torch.Tensor, given: Parameters, wants_weight: bool
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """dL/ds in memory of its own, laid as x, and dL/d(weight, bias)."""
    held = torch.empty_like(x)
    if type(unit.reader) is Reader:
        return held.copy_(grad), None, None
    total: list[torch.Tensor | None] = [None, None]
    for part in slices(unit, x, given.weight):
        unit.watch("spikes")
        s = unit.implementation.spikes(x[:, part], given.norm, unit.neuron)
        found = of_weights(unit, grad[:, part], s, given) if wants_weight else (None, None)
        unit.watch("inputs")
        of_s = unit.reader.of_spikes(grad[:, part], s, given.weight)
        del s
        if of_s.shape == held.shape and of_s.stride() == held.stride():
            held = of_s
        else:
            held[:, part] = of_s
        del of_s
        total = [_added(whole, one) for whole, one in zip(total, found, strict=True)]
    return held, _as(given.weight, total[0]), _as(given.bias, total[1])


def of_weights(unit: Unit, grad: torch.Tensor, s: torch.Tensor, given: Parameters) -> OfWeights:
    """dL/d(weight, bias) of a reader that has weights."""
    if given.weight is None:
        return None, None
    unit.watch("weights")
    return unit.reader.of_weights(grad, s, given.weight, given.bias is not None)


def _added(total: torch.Tensor | None, one: torch.Tensor | None) -> torch.Tensor | None:
    return one if total is None or one is None else total.add_(one)


def _as(parameter: torch.Tensor | None, grad: torch.Tensor | None) -> torch.Tensor | None:
    """A gradient of a parameter's type, laid as it."""
    if parameter is None or grad is None:
        return None
    if grad.dtype == parameter.dtype and grad.stride() == parameter.stride():
        return grad
    return torch.empty_like(parameter).copy_(grad)


def slices(unit: Unit, x: torch.Tensor, weight: torch.Tensor | None) -> Iterator[slice]:
    """Samples to take at a time: all, or so few that their map weighs no more than the weights or SLICE_BYTES."""
    samples = x.shape[1]
    most = max(SLICE_BYTES, 0 if weight is None else weight.numel() * weight.element_size())
    per_sample = max(1, x.numel() // max(1, samples) * x.element_size())
    at_once = max(1, most // per_sample) if unit.sliced and type(unit.reader) is not Reader else samples
    yield from (slice(i, min(i + at_once, samples)) for i in range(0, samples, max(1, at_once)))
