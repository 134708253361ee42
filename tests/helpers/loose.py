"""A small network in which work can be put where no layer holds it: before, between and behind its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.helpers.models import Lif

Tensor = torch.Tensor
Place = Callable[[Any, Tensor], Tensor]


def weight(*shape: int, frozen: bool = False) -> nn.Parameter:
    """A parameter of random values, the same in every run."""
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(1)) - 0.5
    return nn.Parameter(values, requires_grad=not frozen)


def same(_net: Any, x: Tensor) -> Tensor:
    """Nothing at all."""
    return x


def by_layer(net: Any, spikes: Tensor) -> Tensor:
    """The read-out as it should be."""
    out: Tensor = net.out(spikes)
    return out


class Loose(nn.Module):
    """fc1 - lif1 - fc2 - lif2 - out over (T, N, 8), summed over time.

    before, between and behind are functions of the network and of values: of the input, of lif1's spikes, and of
    lif2's, which `behind` turns into the output. buffers and held: what else the network holds, by name.
    """

    def __init__(
        self,
        *,
        before: Place = same,
        between: Place = same,
        behind: Place = by_layer,
        buffers: dict[str, Tensor] | None = None,
        **held: Any,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(8, 8), Lif(), nn.Linear(8, 8), Lif()
        self.out = nn.Linear(8, 3)
        self.before, self.between, self.behind = before, between, behind
        for name, tensor in (buffers or {}).items():
            self.register_buffer(name, tensor)
        for name, value in held.items():
            setattr(self, name, value)

    def step(self, x: Tensor) -> Tensor:
        """One timestep."""
        spikes = self.between(self, self.lif1(self.fc1(self.before(self, x))))
        return self.behind(self, self.lif2(self.fc2(spikes)))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of what the timesteps send."""
        return torch.stack([self.step(now) for now in x]).sum(0)
