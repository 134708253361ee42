"""SnnTorch's tutorials become traces, and every row that a trace of its neurons can have verifies.

Leaky as the library has it by default (reset 'subtract' after the leak) is not the source's equation: its masks are
exact, and so are its weight gradients; its membranes have no rows. With reset_mechanism='zero' they have.
"""

from __future__ import annotations

import pytest

from tests.helpers.lively import CURRENT, HIDDEN, LAST, assert_lively, layers_of, pooled, rows_of
from tests.helpers.models import exported, fire_rectangle, library, torch

snn = library("snntorch")
from snntorch import functional as SF  # noqa: E402
from snntorch import spikegen, surrogate, utils  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402

T, N = 4, 2
TARGETS = torch.tensor([1, 0])
OTHER = {"grad is dm != 0", "weight_grad"}
FORWARD = OTHER | {"membrane", "spikes", "window"}
UNCHECKED = ("another neuron equation: spikes, window and membrane not checked",
             "another neuron equation: gradient not checked")  # fmt: skip


def random(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def louder(model, *layers, factor=4):
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(factor)
    return model


class FcNet(nn.Module):
    """Tutorial 5: two linear layers and two Leaky neurons, with the states handed on by hand."""

    def __init__(self, num_inputs=64, num_hidden=32, num_outputs=3, beta=0.95, num_steps=T, **neuron):
        super().__init__()
        self.num_steps = num_steps
        self.fc1 = nn.Linear(num_inputs, num_hidden)
        self.lif1 = snn.Leaky(beta=beta, **neuron)
        self.fc2 = nn.Linear(num_hidden, num_outputs)
        self.lif2 = snn.Leaky(beta=beta, **neuron)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []
        mem2_rec = []
        for _ in range(self.num_steps):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


def membrane_loss(output, targets):
    """Tutorial 5: cross-entropy of the membrane potential, summed over the timesteps."""
    _, mem_rec = output
    loss_val = torch.zeros(1)
    for step in range(len(mem_rec)):
        loss_val += nn.CrossEntropyLoss()(mem_rec[step], targets)
    return loss_val


def others(*layers):
    """What is unchecked of layers with another equation."""
    return [(layer, why) for layer in layers for why in UNCHECKED]


def smooth(*layers):
    """What is unchecked of layers whose surrogate is no rectangle."""
    why = "gradient not checked: no membrane recorded or another surrogate shape"
    return [(layer, why) for layer in layers]


def test_tutorial_5(tmp_path):
    torch.manual_seed(0)
    model = FcNet()
    louder(model, model.fc1, model.fc2)
    made, trace, report = exported(
        model, random(N, 64), tmp_path / "t.npz", membrane_loss, TARGETS, window_threshold=0.2
    )
    assert rows_of(report) == {"fc1": FORWARD, "fc2": FORWARD}
    assert [(part.layer, part.why) for part in report.unchecked] == smooth("fc1")
    assert layers_of(made) == {"fc1": ("encode", ("input",)), "fc2": ("fc", ("fc1",))}
    assert made.meta["version"] == 1
    assert_lively(made, trace)


def test_a_loss_on_the_membrane_of_a_leaky_that_resets_to_zero(tmp_path):
    """The last neurons' dm comes from the loss itself, not by their spikes: masks and weight gradients are checked."""
    torch.manual_seed(0)
    model = FcNet(reset_mechanism="zero", spike_grad=fire_rectangle)
    louder(model, model.fc1, model.fc2)
    made, trace, report = exported(model, random(N, 64), tmp_path / "t.npz", membrane_loss, TARGETS)
    assert rows_of(report) == {"fc1": HIDDEN, "fc2": LAST}
    assert "fc2: gradient not eq. 2.5 of its spikes' (is the membrane read?): not checked" in made.notes
    assert_lively(made, trace)


class ConvNet(nn.Module):
    """Tutorial 6: maxima of currents, in front of each neuron."""

    def __init__(self, pool=F.max_pool2d, beta=0.5, num_steps=T, **neuron):
        super().__init__()
        self.num_steps, self.pool = num_steps, pool
        neuron = {"beta": beta, "spike_grad": surrogate.fast_sigmoid(slope=25), **neuron}
        self.conv1 = nn.Conv2d(1, 4, 5)
        self.lif1 = snn.Leaky(**neuron)
        self.conv2 = nn.Conv2d(4, 6, 5)
        self.lif2 = snn.Leaky(**neuron)
        self.fc1 = nn.Linear(6 * 4 * 4, 3)
        self.lif3 = snn.Leaky(**neuron)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        mem3 = self.lif3.init_leaky()
        spk3_rec = []
        mem3_rec = []
        for _ in range(self.num_steps):
            cur1 = self.conv1(x)
            spk1, mem1 = self.lif1(self.pool(cur1, 2), mem1)
            cur2 = self.conv2(spk1)
            spk2, mem2 = self.lif2(self.pool(cur2, 2), mem2)
            cur3 = self.fc1(spk2.flatten(1))
            spk3, mem3 = self.lif3(cur3, mem3)
            spk3_rec.append(spk3)
            mem3_rec.append(mem3)
        return torch.stack(spk3_rec, dim=0), torch.stack(mem3_rec, dim=0)


def rate_loss(output, targets):
    return SF.ce_rate_loss()(output[0], targets)


def convnet(pool, **neuron):
    torch.manual_seed(0)
    model = ConvNet(pool, threshold=0.3, **neuron)
    return louder(model, model.conv1, model.conv2, model.fc1, factor=3)


CONV_NET = {
    "conv1": ("encode~", ("input",)), "conv2": ("conv~", ("lif1",)), "fc1": ("fc", ("lif2",)),
}  # fmt: skip


@pytest.mark.parametrize(("pool", "kind"), [(F.max_pool2d, "max pool"), (F.avg_pool2d, "pool")])
def test_tutorial_6(pool, kind, tmp_path):
    made, trace, report = exported(
        convnet(pool), random(N, 1, 28, 28), tmp_path / "t.npz", rate_loss, TARGETS, window_threshold=0.2
    )
    assert layers_of(made) == CONV_NET | {"lif1": (kind, ("conv1",)), "lif2": (kind, ("conv2",))}
    neurons = pooled(FORWARD)
    assert rows_of(report) == {"conv1": CURRENT, "lif1": neurons, "conv2": CURRENT, "lif2": neurons, "fc1": FORWARD}
    assert [(part.layer, part.why) for part in report.unchecked] == smooth("lif1", "lif2")
    assert made.meta["version"] == (2 if kind == "max pool" else 1)
    assert_lively(made, trace)


@pytest.mark.parametrize(("pool", "kind"), [(F.max_pool2d, "max pool"), (F.avg_pool2d, "pool")])
def test_tutorial_6_with_a_reset_to_zero(pool, kind, tmp_path):
    """All rows: the source's equation, and a rectangle as surrogate."""
    model = convnet(pool, reset_mechanism="zero", spike_grad=fire_rectangle)
    made, trace, report = exported(model, random(N, 1, 28, 28), tmp_path / "t.npz", rate_loss, TARGETS)
    assert layers_of(made) == CONV_NET | {"lif1": (kind, ("conv1",)), "lif2": (kind, ("conv2",))}
    neurons = pooled(HIDDEN)
    assert rows_of(report) == {"conv1": CURRENT, "lif1": neurons, "conv2": CURRENT, "lif2": neurons, "fc1": LAST}
    assert report.unchecked == ()
    assert_lively(made, trace)


def neuromorphic(**neuron):
    """Tutorial 7: nn.Sequential, whose neurons keep their states themselves."""
    torch.manual_seed(0)
    neuron = {"beta": 0.5, "spike_grad": surrogate.atan(), "init_hidden": True, **neuron}
    net = nn.Sequential(
        nn.Conv2d(2, 4, 5), nn.MaxPool2d(2), snn.Leaky(**neuron), nn.Conv2d(4, 6, 5), nn.MaxPool2d(2),
        snn.Leaky(**neuron), nn.Flatten(), nn.Linear(6 * 5 * 5, 3), snn.Leaky(**neuron, output=True),
    )  # fmt: skip
    return louder(net, net[0], net[3], net[7])


def forward_pass(net, data):
    """Tutorial 7."""
    spk_rec = []
    utils.reset(net)  # resets hidden states for all LIF neurons in net
    for step in range(data.size(0)):  # data.size(0) = number of time steps
        spk_out, _ = net(data[step])
        spk_rec.append(spk_out)
    return torch.stack(spk_rec)


SEVEN = {
    "0": ("conv~", ("input",)), "1": ("max pool", ("0",)), "3": ("conv~", ("1",)), "4": ("max pool", ("3",)),
    "7": ("fc", ("4",)),
}  # fmt: skip


def count_loss(output, targets):
    return SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)(output, targets)


def test_tutorial_7(tmp_path):
    frames = (random(T, N, 2, 34, 34) < 0.3).float()
    made, trace, report = exported(
        neuromorphic(), frames, tmp_path / "t.npz", count_loss, TARGETS, forward=forward_pass, window_threshold=0.2
    )
    assert layers_of(made) == SEVEN
    neurons = pooled(FORWARD)
    assert rows_of(report) == {"0": CURRENT, "1": neurons, "3": CURRENT, "4": neurons, "7": FORWARD}
    assert [(part.layer, part.why) for part in report.unchecked] == smooth("1", "4")
    assert_lively(made, trace)


def test_tutorial_7_on_event_counts(tmp_path):
    """Frames as tonic makes them hold numbers of events. Neurons that reset to 0 have all rows."""
    frames = torch.poisson(torch.full((T, N, 2, 34, 34), 0.3), generator=torch.Generator().manual_seed(0))
    net = neuromorphic(reset_mechanism="zero", spike_grad=fire_rectangle, threshold=0.5)
    made, trace, report = exported(net, frames, tmp_path / "t.npz", count_loss, TARGETS, forward=forward_pass)
    assert made.meta["input"]["kind"] == "counts"
    assert layers_of(made) == SEVEN
    neurons = pooled(HIDDEN)
    assert rows_of(report) == {"0": CURRENT, "1": neurons, "3": CURRENT, "4": neurons, "7": LAST}
    assert report.unchecked == ()
    assert_lively(made, trace)


def test_an_input_of_spikegen(tmp_path):
    """The image becomes spikes inside forward: the trace's input is the spikes."""
    torch.manual_seed(0)
    net = neuromorphic(reset_mechanism="zero", spike_grad=fire_rectangle, threshold=0.5)

    def encoded(model, image):
        return forward_pass(model, spikegen.rate(image, num_steps=T))

    made, trace, report = exported(
        net, 0.4 * random(N, 2, 34, 34), tmp_path / "t.npz", count_loss, TARGETS, forward=encoded
    )
    assert "input.spikes" in made.members
    assert layers_of(made) == SEVEN
    assert report.unchecked == ()
    assert_lively(made, trace)


LEARNT = {"init_hidden": True, "threshold": 0.2, "spike_grad": fire_rectangle}
BETAS = torch.linspace(0.3, 0.9, 12)
ZERO = {**LEARNT, "reset_mechanism": "zero"}
NEURONS = {
    "learnt beta": (lambda **k: snn.Leaky(beta=0.8, learn_beta=True, **ZERO, **k), True),
    "learnt threshold": (lambda **k: snn.Leaky(beta=0.8, learn_threshold=True, **ZERO, **k), True),
    "no reset": (lambda **k: snn.Leaky(beta=0.8, **{**LEARNT, "reset_mechanism": "none"}, **k), True),
    "beta of each neuron": (lambda **k: snn.Leaky(beta=BETAS, learn_beta=True, **ZERO, **k), False),
    "Leaky, default reset": (lambda **k: snn.Leaky(beta=0.8, **LEARNT, **k), True),
    "Lapicque": (lambda **k: snn.Lapicque(beta=0.8, **LEARNT, **k), True),
    "Synaptic": (lambda **k: snn.Synaptic(alpha=0.5, beta=0.8, **LEARNT, **k), False),
    "Alpha": (lambda **k: snn.Alpha(alpha=0.9, beta=0.8, **LEARNT, **k), False),
}  # fmt: skip


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_in_two_layers(name, tmp_path):
    make, is_lif = NEURONS[name]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 12), make(), nn.Linear(12, 12), make(output=True))
    louder(net, net[0], net[2], factor=8 if name == "Lapicque" else 2)

    def forward(model, data):
        utils.reset(model)
        return torch.stack([model(now)[0] for now in data])

    made, trace, report = exported(
        net, (random(T, N, 20) < 0.5).float(), tmp_path / "t.npz", SF.ce_rate_loss(), TARGETS, forward=forward
    )
    assert rows_of(report) == ({"0": HIDDEN, "2": LAST} if is_lif else {"0": OTHER, "2": OTHER})
    assert [(part.layer, part.why) for part in report.unchecked] == ([] if is_lif else others("0", "2"))
    assert ("a neuron's decay is given as the largest of its layer" in made.notes) == (name == "beta of each neuron")
    assert_lively(made, trace)


@pytest.mark.parametrize(("neuron", "kind"), [(lambda: snn.RLeaky(0.9, linear_features=8), "RLeaky"),
                                              (lambda: snn.SLSTM(8, 8), "SLSTM")])  # fmt: skip
def test_recurrence_is_refused(neuron, kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif, self.last = nn.Linear(20, 8), neuron(), nn.Linear(8, 3)

        def forward(self, x):
            state = self.lif.init_rleaky() if kind == "RLeaky" else self.lif.init_slstm()
            outs = []
            for now in x:
                spikes, *state = self.lif(self.fc(now), *state)
                outs.append(self.last(spikes))
            return torch.stack(outs)

    why = f"^lif: {kind}: cannot be exported: recurrent connections, which the machine does not have$"
    with pytest.raises(ExportError, match=why):
        export.trace(Net(), (random(T, N, 20) < 0.5).float(), TARGETS, SF.ce_rate_loss())
