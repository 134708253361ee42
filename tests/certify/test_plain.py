"""Bounds against a plain second writing of them, against what gradients find, and where they lie on a threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from h2sim.attacks.gradient_sign import Attack, attacked  # noqa: E402
from h2sim.certify import bounds, image_box, image_spikes  # noqa: E402
from h2sim.errors import NetworkError  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from h2sim.train.objective import Objective  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from tests.certify import plain  # noqa: E402
from tests.certify.nets import draw, families, fc  # noqa: E402
from tests.certify.soundness import (  # noqa: E402
    LARGE,
    box_of,
    faults,
    faults_of_large,
    faults_within,
    large,
    unlike_the_plain_one,
)
from tests.helpers.tiny import window  # noqa: E402

NETS, PART = 1200, 200
NEURON = Neuron(0.25, 0.25, (-0.25, 0.75))
ONE = torch.tensor([0])


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
        for name, layer in box_of(drawn).layers.items():
            threshold = drawn.network.neurons[name].threshold
            if layer.s_lower is not None:
                ties += int(((layer.m_lower == threshold) | (layer.m_upper == threshold)).sum())
    assert ties > 100


def test_a_box_whose_every_input_has_the_label_is_certified_now_and_then():
    """Bounds of which none is above 0 would be sound, too."""
    assert sum(bool(box_of(draw(seed, most_open=3)).robust.all()) for seed in range(200)) > 10


@pytest.mark.parametrize("notation", LARGE)
@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_random_corners_and_images_of_large_networks(notation, epsilon):
    assert faults_of_large(notation, epsilon, 100, seed=3) == []


def test_the_corner_that_gradients_lead_to_lies_within_the_bounds():
    """Spikes: each open element where the surrogate gradient of the loss by it says, again and again."""
    made, image = large("64FC-32FC-10FC")
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand((3, *image.shape), generator=generator, dtype=image.dtype)
        lower, upper = image_spikes(image, 0.05, draws)
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
        found = bounds(made, *image_box(image, 2 * epsilon), label, timesteps=3)
        for seed in range(5):
            generator, how = torch.Generator().manual_seed(seed), Attack("pgd", epsilon, 10, epsilon / 4)
            moved = attacked(made, image, label, 3, Objective(readout="rate"), how, generator)
            assert faults_within(made, moved.unsqueeze(0), found, int(label), 3) == []


def network(weight, bias, neuron=NEURON):
    """One fully connected layer of these weights and biases."""
    made = SpikingNetwork([fc("out", "input", len(weight[0]), len(weight))], neuron, torch.Generator()).double()
    with torch.no_grad():
        made.weights["out"].copy_(torch.tensor(weight))
        made.biases["out"].copy_(torch.tensor(bias))
    return made


def test_a_bound_on_the_threshold_is_read_by_the_rule():
    """m from 0.25 to 0.5 at th = 0.25: always a spike by m >= th, by m > th only at times. Class 1 never spikes."""
    lower, upper = torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1, 2)
    for rule, least in (("greater_equal", 1.0), ("greater", 0.0)):
        made = network([[0.25, 0.25], [0.0, 0.0]], [0.0, -1.0], replace(NEURON, fires_at=rule))
        found = bounds(made, lower, upper, ONE)
        assert found.layers["out"].s_lower[0, 0].tolist() == [least, 0.0]
        assert (found.ibp.item(), found.crown.item()) == (least, least)


def test_no_gradient_is_nan_where_a_bound_lies_on_the_threshold():
    """1 / (m - th) is taken in its own class alone: of the others it would be infinite, and 0 times that nan."""
    for rule in ("greater", "greater_equal"):
        made = network([[0.25, 0.25], [0.25, 0.0]], [0.0, 0.0], replace(NEURON, fires_at=rule))
        for lower, upper in (([1, 0], [1, 0]), ([1, 0], [1, 1]), ([0, 0], [1, 0])):
            made.zero_grad()
            found = bounds(made, torch.tensor([[lower]]), torch.tensor([[upper]]), ONE)
            (found.ibp.sum() + found.crown.sum()).backward()
            assert bool(torch.isfinite(made.weights["out"].grad).all())
            assert bool(torch.isfinite(found.crown).all())


def test_rounding_alone_decides_what_no_bound_of_real_numbers_can():
    """0.1 + 0.2 + 0.3 is above 0.6 in one order of its sums and not in another. Only membranes that lie on a threshold
    to the last digits are so."""
    generator, outside, tried = torch.Generator().manual_seed(1), 0, 0
    for _ in range(300):
        inputs = int(torch.randint(3, 9, (1,), generator=generator))
        weight = torch.randint(1, 10, (1, inputs), generator=generator).double() / 10
        threshold = round(float((weight * (torch.rand(inputs, generator=generator) < 0.6)).sum()), 1)
        made = network(weight.tolist(), [0.0], replace(NEURON, threshold=threshold, fires_at="greater"))
        lower = (torch.rand((1, 1, inputs), generator=generator) < 0.6).double()
        upper = lower.clone()
        free = torch.randperm(inputs, generator=generator)[:3]
        lower[0, 0, free], upper[0, 0, free] = 0.0, 1.0
        layer = bounds(made, lower, upper, ONE).layers["out"]
        m, s = plain.forward(made, plain.corners(lower, upper), 1)["out"]
        wrong = (s < layer.s_lower) | (s > layer.s_upper)
        outside, tried = outside + int(wrong.any()), tried + 1
        assert bool(((m - threshold).abs()[wrong] < 1e-12).all())
        assert bool(((m >= layer.m_lower - 1e-12) & (m <= layer.m_upper + 1e-12)).all())
    assert outside < tried / 50


CONV = [window("c", "conv", "input", (2, 4, 4), 2, 3), fc("out", "c", 32, 2)]


@pytest.mark.parametrize(
    ("layers", "shape", "labels", "said"),
    [
        (CONV, (2, 1, 2, 2, 8), ONE, r"bounds: shape: expected \[2, 4, 4\] of each sample, .*; got \[2, 2, 8\]"),
        (CONV, (2, 1, 1, 4, 4), ONE, r"bounds: shape: expected \[2, 4, 4\]"),
        (CONV, (2, 1, 32), ONE, r"bounds: shape: expected \[2, 4, 4\]"),
        ([fc("out", "input", 2, 2)], (2, 1, 3), ONE, r"bounds: shape: expected \[2\] of each sample, .*; got \[3\]"),
        ([fc("out", "input", 2, 2)], (2, 1, 2), ONE.float(), "bounds: labels: expected integers; got torch.float32"),
        ([fc("out", "input", 2, 2)], (2, 1, 2), ONE.bool(), "bounds: labels: expected integers; got torch.bool"),
        (CONV[:1], (2, 1, 2, 4, 4), ONE, r"c: outputs: expected one a class, 2; got \[2, 4, 4\]"),
    ],
)
def test_what_does_not_fit_is_a_line(layers, shape, labels, said):
    made = SpikingNetwork(layers, NEURON, torch.Generator())
    with pytest.raises(NetworkError, match=said):
        bounds(made, torch.zeros(shape), torch.ones(shape), labels)


def test_labels_of_any_integers_are_taken():
    made = SpikingNetwork([fc("out", "input", 2, 3)], NEURON, torch.Generator())
    lower, labels = torch.zeros(2, 2, 2), torch.tensor([2, 0])
    found = [bounds(made, lower, lower + 1, labels.to(kind)).crown for kind in (torch.int64, torch.int32, torch.uint8)]
    assert all(torch.equal(each, found[0]) for each in found)
