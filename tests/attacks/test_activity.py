"""Spikes under an attack: activity, distances, and the surrogate of twice the width."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from h2sim.attacks.activity import perturbation_distance, spike_counts, spiking_activity  # noqa: E402
from h2sim.attacks.evaluate import widened  # noqa: E402
from tests.attacks.test_gradient_sign import some, trained  # noqa: E402


def test_the_distance_is_the_sources():
    x, moved = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.3, 0.4]])
    assert perturbation_distance(x, moved) == pytest.approx(0.1414213562)
    assert perturbation_distance(10 * x, 10 * moved, timesteps=5) == pytest.approx(2 * 0.1414213562)
    both = torch.cat([x, x]), torch.cat([moved, x])
    assert perturbation_distance(*both) == pytest.approx(0.1414213562 / 2)


def test_spikes_are_counted_over_the_timesteps_of_every_layer_that_fires():
    run, (images, _) = trained(), some()
    run.network.train()
    counts = spike_counts(run, images)
    assert run.network.training
    assert list(counts) == [name for name, layer in run.network.described.items() if layer.spiking]
    for name, each in counts.items():
        assert each.shape == (6, *run.network.described[name].out_chw)
        assert 0 < float(each.max()) <= run.settings.timesteps
    assert spiking_activity(counts) == {name: pytest.approx(float(c.sum()) / c.numel()) for name, c in counts.items()}
    run.network.eval()
    with torch.no_grad():
        current = torch.nn.functional.conv2d(images, run.network.weights["conv1"], padding=1)
        membrane, spikes = torch.zeros_like(current), torch.zeros_like(current)
        threshold, decay = run.network.thresholds["conv1"], run.network.decays["conv1"]
        for _ in range(run.settings.timesteps):
            membrane = membrane + current
            fired = (membrane > threshold).float()
            spikes, membrane = spikes + fired, decay * (membrane - threshold * fired)
    torch.testing.assert_close(counts["conv1"], spikes)


def test_a_wider_surrogate_leaves_the_network_as_it_is():
    run = trained()
    before = dict(run.network.neurons)
    wide = widened(run)
    assert run.network.neurons == before
    for name, threshold in wide.network.thresholds.named_parameters():
        v = float(threshold.detach())
        neuron = wide.network.neurons[name]
        assert neuron.surrogate == "rectangle"
        assert neuron.window == pytest.approx((-v, 3 * v))
    images, _ = some()
    assert torch.equal(wide.network.eval()(images.unsqueeze(0), 4), run.network.eval()(images.unsqueeze(0), 4))
