"""Values of maps and gradients through them, as `verify` has them, against torch on random networks."""

from __future__ import annotations

import numpy as np
import pytest

from h2sim.trace.derived import Derived
from h2sim.trace.model import Norm
from h2sim.verify.maps import counted, handed_on, made, scales_of
from h2sim.verify.norms import Normal
from tests.helpers.operands import draw, in_torch, made_of

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("seed", range(80))
def test_maps_and_what_they_hand_on(seed, tmp_path):
    """A map's inputs are torch's; its values, and the gradient that it hands to each input, must then be torch's."""
    drawn = draw(seed, steps=8)
    derived, (maps, _) = Derived(drawn.trace(tmp_path)), in_torch(drawn)
    rng, seen = np.random.default_rng(seed), 0
    for layer in derived.meta.layers:
        if not layer.is_map or layer.kind == "relu":  # whose mask is random here, not that of its values
            continue
        seen += 1
        inputs = [maps[name].detach().clone().requires_grad_() for name in layer.inputs]
        if derived.operands[layer.name].kind == "analog":
            sent = [(x.detach().numpy().astype(np.float32), np.zeros(x.shape)) for x in inputs]
            values, slack = made(derived, layer, sent)
        else:
            values, slack = counted(derived, layer.name)
        wanted = maps[layer.name].detach().numpy()
        exact = np.abs(values - wanted)
        assert (exact <= slack + 2.0**-23 * np.abs(wanted) + 1e-30).all()
        here = scales_of(derived.operands[layer.name])
        dy = rng.normal(size=wanted.shape).astype(np.float32)
        y = again(drawn, layer.name, inputs)
        parts = torch.autograd.grad(y, inputs, torch.tensor(dy.astype(float)))
        for number, (name, part) in enumerate(zip(layer.inputs, parts, strict=True)):
            down, slack = handed_on(derived, layer, number, ((dy * here).astype(np.float32), np.zeros(dy.shape)))
            wanted = part.numpy() * scales_of(derived.operands[name])
            assert (np.abs(down - wanted) <= slack + 1e-6 * np.abs(wanted) + 1e-6).all(), layer
    assert seen


def again(drawn, name, inputs):
    """A map in torch, made of these inputs alone."""
    (entry,) = [each for each in drawn.layers if each["name"] == name]
    return made_of(drawn, entry, inputs)


@pytest.mark.parametrize("over", [("T", "N", "H", "W"), ("C", "H", "W")])
def test_a_norm_and_its_gradient(over):
    """What a float32 norm gives lies within the tolerance, and the tolerance is tight."""
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (3, 4, 5, 6, 7)).astype(np.float32)
    weight, bias = rng.normal(size=5).astype(np.float32), rng.normal(size=5).astype(np.float32)
    norm = Normal.of(Norm(over=over), (x, np.zeros(x.shape)), weight)
    y, slack = norm.forward(bias)
    leaf = torch.tensor(x, requires_grad=True)
    axes = tuple("TNCHW".index(axis) for axis in over)
    mean, variance = leaf.mean(axes, keepdim=True), leaf.var(axes, unbiased=False, keepdim=True)
    by_channel = [torch.tensor(v).reshape(-1, 1, 1) for v in (weight, bias)]
    theirs = (leaf - mean) / (variance + 1e-5).sqrt() * by_channel[0] + by_channel[1]
    assert (np.abs(y - theirs.detach().numpy()) <= slack).all()
    assert slack.max() < 1e-3
    dy = rng.normal(size=x.shape).astype(np.float32)
    (wanted,) = torch.autograd.grad(theirs, leaf, torch.tensor(dy))
    dx, slack = norm.backward((dy, np.zeros(x.shape)))
    assert (np.abs(dx - wanted.numpy()) <= slack).all()
    assert slack.max() < 1e-3
