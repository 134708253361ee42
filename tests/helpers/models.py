"""Small models and the road that every export must survive: write, load, check, verify, simulate."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import h2sim
from h2sim import export
from h2sim.arch import Arch
from h2sim.trace import Trace
from h2sim.verify import VerifyReport, verify_trace

Tensor = torch.Tensor
Loss = Callable[[Any, Any], Tensor]

T, N = 4, 3
TARGETS = torch.tensor([1, 0, 2])


def library(name: str) -> Any:
    """A library that a test needs; its own warnings at import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    """Random spikes (T, N, *shape), 0.0 or 1.0."""
    return (torch.rand(T, N, *shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def image(*shape: int, seed: int = 0) -> Tensor:
    """Random images (N, *shape)."""
    return torch.rand(N, *shape, generator=torch.Generator().manual_seed(seed))


def mean_loss(output: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of what a model returns, (N, classes) or (T, N, classes)."""
    return nn.functional.cross_entropy(output.mean(0) if output.dim() == 3 else output, targets)


class Spike(torch.autograd.Function):
    """m >= threshold with a rectangle of width 1 and height 1 as its derivative."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        passed: Tensor = grads[0] * (u.abs() < 0.5).to(u.dtype)
        return passed


fire_rectangle: Callable[[Tensor], Tensor] = Spike.apply  # torch leaves apply untyped


class Functional(nn.Module):
    """A function of torch as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Lif(nn.Module):
    """A neuron of one's own, called once per timestep; `said_decay` is the decay that its h2sim_neuron names."""

    kept: Tensor | None

    def __init__(
        self,
        decay: float = 0.5,
        threshold: float = 0.25,
        said_decay: float | None = None,
        fire: Callable[[Tensor], Tensor] = fire_rectangle,
    ) -> None:
        super().__init__()
        self.decay, self.threshold, self.fire = decay, threshold, fire
        self.said_decay = decay if said_decay is None else said_decay
        self.kept = None

    def forward(self, x: Tensor) -> Tensor:
        m = x if self.kept is None or self.kept.shape != x.shape else self.decay * self.kept + x
        s = self.fire(m - self.threshold)
        self.kept = m * (1 - s)
        return s

    def reset_mem(self) -> None:
        self.kept = None

    def h2sim_neuron(self) -> export.NeuronSpec:
        return export.NeuronSpec(decay=self.said_decay, threshold=self.threshold, fire=self.fire, surrogate="rectangle")


class Loop(nn.Module):
    """Runs layers once per timestep over inputs (T, N, ...) or a static image (N, ...); returns the mean output."""

    def __init__(self, *layers: nn.Module, timesteps: int = T) -> None:
        super().__init__()
        self.net, self.timesteps = nn.Sequential(*layers), timesteps

    def forward(self, x: Tensor) -> Tensor:
        steps = list(x) if x.dim() in (3, 5) and x.shape[0] == self.timesteps else [x] * self.timesteps
        outputs: list[Tensor] = [self.net(step) for step in steps]
        return sum(outputs[1:], outputs[0]) / self.timesteps


def conv_pool_fc(neuron: Callable[[], nn.Module] = Lif, channels: int = 2) -> Loop:
    """conv - neuron - conv - average - neuron - fc, for (channels, 6, 6)."""
    torch.manual_seed(0)
    return Loop(
        nn.Conv2d(channels, 4, 3, padding=1), neuron(), nn.Conv2d(4, 5, 3, padding=1), nn.AvgPool2d(2), neuron(),
        nn.Flatten(), nn.Linear(45, 3),
    )  # fmt: skip


@functools.cache
def machine() -> Arch:
    """The shipped h2learn."""
    return h2sim.load_arch("h2learn")


def exported(
    model: nn.Module, inputs: Tensor, path: Path, loss: Loss = mean_loss, targets: Any = TARGETS, **options: Any
) -> tuple[export.Export, Trace, VerifyReport]:
    """The export, the trace it wrote, and what verify says of it, after all a trace must stand."""
    made = export.trace(model, inputs, targets, loss, path, **options)
    written = h2sim.load_trace(path)
    written.check()
    report = verify_trace(machine(), written)
    assert report.passed, [row for row in report.rows if not row.passed]
    assert len(h2sim.simulate(machine(), written).layer_table()) >= len(written.meta.layers)
    return made, written, report


def quantities(report: VerifyReport) -> dict[str, set[str]]:
    """{layer: the quantities that verify checked}."""
    found: dict[str, set[str]] = {}
    for row in report.rows:
        found.setdefault(row.layer, set()).add(row.quantity)
    return found


def kinds(made: export.Export) -> dict[str, tuple[str, list[str], bool]]:
    """{layer: (kind, inputs, whether it fires)}."""
    return {
        layer["name"]: (layer["kind"], layer["inputs"], layer.get("spiking", True)) for layer in made.meta["layers"]
    }
