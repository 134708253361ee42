"""Sinabs' networks, as its tutorials write them, become traces whose values verify."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
import pytest

from tests.helpers.lively import HIDDEN, LAST, READ_OUT, SMOOTH, assert_lively, layers_of, rows_of
from tests.helpers.models import exported, library, torch

sinabs = library("sinabs")
import sinabs.layers as sl  # noqa: E402
from sinabs import activation  # noqa: E402
from sinabs.from_torch import from_model  # noqa: E402
from torch import nn  # noqa: E402

from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402

T, N = 4, 2
TARGETS = torch.tensor([1, 0])


@dataclass
class Rectangle:
    """A surrogate that is 1 closer than half of `width` to the threshold."""

    width: float = 1.0

    def __call__(self, v_mem, spike_threshold):
        return ((v_mem - spike_threshold).abs() < self.width / 2).to(v_mem.dtype)


SPIKES = {"batch_size": N, "spike_fn": activation.SingleSpike, "spike_threshold": torch.tensor(0.3), "min_v_mem": None}
RECTANGLE = {**SPIKES, "surrogate_grad_fn": Rectangle()}


def events(rate=0.3):
    return (torch.rand(N, T, 2, 12, 12, generator=torch.Generator().manual_seed(0)) < rate).float()


def squeezed(model, x):
    """All timesteps in the batch, as Squeeze layers want them; the mean of the outputs."""
    return model(x.flatten(0, 1)).unflatten(0, (N, T)).mean(1)


def convnet(neuron, pool):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), neuron(), pool(),
        nn.Conv2d(4, 6, 3, padding=1, bias=False), neuron(), pool(),
        nn.Flatten(), nn.Linear(54, 3, bias=False), neuron(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (net[0], net[3], net[7]):
            layer.weight.mul_(3)
    return net


NEURONS = {
    "IAFSqueeze": lambda: sl.IAFSqueeze(**RECTANGLE),
    "LIFSqueeze": lambda: sl.LIFSqueeze(tau_mem=5.0, norm_input=False, **RECTANGLE),
    "LIFSqueeze, normed input": lambda: sl.LIFSqueeze(tau_mem=1.5, **RECTANGLE),
}
ROWS = {"0": HIDDEN, "3": HIDDEN, "7": LAST}


@pytest.mark.parametrize("name", NEURONS)
def test_a_convnet_with_sum_pools(name, tmp_path):
    """torch computes SumPool2d by LPPool2d: it passes no gradient where nothing spiked, so a gate stands behind it."""
    made, trace, report = exported(
        convnet(NEURONS[name], lambda: sl.SumPool2d(2)), events(), tmp_path / "t.npz", nn.functional.cross_entropy,
        TARGETS, forward=squeezed,
    )  # fmt: skip
    assert report.unchecked == ()
    assert rows_of(report) == ROWS
    assert layers_of(made) == {
        "0": ("conv", ("input",)), "2": ("pool~", ("0",)), "2-2": ("gate", ("2",)), "3": ("conv", ("2-2",)),
        "5": ("pool~", ("3",)), "5-2": ("gate", ("5",)), "7": ("fc", ("5-2",)),
    }  # fmt: skip
    assert [entry["scale"] for entry in made.meta["layers"] if entry["kind"] == "gate"] == [[4, 1], [4, 1]]
    spikes = numpy.unpackbits(made.members["0.spikes"], axis=2).reshape(T, N, 4, 6, 2, 6, 2)
    kept = numpy.unpackbits(made.members["2-2.kept"], axis=2).reshape(T, N, 4, 6, 6)
    assert (kept == spikes.any((4, 6))).all()
    assert "the model lays out (N, T, ...): found by the neurons' own spikes" in made.notes
    assert_lively(made, trace)


def test_a_convnet_with_average_pools(tmp_path):
    made, trace, report = exported(
        convnet(NEURONS["IAFSqueeze"], lambda: nn.AvgPool2d(2)), events(), tmp_path / "t.npz",
        nn.functional.cross_entropy, TARGETS, forward=squeezed,
    )  # fmt: skip
    assert report.unchecked == ()
    assert rows_of(report) == ROWS
    assert [kind for kind, _ in layers_of(made).values()] == ["conv", "pool~", "conv", "pool~", "fc"]
    assert_lively(made, trace)


def test_layers_that_keep_time_on_an_axis(tmp_path):
    """LIF and IAF read (N, T, ...)."""
    torch.manual_seed(0)
    settings = {name: value for name, value in RECTANGLE.items() if name != "batch_size"}
    net = nn.Sequential(
        nn.Linear(20, 12, bias=False), sl.IAF(**settings), nn.Linear(12, 8, bias=False),
        sl.LIF(tau_mem=3.0, **settings), nn.Linear(8, 3),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.mul_(4)
    inputs = (torch.rand(N, T, 20, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    made, trace, report = exported(
        net, inputs, tmp_path / "t.npz", lambda out, y: nn.functional.cross_entropy(out.mean(1), y), TARGETS
    )
    assert report.unchecked == ()
    assert rows_of(report) == {"0": HIDDEN, "2": HIDDEN, "4": READ_OUT}
    assert_lively(made, trace)


@pytest.mark.parametrize("part", ["whole", "spiking_model"])
def test_a_network_from_an_analog_one(part, tmp_path):
    """from_model keeps the analog network beside the spiking one, which alone runs."""
    torch.manual_seed(0)
    analog = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 3), nn.ReLU(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (analog[0], analog[3], analog[7]):
            layer.weight.mul_(3)
    network = from_model(analog, **{**SPIKES, "spike_threshold": torch.tensor(0.2)})
    model = network if part == "whole" else network.spiking_model
    made, trace, report = exported(
        model,
        events(),
        tmp_path / "t.npz",
        nn.functional.cross_entropy,
        TARGETS,
        forward=squeezed,
        window_threshold=0.2,
    )
    at = "spiking_model." if part == "whole" else ""
    assert rows_of(report) == {f"{at}{name}": SMOOTH for name in ("0", "3", "7")}
    assert report.not_recomputed == (f"{at}0", f"{at}3")  # SingleExponential is no rectangle
    assert [kind for kind, _ in layers_of(made).values()] == ["conv", "pool~", "conv", "pool~", "fc"]
    assert_lively(made, trace)


def test_several_spikes_at_a_timestep_are_refused():
    """The library's default: counts from a neuron."""
    many = {"batch_size": N, "spike_threshold": torch.tensor(0.1)}
    model = convnet(lambda: sl.IAFSqueeze(**many), lambda: sl.SumPool2d(2))
    with pytest.raises(ExportError) as caught:
        export.trace(model, events(), TARGETS, nn.functional.cross_entropy, forward=squeezed)
    assert [line.partition(":")[0] for line in str(caught.value).split("\n")] == ["1", "4", "8"]
    assert str(caught.value).startswith("1: spikes: expected ")
