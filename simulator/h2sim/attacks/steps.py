"""One step of the spike-compatible attack (chapter 5), as functions of the gradient and of the random numbers drawn.

Maps are (T, N, ...): a step never looks at another sample's gradient.
"""

from __future__ import annotations

import torch


def sampled(gradient: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """G2S: the signs of the elements that are kept, -1, 0 or 1 (eq. 5.5 and 5.6).

    An element is kept with probability |g| / max |g|, the maximum over all of its sample: where uniform, from 0 to 1,
    is at most that. One without gradient has no sign, whatever was drawn.
    """
    size = gradient.abs()
    largest = largest_of(size)
    share = size / torch.where(largest > 0, largest, torch.ones_like(largest))
    return gradient.sign() * (uniform <= share)


def largest_of(size: torch.Tensor) -> torch.Tensor:
    """The largest element of each sample of (T, N, ...), in a shape (1, N, 1, ...) that fits beside it."""
    return size.amax(tuple(axis for axis in range(size.dim()) if axis != 1), keepdim=True)


def fitted(ternary: torch.Tensor, spikes: torch.Tensor) -> torch.Tensor:
    """The step without what would leave 0 and 1 (eq. 5.7, table 5.2)."""
    there = spikes + ternary
    return torch.where((there < 0) | (there > 1), torch.zeros_like(ternary), ternary)


def flipped(spikes: torch.Tensor, gamma: float, uniform: torch.Tensor) -> torch.Tensor:
    """RSF: each element is flipped with probability gamma, where uniform < gamma (eq. 5.8, table 5.4)."""
    return (uniform < gamma) * (1 - 2 * spikes)


def step(
    gradient: torch.Tensor, spikes: torch.Tensor, gamma: float, uniform: torch.Tensor, *, sampling: bool = True
) -> torch.Tensor:
    """d of an iteration, -1, 0 or 1: G2S, or RSF for a sample whose gradient is 0 everywhere.

    gradient: of the loss by the spikes, with the sign of the attack (eq. 5.4). sampling: without, every element with a
    gradient is kept.
    """
    ternary = sampled(gradient, uniform) if sampling else gradient.sign()
    vanished = largest_of(gradient.abs()) == 0
    return torch.where(vanished, flipped(spikes, gamma, uniform), fitted(ternary, spikes))


def moved(image: torch.Tensor, own: torch.Tensor, d: torch.Tensor, c: float = 0.0, factor: float = 2.0) -> torch.Tensor:
    """The picture after an iteration, (N, ...): the mean of d over time, and with c the way back to its own (eq. 5.9).

    factor: 2 as printed; the authors' code has 1.
    """
    return (image + d.mean(0) - factor * c * (image - own)).clamp(0, 1)


def norms(example: torch.Tensor, own: torch.Tensor) -> dict[str, torch.Tensor]:
    """How far examples (N, ...) are from their own, each (N,).

    perturbation: the mean square, which the source plots; l2 / n: what it prints; l2, linf; l0 / n: share of elements
    that differ.
    """
    away = (example - own).flatten(1)
    n, l2 = away.shape[1], away.norm(dim=1)
    return {
        "perturbation": away.square().mean(1), "l2_over_n": l2 / n, "l2": l2, "linf": away.abs().amax(1),
        "l0_over_n": (away != 0).float().mean(1),
    }  # fmt: skip
