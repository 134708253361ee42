"""Runs a library's own neuron and asks whether what its adapter says of it explains the spikes and the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

pytest.importorskip("torch")

import torch

from h2sim.export import NeuronSpec, dynamics
from h2sim.export.neurons import neuron_of

Tensor = torch.Tensor
EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Run:
    """A neuron over all timesteps, (T, N, ...): current x, spikes s, and the gradients ds = dL/ds and dx = dL/dx."""

    spec: NeuronSpec
    x: Tensor
    s: Tensor
    ds: Tensor
    dx: Tensor

    def membrane(self, spec: NeuronSpec | None = None) -> Tensor:
        """The membrane by the spec, or by another one. Raises ExportError where the spikes do not follow."""
        return dynamics.membrane_of(spec or self.spec, self.x, self.s, EPS, "neuron")

    def follows_gradient(self, spec: NeuronSpec | None = None) -> bool:
        """Whether dx is what eq. 2.4 and 2.5 give of ds."""
        spec, m = spec or self.spec, self.membrane()
        slope = dynamics.derivative(spec, m, "neuron")
        return dynamics.follows_gradient(spec, m, self.s, self.ds, self.dx, slope)


def currents(*shape: int, seed: int = 0, mean: float = 0.3) -> Tensor:
    """Random currents of a shape, which spike now and then with a threshold of about 1."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + mean


def spec_of(module: torch.nn.Module) -> NeuronSpec:
    """What the adapter says of a module, which must be a neuron."""
    spec = neuron_of(module, "neuron")
    assert isinstance(spec, NeuronSpec), spec
    return spec


def ran(module: torch.nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    """Runs `forward`, which gives the spikes (T, N, ...) of currents (T, N, ...), and asks the adapter afterwards."""
    x = x.clone().requires_grad_()
    s = forward(x)
    ds = torch.randn(s.shape, generator=torch.Generator().manual_seed(1))
    (dx,) = torch.autograd.grad((ds * s).sum(), x)
    return Run(spec_of(module), x.detach(), s.detach(), ds, dx)
