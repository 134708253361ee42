"""What `h2sim.attack` takes, refuses in a line, and leaves as it was; and the sign of a step."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import h2sim  # noqa: E402
from h2sim.attacks import steps  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn((3, 16), generator=GENERATOR)
IMAGES = torch.rand((4, 1, 4, 4), generator=GENERATOR)
SPIKES = (torch.rand((3, 4, 1, 4, 4), generator=GENERATOR) < 0.5).float()


def linear(spikes):
    return spikes.mean(0).flatten(1) @ WEIGHT.to(spikes).T


LABELS = linear(SPIKES).argmax(1)


@pytest.mark.parametrize("targeted", [False, True])
def test_a_step_changes_a_linear_loss_the_right_way(targeted):
    """Untargeted it raises the loss of the label, targeted it lowers that of the target (eq. 5.4)."""

    def loss(spikes, classes):
        return torch.nn.functional.cross_entropy(linear(spikes), classes, reduction="sum")

    classes = (LABELS + 1) % 3 if targeted else LABELS
    inputs = SPIKES.clone().requires_grad_()
    gradient = torch.autograd.grad(loss(inputs, classes), inputs)[0] * (-1 if targeted else 1)
    moved = SPIKES + steps.step(gradient, SPIKES, 0.05, torch.rand(SPIKES.shape, generator=GENERATOR))
    change = float(loss(moved, classes) - loss(SPIKES, classes))
    assert change < 0 if targeted else change > 0


@pytest.mark.parametrize(
    ("spikes", "labels"),
    [
        (SPIKES.bool(), LABELS),
        (SPIKES.byte(), LABELS.int()),
        (SPIKES.numpy(), LABELS.numpy()),
        (SPIKES, LABELS.tolist()),
    ],
)
def test_inputs_and_classes_come_as_people_have_them(spikes, labels):
    plain, found = h2sim.attack(linear, SPIKES, LABELS), h2sim.attack(linear, spikes, labels)
    assert found.success_rate == 1.0
    assert torch.equal(found.examples, plain.examples)


def test_spike_inputs_have_no_null_control():
    assert str(h2sim.attack(linear, SPIKES, LABELS).null_rate) == "nan"
    assert 0 <= h2sim.attack(linear, IMAGES, LABELS, timesteps=3).null_rate <= 1


def test_the_largest_seed_is_a_seed():
    assert h2sim.attack(linear, SPIKES, LABELS, seed=(1 << 63) - 1).count == 4


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"labels": LABELS + 5}, "attack: labels: expected classes from 0 to 2, of which the network gives scores"),
        ({"labels": LABELS + 0.5}, "attack: labels: expected classes, whole numbers; got others"),
        ({"labels": "many"}, "attack: labels: expected a tensor; got str"),
        ({"targets": LABELS - 9}, "attack: targets: expected classes from 0 to 2"),
        ({"inputs": IMAGES, "timesteps": 0}, "attack: timesteps: expected a whole number of at least 1; got 0"),
        ({"inputs": IMAGES, "timesteps": 2.5}, "attack: timesteps: expected a whole number of at least 1; got 2.5"),
        ({"c": 0.1}, "attack: c: expected none: spikes are attacked, and pictures alone have it; got 0.1"),
        ({"box": 0.1}, "attack: box: expected none: spikes are attacked, and pictures alone have it; got 0.1"),
        ({"iterations": 2.5}, "attack: iterations: expected a whole number from 1 to 10000; got 2.5"),
        ({"seed": 0.5}, "attack: seed: expected a whole number; got 0.5"),
        ({"loss": lambda scores, wanted: scores.sum(1)}, r"attack: loss: expected the samples' sum, one number; got"),
        ({"model": lambda spikes: linear(spikes).detach()}, "expected a loss that depends on the spikes"),
        ({"model": lambda spikes: linear(spikes) + torch.sqrt(spikes.sum() * 0) * 0},
         "attack: gradient of the spikes: expected finite numbers; got NaN or Inf"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_line(change, line):
    given = {"model": linear, "inputs": SPIKES, "labels": LABELS, **change}
    with pytest.raises(TrainingError, match=line) as error:
        h2sim.attack(**given)
    assert "\n" not in str(error.value)


class Integrator(torch.nn.Module):
    """Keeps a membrane from call to call, and a running statistic."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc, self.v = torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3), torch.ones(4, 3)

    def forward(self, spikes):
        for each in spikes:
            self.v = self.fc(self.norm(each.flatten(1))) + (0 if self.v is None else 0.5 * self.v)
        return self.v


@pytest.mark.parametrize("fails", [False, True])
def test_states_of_neurons_come_back_whatever_happens(fails):
    model, told = Integrator(), Integrator().eval()
    told.load_state_dict(model.state_dict())
    told.v = None  # as the attack sees it: classes of the network at rest, so that each sample is read right before
    labels = told(SPIKES).argmax(1) + (9 if fails else 0)
    held, mean = model.v, model.norm.running_mean.clone()

    def attack():
        return h2sim.attack(model, SPIKES, labels, reset=lambda: setattr(model, "v", None))

    if fails:
        with pytest.raises(TrainingError, match="labels"):
            attack()
    else:
        assert attack().count == len(labels)
    assert model.v is held
    assert torch.equal(model.norm.running_mean, mean)
    assert model.training
    assert model.norm.training
