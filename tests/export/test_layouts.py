"""Layouts of time, structures and options, with a neuron of one's own: no spiking library needed."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from h2sim import export
from h2sim.errors import ExportError, OutputError
from tests.helpers.models import (
    TARGETS,
    Lif,
    Loop,
    N,
    Spike,
    T,
    conv_pool_fc,
    exported,
    image,
    kinds,
    mean_loss,
    quantities,
    spikes,
    torch,
)  # fmt: skip

FULL = {"spikes", "window", "membrane", "grad is dm != 0", "grad_membrane", "grad"}


class Sequence(Lif):
    """The neuron over (T, N, ...) in one call."""

    def forward(self, x):
        return torch.stack([Lif.forward(self, step) for step in x])

    def h2sim_neuron(self):
        return export.NeuronSpec(decay=self.decay, threshold=self.threshold, fire=self.fire, multi_step=True)


class Flattened(nn.Module):
    """Convolutions over (T*N, ...), neurons over (T, N, ...), all in one call."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 0)), Sequence()
        self.conv2, self.pool, self.lif2 = nn.Conv2d(4, 5, 2, padding="valid"), nn.AvgPool2d(2, 1, 1), Sequence()
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(60, 3)

    def forward(self, x):
        current = self.conv1(x.flatten(0, 1)).unflatten(0, (T, N))
        current = self.pool(self.conv2(self.lif1(current).flatten(0, 1))).reshape(T, N, 5, 3, 4)
        return self.fc(self.drop(self.lif2(current).flatten(2)))


def test_time_folded_into_the_batch_and_dropout_that_is_off(tmp_path):
    made, _, report = exported(Flattened().eval(), spikes(2, 6, 6), tmp_path / "t.npz")
    assert kinds(made)["pool"] == ("pool", ["conv2"], True)
    assert made.meta["layers"][0]["stride"] == [2, 1]
    assert quantities(report)["conv1"] == FULL | {"weight_grad"}
    assert quantities(report)["pool"] == FULL
    assert not report.notes


@pytest.mark.parametrize("inputs", [spikes(2, 6, 6), image(2, 6, 6)], ids=["spikes", "image"])
def test_a_loop_over_timesteps_reads_spikes_or_an_image(inputs, tmp_path):
    made, written, report = exported(conv_pool_fc(), inputs, tmp_path / "t.npz")
    assert made.meta["layers"][0]["kind"] == ("conv" if inputs.dim() == 5 else "encode")
    assert written.analog_steps == 1
    assert quantities(report)["net.0"] == FULL | {"weight_grad"}
    assert written.meta.neuron.window == pytest.approx((-0.25, 0.75), abs=1e-7)
    assert written.meta.neuron.surrogate_scale == 1.0


class Branches(nn.Module):
    """fc1 is read by a neuron and by a sum; lif1 by a second neuron and the sum; the last neuron is the output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = nn.Linear(8, 6), nn.Linear(6, 6, bias=False)
        self.lif1, self.lif2, self.lif3 = Lif(), Lif(threshold=0.6), Lif()

    def forward(self, x):
        out = []
        for step in x:
            current = self.fc1(step)
            first = self.lif1(current)
            out.append(self.lif3(sum([current, self.fc2(first) + self.lif2(first)])))
        return torch.stack(out)


def test_currents_and_spikes_that_several_layers_read(tmp_path):
    made, written, report = exported(Branches(), spikes(8), tmp_path / "t.npz", lambda s, _: s.sum() ** 2)
    assert kinds(made) == {
        "fc1": ("fc", ["input"], False),
        "lif1": ("pool", ["fc1"], True),
        "fc2": ("fc", ["lif1"], False),
        "lif2": ("pool", ["lif1"], True),
        "lif3": ("add", ["fc1", "fc2", "lif2"], True),
    }
    assert quantities(report)["lif1"] == FULL
    assert quantities(report)["fc1"] == {"current", "grad is dm != 0", "grad_membrane", "weight_grad"}
    assert written.meta.layer("lif2").neuron.threshold == 0.6
    assert "neuron" not in made.meta["layers"][1]


def test_the_first_samples_keep_their_gradients_of_the_whole_batch(tmp_path):
    whole = export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss)
    made, written, report = exported(conv_pool_fc(), spikes(2, 6, 6), tmp_path / "t.npz", batch=2)
    assert written.meta.batch == 2
    assert made.meta["source"]["samples_of_loss"] == 3
    for member in ("net.0.spikes", "net.0.grad", "net.0.grad_membrane", "input.spikes"):
        assert np.array_equal(made.members[member], whole.members[member][:, :2])
    assert quantities(report)["net.0"] == FULL | {"weight_grad"}
    assert "net.0: weight_grad computed from what the layer read and its gradient" in made.notes


def test_frozen_and_shared_weights_have_the_gradient_of_their_own_layer(tmp_path):
    torch.manual_seed(0)
    model = Loop(nn.Linear(8, 8), Lif(), nn.Linear(8, 8), Lif(), nn.Linear(8, 8), Lif(), nn.Linear(8, 3))
    model.net[0].requires_grad_(False)
    model.net[4].weight = model.net[2].weight
    _, _, report = exported(model, spikes(8), tmp_path / "t.npz")
    for name in ("net.0", "net.2", "net.4"):
        assert "weight_grad" in quantities(report)[name]


class Regularised(nn.Module):
    """Adds the rate of its hidden spikes to its output, in which case they have a gradient that no layer sent."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1, self.fc2, self.lif2 = nn.Linear(8, 8), Lif(), nn.Linear(8, 3), Lif()

    def forward(self, x):
        out = 0
        for step in x:
            s = self.lif1(self.fc1(step))
            out = out + self.lif2(self.fc2(s)) + s.mean()
        return out


def test_a_loss_on_hidden_spikes_leaves_their_gradient_unchecked(tmp_path):
    made, written, report = exported(Regularised(), spikes(8), tmp_path / "t.npz", lambda out, _: (out**2).sum())
    assert made.notes == ("fc1: its spikes have a gradient that no later layer sent: gradient not checked",)
    assert written.meta.layer("fc1").neuron.surrogate_scale is None
    assert written.meta.layer("fc2").neuron.surrogate_scale == 1.0
    assert quantities(report)["fc1"] == {"spikes", "window", "membrane", "grad is dm != 0", "weight_grad"}


def test_masks_alone_are_a_trace_without_values(tmp_path):
    made = export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss, tmp_path / "t.npz", values=False)
    assert {name.rpartition(".")[2] for name in made.members} == {"spikes", "window", "grad"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats(dtype, tmp_path):
    model, inputs = conv_pool_fc().to(dtype), spikes(2, 6, 6).to(dtype)
    made = export.trace(model, inputs, TARGETS, mean_loss, tmp_path / "t.npz")
    assert made.meta["source"]["gradient_dtype"] == str(dtype).removeprefix("torch.")
    if dtype == torch.float64:
        exported(model, inputs, tmp_path / "t.npz")
        assert made.members["net.0.membrane"].dtype == np.float32
    else:
        assert "values left out: the model computes in torch.bfloat16, their check in float32" in made.notes
        assert "net.0.membrane" not in made.members
        assert "net.0.grad" in made.members


def test_an_average_behind_the_last_layer_belongs_to_the_readout(tmp_path):
    torch.manual_seed(0)
    model = Loop(nn.Conv2d(2, 4, 3), Lif(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made, _, _ = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    assert kinds(made)["net.2"] == ("conv", ["net.0"], False)
    assert "net.3: behind the last layer: read-out, not a layer" in made.notes


def test_names_that_the_format_does_not_allow_are_changed(tmp_path):
    model = nn.ModuleDict({"input": nn.Linear(8, 8), "a/b": Lif(), "meta": nn.Linear(8, 3)})
    forward = lambda m, x: sum(m["meta"](m["a/b"](m["input"](step))) for step in x)  # noqa: E731
    made, _, _ = exported(model, spikes(8), tmp_path / "t.npz", forward=forward)
    assert list(kinds(made)) == ["input_", "meta_"]


def test_arguments_and_a_description_of_ones_own(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_pool_fc()

        def forward(self, x, scale):
            return self.net(x) * scale

    made = export.trace(
        Two(), (spikes(2, 6, 6), 2.0), TARGETS, nn.CrossEntropyLoss(), network="mine", dataset="toy",
        source={"epoch": 3, "kind": "training"}, timesteps=T,
    )  # fmt: skip
    assert (made.meta["network"], made.meta["dataset"]) == ("mine", "toy")
    assert made.meta["source"]["epoch"] == 3
    assert made.meta["source"]["loss"] == "CrossEntropyLoss"
    with pytest.raises(OutputError, match="no folder"):
        made.write(tmp_path / "nowhere" / "t.npz")


def test_the_same_step_gives_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    decay=st.floats(0, 1), threshold=st.floats(0.05, 1), kernel=st.integers(1, 3), stride=st.integers(1, 2),
    padding=st.integers(0, 1), channels=st.integers(1, 3), rate=st.floats(0, 1), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_small_network_is_verified(tmp_path, decay, threshold, kernel, stride, padding, channels, rate, seed):
    torch.manual_seed(seed)
    make = lambda: Lif(decay, threshold, fire=Spike.apply)  # noqa: E731
    conv = nn.Conv2d(2, channels, kernel, stride, padding)
    size = (5 + 2 * padding - kernel) // stride + 1
    model = Loop(conv, make(), nn.Flatten(), nn.Linear(channels * size**2, 3), make())
    _, _, report = exported(model, spikes(2, 5, 5, rate=rate, seed=seed), tmp_path / "t.npz")
    assert quantities(report)["net.0"] == FULL | {"weight_grad"}


class Watching(nn.Module):
    """Keeps weak references to the currents of its convolution, which nothing but a step should hold."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = conv_pool_fc(), []

    def forward(self, x):
        def hook(module, args, output):
            self.seen.append(weakref.ref(output))

        with self.net.net[0].register_forward_hook(hook):
            return self.net(x)


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_of_a_step_stays_in_memory(refused):
    """Hooks, nodes and what they recorded hold each other where Python's collector does not see it."""
    model = Watching()
    loss = (lambda output, targets: output.sum() / 0) if refused else mean_loss
    with pytest.raises(ExportError) if refused else nullcontext():
        export.trace(model, spikes(2, 6, 6), TARGETS, loss)
    gc.collect()
    assert len(model.seen) == T
    assert [reference() for reference in model.seen] == [None] * T


class Dense(nn.Module):
    """DenseNet's way: a convolution reads the channels of what was before, of spikes and averages of them."""

    def __init__(self, what):
        super().__init__()
        torch.manual_seed(0)
        self.what, self.conv1, self.lif1 = what, nn.Conv2d(2, 4, 3, padding=1), Lif()
        self.conv2, self.lif2 = nn.Conv2d(4, 4, 3, padding=1), Lif()
        self.conv3, self.lif3, self.fc = nn.Conv2d(8, 3, 1), Lif(), nn.LazyLinear(3)

    def forward(self, x):
        out = 0
        for now in x:
            first = self.lif1(self.conv1(now))
            second = self.lif2(self.conv2(first))
            if self.what == "counts":
                second = nn.functional.avg_pool2d(second, 3, 1, 1)
            out = out + self.fc(self.lif3(self.conv3(torch.cat([first, second], 1))).flatten(1))
        return out / len(x)


@pytest.mark.parametrize("what", ["spikes", "counts"])
def test_a_concatenation_of_channels(what, tmp_path):
    model = Dense(what)
    model(spikes(2, 6, 6))
    for module in (model.lif1, model.lif2, model.lif3):
        module.reset_mem()
    made, written, report = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    (joined,) = [layer for layer in written.meta.layers if layer.kind == "concat"]
    assert joined.name == "lif1.concat"
    assert (joined.inputs[0], joined.out_chw) == ("conv1", (8, 6, 6))
    assert kinds(made)["conv3"] == ("conv", ["lif1.concat"], True)
    assert quantities(report)["conv3"] == FULL | {"weight_grad"}
    assert quantities(report)["conv1"] == quantities(report)["conv2"] == FULL | {"weight_grad"}
    assert written.mask("conv3", "grad").any()
