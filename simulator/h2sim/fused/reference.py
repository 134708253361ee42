"""The equations of [BN ->] LIF written for reading, in torch operations that autograd differentiates: what all else is
tested against, in float64."""

from __future__ import annotations

import torch

from h2sim.fused.values import by_channel
from h2sim.neuron import Neuron, fire


def normalised(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float) -> torch.Tensor:
    """y of x (T, N, C, ...) by its own statistics (eq. 4.2, 4.4)."""
    axes = [axis for axis in range(x.dim()) if axis != 2]
    mean = x.mean(axes)
    variance = (x - by_channel(mean, x)).square().mean(axes)
    xh = (x - by_channel(mean, x)) / by_channel(torch.sqrt(variance + eps), x)
    return by_channel(gamma, x) * xh + by_channel(beta, x)


def spikes(y: torch.Tensor, neuron: Neuron, ramp: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(s, m) of currents y (T, N, ...), by eq. 2.1-2.3; backwards eq. 2.4-2.6.

    ramp: in the step's place stands the function whose derivative the surrogate is, so that eq. 2.4-2.6 are exact
    derivatives.
    """
    m = s = torch.zeros_like(y[0])
    fired, membranes = [], []
    for t in range(len(y)):
        through = s.detach() if neuron.detach_reset else s
        m = neuron.decay * neuron.kept(m, through) + y[t]
        if neuron.reset == "subtract-after-leak":
            m = m - neuron.threshold * through
        s = risen(m, neuron) if ramp else fire(m, neuron)
        fired.append(s)
        membranes.append(m)
    return torch.stack(fired), torch.stack(membranes)


def risen(m: torch.Tensor, neuron: Neuron) -> torch.Tensor:
    """The integral of fire' from the window's lower end to m: a ramp, or two parabolas for a triangle."""
    low, high = neuron.window
    inside = m.clamp(low, high)
    if neuron.surrogate == "rectangle":
        return neuron.surrogate_scale * (inside - low)
    u = inside / neuron.threshold  # fire' = scale * (1 - |u - 1|) / threshold
    return neuron.surrogate_scale * torch.where(u < 1, u * u / 2, 2 * u - u * u / 2 - 1)
