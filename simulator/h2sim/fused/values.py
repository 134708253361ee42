"""What the implementations of a unit take: the norm's values, and how a map lies in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from h2sim.neuron import Neuron


@dataclass(frozen=True)
class Norm:
    """A batch norm with its statistics: y = gamma * (x - mean) * inverse + beta (eq. 4.2, 4.4), each float32 (C,).

    inverse: 1 / sqrt(variance + eps).
    """

    gamma: torch.Tensor
    beta: torch.Tensor
    mean: torch.Tensor
    inverse: torch.Tensor

    @property
    def scale(self) -> torch.Tensor:
        """What x - mean is multiplied by."""
        return self.gamma * self.inverse


@dataclass(frozen=True)
class Means:
    """The means of dy and of dy * xh over a channel (eq. 4.3), float32 (C,); 0 where the statistics are fixed."""

    of_dy: torch.Tensor
    of_xh: torch.Tensor


class Implementation(Protocol):
    """One way to compute what stands between a map x and the spikes that it makes. norm None: y = x.

    Maps are (T, N, C) or (T, N, C, H, W) in float32, float16 or bfloat16, NCHW or channels-last. Membranes, sums and
    what a norm has are float32 or more. Spikes and gradients lie in memory as x does.
    """

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        """(2, C), float64: mean of each channel over T, N and places, and the sum of squares about it."""
        ...

    def spikes(self, x: torch.Tensor, norm: Norm | None, neuron: Neuron) -> torch.Tensor:
        """s, 0 or 1, of x's shape and type (algorithm 1)."""
        ...

    def sums(self, x: torch.Tensor, grad: torch.Tensor, norm: Norm, neuron: Neuron) -> torch.Tensor:
        """(2, C), float32: sums of dy and of dy * xh, which are dbeta and dgamma (algorithm 2). grad: dL/ds."""
        ...

    def backward(
        self, x: torch.Tensor, grad: torch.Tensor, norm: Norm | None, means: Means | None, neuron: Neuron
    ) -> None:
        """Puts dL/dx in the place of grad, which holds dL/ds (algorithm 3). means None: dx = scale * dy."""
        ...


def by_channel(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values (C,) shaped so that they meet the channels of one timestep (N, C, ...)."""
    return values.reshape(-1, *[1] * (x.dim() - 3))


def as_places(x: torch.Tensor) -> torch.Tensor:
    """x as (T, N, C, places), a view wherever its memory allows one."""
    return x.reshape(*x.shape[:3], -1)
