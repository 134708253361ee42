"""A trace's members are what torch itself gives, computed here without the exporter: every tensor is named and kept."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

from h2sim import export
from tests.helpers.models import fire_rectangle

T, N, CLASSES = 3, 2, 3
TARGETS = torch.tensor([1, 0])
DECAY, THRESHOLD = 0.5, 0.2
EPS = 1e-5


class Lif(nn.Module):
    """m = 0.5 m (1 - s) + x over (T, N, ...)."""

    def forward(self, x):
        m = s = torch.zeros_like(x[0])
        out = []
        for now in x:
            m = DECAY * m * (1 - s) + now
            s = fire_rectangle(m - THRESHOLD)
            out.append(s)
        return torch.stack(out)

    def h2sim_neuron(self):
        return export.NeuronSpec(
            decay=DECAY, threshold=THRESHOLD, fire=fire_rectangle, multi_step=True, time_axis=0, surrogate="rectangle"
        )


class Net(nn.Module):
    """conv - norm - neuron - maximum - dropout - conv - maximum of currents - neuron - fc, over (T, N, 2, 8, 8)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn, self.lif1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), Lif()
        self.pool1, self.drop = nn.MaxPool2d(2), nn.Dropout(0.25)
        self.conv2, self.pool2, self.lif2 = nn.Conv2d(4, 5, 3, padding=1), nn.MaxPool2d(2), Lif()
        self.fc = nn.Linear(5 * 2 * 2, CLASSES)

    def forward(self, x):
        s1 = self.lif1(self.bn(self.conv1(x.flatten(0, 1))).unflatten(0, (T, N)))
        x2 = self.pool2(self.conv2(self.drop(self.pool1(s1.flatten(0, 1)))))
        s2 = self.lif2(x2.unflatten(0, (T, N)))
        return self.fc(s2.flatten(2))


def by_hand(net, x, mask):
    """The same step from torch's functions alone; the gradient of every tensor by autograd.grad. Flat: (T * N, ...)."""
    weight, bias = net.bn.weight, net.bn.bias
    x1 = functional.conv2d(x.flatten(0, 1), net.conv1.weight, None, padding=1)
    mean, var = x1.mean((0, 2, 3), keepdim=True), x1.var((0, 2, 3), unbiased=False, keepdim=True)
    y1 = weight.view(-1, 1, 1) * (x1 - mean) / (var + EPS).sqrt() + bias.view(-1, 1, 1)
    y1_steps = y1.unflatten(0, (T, N))
    s1, m1 = fired(y1_steps)
    p1 = functional.max_pool2d(s1.flatten(0, 1), 2)
    d1 = p1 * mask * (4 / 3)
    c2 = functional.conv2d(d1, net.conv2.weight, net.conv2.bias, padding=1)
    x2, places = functional.max_pool2d(c2, 2, return_indices=True)
    x2_steps = x2.unflatten(0, (T, N))
    s2, m2 = fired(x2_steps)
    out = functional.linear(s2.flatten(2), net.fc.weight, net.fc.bias)
    loss = functional.cross_entropy(out.mean(0), TARGETS)
    named = {"x1": x1, "y1": y1_steps, "c2": c2, "x2": x2_steps, "out": out, "w1": net.conv1.weight,
             "w2": net.conv2.weight, "w3": net.fc.weight}  # fmt: skip
    grads = dict(zip(named, torch.autograd.grad(loss, tuple(named.values())), strict=True))
    return {"loss": loss, "s1": s1, "m1": m1, "s2": s2, "m2": m2, "places": places, **named}, grads


def fired(x):
    """Spikes and membranes of currents (T, N, ...)."""
    m = s = torch.zeros_like(x[0])
    spikes, membranes = [], []
    for now in x:
        m = DECAY * m * (1 - s) + now
        s = fire_rectangle(m - THRESHOLD)
        spikes.append(s)
        membranes.append(m)
    return torch.stack(spikes), torch.stack(membranes)


def network():
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        net.bn.weight.uniform_(0.5, 1.5)
        net.bn.bias.uniform_(-0.2, 0.4)
        net.conv2.weight.mul_(2)
    return net


@pytest.fixture(scope="module")
def both():
    """The export's members, and the same by hand: values and gradients."""
    x = (torch.rand(T, N, 2, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    net = network()
    torch.manual_seed(7)
    made = export.trace(net, x, TARGETS, lambda out, y: functional.cross_entropy(out.mean(0), y))
    torch.manual_seed(7)
    mask = functional.dropout(torch.ones(T * N, 4, 4, 4), 0.25, training=True) != 0  # the draw of the step
    values, grads = by_hand(network(), x, mask)
    return made, mask, values, grads


def bits(made, member, *shape):
    """A packed mask, (T, N, *shape)."""
    packed = made.members[member]
    flat = numpy.unpackbits(packed, axis=2)[..., : int(numpy.prod(shape))]
    return flat.reshape(len(packed), N, *shape).astype(bool)


def steps(x):
    """(T * N, ...) or (T, N, ...) as an array (T, N, ...)."""
    x = x.detach()
    return (x if x.shape[:2] == (T, N) else x.unflatten(0, (T, N))).numpy()


def near(ours, theirs):
    """Equal but for rounding; not all 0."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    assert (theirs != 0).any()
    assert ours.shape == theirs.shape
    assert numpy.abs(ours - theirs).max() <= 1e-5 * numpy.abs(theirs).max()


def test_the_loss_and_the_layers(both):
    made, _, values, _ = both
    assert made.meta["source"]["loss_value"] == pytest.approx(float(values["loss"].detach()), rel=1e-6)
    assert [(layer["name"], layer["kind"]) for layer in made.meta["layers"]] == [
        ("conv1", "conv"), ("pool1", "pool"), ("drop", "gate"), ("conv2", "conv"), ("pool2", "pool"), ("fc", "fc"),
    ]  # fmt: skip
    assert set(made.members) == {
        "input.spikes", "drop.kept", "pool2.route",
        *(f"conv1.{m}" for m in ("spikes", "window", "grad", "membrane", "grad_membrane", "weight", "weight_grad",
                                 "current", "grad_current", "norm_weight", "norm_bias")),
        *(f"conv2.{m}" for m in ("grad", "membrane", "grad_membrane", "weight", "bias", "weight_grad")),
        *(f"pool2.{m}" for m in ("spikes", "window", "grad", "membrane", "grad_membrane")),
        *(f"fc.{m}" for m in ("grad", "membrane", "grad_membrane", "weight", "bias", "weight_grad")),
    }  # fmt: skip


def test_spikes_windows_and_membranes(both):
    made, _, values, _ = both
    for layer, s, m, shape in (("conv1", "s1", "m1", (4, 8, 8)), ("pool2", "s2", "m2", (5, 2, 2))):
        spikes, membrane = steps(values[s]) != 0, steps(values[m])
        assert 0 < spikes.mean() < 1
        assert (bits(made, f"{layer}.spikes", *shape) == spikes).all()
        assert (bits(made, f"{layer}.window", *shape) == (numpy.abs(membrane - THRESHOLD) < 0.5)).all()
        near(made.members[f"{layer}.membrane"], membrane)


def test_the_norm(both):
    made, _, values, grads = both
    net = network()
    near(made.members["conv1.current"], steps(values["x1"]))
    near(made.members["conv1.grad_current"], steps(grads["x1"]))
    near(made.members["conv1.grad_membrane"], steps(grads["y1"]))
    assert numpy.array_equal(made.members["conv1.norm_weight"], net.bn.weight.detach().numpy())
    assert numpy.array_equal(made.members["conv1.norm_bias"], net.bn.bias.detach().numpy())
    mask = bits(made, "conv1.grad", 4, 8, 8)
    assert mask.mean() > 0.99  # dL/dx is dense,
    assert (steps(grads["y1"]) != 0).mean() < 0.9  # dm is not
    large = numpy.abs(steps(grads["x1"])) > 1e-6 * numpy.abs(steps(grads["x1"])).max()
    assert mask[large].all()


def test_what_dropout_kept(both):
    made, mask, _, _ = both
    assert made.meta["layers"][2]["scale"] == [4, 3]
    assert (bits(made, "drop.kept", 4, 4, 4) == steps(mask)).all()
    assert 0.6 < steps(mask).mean() < 0.9


def test_currents_and_where_their_maxima_come_from(both):
    made, _, values, grads = both
    near(made.members["conv2.membrane"], steps(values["c2"]))
    near(made.members["conv2.grad_membrane"], steps(grads["c2"]))
    assert (bits(made, "conv2.grad", 5, 4, 4) == (steps(grads["c2"]) != 0)).all()
    near(made.members["pool2.grad_membrane"], steps(grads["x2"]))
    assert (bits(made, "pool2.grad", 5, 2, 2) == (steps(grads["x2"]) != 0)).all()
    places = steps(values["places"])  # in a map of 4 x 4, by windows of 2 x 2
    row, column = places // 4, places % 4
    assert (made.members["pool2.route"] == (row % 2) * 2 + column % 2).all()
    assert len(numpy.unique(made.members["pool2.route"])) == 4


def test_the_read_out_and_all_weights(both):
    made, _, values, grads = both
    near(made.members["fc.membrane"], steps(values["out"]))
    near(made.members["fc.grad_membrane"], steps(grads["out"]))
    net = network()
    for layer, module, gradient in (("conv1", net.conv1, "w1"), ("conv2", net.conv2, "w2"), ("fc", net.fc, "w3")):
        assert numpy.array_equal(made.members[f"{layer}.weight"], module.weight.detach().numpy())
        near(made.members[f"{layer}.weight_grad"], grads[gradient])
