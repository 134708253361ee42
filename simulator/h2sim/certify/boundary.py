"""Bounds of a network's input: spikes that may be flipped, and pictures within a box (eq. 6.9 to 6.11).

A bound of spikes holds for the random numbers that were drawn, and for no others.
"""

from __future__ import annotations

import torch

Pair = tuple[torch.Tensor, torch.Tensor]


def spike_picks(spikes: torch.Tensor, epsilon: float, generator: torch.Generator) -> Pair:
    """(lower, upper) of spikes (T, N, ...), of which each is picked with probability epsilon and may then be either
    (eq. 6.9)."""
    picked = torch.rand(spikes.shape, generator=generator) < epsilon
    return torch.where(picked, 0.0, spikes), torch.where(picked, 1.0, spikes)


def image_box(images: torch.Tensor, epsilon: float) -> Pair:
    """(lower, upper) of pixels (N, C, H, W) in a box of width epsilon around pictures, within 0 and 1."""
    return (images - epsilon / 2).clamp(0, 1), (images + epsilon / 2).clamp(0, 1)


def image_spikes(images: torch.Tensor, epsilon: float, draws: torch.Tensor) -> Pair:
    """(lower, upper) of the spikes of pictures in a box of width epsilon (eq. 6.10, 6.11), (T, N, C, H, W).

    draws: r_t, (T, N, C, H, W), from 0 to 1: a pixel spikes where it is above r_t, one map for both bounds. The
    authors' code takes boxes of twice the width.
    """
    low, high = image_box(images, epsilon)
    return (low > draws).to(images.dtype), (high > draws).to(images.dtype)
