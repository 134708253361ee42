"""Networks as papers' code writes them become traces whose values verify; see tests/helpers/papers.py."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

from h2sim import export
from h2sim.errors import ExportError
from h2sim.export.record import pack_bits
from h2sim.verify.values import Values
from tests.helpers.lively import (
    CURRENT,
    HIDDEN,
    READ_OUT,
    assert_lively,
    layers_of,
    normed,
    pooled,
    rows_of,
)
from tests.helpers.models import Functional, Lif, Loop, exported, mean_loss
from tests.helpers.papers import (
    CifarBn,
    DietVgg,
    LIFSpike,
    MsResNet,
    SeqToANNContainer,
    TdbnNet,
    TetResNet,
    TetVgg,
    tet_loss,
)

STEPS, N = 3, 2
TARGETS = torch.tensor([1, 0])


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def events(*shape, rate=0.3):
    """Spikes (T, N, *shape)."""
    return (random(STEPS, N, *shape) < rate).float()


def louder(model, factor):
    """The model with larger weights of its linear layers, so that untrained neurons behind them spike."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(factor)
    return model


# TET: (N, T, ...)


def test_tet_vgg(tmp_path):
    torch.manual_seed(0)
    inputs = events(2, 12, 12).transpose(0, 1).contiguous()
    made, trace, report = exported(TetVgg(), inputs, tmp_path / "t.npz", tet_loss, TARGETS)
    assert report.unchecked == ()
    convs = [f"features.{n}.fwd.module.0" for n in (0, 1, 3)]
    assert rows_of(report) == {convs[0]: normed(HIDDEN), convs[1]: normed(HIDDEN), convs[2]: normed(HIDDEN),
                               "classifier.1.module": READ_OUT}  # fmt: skip
    assert layers_of(made) == {
        convs[0]: ("conv", ("input",)), convs[1]: ("conv", (convs[0],)), "features.2.module": ("pool~", (convs[1],)),
        convs[2]: ("conv", ("features.2.module",)), "features.2.module-2": ("pool~", (convs[2],)),
        "classifier.0": ("gate", ("features.2.module-2",)), "classifier.1.module": ("fc~", ("classifier.0",)),
    }  # fmt: skip
    assert "the model lays out (N, T, ...): found by the neurons' own spikes" in made.notes
    assert (made.members["input.spikes"] == pack_bits(inputs.transpose(0, 1).numpy() != 0)).all()
    assert_lively(made, trace)


def test_tet_resnet(tmp_path):
    """One stateless neuron module fires at both places of a block; its norm has two names; the sum is in place."""
    torch.manual_seed(0)
    inputs = events(2, 12, 12).transpose(0, 1).contiguous()
    model = louder(TetResNet(), 3)
    made, trace, report = exported(model, inputs, tmp_path / "t.npz", tet_loss, TARGETS)
    assert report.unchecked == ()
    wanted = {"conv1_s.layer.module": normed(HIDDEN), "layer1.1.downsample.layer.module": normed(CURRENT)}
    for block in ("layer1.0", "layer1.1"):
        wanted |= {f"{block}.conv1_s.layer.module": normed(HIDDEN), f"{block}.conv2_s.layer.module": normed(CURRENT),
                   f"{block}.spike-2": pooled(HIDDEN)}  # fmt: skip
    assert rows_of(report) == wanted | {"fc1_s.layer.module": HIDDEN, "fc2_s.layer.module": READ_OUT}
    found = layers_of(made)
    assert found["layer1.0.spike-2"] == ("add", ("layer1.0.conv2_s.layer.module", "conv1_s.layer.module"))
    shortcut = "layer1.1.downsample.layer.module"
    assert found["layer1.1.spike-2"] == ("add", ("layer1.1.conv2_s.layer.module", shortcut))
    assert found["avgpool.layer.module"] == ("pool~", ("layer1.1.spike-2",))
    assert_lively(made, trace)


# tdBN: (N, ..., T)


def test_tdbn(tmp_path):
    """Its norm scales by alpha * Vth; its layers run once more, to see a shape, than there are timesteps."""
    torch.manual_seed(0)
    model = louder(TdbnNet(steps=STEPS), 8)
    made, trace, report = exported(model, random(N, 2, 12, 12), tmp_path / "t.npz", functional.cross_entropy, TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == {
        "conv1_s.layer": normed(HIDDEN), "conv2_s.layer": normed(HIDDEN), "fc1_s.layer": HIDDEN,
        "fc2_s.layer": READ_OUT,
    }  # fmt: skip
    assert list(layers_of(made).values()) == [
        ("encode", ("input",)), ("pool~", ("conv1_s.layer",)), ("conv", ("pool1_s.layer",)),
        ("pool~", ("conv2_s.layer",)), ("fc", ("pool2_s.layer",)), ("fc~", ("fc1_s.layer",)),
    ]  # fmt: skip
    assert "the model lays out (N, ..., T): found by the neurons' own spikes" in made.notes
    assert "conv1_s.layer: 1 of its calls left out: nothing reads what it sent" in made.notes
    assert made.meta["layers"][0]["norm"]["over"] == ["T", "N", "H", "W"]
    assert numpy.allclose(made.members["conv1_s.layer.norm_weight"], 0.5)  # alpha * Vth * 1
    assert_lively(made, trace)


def test_tdbn_in_evaluation_is_folded(tmp_path):
    """A norm of the paper's own by fixed numbers: the values behind it are left out, and that is said."""
    torch.manual_seed(0)
    model = louder(TdbnNet(steps=STEPS), 8).eval()
    made, _, report = exported(model, random(N, 2, 12, 12), tmp_path / "t.npz", functional.cross_entropy, TARGETS)
    assert "norm" not in made.meta["layers"][0]
    assert rows_of(report)["fc1_s.layer"] == HIDDEN
    assert "conv1_s.layer: weight and bias left out: conv1_s.bn is no fixed scale and shift per channel" in made.notes


# DIET-SNN, MS-ResNet, snn_gpu_training_bptt


def test_diet_vgg(tmp_path):
    torch.manual_seed(0)
    model = louder(DietVgg(lambda: Lif(threshold=0.1), steps=STEPS), 4)
    image = random(N, 3, 8, 8)
    made, trace, report = exported(model, image, tmp_path / "t.npz", functional.cross_entropy, TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == dict.fromkeys(("features.0", "features.3", "features.6", "classifier.0"), HIDDEN) | {
        "classifier.3": READ_OUT
    }
    found = layers_of(made)
    assert [kind for kind, _ in found.values()] == [
        "encode", "gate", "conv", "pool~", "conv", "pool~", "fc", "gate", "fc~",
    ]  # fmt: skip
    gates = [name for name, (kind, _) in found.items() if kind == "gate"]
    assert [len(made.members[f"{gate}.kept"]) for gate in gates] == [1, 1]  # one mask for all timesteps
    assert_lively(made, trace)


def test_ms_resnet(tmp_path):
    torch.manual_seed(0)
    image = random(N, 3, 8, 8)
    made, trace, report = exported(
        MsResNet(Lif, steps=STEPS), image, tmp_path / "t.npz", functional.cross_entropy, TARGETS
    )
    assert report.unchecked == ()
    block = "blocks.{}.residual_function.{}"
    wanted = {
        "conv1.0": normed(CURRENT),
        "blocks.1.shortcut.1": normed(CURRENT),
        "neuron": pooled(HIDDEN),
        "fc": READ_OUT,
    }
    for n in (0, 1):
        wanted |= {
            block.format(n, 0): pooled(HIDDEN),
            block.format(n, 1): normed(HIDDEN),
            block.format(n, 4): normed(CURRENT),
        }
    assert rows_of(report) == wanted
    found = layers_of(made)
    total = "blocks.0.residual_function.5.sum"
    assert found[total] == ("add~", ("blocks.0.residual_function.4", "conv1.0"))
    assert found["blocks.1.shortcut.0"] == ("pool~", (total,))  # an average of currents
    assert found["neuron"] == ("add", ("blocks.1.residual_function.4", "blocks.1.shortcut.1"))
    assert_lively(made, trace)


class Projected(nn.Module):
    """A residual block whose shortcut is a convolution of currents, as in every stage of MS-ResNet."""

    def __init__(self):
        super().__init__()
        self.lif, self.conv, self.bn = Lif(), nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.shortcut = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        return self.bn(self.conv(self.lif(x))) + self.shortcut(x)


def test_verifying_many_residual_blocks_of_currents_takes_time_by_their_number(tmp_path, monkeypatch):
    """Each layer was computed again from the input, along all paths: 2 ** 10 of them here."""
    torch.manual_seed(0)
    blocks = [Projected() for _ in range(10)]
    first, last = nn.Conv2d(2, 2, 3, padding=1), (Lif(), nn.Flatten(), nn.Linear(18, 3))
    model = Loop(first, *blocks, *last, timesteps=STEPS)
    calls, current = [], Values.current
    monkeypatch.setattr(Values, "current", lambda self, layer: calls.append(layer.name) or current(self, layer))
    made, _, report = exported(model, events(2, 3, 3), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert rows_of(report)["net.5.shortcut.0"] == normed(CURRENT)
    assert len(calls) <= 8 * len(made.meta["layers"])


class Pooled(nn.Module):
    """A sum of two currents, one of which is averaged over 2 x 2 and then scaled."""

    def __init__(self, behind):
        super().__init__()
        self.first, self.lif = nn.Conv2d(2, 6, 3, padding=1), Lif(threshold=0.1)
        self.left, self.right = nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 1)
        self.behind, self.last, self.fc = behind, Lif(threshold=0.1), nn.Linear(216, 3)

    def forward(self, x):
        outs = []
        for now in x:
            spikes = self.lif(self.first(now))
            total = self.left(spikes) + self.behind(functional.avg_pool2d(self.right(spikes), 2))
            outs.append(self.fc(self.last(total).flatten(1)))
        return torch.stack(outs)


def a_fixed_norm(channels):
    """Batch norm in evaluation, with statistics and weights of its own."""
    norm = nn.BatchNorm2d(channels).eval()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.2, 0.2)
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize("behind", [lambda: a_fixed_norm(6), lambda: Functional(lambda x: x * 0.5)])
def test_what_stands_behind_an_average_of_currents_is_in_the_weights(behind, tmp_path):
    torch.manual_seed(0)
    made, trace, report = exported(Pooled(behind()), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == {
        "first": HIDDEN, "left": CURRENT, "right": CURRENT, "last": HIDDEN - {"weight_grad"}, "fc": READ_OUT
    }  # fmt: skip
    assert layers_of(made)["last"] == ("add", ("left", "right.avg_pool"))
    assert_lively(made, trace)


def test_cifar_bn(tmp_path):
    """The chapter's own network: each product reads norm and neuron, and the last one their mean over time."""
    torch.manual_seed(0)
    image = random(N, 3, 8, 8)
    made, trace, report = exported(CifarBn(STEPS), image, tmp_path / "t.npz", functional.cross_entropy, TARGETS)
    assert report.unchecked == ()
    hidden = ("convs.0", "convs.1", "convs.2", "fcs.0", "fcs.1")
    assert rows_of(report) == dict.fromkeys(hidden, normed(HIDDEN)) | {"fc_out": READ_OUT}
    assert [kind for kind, _ in layers_of(made).values()] == ["encode", "conv", "conv", "fc", "fc", "fc~"]
    assert made.meta["layers"][-1]["mean_over_time"] is True
    assert trace.meta.neuron.fires_at == "greater"
    assert_lively(made, trace)


# what stands between layers, in torch's own words


def net(*between, channels=6, size=10, norm=True):
    """conv - norm - neuron - what stands between - fc, over (T, N, 2, 12, 12)."""
    torch.manual_seed(0)
    first = [nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6) if norm else nn.Identity(), Lif(threshold=0.2)]
    return Loop(*first, *between, nn.Flatten(), nn.Linear(channels * size * size, 3), timesteps=STEPS)


FIRST = {"net.0": normed(HIDDEN)}
READS = {
    "global average": (lambda: net(Functional(lambda x: functional.adaptive_avg_pool2d(x, 1)), size=1), "pool~"),
    "average as a mean": (lambda: net(Functional(lambda x: x.mean([2, 3])), size=1), "pool~"),
    "average of a view": (lambda: net(Functional(lambda x: x.view(*x.shape[:2], -1).mean(-1)), size=1), "pool~"),
    "adaptive, uneven": (lambda: net(nn.AdaptiveAvgPool2d(3), size=3), "pool~"),
    "ceil_mode that rounds nothing": (lambda: net(nn.MaxPool2d(2, ceil_mode=True), size=5), "max pool~"),
    "ceil_mode that rounds": (lambda: net(nn.MaxPool2d(3, 2, ceil_mode=True), size=5), "max pool~"),
    "average by ceil_mode": (lambda: net(nn.AvgPool2d(3, 2, ceil_mode=True), size=5), "pool~"),
    "average with padding": (lambda: net(nn.AvgPool2d(3, 2, 1, count_include_pad=False), size=5), "pool~"),
    "sum": (lambda: net(nn.AvgPool2d(2, divisor_override=1), size=5), "sum pool~"),
    "a divisor": (lambda: net(nn.AvgPool2d(2, divisor_override=3), size=5), "pool~"),
    "F.max_pool2d": (lambda: net(Functional(lambda x: functional.max_pool2d(x, 3, 2, 1)), size=5), "max pool~"),
    "a factor": (lambda: net(Functional(lambda x: 0.25 * x)), "gate"),
    "a quotient": (lambda: net(Functional(lambda x: x / 4)), "gate"),
    "relu": (lambda: net(nn.ReLU()), "gate"),
    "a factor of a gate": (lambda: net(nn.ReLU(), Functional(lambda x: x / 4)), "gate"),
    "a factor of a factor": (lambda: net(Functional(lambda x: x * 0.5), Functional(lambda x: x / 2)), "gate"),
    "sum over positions": (lambda: net(Functional(lambda x: x.sum((2, 3))), size=1), "sum pool~"),
    "enlarged": (lambda: net(nn.Upsample(scale_factor=2), size=20), "upsample"),
}


@pytest.mark.parametrize("name", READS)
def test_what_a_product_reads(name, tmp_path):
    make, kind = READS[name]
    made, trace, report = exported(make(), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    _, between, fc = made.meta["layers"]
    assert layers_of(made)[between["name"]] == (kind, ("net.0",))
    assert between.get("ceil_mode", False) is (name in ("ceil_mode that rounds", "average by ceil_mode"))
    assert rows_of(report) == {"net.0": normed(HIDDEN), fc["name"]: READ_OUT}
    if kind == "gate":
        assert between["scale"] == ([1, 1] if name == "relu" else [1, 4])
    assert_lively(made, trace)


def test_relu_of_spikes_passes_no_gradient_where_nothing_spiked(tmp_path):
    """It is a gate, not a `relu` of analog values: the product behind it still reads spikes."""
    made, _, _ = exported(net(nn.ReLU()), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    gate = made.meta["layers"][1]["name"]
    assert (made.members[f"{gate}.kept"] == made.members["net.0.spikes"]).all()


DRIVES = {
    "a factor": ((Functional(lambda x: x * 0.5),), "a factor of the weights"),
    "a quotient": ((Functional(lambda x: x / 2),), "a factor of the weights"),
    "a factor behind a norm": ((nn.BatchNorm2d(6), Functional(lambda x: x * 0.5)), "a factor of the norm"),
    "a factor, then a norm": ((Functional(lambda x: x * 0.5), nn.BatchNorm2d(6)), "a factor of the weights"),
}


@pytest.mark.parametrize("name", DRIVES)
def test_a_constant_factor_into_a_neuron(name, tmp_path):
    torch.manual_seed(0)
    between, where = DRIVES[name]
    model = Loop(nn.Conv2d(2, 6, 3), *between, Lif(threshold=0.1), nn.Flatten(), nn.Linear(600, 3), timesteps=STEPS)
    made, trace, report = exported(model, events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    fc = made.meta["layers"][-1]
    assert rows_of(report) == {"net.0": HIDDEN if len(between) == 1 else normed(HIDDEN), fc["name"]: READ_OUT}
    weight = made.members["net.0.weight"]
    own = model.net[0].weight.detach().numpy()
    assert numpy.array_equal(weight, own * (0.5 if where == "a factor of the weights" else 1))
    if where == "a factor of the norm":
        assert numpy.allclose(made.members["net.0.norm_weight"], 0.5)
    assert_lively(made, trace)


class Branches(nn.Module):
    """Two products of the same spikes, each with a mask of its own, drawn by a function."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lif = nn.Conv2d(2, 6, 3), Lif(threshold=0.1)
        self.left, self.right = nn.Linear(600, 3), nn.Linear(600, 3)

    def forward(self, x):
        outs = []
        for now in x:
            spikes = self.lif(self.conv(now))
            left = self.left(functional.dropout(spikes, 0.25).flatten(1))
            outs.append(left + self.right(functional.dropout(spikes.flatten(1), 0.25)))
        return torch.stack(outs)


def test_two_masks_of_the_same_spikes_are_two_gates(tmp_path):
    made, trace, report = exported(Branches(), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == {"conv": HIDDEN, "left": READ_OUT, "right": READ_OUT}
    assert layers_of(made) == {
        "conv": ("conv", ("input",)), "lif.dropout": ("gate", ("conv",)), "left": ("fc~", ("lif.dropout",)),
        "lif.dropout-2": ("gate", ("conv",)), "right": ("fc~", ("lif.dropout-2",)),
    }  # fmt: skip
    first, second = (made.members[f"lif.dropout{end}.kept"] for end in ("", "-2"))
    assert first.shape == second.shape
    assert len(first) == STEPS
    assert (first != second).any()
    assert_lively(made, trace)


class Averaged(nn.Module):
    """conv - norm - neuron, each timestep on its own; the last product reads what `head` makes of all their spikes."""

    def __init__(self, head, features, drop=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.lif = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), Lif(threshold=0.2)
        self.drop, self.head, self.fc = nn.Dropout(drop), head, nn.Linear(features, 3)

    def forward(self, x):
        spikes = torch.stack([self.drop(self.lif(self.bn(self.conv(now)))) for now in x])
        return self.fc(self.head(spikes).flatten(1))


MEANS = {
    "mean": (lambda x: x.mean(0), 600, []),
    "sum": (lambda x: x.sum(0), 600, [("gate", [STEPS, 1])]),
    "sum over steps": (lambda x: x.sum(0) / STEPS, 600, []),
    "mean, then pool": (lambda x: functional.avg_pool2d(x.mean(0), 2), 150, [("pool", None)]),
    "pool, then mean": (lambda x: functional.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, (STEPS, N)).mean(0), 150,
                        [("pool", None)]),
    "maximum, then mean": (
        lambda x: functional.max_pool2d(x.flatten(0, 1), 2).unflatten(0, (STEPS, N)).mean(0), 150, [("pool", None)],
    ),
    "mean over space too": (lambda x: x.mean((0, 3, 4)), 6, [("pool", None)]),
    "sum over space too": (lambda x: x.sum((0, 3, 4)), 6, [("pool", None), ("gate", [STEPS, 1])]),
    "mean, then dropout": (lambda x: functional.dropout(x.mean(0), 0.25), 600, [("gate", [4, 3])]),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_over_time_in_front_of_the_last_product(name, tmp_path):
    head, features, between = MEANS[name]
    made, trace, report = exported(Averaged(head, features), events(2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == {"conv": normed(HIDDEN), "fc": READ_OUT}
    first, *maps, last = made.meta["layers"]
    assert [(entry["kind"], entry.get("scale")) for entry in maps] == between
    assert (first["kind"], last["kind"], last["mean_over_time"]) == ("conv", "fc", True)
    assert_lively(made, trace)


def test_a_maximum_of_means_is_not_the_mean_of_maxima():
    model = Averaged(lambda x: functional.max_pool2d(x.mean(0), 2), 150)
    wanted = (
        "mean over time: expected in front of the last product alone; got one in front of lif.mean_over_time.max_pool"
    )
    with pytest.raises(ExportError, match=wanted):
        export.trace(model, events(2, 12, 12), TARGETS, mean_loss)


def test_a_mean_over_time_of_what_each_timestep_drops_is_refused():
    """A trace has one mask for all timesteps there."""
    model = Averaged(lambda x: x.mean(0), 600, drop=0.25)
    why = "^drop: gate: expected one mask for all timesteps in front of a mean over time; got one for each of 3 "
    with pytest.raises(ExportError, match=why):
        export.trace(model, events(2, 12, 12), TARGETS, mean_loss)


class Static(nn.Module):
    """An image through convolution and norm once, then `between` and a neuron for each timestep."""

    def __init__(self, between, features=600, norm=True):
        super().__init__()
        torch.manual_seed(0)
        self.static_conv = nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6) if norm else nn.Identity())
        self.between, self.lif, self.fc = between, Lif(threshold=0.2), nn.Linear(features, 3)

    def forward(self, x):
        current = self.between(self.static_conv(x))
        return torch.stack([self.fc(self.lif(current).flatten(1)) for _ in range(STEPS)])


STATIC = {
    "alone": (lambda: Static(nn.Identity()), {"static_conv.0": normed(HIDDEN)}),
    "without norm": (lambda: Static(nn.Identity(), norm=False), {"static_conv.0": HIDDEN}),
    "and a factor": (lambda: Static(Functional(lambda x: 2 * x)), {"static_conv.0": normed(HIDDEN)}),
    "and a maximum": (
        lambda: Static(nn.MaxPool2d(2), 150), {"static_conv.0": normed(CURRENT), "between": pooled(HIDDEN)},
    ),
    "and relu": (lambda: Static(nn.ReLU()), {"static_conv.0": normed(CURRENT), "lif": pooled(HIDDEN)}),
}  # fmt: skip


@pytest.mark.parametrize("name", STATIC)
def test_an_image_that_is_convolved_and_normed_once(name, tmp_path):
    """The gradient of each timestep follows from the neurons'; torch only knows their sum, and both agree."""
    make, rows = STATIC[name]
    made, trace, report = exported(make(), random(N, 2, 12, 12), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert rows_of(report) == rows | {"fc": READ_OUT}
    assert made.meta["layers"][0]["kind"] == "encode"
    assert_lively(made, trace)


def test_the_gradients_of_a_static_current_sum_to_that_of_its_one_call(tmp_path):
    model, image = Static(nn.Identity()), random(N, 2, 12, 12)
    made, _, _ = exported(model, image, tmp_path / "t.npz", targets=TARGETS)
    model.lif.reset_mem()
    current = model.static_conv[0](image)
    kept, model.static_conv[0] = model.static_conv[0], nn.Identity()
    (wanted,) = torch.autograd.grad(mean_loss(model(current), TARGETS), current)
    model.static_conv[0] = kept
    total = made.members["static_conv.0.grad_current"].sum(0)
    assert numpy.abs(total - wanted.numpy()).max() <= 1e-6 * float(wanted.abs().max())


def test_separable_convolutions(tmp_path):
    """MobileNet's: depthwise and pointwise, each with a norm."""
    torch.manual_seed(0)
    model = Loop(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), Lif(), nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
        nn.BatchNorm2d(6), nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8), Lif(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8), Lif(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3), timesteps=STEPS,
    )  # fmt: skip
    made, trace, report = exported(model, events(2, 8, 8), tmp_path / "t.npz", targets=TARGETS)
    assert report.unchecked == ()
    assert [layer.get("groups", 1) for layer in made.meta["layers"]] == [1, 6, 1, 4, 1, 1]
    assert rows_of(report) == {
        "net.0": normed(HIDDEN), "net.3": normed(CURRENT), "net.5": normed(HIDDEN), "net.8": normed(HIDDEN),
        "net.13": READ_OUT,
    }  # fmt: skip
    assert_lively(made, trace)


# torch.compile


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own doings
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("part", ["whole", "inside"])
def test_a_compiled_model_gives_its_own_trace(backend, part, tmp_path):
    def model():
        return net(nn.MaxPool2d(2), size=5)

    inputs = events(2, 12, 12)
    wanted = export.trace(model(), inputs, TARGETS, mean_loss)
    compiled = model()
    if part == "whole":
        compiled = torch.compile(compiled, backend=backend)
    else:
        compiled.net = torch.compile(compiled.net, backend=backend)
    inner = getattr(compiled, "_orig_mod", compiled)
    state = {name: value.clone() for name, value in inner.state_dict().items()}
    for neuron in (each for each in inner.modules() if isinstance(each, Lif)):
        neuron.reset_mem()
    mean_loss(compiled(inputs), TARGETS).backward()  # it has run once
    inner.load_state_dict(state)
    for neuron in (each for each in inner.modules() if isinstance(each, Lif)):
        neuron.reset_mem()
    made, trace, report = exported(compiled, inputs, tmp_path / "t.npz", targets=TARGETS)
    assert made.meta == wanted.meta
    assert made.members.keys() == wanted.members.keys()
    for name, member in wanted.members.items():
        assert numpy.array_equal(made.members[name], member), name
    assert report.unchecked == ()
    assert_lively(made, trace)


# what is refused


class Learnt(nn.Module):
    """x times a parameter."""

    def __init__(self, *shape):
        super().__init__()
        self.scale = nn.Parameter(torch.full(shape, 0.5))

    def forward(self, x):
        return x * self.scale


class Recurrent(nn.Module):
    """A product that reads the spikes of the timestep before."""

    def __init__(self):
        super().__init__()
        self.fc, self.back, self.lif, self.last = nn.Linear(20, 8), nn.Linear(8, 8), Lif(), nn.Linear(8, 3)

    def forward(self, x):
        before = torch.zeros(x.shape[1], 8)
        outs = []
        for now in x:
            before = self.lif(self.fc(now) + self.back(before))
            outs.append(self.last(before))
        return torch.stack(outs)


class Leaves(nn.Module):
    """A neuron of one's own without h2sim_neuron."""

    def forward(self, x):
        return torch.sigmoid(x)


REFUSED = {
    "recurrence": (Recurrent, (20,), r"back: reads: expected the same layers at every timestep .*"),
    "unknown neuron": (
        lambda: net(nn.Conv2d(6, 6, 1), Leaves()), (2, 12, 12), r"net\.6: reads: .*the operation Sigmoid",
    ),
    "transposed": (
        lambda: net(nn.ConvTranspose2d(6, 6, 3), size=12), (2, 12, 12),
        r"net\.3: ConvTranspose2d: cannot be exported: .* \(enlarge with nn.Upsample instead\)",
    ),
    "dilated": (
        lambda: net(nn.Conv2d(6, 6, 3, dilation=2), size=6), (2, 12, 12),
        r"net\.3: Conv2d: cannot be exported: dilation \(2, 2\); .* \(set dilation=1\)",
    ),
    "1 - spikes": (
        lambda: net(Functional(lambda x: 1 - x)), (2, 12, 12), r"net\.2\.not: map: expected spikes.*; got 1 - spikes",
    ),
    "sum over channels": (
        lambda: net(Functional(lambda x: x.sum(1)), size=10, channels=1), (2, 12, 12),
        r"net\.5: reads: .*a sum over C of ",
    ),
    "learned scale": (lambda: net(Learnt(1)), (2, 12, 12), r"net\.3\.scale: weights of Learnt: .*the operation [Mm]ul"),
    "learned scale of channels": (
        lambda: net(Learnt(6, 1, 1)), (2, 12, 12), r"net\.3\.scale: weights of Learnt: .*the operation [Mm]ul",
    ),
    "product of activations": (
        lambda: net(Functional(lambda x: x * x.mean((2, 3), keepdim=True))), (2, 12, 12),
        r"net\.5: reads: .*a product of ",
    ),
    "softmax": (
        lambda: net(Functional(lambda x: x.softmax(1))), (2, 12, 12), r"net\.5: reads: .*Softmax.*attention is planned",
    ),
    "other timesteps": (
        lambda: nn.Sequential(SeqToANNContainer(nn.Conv2d(2, 6, 3)), LIFSpike(), Functional(lambda x: x.roll(1, 1)),
                              SeqToANNContainer(nn.Flatten(), nn.Linear(600, 3))),
        (2, 12, 12), r"3\.module\.1: reads: .*",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_in_one_line(name):
    make, shape, why = REFUSED[name]
    torch.manual_seed(0)
    inputs = events(*shape)
    if name == "other timesteps":
        inputs = inputs.transpose(0, 1).contiguous()
    with pytest.raises(ExportError, match=f"^{why}") as caught:
        export.trace(make(), inputs, TARGETS, tet_loss if name == "other timesteps" else mean_loss)
    assert "\n" not in str(caught.value)
