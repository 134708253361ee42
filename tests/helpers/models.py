"""Small models and the road that every export must survive: write, load, check, verify, simulate."""

from __future__ import annotations

import functools
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import h2sim  # noqa: E402
from h2sim import export  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402

T, N = 4, 3
TARGETS = torch.tensor([1, 0, 2])


def library(name):
    """A library that a test needs; its own warnings at import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def spikes(*shape, rate=0.3, seed=0):
    return (torch.rand(T, N, *shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def image(*shape, seed=0):
    return torch.rand(N, *shape, generator=torch.Generator().manual_seed(seed))


def mean_loss(output, targets):
    """Cross-entropy of what a model returns, (N, classes) or (T, N, classes)."""
    return nn.functional.cross_entropy(output.mean(0) if output.dim() == 3 else output, targets)


class Spike(torch.autograd.Function):
    """m >= threshold with a rectangle of width 1 and height 1 as its derivative."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * (u.abs() < 0.5).to(u.dtype)


class Lif(nn.Module):
    """A neuron of one's own, a call per timestep; `factor` is what a wrong h2sim_neuron gets wrong."""

    def __init__(self, decay=0.5, threshold=0.25, said_decay=None, fire=Spike.apply):
        super().__init__()
        self.decay, self.threshold, self.fire = decay, threshold, fire
        self.said_decay = decay if said_decay is None else said_decay
        self.kept = None

    def forward(self, x):
        m = x if self.kept is None or self.kept.shape != x.shape else self.decay * self.kept + x
        s = self.fire(m - self.threshold)
        self.kept = m * (1 - s)
        return s

    def reset_mem(self):
        self.kept = None

    def h2sim_neuron(self):
        return export.NeuronSpec(decay=self.said_decay, threshold=self.threshold, fire=self.fire, surrogate="rectangle")


class Loop(nn.Module):
    """Runs layers once per timestep over inputs (T, N, ...) or a static image (N, ...); returns the mean output."""

    def __init__(self, *layers, timesteps=T):
        super().__init__()
        self.net, self.timesteps = nn.Sequential(*layers), timesteps

    def forward(self, x):
        steps = x if x.dim() in (3, 5) and x.shape[0] == self.timesteps else [x] * self.timesteps
        return sum(self.net(step) for step in steps) / self.timesteps


def conv_pool_fc(neuron=Lif, channels=2):
    """conv - neuron - conv - average - neuron - fc, for (channels, 6, 6)."""
    torch.manual_seed(0)
    return Loop(
        nn.Conv2d(channels, 4, 3, padding=1), neuron(), nn.Conv2d(4, 5, 3, padding=1), nn.AvgPool2d(2), neuron(),
        nn.Flatten(), nn.Linear(45, 3),
    )  # fmt: skip


@functools.cache
def machine():
    return h2sim.load_arch("h2learn")


def exported(model, inputs, path, loss=mean_loss, targets=TARGETS, **options):
    """The export, the trace it wrote, and what verify says of it, after all a trace must stand."""
    made = export.trace(model, inputs, targets, loss, path, **options)
    written = h2sim.load_trace(path)
    written.check()
    report = verify_trace(machine(), written)
    assert report.passed, [row for row in report.rows if not row.passed]
    assert len(h2sim.simulate(machine(), written).layer_table()) >= len(written.meta.layers)
    return made, written, report


def quantities(report):
    """{layer: the quantities that verify checked}."""
    found = {}
    for row in report.rows:
        found.setdefault(row.layer, set()).add(row.quantity)
    return found


def kinds(made):
    return {
        layer["name"]: (layer["kind"], layer["inputs"], layer.get("spiking", True)) for layer in made.meta["layers"]
    }
