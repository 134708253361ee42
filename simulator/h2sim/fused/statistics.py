"""Statistics of a batch norm over all timesteps, of one process or of all that train together (eq. 4.2-4.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import distributed

from h2sim.fused.values import Implementation


@dataclass(frozen=True)
class Statistics:
    """Mean, biased variance and 1 / sqrt(variance + eps), float32 (C,), over `count` elements of a channel.

    count: float64 (1,).
    """

    mean: torch.Tensor
    variance: torch.Tensor
    inverse: torch.Tensor
    count: torch.Tensor


def statistics(x: torch.Tensor, eps: float, implementation: Implementation, merged: bool) -> Statistics:
    """Of x (T, N, C, ...) over T, N and places. merged: together with the x of all processes of the default group."""
    moments = implementation.moments(x).double()
    count = torch.full((1,), x.numel() // x.shape[2], dtype=torch.float64, device=x.device)
    if merged:
        count, moments = _merge(count, moments)
    mean, variance = moments[0], moments[1] / count
    inverse = torch.rsqrt(variance + eps)
    exact = x.dtype == torch.float64
    mean, variance, inverse = (value.clone() if exact else value.float() for value in (mean, variance, inverse))
    return Statistics(mean, variance, inverse, count)


def _merge(count: torch.Tensor, moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of all processes, by centred sums (Chan), in the order of the ranks: the same bytes in each process."""
    own = torch.cat([count, moments.flatten()])
    found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, own)
    gathered = torch.stack(found)
    counts = gathered[:, :1]
    means, squares = gathered[:, 1:].reshape(len(found), 2, -1).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return total, torch.stack([mean, (squares + counts * (means - mean).square()).sum(0)])


def summed(sums: torch.Tensor, merged: bool) -> torch.Tensor:
    """The sums of one process, or of all processes of the default group; `sums` stays as it is."""
    if not merged:
        return sums
    total = sums.clone()
    distributed.all_reduce(total)
    return total
