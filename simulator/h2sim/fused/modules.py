"""Modules for one's own network that keep x alone: [BN ->] LIF -> convolution, product, average, or nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from h2sim.fused import operators
from h2sim.fused.choice import Name
from h2sim.fused.readers import AvgPool2d, Conv2d, Linear, Reader
from h2sim.neuron import Neuron

DEFAULT = Neuron()


class FusedUnit(nn.Module):
    """Batch norm, LIF neurons and what reads their spikes, over all timesteps at once (eq. 2.1-2.8, 4.1-4.6).

    x (T, N, C, H, W) or (T, N, C) is the current that the layer below computed; the result, (T, N, ...), is the current
    of the next layer. y = gamma * (x - mean) / sqrt(variance + eps) + beta over T, N, H and W; m[t] = alpha * m[t-1] *
    (1 - s[t-1]) + y[t]; s[t] = m[t] >= th_f; then the reader's product of s. For the backward pass x alone is kept, 4
    bytes a neuron and timestep in float32, 2 in float16 and bfloat16; membranes, sums and norms are float32.

    norm: torch's BatchNorm of C channels or SyncBatchNorm, or None; reader: torch's Conv2d, Linear (which reads x
    flattened) or AvgPool2d, or None for the spikes themselves. They are kept as `norm` and `reader`, so that a state
    dict has the names and values of those modules. sliced: go through the samples in parts where their map outweighs
    the weights; less memory, more launches. merged: statistics of all processes of torch.distributed's default group
    together, as with SyncBatchNorm; parameters' gradients are of this process alone, which DDP averages.
    implementation: auto, plain, numba or triton. A second derivative does not exist.

    Raises TypeError for a neuron, a norm or a reader of another kind, ValueError for a reader with padding by other
    than zeros, or an average that leaves zeros out.
    """

    def __init__(
        self,
        neuron: Neuron = DEFAULT,
        reader: nn.Module | None = None,
        norm: _BatchNorm | None = None,
        *,
        sliced: bool = True,
        merged: bool | None = None,
        implementation: Name = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise TypeError(f"neuron: expected a Neuron; got {type(neuron).__name__}")
        if norm is not None and not isinstance(norm, _BatchNorm):
            raise TypeError(f"norm: expected a BatchNorm of torch.nn; got {type(norm).__name__}")
        self.neuron, self.sliced, self.implementation = neuron, sliced, implementation
        self.norm, self.reader = norm, reader
        self.merged = isinstance(norm, nn.SyncBatchNorm) if merged is None else merged
        self._texts = operators.encoded(neuron), read_by(reader).encoded()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The next layer's current (T, N, ...) from x.

        Raises ValueError for an x that is neither (T, N, C, H, W) nor (T, N, C), for other channels than the norm's,
        and for one value a channel in training.
        """
        check_map(x, self.norm)
        of_norm = self._of_norm(x)
        weight, bias = getattr(self.reader, "weight", None), getattr(self.reader, "bias", None)
        out: torch.Tensor = operators.unit(
            x, *of_norm, weight, bias, *self._texts, self.implementation, self.sliced, self._together
        )
        return out

    @property
    def _together(self) -> bool:
        return self.merged and distributed.is_initialized() and distributed.get_world_size() > 1

    def _of_norm(self, x: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """gamma, beta, mean, inverse and count; None without a norm, and count without statistics of its own."""
        norm = self.norm
        if norm is None:
            return None, None, None, None, None
        like = norm.running_mean if norm.running_mean is not None else norm.weight
        dtype = like.dtype if like is not None else torch.float32
        gamma = norm.weight if norm.weight is not None else torch.ones(x.shape[2], device=x.device, dtype=dtype)
        beta = norm.bias if norm.bias is not None else torch.zeros(x.shape[2], device=x.device, dtype=dtype)
        if not norm.training and norm.running_mean is not None and norm.running_var is not None:
            return gamma, beta, norm.running_mean, torch.rsqrt(norm.running_var + norm.eps), None
        mean, variance, inverse, count = operators.statistics(
            x.detach(), norm.eps, self.implementation, self._together
        )  # fmt: skip
        if norm.training and norm.running_mean is not None:
            remember(norm, mean, variance, count)
        return gamma, beta, mean, inverse, count

    def extra_repr(self) -> str:
        """The neuron, and what is not the default."""
        return f"{self.neuron}, implementation={self.implementation!r}"


@torch.no_grad()
def remember(norm: _BatchNorm, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
    """Moves the running statistics towards a step's, as torch does: the variance without bias."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / norm.num_batches_tracked.to(mean.dtype) if norm.momentum is None else norm.momentum
    unbiased = variance * (count / (count - 1)).to(variance.dtype)
    norm.running_mean.copy_(norm.running_mean + share * (mean - norm.running_mean))
    norm.running_var.copy_(norm.running_var + share * (unbiased - norm.running_var))


def check_map(x: torch.Tensor, norm: _BatchNorm | None) -> None:
    """Raises ValueError for an x that no unit with this norm takes."""
    if x.dim() not in (3, 5):
        raise ValueError(f"x: expected (T, N, C, H, W) or (T, N, C); got {tuple(x.shape)}")
    if norm is None:
        return
    if norm.num_features != x.shape[2]:
        raise ValueError(f"x: expected {norm.num_features} channels, the norm's; got {tuple(x.shape)}")
    if norm.training and x.numel() == x.shape[2]:
        raise ValueError(f"x: expected more than 1 value per channel when training; got {tuple(x.shape)}")


def read_by(module: nn.Module | None) -> Reader:
    """What a module of torch does with spikes. Raises TypeError or ValueError for one that no unit has."""
    if module is None:
        return Reader()
    if isinstance(module, nn.Linear):
        return Linear()
    if isinstance(module, nn.Conv2d):
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            got = f"{module.padding!r}, {module.padding_mode!r}"
            raise ValueError(f"reader: expected padding by a number of zeros; got {got}")
        return Conv2d(module.stride, module.padding, module.dilation, module.groups)
    if isinstance(module, nn.AvgPool2d):
        if module.ceil_mode or not module.count_include_pad or module.divisor_override is not None:
            raise ValueError("reader: expected an AvgPool2d that divides by its whole window; got another")
        return AvgPool2d(_pair(module.kernel_size), _pair(module.stride), _pair(module.padding))
    raise TypeError(f"reader: expected Conv2d, Linear or AvgPool2d of torch.nn, or None; got {type(module).__name__}")


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _norm(channels: int, norm: bool | _BatchNorm) -> _BatchNorm | None:
    return norm if isinstance(norm, _BatchNorm) else nn.BatchNorm2d(channels) if norm else None


class FusedLIF(FusedUnit):
    """LIF neurons alone: spikes, 0 or 1, of x's shape and type. See FusedUnit for **how."""

    def __init__(self, neuron: Neuron = DEFAULT, **how: Any) -> None:
        super().__init__(neuron, **how)


class FusedBNLIF(FusedUnit):
    """Batch norm of `channels` channels, then LIF neurons: spikes of x's shape and type. See FusedUnit for **how."""

    def __init__(self, channels: int, neuron: Neuron = DEFAULT, **how: Any) -> None:
        super().__init__(neuron, None, nn.BatchNorm2d(channels), **how)


class FusedConv2d(FusedUnit):
    """[BN ->] LIF -> convolution; x (T, N, in_channels, H, W) gives (T, N, out_channels, H', W').

    norm: True for a BatchNorm2d of in_channels, or one of one's own. Other arguments as those of torch.nn.Conv2d, and
    **how as those of FusedUnit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        neuron: Neuron = DEFAULT,
        norm: bool | _BatchNorm = False,
        **how: Any,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        super().__init__(neuron, conv, _norm(in_channels, norm), **how)


class FusedLinear(FusedUnit):
    """[BN ->] LIF -> matrix product; x (T, N, C) or (T, N, C, H, W), which is flattened, gives (T, N, out_features).

    norm: True for a BatchNorm2d of in_features, or one of one's own: of C channels where x has places.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        neuron: Neuron = DEFAULT,
        norm: bool | _BatchNorm = False,
        **how: Any,
    ) -> None:
        super().__init__(neuron, nn.Linear(in_features, out_features, bias), _norm(in_features, norm), **how)


class FusedAvgPool2d(FusedUnit):
    """[BN ->] LIF -> average over windows; x (T, N, C, H, W) gives (T, N, C, H', W')."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        *,
        neuron: Neuron = DEFAULT,
        norm: _BatchNorm | None = None,
        **how: Any,
    ) -> None:
        super().__init__(neuron, nn.AvgPool2d(kernel_size, stride, padding), norm, **how)
