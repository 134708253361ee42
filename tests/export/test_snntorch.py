"""snnTorch models: reset to zero and none are the source's equation, reset by subtraction is not, and says so."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.models import TARGETS, T, exported, image, kinds, library, mean_loss, quantities, spikes, torch

snn = library("snntorch")
from torch import nn  # noqa: E402

from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402
from tests.helpers.models import Spike  # noqa: E402


class Explicit(nn.Module):
    """The library's usual loop: membranes handed from timestep to timestep; the read-out counts spikes."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        settings = {"beta": 0.5, "threshold": 0.2, "reset_mechanism": "zero", "spike_grad": Spike.apply, **options}
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(**settings)
        self.conv2, self.pool, self.lif2 = nn.Conv2d(4, 5, 3), nn.AvgPool2d(2), snn.Leaky(**settings)
        self.fc, self.lif3 = nn.Linear(20, 3), snn.Leaky(**settings)
        self.reads_membrane = False

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        out = []
        for step in range(T):
            spk1, mem1 = self.lif1(self.conv1(x[step] if x.dim() == 5 else x), mem1)
            spk2, mem2 = self.lif2(self.pool(self.conv2(spk1)), mem2)
            spk3, mem3 = self.lif3(self.fc(spk2.flatten(1)), mem3)
            out.append(mem3 if self.reads_membrane else spk3)
        return torch.stack(out)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"reset_mechanism": "none"}, {"reset_delay": False}, {"learn_beta": True, "learn_threshold": True},
        {"beta": torch.tensor(1.5), "threshold": torch.tensor(0.3)},
    ],
    ids=str,
)  # fmt: skip
def test_a_neuron_of_the_sources_equation_is_checked_in_full(options, tmp_path):
    made, _, report = exported(Explicit(**options), spikes(2, 6, 6), tmp_path / "t.npz")
    assert kinds(made) == {
        "conv1": ("conv", ["input"], True),
        "conv2": ("conv", ["conv1"], False),
        "pool": ("pool", ["conv2"], True),
        "fc": ("fc", ["pool"], True),
    }
    full = {"spikes", "window", "membrane", "grad is dm != 0", "grad_membrane", "grad"}
    assert quantities(report)["conv1"] == full | {"weight_grad"}
    assert quantities(report)["pool"] == full
    assert made.meta["neuron"]["detach_reset"] == options.get("reset_delay", True)
    assert not report.notes
    assert made.meta["neuron"]["fires_at"] == "greater"
    assert [layer["bias"] for layer in made.meta["layers"] if layer["kind"] != "pool"] == [True] * 3


@pytest.mark.parametrize("delay", [True, False])
def test_reset_by_subtraction_is_a_traces_after_the_leak_but_where_it_acts_at_once(delay, tmp_path):
    model = Explicit(reset_mechanism="subtract", beta=0.9, reset_delay=delay)
    made, written, report = exported(model, spikes(2, 6, 6, rate=0.6), tmp_path / "t.npz")
    assert written.mask("conv1", "spikes").any()
    if delay:
        assert (written.meta.neuron.equation, written.meta.neuron.reset) == ("lif", "subtract-after-leak")
        assert quantities(report)["conv1"] >= {"membrane", "spikes", "window"}
        return
    assert written.meta.neuron.equation == "other"
    assert quantities(report)["conv1"] == {"grad is dm != 0", "weight_grad"}
    assert "conv1: another neuron equation: spikes, window and membrane not checked" in report.notes
    assert any("masks only" in note for note in made.notes)


class Hidden(nn.Module):
    """State kept in the neurons, a Synaptic among them; a static image, read by a product."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1 = nn.Linear(16, 8)
        self.syn = snn.Synaptic(alpha=0.5, beta=0.8, threshold=0.2, init_hidden=True, spike_grad=Spike.apply)
        self.fc2 = nn.Linear(8, 3)
        self.lif = snn.Leaky(beta=0.5, threshold=0.1, init_hidden=True, reset_mechanism="zero", spike_grad=Spike.apply)

    def forward(self, x):
        return torch.stack([self.lif(self.fc2(self.syn(self.fc1(x)))) for _ in range(T)])


def test_a_synaptic_neuron_is_recorded_with_its_own_equation_beside_one_of_the_sources(tmp_path):
    model = Hidden()
    model(image(16))
    made, written, report = exported(model, image(16), tmp_path / "t.npz")
    assert [layer.neuron.equation for layer in written.meta.layers] == ["other", "lif"]
    assert kinds(made)["fc1"] == ("encode", ["input"], True)
    assert written.input_analog().shape == (1, 3, 16, 1, 1)
    assert {"spikes", "membrane", "weight_grad"} <= quantities(report)["fc2"]


def test_a_loss_on_the_membrane_is_noticed_and_the_gradient_left_unchecked(tmp_path):
    model = Explicit()
    model.reads_membrane = True
    made, written, report = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    assert "fc: gradient not eq. 2.5 of its spikes' (is the membrane read?): not checked" in made.notes
    assert written.meta.layer("fc").neuron.surrogate_scale is None
    assert written.meta.layer("pool").neuron.surrogate_scale == 1.0
    assert "grad_membrane" in quantities(report)["pool"]


def test_a_surrogate_that_is_nowhere_zero_has_the_window_that_the_user_asks_for(tmp_path):
    model = Explicit(spike_grad=snn.surrogate.fast_sigmoid(slope=10))
    made, written, _ = exported(model, image(2, 6, 6), tmp_path / "t.npz", window_threshold=0.25)
    low, high = written.meta.neuron.window
    assert np.allclose((low, high), (0.1, 0.3), atol=1e-6)  # 1 / (1 + 10 |u|)^2 = 0.25 at |u| = 0.1
    assert made.meta["source"]["surrogates"]["conv1"] == "fast_sigmoid"
    assert made.meta["source"]["framework"].endswith(f"snntorch {snn.__version__}")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: snn.RLeaky(beta=0.5, linear_features=4, init_hidden=True), "recurrent connections"),
        (lambda: snn.Leaky(beta=0.5, graded_spikes_factor=2.0, init_hidden=True), "a graded_spikes_factor other than"),
        (lambda: snn.Leaky(beta=0.5, surrogate_disable=True, init_hidden=True), "no surrogate gradient"),
        (lambda: snn.Leaky(beta=0.5, state_quant=lambda m: m, init_hidden=True), "a quantised state"),
    ],
)
def test_a_neuron_that_no_trace_can_hold_is_refused_by_name(make, why):
    net = nn.Sequential(nn.Linear(4, 4), make())
    with pytest.raises(ExportError, match=f"^1: .*cannot be exported: {why}"):
        export.trace(net, spikes(4), TARGETS, mean_loss, forward=lambda model, x: sum(model(step) for step in x))


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature:UserWarning")
def test_inhibition_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), snn.Leaky(beta=0.5, inhibition=True, init_hidden=True))
    with pytest.raises(ExportError, match=r"^1: Leaky: cannot be exported: inhibition between neurons"):
        export.trace(net, spikes(4), TARGETS, mean_loss, forward=lambda model, x: sum(model(step) for step in x))


def test_a_neuron_that_several_layers_share_is_refused():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 3)
            self.lif = snn.Leaky(beta=0.5)
            self.out = snn.Leaky(beta=0.5)

        def forward(self, x):
            mem1 = mem2 = mem3 = None
            for step in x:
                spk, mem1 = self.lif(self.fc1(step), torch.zeros(3, 4) if mem1 is None else mem1)
                spk, mem2 = self.lif(spk, torch.zeros(3, 4) if mem2 is None else mem2)
                spk, mem3 = self.out(self.fc2(spk), torch.zeros(3, 3) if mem3 is None else mem3)
            return spk

    with pytest.raises(ExportError, match=r"^out: calls: expected 8 timesteps of 3 samples as 'lif'; got 4 of 3: each"):
        export.trace(Shared(), spikes(4), TARGETS, mean_loss)


class MembraneRead(nn.Module):
    """Membranes kept by the neurons themselves; the read-out takes the last one's from its attribute."""

    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        settings = {"beta": 0.5, "threshold": 0.2, "spike_grad": Spike.apply, "init_hidden": True, **options}
        self.fc1, self.lif1, self.fc2, self.lif2 = (
            nn.Linear(8, 8), snn.Leaky(**settings), nn.Linear(8, 3), snn.Leaky(**settings),
        )  # fmt: skip

    def forward(self, x):
        out = []
        for now in x:
            self.lif2(self.fc2(self.lif1(self.fc1(now))))
            out.append(self.lif2.mem)
        return torch.stack(out)


@pytest.mark.parametrize(
    "options",
    [{"reset_mechanism": "zero"}, {"reset_mechanism": "subtract"}, {"reset_delay": False}],
    ids=str,
)
@pytest.mark.parametrize("hidden", [False, True])
def test_what_a_neuron_learns_is_its_own_though_the_loss_reads_its_membrane(hidden, options, tmp_path):
    """A membrane has operations that no spike depends on, with the neuron's decay and threshold in them."""
    learnt = {"learn_beta": True, "learn_threshold": True, **options}
    model, x = (MembraneRead(**learnt), spikes(8)) if hidden else (Explicit(**learnt), spikes(2, 6, 6))
    model.reads_membrane = True
    made, _, _ = exported(model, x, tmp_path / "t.npz")
    assert list(kinds(made)) == (["fc1", "fc2"] if hidden else ["conv1", "conv2", "pool", "fc"])
