"""The inputs that a certificate is about: between which bounds they lie (section 6.3)."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from h2sim.errors import TrainingError, at

Unit = Literal["width", "radius"]
UNITS: tuple[Unit, ...] = get_args(Unit)
Box = tuple[torch.Tensor, torch.Tensor]  # lower, upper


def _reach(epsilon: float, unit: Unit) -> float:
    """By how much a pixel may change either way. width: eps is the box's width (section 6.3); radius: half of it, as
    the authors' code has eps."""
    if unit not in UNITS:
        raise TrainingError(at("certify", "unit of epsilon", f"one of {', '.join(UNITS)}", repr(unit)))
    if not 0 <= epsilon <= 1:
        raise TrainingError(at("certify", "epsilon", "a number from 0 to 1", epsilon))
    return epsilon / 2 if unit == "width" else epsilon


def picked_spikes(spikes: torch.Tensor, epsilon: float, generator: torch.Generator) -> Box:
    """Spikes (T', N, ...) of which each is open with probability epsilon [A], whatever it was; the others stay
    (eq. 6.9, which opens size * eps of them).

    A certificate holds for the elements that were picked alone.
    """
    _reach(epsilon, "width")
    if not bool(((spikes == 0) | (spikes == 1)).all()):
        raise TrainingError(at("certify", "input", "spikes, 0 or 1", "other numbers"))
    picked = torch.rand(spikes.shape, generator=generator, dtype=spikes.dtype) < epsilon
    return spikes.masked_fill(picked, 0), spikes.masked_fill(picked, 1)


def image_spikes(
    images: torch.Tensor, epsilon: float, timesteps: int, generator: torch.Generator, unit: Unit = "width"
) -> Box:
    """Spikes (T', N, C, H, W) of every picture within epsilon of images (N, C, H, W), pixels from 0 to 1 (eq. 6.10,
    6.11).

    One random number r of a pixel and timestep draws both bounds: x + eps/2 > r, and x - eps/2 > r. A certificate holds
    for the numbers that were drawn. An element is open with probability eps, at x = 0 or 1 with eps/2.
    """
    reach = _reach(epsilon, unit)
    draws = torch.rand((timesteps, *images.shape), generator=generator, dtype=images.dtype)
    return (images - reach > draws).to(images.dtype), (images + reach > draws).to(images.dtype)


def pixels(images: torch.Tensor, epsilon: float, unit: Unit = "width") -> Box:
    """The pictures within epsilon of images (N, C, H, W) whose pixels stay from 0 to 1, of networks that read them."""
    reach = _reach(epsilon, unit)
    return (images - reach).clamp_min(0), (images + reach).clamp_max(1)
