"""Norms by the statistics of the step: what each is over, its scale and offset, found by its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from h2sim.export.hooks import Recorded
from h2sim.export.step import Tensors
from h2sim.export.weights import depends_on_batch, is_plain
from h2sim.trace.derived import AXES

_VARIES = 1e-2  # of the largest value: less is rounding, to which a line over any axes fits
_CLOSE = 1e-4  # of the largest value, for another order of the sums of a statistic
Over = tuple[str, ...]
_LAYER, _INSTANCE = ("C", "H", "W"), ("H", "W")


@dataclass(frozen=True)
class Live:
    """A norm: entry, as a trace's layer has it; weight and bias, (C,), None where it computes in another way.

    over is then only where its gradient is dense.
    """

    entry: dict[str, Any]
    weight: torch.Tensor | None
    bias: torch.Tensor | None


def is_live(found: Recorded) -> bool:
    """Whether a norm computes mean and variance of what it reads."""
    return depends_on_batch(found.module) or _spreads(found)


def _spreads(found: Recorded) -> bool:
    """Whether a norm with a forward of its own passes the gradient of one value to others: it only looks fixed."""
    if is_plain(found.module):
        return False
    with torch.enable_grad():
        x = found.reads[0].value.detach().requires_grad_(True)
        (dx,) = torch.autograd.grad(found.module(x).flatten()[0], x)
    return int((dx != 0).sum()) > 1


def live_of(tensors: Tensors, path: str) -> Live:
    """A norm of the step: torch's batch norm by its class, any other by what it read and sent."""
    found = tensors.modules[path]
    eps = float(getattr(found.module, "eps", None) or 0.0)
    batch = tensors.batch == tensors.extent.samples
    if batch and is_plain(found.module):
        own = _own(found.module, tensors.sample(path, "read")[0])
        return Live(_entry(_candidates(found)[0], eps), *(each.float() for each in own))
    x, y = (_maps(each(path)) for each in (tensors.read, tensors.sent))
    # the module's own scale and offset first: where all is offset, a line fits over any axes
    varies = float((y - y.mean((0, 1, 3, 4), keepdim=True)).abs().max()) > _VARIES * float(y.abs().max())
    for fitted in (False, True) if varies else (False,):
        fits = [
            _affine(found.module, x, y, over, eps, fitted) for over in _candidates(found) if batch or "N" not in over
        ]
        best = min((fit for fit in fits if fit is not None), key=lambda fit: fit.error, default=None)
        if best is not None:
            return Live(_entry(best.over, eps), best.weight.float(), best.bias.float())
    return Live(_entry((_candidates(found) or [_LAYER])[0], eps), None, None)


def gradient_at_each_timestep(live: Live, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """dL/dx (T, N, ...) of a norm whose one call served all timesteps, from x (1, N, ...) and dL/dy (T, N, ...).

    Statistics of a current that stands still are the same over all timesteps, so these gradients sum to that of the
    one call.
    """
    assert live.weight is not None
    whole = _maps(x.expand(dy.shape)).requires_grad_(True)
    axes = tuple(AXES.index(axis) for axis in live.entry["over"])
    with torch.enable_grad():
        spread = (whole.var(axes, unbiased=False, keepdim=True) + live.entry["eps"]).sqrt()
        hat = (whole - whole.mean(axes, keepdim=True)) / spread
        (dx,) = torch.autograd.grad(live.weight.double().reshape(-1, 1, 1) * hat, whole, _maps(dy))
    return dx.reshape(dy.shape).to(x.dtype)


def _entry(over: Over, eps: float) -> dict[str, Any]:
    return {"kind": "batch" if "N" in over else "layer", "training": True, "over": list(over), "eps": eps}


def _maps(x: torch.Tensor) -> torch.Tensor:
    x = x.double()
    return x if x.dim() == 5 else x.reshape(*x.shape[:2], -1, 1, 1)


def _candidates(found: Recorded) -> list[Over]:
    """What a norm may be over, the likeliest first; none of several groups of channels, which a trace does not know."""
    bases = {cls.__name__ for cls in type(found.module).__mro__}
    if "GroupNorm" in bases:
        module: Any = found.module
        if module.num_groups == 1:
            return [_LAYER]
        return [_INSTANCE] if module.num_groups == module.num_channels else []
    batch: list[Over] = [("T", "N", "H", "W"), ("N", "H", "W")]
    batch = batch if len(found.reads) == 1 else batch[::-1]
    layer: list[Over] = [_LAYER, ("C",), _INSTANCE]
    if "_InstanceNorm" in bases:
        layer = layer[::-1]
    return batch + layer if "_BatchNorm" in bases else layer + batch


@dataclass(frozen=True)
class _Fit:
    """A norm over some axes that gives y of x, but for an error: its scale and offset, (C,)."""

    over: Over
    weight: torch.Tensor
    bias: torch.Tensor
    error: float


def _affine(module: nn.Module, x: torch.Tensor, y: torch.Tensor, over: Over, eps: float, fitted: bool) -> _Fit | None:
    """The norm over these axes with the module's own scale and offset, if it gives y of x; else None.

    fitted: with those of the line with the least squares in place of the module's own.
    """
    axes = tuple(AXES.index(axis) for axis in over)
    mean = x.mean(axes, keepdim=True)
    hat = (x - mean) / (x.var(axes, unbiased=False, keepdim=True) + eps).sqrt()
    weight, bias = _fitted(hat, y) if fitted else _own(module, x.shape[2])
    error = float((weight.reshape(-1, 1, 1) * hat + bias.reshape(-1, 1, 1) - y).abs().max())
    return _Fit(over, weight, bias, error) if error <= _CLOSE * max(1e-3, float(y.abs().max())) else None


def _own(module: Any, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The module's own scale and offset, where it has one for each channel; else 1 and 0."""

    def own(name: str, otherwise: float) -> torch.Tensor:
        found = getattr(module, name, None)
        if isinstance(found, torch.Tensor) and tuple(found.shape) == (channels,):
            return found.detach().double().cpu()
        return torch.full((channels,), otherwise, dtype=torch.float64)

    return own("weight", 1.0), own("bias", 0.0)


def _fitted(hat: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and offset by channel of the line through (hat, y) with the least squares."""
    axes = (0, 1, 3, 4)
    middle, level = hat.mean(axes, keepdim=True), y.mean(axes, keepdim=True)
    spread = ((hat - middle) ** 2).sum(axes)
    slope = ((hat - middle) * (y - level)).sum(axes) / spread.clamp_min(1e-30)
    return slope, level.flatten() - slope * middle.flatten()
