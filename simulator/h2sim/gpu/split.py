"""Products whose two gradients are computed in calls of their own, with a mark in the backward pass before each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from h2sim.gpu.clock import Marks
from h2sim.gpu.trace import RowPhase

_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}


@dataclass(frozen=True)
class Product:
    """The layer whose product it is, and of a convolution its geometry."""

    marks: Marks
    layer: str
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1


class _Mark(torch.autograd.Function):
    """The identity. Its backward pass sets a mark: the time after it belongs to the layer and phase."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, marks: Marks, layer: str, phase: RowPhase) -> torch.Tensor:
        ctx.set = (marks, layer, phase)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        marks, layer, phase = ctx.set
        marks(layer, phase)
        return grads[0], None, None, None


_Gradients = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None]


class _SplitConv(torch.autograd.Function):
    """A convolution whose weight gradient and input gradient are computed in two calls, with a mark before each."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Product
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.outputs = how, None if bias is None else [weight.shape[0]]
        convolve = _CONVOLUTIONS[len(how.stride)]
        return convolve(x, weight, bias, how.stride, how.padding, how.dilation, how.groups)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> _Gradients:
        x, weight = ctx.saved_tensors
        how: Product = ctx.how
        zeros = [0] * len(how.stride)

        def part(mask: list[bool]) -> list[torch.Tensor]:
            sizes = ctx.outputs if mask[2] else None
            found: list[torch.Tensor] = torch.ops.aten.convolution_backward(
                grad, x, weight, sizes, how.stride, how.padding, how.dilation, False, zeros, how.groups, mask
            )
            return found

        of_x, of_w, of_b = ctx.needs_input_grad[:3]
        weight_grad = bias_grad = input_grad = None
        if of_w or of_b:
            how.marks(how.layer, "weight_update")
            _, weight_grad, bias_grad = part([False, of_w, of_b])
        how.marks(how.layer, "backward")
        if of_x:
            input_grad = part([True, False, False])[0]
        return input_grad, weight_grad, bias_grad, None


class _SplitLinear(torch.autograd.Function):
    """A fully connected layer whose two gradients are computed and marked apart, as in _SplitConv. x is (..., F)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Product
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> _Gradients:
        x, weight = ctx.saved_tensors
        how: Product = ctx.how
        of_x, of_w, of_b = ctx.needs_input_grad[:3]
        weight_grad = bias_grad = None
        if of_w or of_b:
            flat = grad.reshape(-1, grad.shape[-1])
            how.marks(how.layer, "weight_update")
            weight_grad = flat.t() @ x.reshape(-1, x.shape[-1]) if of_w else None
            bias_grad = flat.sum(0) if of_b else None
        how.marks(how.layer, "backward")
        return grad @ weight if of_x else None, weight_grad, bias_grad, None


# torch leaves apply untyped
mark: Callable[[torch.Tensor, Marks, str, RowPhase], torch.Tensor] = _Mark.apply
_Split = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, Product], torch.Tensor]
_split_conv: _Split = _SplitConv.apply
_split_linear: _Split = _SplitLinear.apply


def split_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Product) -> torch.Tensor:
    """A convolution of x (N, C, ...). Adding up gradients of its parameters over timesteps is weight update, too."""
    return _split_conv(x, *_marked(weight, bias, how), how)


def split_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Product) -> torch.Tensor:
    """A matrix product of x (..., F), whose parameters are marked as in split_conv."""
    return _split_linear(x, *_marked(weight, bias, how), how)


def _marked(weight: torch.Tensor, bias: torch.Tensor | None, how: Product) -> tuple[torch.Tensor, torch.Tensor | None]:
    held = mark(weight, how.marks, how.layer, "weight_update")
    return held, None if bias is None else mark(bias, how.marks, how.layer, "weight_update")
