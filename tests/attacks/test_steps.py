"""One step of the spike-compatible attack: cases by hand, the source authors' own steps, and what always holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from h2sim.attacks import steps  # noqa: E402
from h2sim.attacks.networks import OwnNetwork  # noqa: E402
from h2sim.trace import parse_notation  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from h2sim.train.objective import Objective  # noqa: E402

DATA = Path(__file__).parents[1] / "data" / "spike-steps.npz"


def rows(*values):
    """(T, N = 1, pixels) in float64."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def test_a_gradient_becomes_spikes_by_hand():
    spikes = rows([0, 1, 1], [1, 0, 0])
    gradient, uniform = rows([0.4, -0.2, 0.1], [0, -0.8, 0.05]), rows([0.6, 0.2, 0.1], [0, 0.9, 0.5])
    assert float(steps.largest_of(gradient.abs())) == 0.8
    ternary = steps.sampled(gradient, uniform)
    assert ternary[:, 0].tolist() == [[0, -1, 1], [0, -1, 0]]  # no gradient is no step, whatever was drawn
    d = steps.fitted(ternary, spikes)
    assert d[:, 0].tolist() == [[0, -1, 0], [0, 0, 0]]
    assert torch.equal(steps.step(gradient, spikes, 0.05, uniform), d)
    assert (spikes + d)[:, 0].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert d.mean(0)[0].tolist() == [0, -0.5, 0]
    assert steps.step(gradient, spikes, 0.05, uniform, sampling=False)[:, 0].tolist() == [[1, -1, 0], [0, 0, 1]]


def test_without_a_gradient_spikes_flip_by_hand():
    spikes, uniform = rows([0, 1, 1], [1, 0, 0]), rows([0.01, 0.9, 0.04], [0.5, 0.02, 0.051])
    d = steps.flipped(spikes, 0.05, uniform)
    assert d[:, 0].tolist() == [[1, 0, -1], [0, 1, 0]]
    assert (spikes + d)[:, 0].tolist() == [[1, 1, 0], [1, 1, 0]]
    assert torch.equal(steps.step(torch.zeros_like(spikes), spikes, 0.05, uniform), d)


def test_a_picture_moves_by_hand():
    own, image = torch.tensor([[0.2, 0.9, 0.5]]), torch.tensor([[0.4, 1.0, 0.5]])
    d = torch.tensor([[[0.0, -1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    torch.testing.assert_close(steps.moved(image, own, d, 0.05), torch.tensor([[0.38, 0.49, 0.5]]))
    torch.testing.assert_close(steps.moved(image, own, d, 0.1), torch.tensor([[0.36, 0.48, 0.5]]))
    torch.testing.assert_close(steps.moved(image, own, d, 0.1, factor=1), torch.tensor([[0.38, 0.49, 0.5]]))


def test_distances_by_hand():
    found = steps.norms(torch.tensor([[0.2, 0.5, 0.5]]), torch.tensor([[0.2, 0.9, 0.5]]))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"perturbation": 0.0533333333, "l2_over_n": 0.1333333333, "l2": 0.4, "linf": 0.4, "l0_over_n": 1 / 3}, rel=1e-6
    )


@pytest.mark.parametrize("key", ["0.0.3", "1.1.0", "2.1.0"])
def test_the_step_is_that_of_the_source_authors(key):
    """spike-steps.npz: spikes, gradients and random numbers of their functions on a narrowed network, and what came."""
    held = np.load(DATA)
    spikes = torch.from_numpy(np.unpackbits(held[f"{key}.spikes"], axis=-1)[..., :784].astype(np.float32))
    gradient, uniform = (torch.from_numpy(held[f"{key}.{name}"]).float() for name in ("grad", "uniform"))
    spikes, gradient, uniform = (each.view(15, 1, 28, 28) for each in (spikes, gradient, uniform))
    d = steps.step(gradient, spikes, 0.05, uniform)
    after = np.unpackbits(held[f"{key}.after"], axis=-1)[..., :784]
    assert np.array_equal((spikes + d).view(15, 784).numpy(), after)
    own = torch.from_numpy(held["images"][int(key[0])])
    image = torch.from_numpy(held[f"{key}.image_after"][0])
    torch.testing.assert_close(steps.moved(own, own, d), image, rtol=0, atol=1e-7)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6))


@given(shapes, st.integers(0, 2**31), st.floats(0, 1), st.booleans())
def test_what_always_holds(shape, seed, gamma, sampling):
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(shape, generator=generator) < 0.5).float()
    gradient = torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.6)
    gradient[:, 0] *= float(seed % 2)
    uniform = torch.rand(shape, generator=generator)
    d = steps.step(gradient, spikes, gamma, uniform, sampling=sampling)
    assert bool(((spikes + d == 0) | (spikes + d == 1)).all())
    for n in range(shape[1]):
        parts = [each[:, n : n + 1] for each in (gradient, spikes, uniform)]
        alone = steps.step(parts[0], parts[1], gamma, parts[2], sampling=sampling)
        assert torch.equal(alone, d[:, n : n + 1])
        own = gradient[:, n]
        if bool((own != 0).any()):
            assert bool((d[:, n][own == 0] == 0).all())
            kept = steps.sampled(gradient, uniform)[:, n]
            largest = own.abs() == own.abs().max()
            assert torch.equal(kept[largest], own.sign()[largest])
            assert bool((d[:, n] * own >= 0).all())
    own = torch.rand(shape[1:], generator=generator)
    image = steps.moved(own, own, d, 0.1)
    assert bool(((image >= 0) & (image <= 1)).all())


@pytest.mark.parametrize(("key", "threshold"), [("0.0.3", None), ("1.1.0", 1.0), ("2.1.0", 1.0)])
def test_a_whole_iteration_is_that_of_the_source_authors(key, threshold):
    """Their weights in the product's network: outputs with both thresholds, and the gradient of the spikes."""
    held, of_network = np.load(DATA), np.load(DATA.with_name("spike-network.npz"))
    layers = parse_notation("8C3-16C3-AP2-32C3-AP2-64C3-32C3-64FC-32FC-10FC", (1, 28, 28))
    neuron = Neuron(0.3, 0.25, window=(-0.2, 0.8), fires_at="greater")
    network = SpikingNetwork(layers, neuron, torch.Generator())
    with torch.no_grad():
        for name, layer in network.described.items():
            if layer.has_weights:
                network.weights[name].copy_(torch.from_numpy(of_network[f"w.{name}.weight"]))
                network.biases[name].copy_(torch.from_numpy(of_network[f"w.{name}.bias"]))
    run = SimpleNamespace(network=network, settings=SimpleNamespace(objective=Objective(readout="rate")))
    attacked = OwnNetwork(run, threshold)
    packed = np.unpackbits(held[f"{key}.spikes"], axis=-1)[..., :784]
    spikes = torch.from_numpy(packed.astype(np.float32)).view(15, 1, 1, 28, 28)
    label = torch.from_numpy(of_network["labels"])[int(key[0])].view(1)
    with attacked.evaluated(tuned=True), torch.no_grad():
        crafting = network(spikes, 15).mean(0)
    gradient, _ = attacked.gradient(spikes, label)
    assert np.array_equal(attacked.scores(spikes).numpy(), of_network[f"{key}.out_origin"])
    assert np.array_equal(crafting.numpy(), of_network[f"{key}.out_attack"])
    theirs = torch.from_numpy(held[f"{key}.grad"]).view(15, 1, 1, 28, 28)
    torch.testing.assert_close(gradient, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))
