"""SpikingJelly models of several kinds give traces that verify accepts in full."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.models import TARGETS, N, T, exported, image, kinds, library, mean_loss, quantities, spikes, torch

library("spikingjelly.activation_based.neuron")
from spikingjelly.activation_based import functional, layer, neuron, surrogate  # noqa: E402
from torch import nn  # noqa: E402

from h2sim import export  # noqa: E402
from h2sim.errors import ExportError  # noqa: E402
from h2sim.export import spikingjelly  # noqa: E402
from h2sim.train.lif import LayerRecord, Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402

SPIKING = {"spikes", "window", "membrane", "grad is dm != 0"}


def lif(**options):
    settings = {"tau": 2.0, "decay_input": False, "v_threshold": 0.3, "surrogate_function": surrogate.Rect(alpha=1.25)}
    return neuron.LIFNode(**{**settings, **options})


def plain(make, mode="m", channels=2):
    """conv - neuron - conv - average - neuron - fc, in SpikingJelly's layers."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(channels, 4, 3, padding=1), make(), layer.Conv2d(4, 5, 3, padding=1), layer.AvgPool2d(2), make(),
        layer.Flatten(), layer.Linear(45, 3),
    )  # fmt: skip
    functional.set_step_mode(net, mode)
    return net


def one_by_one(model, inputs):
    return sum(model(x) for x in inputs) / T


NEURONS = [
    lif,
    lambda: lif(detach_reset=True),
    lambda: lif(v_reset=None),
    lambda: lif(v_reset=0.1, v_threshold=0.4),
    lambda: lif(decay_input=True, tau=4.0, v_threshold=0.1),
    lambda: lif(decay_input=True, v_reset=-0.2, v_threshold=0.1, detach_reset=True),
    lambda: neuron.IFNode(0.3, surrogate_function=surrogate.Rect()),
    lambda: neuron.IFNode(0.3, v_reset=None, surrogate_function=surrogate.Rect(), detach_reset=True),
    lambda: neuron.ParametricLIFNode(3.0, v_threshold=0.1, surrogate_function=surrogate.Rect(alpha=3.0)),
    lambda: neuron.SimpleLIFNode(2.0, True, 0.1, surrogate_function=surrogate.Rect()),
    lambda: neuron.SimpleIFNode(0.3, surrogate_function=surrogate.Rect()),
]


@pytest.mark.parametrize(("make", "mode"), [(lif, "s"), *((make, "sm"[i % 2]) for i, make in enumerate(NEURONS, 1))])
def test_with_a_rectangle_verify_checks_every_value(make, mode, tmp_path):
    forward = one_by_one if mode == "s" else None
    _, written, report = exported(plain(make, mode), spikes(2, 6, 6), tmp_path / "t.npz", forward=forward)
    assert written.meta.timesteps == T
    assert written.meta.batch == N
    found = quantities(report)
    assert found["0"] == SPIKING | {"grad_membrane", "grad", "weight_grad"}
    assert found["3"] == SPIKING | {"grad_membrane", "grad"}
    assert found["2"] == {"current", "grad is dm != 0", "grad_membrane", "weight_grad"}
    assert found["6"] == {"current", "grad is dm != 0", "weight_grad"}
    assert not report.notes
    assert written.mask("0", "spikes").any()


@pytest.mark.parametrize(
    "function",
    [
        surrogate.ATan(), surrogate.Sigmoid(), surrogate.PiecewiseQuadratic(), surrogate.SoftSign(), surrogate.Erf(),
        surrogate.PiecewiseExp(), surrogate.LeakyKReLU(), surrogate.SuperSpike(), surrogate.PiecewiseLeakyReLU(),
    ],
    ids=lambda function: type(function).__name__,
)  # fmt: skip
@pytest.mark.parametrize("least", [0.0, 0.4])
def test_the_window_of_any_surrogate_is_where_its_derivative_exceeds_the_threshold(function, least, tmp_path):
    made, written, _ = exported(
        plain(lambda: lif(surrogate_function=function)), spikes(2, 6, 6), tmp_path / "t.npz", window_threshold=least
    )
    m = torch.from_numpy(written.values("0", "membrane"))
    u = (m - 0.3).requires_grad_()
    function(u).sum().backward()
    inside = (u.grad.abs() > least).numpy()
    window = np.unpackbits(written.mask("0", "window"), axis=-1).reshape(inside.shape)
    assert np.array_equal(window, inside)
    everywhere = "is nowhere 0" in " ".join(made.notes)
    assert everywhere == bool(inside.all() and written.meta.layers[0].neuron.window == (-1e30, 1e30))


def test_a_surrogate_of_several_parts_gives_masks_without_checks(tmp_path):
    function = surrogate.SquarewaveFourierSeries(n=2, T_period=1.0)
    made, written, report = exported(
        plain(lambda: lif(surrogate_function=function)), spikes(2, 6, 6), tmp_path / "t.npz", window_threshold=1.0
    )
    assert any("window of several parts" in note for note in made.notes)
    assert written.meta.layers[0].neuron.equation == "other"
    assert "0: another neuron equation: gradient not checked" in report.notes


def trainers_masks(net, inputs):
    """The masks that this project's own trainer records for the same network and weights."""
    window = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1]}
    layers = [
        {"name": "0", "kind": "conv", "inputs": ["input"], "in_shape": [2, 6, 6], "out_shape": [4, 6, 6], **window},
        {"name": "2", "kind": "conv", "inputs": ["0"], "in_shape": [4, 6, 6], "out_shape": [5, 6, 6], **window,
         "spiking": False},
        {"name": "3", "kind": "pool", "inputs": ["2"], "in_shape": [5, 6, 6], "out_shape": [5, 3, 3],
         "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]},
        {"name": "6", "kind": "fc", "inputs": ["3"], "in_features": 45, "out_features": 3, "spiking": False},
    ]  # fmt: skip
    network = SpikingNetwork(layers, Neuron(0.3, 0.5, (-0.1, 0.7), 1.25), torch.Generator())
    for name in ("0", "2", "6"):
        network.weights[name].data = net[int(name)].weight.detach().clone()
        network.biases[name].data = net[int(name)].bias.detach().clone()
    records = {entry["name"]: LayerRecord() for entry in layers}
    mean_loss(network(inputs, T, records), TARGETS).backward()
    return records


def test_the_same_network_in_the_projects_own_trainer_has_the_same_masks(tmp_path):
    net, inputs = plain(lif), spikes(2, 6, 6)
    made, _, _ = exported(net, inputs, tmp_path / "t.npz")
    for name, record in trainers_masks(net, inputs).items():
        assert np.array_equal(made.members[f"{name}.grad"], record.grad)
        if record.spikes is not None:
            assert np.array_equal(made.members[f"{name}.spikes"], record.spikes)
            assert np.array_equal(made.members[f"{name}.window"], record.window)


class Residual(nn.Module):
    """Two convolutions with batch norm and a residual sum of currents and spikes, then an average and a product."""

    def __init__(self, mode, training):
        super().__init__()
        torch.manual_seed(1)
        self.conv1, self.bn1, self.sn1 = layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), lif()
        self.conv2, self.bn2, self.sn2 = layer.Conv2d(4, 4, 3, padding=1), layer.BatchNorm2d(4), lif()
        self.pool, self.sn3, self.fc = layer.AdaptiveAvgPool2d((3, 2)), lif(v_threshold=0.4), layer.Linear(24, 3)
        for norm in (self.bn1, self.bn2):
            nn.init.normal_(norm.bias, 0.2, 0.1)
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
        functional.set_step_mode(self, mode)
        self.train(training)

    def step(self, x):
        early = self.sn1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(early))
        out += early
        return self.fc(self.sn3(self.pool(self.sn2(out))).flatten(-3))

    def forward(self, x):
        return self.step(x) if self.sn1.step_mode == "m" else torch.stack([self.step(step) for step in x])


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("static", [False, True])
def test_a_residual_network_in_evaluation_mode_has_its_batch_norm_folded(mode, static, tmp_path):
    inputs = image(2, 6, 6).expand(T, -1, -1, -1, -1) if static else spikes(2, 6, 6)
    made, written, report = exported(Residual(mode, False), inputs, tmp_path / "t.npz")
    assert kinds(made) == {
        "conv1": ("encode" if static else "conv", ["input"], True),
        "conv2": ("conv", ["conv1"], False),
        "sn2": ("add", ["conv2", "conv1"], True),
        "pool": ("pool", ["sn2"], True),
        "fc": ("fc", ["pool"], False),
    }
    assert {"conv1: bn1 folded into weight and bias", "conv2: bn2 folded into weight and bias"} <= set(made.notes)
    assert {"weight_grad", "grad_membrane", "membrane"} <= quantities(report)["conv1"]
    assert {"spikes", "grad_membrane"} <= quantities(report)["sn2"]
    assert written.analog_steps == 1
    assert made.meta["source"]["batch_norm"] is False


def test_batch_norm_in_training_mode_is_a_norm_of_its_layer(tmp_path):
    model = Residual("m", True)
    made, written, report = exported(model, spikes(2, 6, 6), tmp_path / "t.npz")
    assert made.meta["source"]["batch_norm"] is True
    norms = {layer.name: layer.norm for layer in written.meta.layers if layer.norm}
    assert list(norms) == ["conv1", "conv2"]
    assert norms["conv1"][0].over == ("T", "N", "H", "W")
    assert {"current", "grad_current", "spikes", "membrane", "weight_grad"} <= quantities(report)["conv1"]
    assert {"current", "grad_current", "weight_grad"} <= quantities(report)["conv2"]
    assert {"grad is dm != 0", "grad_membrane"} <= quantities(report)["pool"]
    assert not report.notes
    assert int(model.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_behind_a_pool_belongs_to_the_weights_before_it_or_to_the_pools_neurons(training, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), layer.AvgPool2d(2), layer.BatchNorm2d(4), lif(), layer.Flatten(),
        layer.Linear(36, 3),
    ).train(training)  # fmt: skip
    nn.init.uniform_(net[2].weight, 0.5, 2)
    nn.init.normal_(net[2].bias, 0.2, 0.1)
    functional.set_step_mode(net, "m")
    _, _, report = exported(net, spikes(2, 6, 6), tmp_path / "t.npz")
    assert quantities(report)["0"] == {"current", "grad is dm != 0", "grad_membrane", "weight_grad"}
    assert {"spikes", "membrane"} | ({"current", "grad_current"} if training else set()) <= quantities(report)["1"]


class Static(nn.Module):
    """A convolution (and an average) computed once, then a neuron at every timestep."""

    def __init__(self, pool):
        super().__init__()
        torch.manual_seed(0)
        self.static = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AvgPool2d(2) if pool else nn.Identity())
        self.sn, self.fc = lif(step_mode="s"), nn.Linear(36 if pool else 144, 3)

    def forward(self, x):
        current = self.static(x)
        return sum(self.fc(self.sn(current).flatten(1)) for _ in range(T)) / T


@pytest.mark.parametrize("pool", [False, True])
def test_a_current_computed_once_for_all_timesteps_is_recorded_for_each(pool, tmp_path):
    made, written, report = exported(Static(pool), image(1, 6, 6), tmp_path / "t.npz")
    assert written.meta.timesteps == T
    assert written.analog_steps == 1
    assert made.meta["layers"][0]["kind"] == "encode"
    assert {"weight_grad", "grad is dm != 0"} <= quantities(report)["static.0"]
    assert not report.notes


def test_a_planted_fault_in_the_adapter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(spikingjelly._TAU, "LIFNode", lambda module: 1.1 * module.tau)
    with pytest.raises(ExportError, match=r"1: spikes: expected those of v\[t\] = 0.545.* this is not the neuron's eq"):
        export.trace(plain(lif), spikes(2, 6, 6), TARGETS, mean_loss)


def test_the_model_is_left_as_it_was_found():
    net, inputs = plain(lif), spikes(2, 6, 6)
    net.train()
    net(inputs)
    net[0].weight.grad = torch.ones_like(net[0].weight)
    kept, held = net[0].weight.grad, net[1].v
    before = held.detach().clone()
    first = export.trace(net, inputs, TARGETS, mean_loss)
    assert net[0].weight.grad is kept
    assert bool((kept == 1).all())
    assert net[2].weight.grad is None
    assert net[1].v is held
    assert torch.equal(held, before)
    assert net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    functional.reset_net(net)
    second = export.trace(net, inputs, TARGETS, mean_loss)
    assert all(np.array_equal(first.members[name], second.members[name]) for name in first.members)
    assert first.meta == second.meta


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: neuron.QIFNode(), "QIFNode, whose equation h2sim does not know"),
        (lambda: lif(surrogate_function=surrogate.Rect(spiking=False)), "a surrogate with spiking=False"),
        (lambda: neuron.LIFNode(v_threshold=float("inf")), "threshold inf, not a finite number"),
        (lambda: neuron.SimpleLIFNode(2.0, False, v_reset=0.5), "starts at 0 and resets to 0.5"),
        (lambda: layer.LinearRecurrentContainer(lif(), 4, 4), "recurrent connections"),
    ],
)
def test_a_neuron_that_no_trace_can_hold_is_refused_by_name(make, why):
    net = nn.Sequential(layer.Linear(4, 4), make(), layer.Linear(4, 3))
    with pytest.raises(ExportError, match=f"^1: .*cannot be exported: .*{why}"):
        export.trace(net, spikes(4), TARGETS, mean_loss, forward=one_by_one)


def test_a_weight_standardising_layer_is_refused(tmp_path):
    net = nn.Sequential(layer.WSConv2d(2, 4, 3), lif(), layer.Flatten(), layer.Linear(64, 3))
    with pytest.raises(ExportError, match=r"^0: WSConv2d: cannot be exported: WSConv2d computes in a way of its own"):
        export.trace(net, spikes(2, 6, 6), TARGETS, mean_loss, forward=one_by_one)


@pytest.mark.parametrize(
    ("norm", "training", "live"),
    [
        (lambda: layer.BatchNorm2d(4), True, True),
        (lambda: layer.BatchNorm2d(4), False, False),
        (lambda: layer.ThresholdDependentBatchNorm2d(1.0, 0.3, 4), True, True),
        (lambda: layer.ThresholdDependentBatchNorm2d(1.0, 0.3, 4), False, False),
        (lambda: layer.TemporalEffectiveBatchNorm2d(T, 4), True, True),
        (lambda: layer.TemporalEffectiveBatchNorm2d(T, 4), False, False),
        (lambda: layer.GroupNorm(2, 4), False, True),
    ],
)
def test_the_librarys_norms_are_recorded_in_training_only(norm, training, live, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), norm(), lif(), layer.Flatten(), layer.Linear(144, 3))
    functional.set_step_mode(net, "m")
    made, _, report = exported(net.train(training), spikes(2, 6, 6), tmp_path / "t.npz")
    assert made.meta["source"]["batch_norm"] is live
    assert ("norm" in made.meta["layers"][0]) is live
    if type(net[1]).__name__ == "ThresholdDependentBatchNorm2d" and not training:
        assert "0: 1 folded into weight and bias" in made.notes
        assert "weight_grad" in quantities(report)["0"]
