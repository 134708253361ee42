"""The unit as operators of torch, which torch.compile takes whole: h2sim::statistics, h2sim::unit and its backward."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from h2sim.fused import unit as units
from h2sim.fused.choice import chosen
from h2sim.fused.readers import decoded
from h2sim.fused.statistics import statistics as statistics_of
from h2sim.fused.values import Norm
from h2sim.neuron import Neuron

MAPS = (
    "Tensor x, Tensor? gamma, Tensor? beta, Tensor? mean, Tensor? inverse, Tensor? count, Tensor? weight, Tensor? bias"
)
HOW = "str neuron, str reader, str implementation, bool sliced, bool merged"
N_MAPS, N_HOW = (len(held.split(", ")) for held in (MAPS, HOW))
Tensors = tuple[torch.Tensor, ...]
Made = Callable[..., Any]


@lru_cache(maxsize=1024)
def _neuron(text: str) -> Neuron:
    return Neuron.from_meta(json.loads(text))


def encoded(neuron: Neuron) -> str:
    """The neuron as text, which an operator of torch can take."""
    return json.dumps(neuron.to_meta())


def operator(name: str, schema: str, shapes: Made) -> Callable[[Made], Any]:
    """A function as torch's operator h2sim::<name>, which changes none of its arguments.

    schema: its arguments and results, as torch writes them. shapes: gives results of the same shapes and types, empty.
    """

    def registered(run: Made) -> Any:
        made = torch.library.custom_op(f"h2sim::{name}", run, mutates_args=(), schema=schema)
        made.register_fake(shapes)
        return made

    return registered


def _shapes_of_statistics(x: torch.Tensor, *_: Any) -> Tensors:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    mean, variance, inverse = (x.new_empty(x.shape[2], dtype=dtype) for _ in range(3))
    return mean, variance, inverse, x.new_empty(1, dtype=torch.float64)


@operator(
    "statistics",
    "(Tensor x, float eps, str implementation, bool merged) -> (Tensor, Tensor, Tensor, Tensor)",
    _shapes_of_statistics,
)
def statistics(x: torch.Tensor, eps: float, implementation: str, merged: bool) -> Tensors:
    """Mean, variance, inverse and count of x; see statistics.Statistics. It has no gradient: the unit's has it."""
    found = statistics_of(x, eps, chosen(implementation, x), merged)
    return found.mean, found.variance, found.inverse, found.count


def _shape_of_unit(*given: Any) -> torch.Tensor:
    x, weight, bias, reader = given[0], *given[N_MAPS - 2 : N_MAPS], given[N_MAPS + 1]
    return units.empty(decoded(reader)(x, weight, bias), x)


@operator("unit", f"({MAPS}, {HOW}) -> Tensor", _shape_of_unit)
def unit(x: torch.Tensor, *given: Any) -> torch.Tensor:
    """What the reader makes of the spikes of x, (T, N, ...); see unit.Unit and unit.Parameters."""
    how, parameters = _read(x, given)
    return units.forward(how, x, parameters)


def _shapes_of_gradients(grad: torch.Tensor, x: torch.Tensor, *given: Any) -> Tensors:
    gamma, beta, _, _, _, weight, bias = given[: N_MAPS - 1]
    like = (x.new_empty(0) if value is None else torch.empty_like(value) for value in (gamma, beta, weight, bias))
    return torch.empty_like(x), *like


@operator(
    "unit_backward",
    f"(Tensor grad, {MAPS}, {HOW}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _shapes_of_gradients,
)
def unit_backward(grad: torch.Tensor, x: torch.Tensor, *given: Any) -> Tensors:
    """dL/d(x, gamma, beta, weight, bias); empty what there is none of."""
    how, parameters = _read(x, given)
    found = units.backward(how, grad, x, parameters)
    others = (found.gamma, found.beta, found.weight, found.bias)
    return found.x, *(x.new_empty(0) if value is None else value for value in others)


def _read(x: torch.Tensor, given: tuple[Any, ...]) -> tuple[units.Unit, units.Parameters]:
    """The unit and what it reads, of an operator's arguments behind x."""
    gamma, beta, mean, inverse, count, weight, bias, neuron, reader, implementation, sliced, merged = given
    how = units.Unit(_neuron(neuron), decoded(reader), chosen(implementation, x), sliced, merged)
    if gamma is None:
        return how, units.Parameters(None, None, weight, bias)
    return how, units.Parameters(Norm(gamma, beta, mean, inverse), count, weight, bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:N_MAPS])
    ctx.how = inputs[N_MAPS:]


def _back(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    x, *kept = ctx.saved_tensors
    found = unit_backward(grad, x, *kept, *ctx.how)
    gamma, beta, weight, bias = (
        value if wanted else None
        for value, wanted in zip(found[1:], (ctx.needs_input_grad[i] for i in (1, 2, 6, 7)), strict=True)
    )
    return found[0], gamma, beta, None, None, None, weight, bias, *[None] * N_HOW


unit.register_autograd(_back, setup_context=_keep)
