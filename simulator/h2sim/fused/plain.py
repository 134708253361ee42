"""The unit in plain torch operations, for any device and for float64."""

from __future__ import annotations

import torch

from h2sim.fused.values import Means, Norm, as_places, by_channel
from h2sim.neuron import Neuron, membrane_gradient, membranes


class Plain:
    """See values.Implementation."""

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        mean = torch.stack([step.double().mean(1) for step in _by_channels(x)]).mean(0)
        squares = torch.stack([(step.double() - mean[:, None]).square().sum(1) for step in _by_channels(x)]).sum(0)
        return torch.stack([mean, squares])

    def spikes(self, x: torch.Tensor, norm: Norm | None, neuron: Neuron) -> torch.Tensor:
        _, s = membranes(normalised(x, norm), neuron)
        return torch.empty_like(x).copy_(s)

    def sums(self, x: torch.Tensor, grad: torch.Tensor, norm: Norm, neuron: Neuron) -> torch.Tensor:
        dy = membrane_gradients(x, grad, norm, neuron)
        return parameter_sums(x, dy, norm)

    def backward(
        self, x: torch.Tensor, grad: torch.Tensor, norm: Norm | None, means: Means | None, neuron: Neuron
    ) -> None:
        dy = membrane_gradients(x, grad, norm, neuron)
        grad.copy_(dy if norm is None else through_norm(x, dy, norm, means))


def normalised(x: torch.Tensor, norm: Norm | None) -> torch.Tensor:
    """y of x in float32, or float64 for a float64 x."""
    x = _accurate(x)
    if norm is None:
        return x
    return (x - by_channel(norm.mean, x)) * by_channel(norm.scale, x) + by_channel(norm.beta, x)


def membrane_gradients(
    x: torch.Tensor, grad: torch.Tensor, norm: Norm | None, neuron: Neuron, dtype: str = "float32"
) -> torch.Tensor:
    """dm = dy, in float32 or float64, of grad = dL/ds. dtype: what each timestep's is rounded to (neuron.rounded)."""
    membrane, s = membranes(normalised(x, norm), neuron)
    return membrane_gradient(_accurate(grad), membrane, s, neuron, dtype)


def parameter_sums(x: torch.Tensor, dy: torch.Tensor, norm: Norm) -> torch.Tensor:
    """(2, C): sums of dy and of dy * xh."""
    return torch.stack([_per_channel(dy), _per_channel(dy * _standard(x, norm))])


def through_norm(x: torch.Tensor, dy: torch.Tensor, norm: Norm, means: Means | None) -> torch.Tensor:
    """dx of dy (eq. 4.3)."""
    if means is not None:
        dy = dy - by_channel(means.of_dy, x) - _standard(x, norm) * by_channel(means.of_xh, x)
    return by_channel(norm.scale, x) * dy


def _standard(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    """xh (eq. 4.4)."""
    return (_accurate(x) - by_channel(norm.mean, x)) * by_channel(norm.inverse, x)


def _accurate(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    return as_places(values).sum((0, 1, 3), dtype=torch.float64).to(values.dtype)


def _by_channels(x: torch.Tensor) -> list[torch.Tensor]:
    """Each timestep as (C, elements)."""
    return [step.transpose(0, 1).flatten(1) for step in as_places(x)]
