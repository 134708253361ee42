"""The unit as operators of torch, which torch.compile takes whole: h2sim::statistics, h2sim::unit and its backward."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch

from h2sim.fused import unit as units
from h2sim.fused.choice import chosen
from h2sim.fused.readers import decoded
from h2sim.fused.statistics import statistics as statistics_of
from h2sim.fused.values import Norm
from h2sim.neuron import Neuron


@lru_cache(maxsize=1024)
def _neuron(text: str) -> Neuron:
    return Neuron.from_meta(json.loads(text))


def encoded(neuron: Neuron) -> str:
    """The neuron as text, which an operator of torch can take."""
    return json.dumps(neuron.to_meta())


@torch.library.custom_op("h2sim::statistics", mutates_args=())
def statistics(
    x: torch.Tensor, eps: float, implementation: str, merged: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, variance, inverse and count of x; see statistics.Statistics. It has no gradient: the unit's has it."""
    found = statistics_of(x, eps, chosen(implementation, x), merged)
    return found.mean, found.variance, found.inverse, found.count


@statistics.register_fake
def _statistics_shapes(
    x: torch.Tensor, eps: float, implementation: str, merged: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    of_channels = [x.new_empty(x.shape[2], dtype=dtype) for _ in range(3)]
    return of_channels[0], of_channels[1], of_channels[2], x.new_empty(1, dtype=torch.float64)


@torch.library.custom_op("h2sim::unit", mutates_args=())
def unit(
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor | None,
    inverse: torch.Tensor | None,
    count: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    neuron: str,
    reader: str,
    implementation: str,
    sliced: bool,
    merged: bool,
) -> torch.Tensor:
    """What the reader makes of the spikes of x, (T, N, ...); see unit.Unit and unit.Parameters."""
    how = units.Unit(_neuron(neuron), decoded(reader), chosen(implementation, x), sliced, merged)
    return units.forward(how, x, _parameters(gamma, beta, mean, inverse, count, weight, bias))


@unit.register_fake
def _unit_shape(
    x: torch.Tensor, gamma: Any, beta: Any, mean: Any, inverse: Any, count: Any, weight: Any, bias: Any, neuron: str,
    reader: str, *_: Any,
) -> torch.Tensor:  # fmt: skip
    return units.empty(decoded(reader)(x, weight, bias), x)


@torch.library.custom_op("h2sim::unit_backward", mutates_args=())
def unit_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor | None,
    inverse: torch.Tensor | None,
    count: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    neuron: str,
    reader: str,
    implementation: str,
    sliced: bool,
    merged: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """dL/d(x, gamma, beta, weight, bias); empty what there is none of."""
    how = units.Unit(_neuron(neuron), decoded(reader), chosen(implementation, x), sliced, merged)
    found = units.backward(how, grad, x, _parameters(gamma, beta, mean, inverse, count, weight, bias))
    of_gamma, of_beta, of_weight, of_bias = (
        x.new_empty(0) if value is None else value for value in (found.gamma, found.beta, found.weight, found.bias)
    )
    return found.x, of_gamma, of_beta, of_weight, of_bias


@unit_backward.register_fake
def _gradient_shapes(
    grad: torch.Tensor, x: torch.Tensor, gamma: Any, beta: Any, mean: Any, inverse: Any, count: Any, weight: Any,
    bias: Any, *_: Any,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    like = (x.new_empty(0) if value is None else torch.empty_like(value) for value in (gamma, beta, weight, bias))
    return torch.empty_like(x), *like


def _parameters(
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor | None,
    inverse: torch.Tensor | None,
    count: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> units.Parameters:
    if gamma is None or beta is None or mean is None or inverse is None:
        return units.Parameters(None, None, weight, bias)
    return units.Parameters(Norm(gamma, beta, mean, inverse), count, weight, bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.how = inputs[8:]


def _back(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    x, *kept = ctx.saved_tensors
    found = unit_backward(grad, x, *kept, *ctx.how)
    gamma, beta, weight, bias = (
        value if wanted else None
        for value, wanted in zip(found[1:], (ctx.needs_input_grad[i] for i in (1, 2, 6, 7)), strict=True)
    )
    return found[0], gamma, beta, None, None, None, weight, bias, *[None] * 5


unit.register_autograd(_back, setup_context=_keep)
