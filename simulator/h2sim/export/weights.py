"""A layer's weight, bias and weight gradient as the machine would see them: with batch norm and factors folded in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_CLOSE = 1e-3  # weights that a power iteration refines a little more in each call are the same
_WRAPPERS = ("BatchNorm1d", "BatchNorm2d", "_ThresholdDependentBatchNormBase")  # SpikingJelly's, over time


@dataclass(frozen=True)
class Fold:
    """Fixed norms and factors as one scale and shift per output channel: y = scale * x + shift."""

    scale: torch.Tensor
    shift: torch.Tensor

    @property
    def trivial(self) -> bool:
        """Whether there is none of them, so that nothing changes."""
        return self.scale.numel() == 1 and float(self.scale) == 1


def fold_of(parts: Sequence[Any]) -> Fold | None:
    """Batch norms and factors (Fraction), one after the other, as one scale and shift per channel.

    None if one of them is in training mode, is another norm or computes in a way of its own, or has a scale of 0.
    """
    scale: torch.Tensor = torch.ones(1, dtype=torch.float64)
    shift: torch.Tensor = torch.zeros(1, dtype=torch.float64)
    for norm in parts:
        if isinstance(norm, Fraction):
            scale, shift = scale * float(norm), shift * float(norm)
            continue
        if not is_plain(norm) or depends_on_batch(norm) or norm.running_mean is None or norm.running_var is None:
            return None
        own = 1 / (norm.running_var.double().cpu() + norm.eps).sqrt()
        own = own if norm.weight is None else own * norm.weight.detach().double().cpu()
        offset = -norm.running_mean.double().cpu() * own
        offset = offset if norm.bias is None else offset + norm.bias.detach().double().cpu()
        scale, shift = scale * own, shift * own + offset
    return Fold(scale, shift) if bool((scale != 0).all()) else None


def depends_on_batch(norm: Any) -> bool:
    """Whether a norm computes mean and variance of what it reads, so that it makes a dense gradient of a sparse one.

    A batch norm does in training mode and where it keeps no running statistics; a group or layer norm always does.
    """
    keeps = isinstance(norm, nn.modules.batchnorm._NormBase)
    return not keeps or norm.training or norm.running_mean is None


def is_plain(norm: Any) -> bool:
    """Whether a norm computes as torch's batch norm in evaluation mode: its forward is torch's, or wraps it."""
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return False
    forward = next(cls for cls in type(norm).__mro__ if "forward" in vars(cls))
    return forward.__module__.startswith("torch.nn.") or (
        forward.__module__.startswith("spikingjelly.") and forward.__name__ in _WRAPPERS
    )


def folded(module: Any, fold: Fold) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias (None if it has none) in float32, with the batch norms folded in."""
    weight = module.weight.detach().double().cpu()
    bias = None if module.bias is None else module.bias.detach().double().cpu()
    if not fold.trivial:
        weight = weight * fold.scale.reshape(-1, *[1] * (weight.dim() - 1))
        if bias is not None or bool(fold.shift.any()):
            bias = fold.shift.expand(len(weight)) if bias is None else bias * fold.scale + fold.shift
    return weight.float(), None if bias is None else bias.float()


def gives(module: Any, x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether the module's weights make y of x, both (T or 1, N, ...). Weights made anew in each call may not."""
    if x.shape[0] > 1 and bool((x == x[:1]).all()):
        x, steps = x[:1], y.shape[0]  # an input that stands still gives the same at all timesteps
    else:
        steps = 1
    with torch.no_grad():
        weight, bias = module.weight, module.bias
        again = _applied(module, x.flatten(0, 1).to(weight.device, weight.dtype), weight, bias).to(y.dtype).cpu()
    again = again.repeat(steps, *[1] * (again.dim() - 1))
    close = max(_CLOSE, 8 * torch.finfo(weight.dtype).eps)
    return float((again - y.flatten(0, 1)).abs().max()) <= close * max(1.0, float(y.abs().max()))


def _applied(module: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight, bias)
    return functional.conv2d(x, weight, bias, module.stride, _padding(module), 1, module.groups)


def _padding(module: Any) -> Any:
    if isinstance(module.padding, str):
        return tuple(size // 2 if module.padding == "same" else 0 for size in module.kernel_size)
    return module.padding


def weight_gradient(module: Any, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """dw, summed over timesteps and samples, from what a layer read, x (T or 1, N, ...), and dL/dy (T, N, ...)."""
    x = x.expand(dy.shape[0], *x.shape[1:]).flatten(0, 1)
    dy = dy.flatten(0, 1)
    if isinstance(module, nn.Linear):
        return dy.T @ x
    with torch.enable_grad():
        weight = torch.zeros(module.weight.shape, dtype=x.dtype, requires_grad=True)
        out = _applied(module, x, weight, None)
        (dw,) = torch.autograd.grad(out, weight, dy)
    return dw
