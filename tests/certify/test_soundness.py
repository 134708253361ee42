"""Bounds against everything that networks can do: all corners of small ones, random corners of large ones."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from h2sim.attacks.gradient_sign import Attack, attacked  # noqa: E402
from h2sim.certify import bounds  # noqa: E402
from h2sim.certify.boundary import image_spikes, pixels  # noqa: E402
from h2sim.train.objective import Objective  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from tests.certify.nets import draw, families  # noqa: E402
from tests.certify.soundness import (  # noqa: E402
    LARGE,
    faults,
    faults_of_large,
    faults_within,
    large,
    unlike_the_plain_one,
)

NETS, PART = 1200, 100


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other on tensors this small take ten times as long."""
    with torch_session(1):
        yield


@pytest.mark.parametrize("first", range(0, NETS, PART))
def test_every_corner_of_small_networks_lies_within_the_bounds(first):
    wrong = {seed: found for seed in range(first, first + PART) if (found := faults(draw(seed), seed))}
    assert wrong == {}


@pytest.mark.parametrize("seed", range(40))
def test_every_corner_of_twelve_open_inputs(seed):
    assert faults(draw(10_000 + seed, most_open=12), seed) == []


def test_bounds_are_those_of_the_plain_ones():
    wrong = {seed: found for seed in range(0, NETS, 5) if (found := unlike_the_plain_one(draw(seed)))}
    assert wrong == {}


def test_the_networks_that_are_tried_are_of_every_kind():
    seen = [draw(seed) for seed in range(NETS)]
    neurons = [next(iter(drawn.network.neurons.values())) for drawn in seen]
    assert {drawn.family for drawn in seen} == set(families())
    assert {drawn.timesteps for drawn in seen} == {1, 2, 3, 4}
    assert {neuron.decay for neuron in neurons} == {0, 0.25, 0.8, 1}
    assert {neuron.threshold for neuron in neurons} == {0, 0.25, 1}
    assert {neuron.fires_at for neuron in neurons} == {"greater", "greater_equal"}
    ties = 0
    for drawn in seen[:200]:
        found = bounds(drawn.network, drawn.lower, drawn.upper, torch.tensor([drawn.label]), timesteps=drawn.timesteps)
        for name, layer in found.layers.items():
            threshold = drawn.network.neurons[name].threshold
            if drawn.network.described[name].spiking:
                ties += int(((layer.membrane_lower == threshold) | (layer.membrane_upper == threshold)).sum())
    assert ties > 100


def test_a_box_whose_every_input_has_the_label_is_certified_now_and_then():
    """Bounds of which none is above 0 would be sound, too."""
    certified = 0
    for seed in range(200):
        drawn = draw(seed, most_open=3)
        found = bounds(drawn.network, drawn.lower, drawn.upper, torch.tensor([drawn.label]), timesteps=drawn.timesteps)
        certified += int((found.certificate > 0).all())
    assert certified > 10


@pytest.mark.parametrize("notation", LARGE)
@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_random_corners_and_images_of_large_networks(notation, epsilon):
    assert faults_of_large(notation, epsilon, 100, seed=3) == []


def test_the_corner_that_gradients_lead_to_lies_within_the_bounds():
    """Spikes: each open element where the margin's surrogate gradient by it says, again and again."""
    made, image = large("64FC-32FC-10FC")
    for seed in range(10):
        lower, upper = image_spikes(image, 0.05, 3, torch.Generator().manual_seed(seed))
        label = int(made(lower, 3).mean(0).argmax())
        found = bounds(made, lower, upper, torch.tensor([label]))
        x = lower
        for _ in range(10):
            inputs = x.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy(made(inputs, 3).mean(0), torch.tensor([label]))
            (gradient,) = torch.autograd.grad(loss, inputs)
            x = torch.where(gradient > 0, upper, torch.where(gradient < 0, lower, x))
            assert faults_within(made, x, found, label, 3) == []


def test_pictures_that_pgd_makes_lie_within_the_bounds():
    made, image = large("6C3S2(Encoding)-8C3S2-10FC")
    label = torch.tensor([int(made(image.unsqueeze(0), 3).mean(0).argmax())])
    for epsilon in (0.02, 0.1):
        found = bounds(made, *pixels(image, 2 * epsilon), label, timesteps=3)
        for seed in range(5):
            generator, how = torch.Generator().manual_seed(seed), Attack("pgd", epsilon, 10, epsilon / 4)
            moved = attacked(made, image, label, 3, Objective(readout="rate"), how, generator)
            assert faults_within(made, moved.unsqueeze(0), found, int(label), 3) == []
