"""FGSM and PGD: by hand on a linear network, and beside foolbox on a spiking one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from h2sim.algorithms.diet import diet_settings  # noqa: E402
from h2sim.attacks.gradient_sign import Attack, attacked, pixel_gradient  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.trace import parse_notation  # noqa: E402
from h2sim.train.objective import Objective  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from tests.helpers.tiny import halves  # noqa: E402

SUM = Objective(readout="sum")


def trained(notation="4C3(Encoding)-AP2(Spikes)-6C3-AP2-2FC", steps=30):
    settings = diet_settings("tiny", "halves", 4, batch=8, epochs=8, learning_rate=1e-2)
    trainer = Trainer(settings, parse_notation(notation, (1, 6, 6)), halves())
    with torch.no_grad():
        for name in trainer.network.described:
            if name in trainer.network.weights:
                trainer.network.weights[name].mul_(2)
    for _ in range(steps):
        trainer.step()
    return trainer


def some(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 1, 6, 6), generator=generator), torch.arange(n) % 2


def test_on_a_linear_network_the_picture_moves_by_hand():
    """One step, nothing fires: the gradient of the pixels is w^T (softmax - onehot)."""
    trainer = trained("1C1(Encoding)-2FC", steps=0)
    network, (images, labels) = trainer.network, some()
    network.eval()
    with torch.no_grad():
        network.weights["conv1"].fill_(1.0)
        network.thresholds["conv1"].fill_(1e-3)  # all pixels above it fire: the output is the sum of the weights
    bright = images.clamp_min(0.1)
    score = network(bright.unsqueeze(0), 1).sum(0)
    torch.testing.assert_close(score, network.weights["fc1"].sum(1).expand(len(images), 2))
    # a readable surrogate: with a high threshold nothing fires and the window (0, 2 v) is open
    with torch.no_grad():
        network.thresholds["conv1"].fill_(50.0)
    found = pixel_gradient(network, bright, labels, 1, SUM)
    onehot = torch.nn.functional.one_hot(labels, 2)
    upwards = (torch.softmax(torch.zeros(len(images), 2), 1) - onehot) @ network.weights["fc1"]
    slope = 0.3 * (1 - (bright / 50 - 1).abs()) / 50
    torch.testing.assert_close(found, upwards.view(-1, 1, 6, 6) * slope)
    moved = attacked(network, bright, labels, 1, SUM, Attack("fgsm", 0.05), torch.Generator())
    torch.testing.assert_close(moved, (bright + 0.05 * upwards.view(-1, 1, 6, 6).sign()).clamp(0, 1))


@pytest.mark.parametrize(
    "how", [Attack("fgsm", 0.1), Attack("pgd", 0.1), Attack("pgd", 0.1, random_start=False), Attack("bim", 0.1)]
)
def test_an_attack_stays_in_its_box_and_lowers_the_accuracy(how):
    trainer = trained()
    images, labels = some(40, 3)
    labels = trainer.network(images.unsqueeze(0), 4).sum(0).argmax(1)
    before = trainer.network.state_dict()
    kept = {name: value.clone() for name, value in before.items()}
    moved = attacked(trainer.network, images, labels, 4, SUM, how, torch.Generator().manual_seed(1))
    assert float((moved - images).abs().max()) <= 0.1 + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert all(torch.equal(value, kept[name]) for name, value in trainer.network.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    right = (trainer.network(moved.unsqueeze(0), 4).sum(0).argmax(1) == labels).float().mean()
    assert float(right) < 1
    again = attacked(trainer.network, images, labels, 4, SUM, how, torch.Generator().manual_seed(1))
    assert torch.equal(moved, again)


def test_a_box_of_nothing_changes_nothing():
    trainer, (images, labels) = trained(steps=3), some()
    for method in ("fgsm", "pgd"):
        moved = attacked(trainer.network, images, labels, 4, SUM, Attack(method, 0.0), torch.Generator())
        assert torch.equal(moved, images)


def test_foolbox_comes_to_the_same_pictures():
    foolbox = pytest.importorskip("foolbox")

    class Scores(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network(x.unsqueeze(0), 4).sum(0)

    trainer, (images, labels) = trained(), some(12, 5)
    trainer.network.eval()
    model = foolbox.PyTorchModel(Scores(trainer.network).eval(), bounds=(0, 1), device="cpu")
    for epsilon in (8 / 255, 0.2):
        theirs, _, _ = foolbox.attacks.LinfFastGradientAttack(random_start=False)(
            model, images, labels, epsilons=epsilon
        )
        ours = attacked(trainer.network, images, labels, 4, SUM, Attack("fgsm", epsilon), torch.Generator())
        assert float((theirs - ours).abs().max()) <= 1e-6
        how = Attack("pgd", epsilon, steps=7, step_size=epsilon / 3, random_start=False)
        theirs, _, _ = foolbox.attacks.LinfPGD(abs_stepsize=epsilon / 3, steps=7, random_start=False)(
            model, images, labels, epsilons=epsilon
        )
        ours = attacked(trainer.network, images, labels, 4, SUM, how, torch.Generator())
        assert float((theirs - ours).abs().max()) <= 1e-6
        assert float((ours - images).abs().max()) > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "cw"}, "attack: method: expected one of fgsm, pgd, bim; got 'cw'"),
        ({"epsilon": 2.0}, "attack: epsilon: expected a number from 0 to 1; got 2.0"),
        ({"epsilon": float("nan")}, "attack: epsilon: expected a number from 0 to 1; got nan"),
        ({"steps": 0}, "attack: steps: expected at least 1; got 0"),
    ],
)
def test_an_attack_that_cannot_be_is_refused(fields, said):
    with pytest.raises(TrainingError) as error:
        Attack(**fields)
    assert str(error.value) == said


def test_a_network_of_spikes_is_refused():
    trainer = trained("4C3-AP2-2FC", steps=0)
    with pytest.raises(TrainingError, match="attack: network: expected one whose first layer encodes pixels"):
        attacked(trainer.network, *some(), 4, SUM, Attack(), torch.Generator())


def test_bim_is_pgd_from_the_picture_and_a_target_lowers_its_own_loss():
    trainer, (images, labels) = trained(), some(20, 5)
    network, generator = trainer.network, torch.Generator()
    bim = attacked(network, images, labels, 4, SUM, Attack("bim", 0.1, 5, 0.03), generator)
    pgd = attacked(network, images, labels, 4, SUM, Attack("pgd", 0.1, 5, 0.03, random_start=False), generator)
    assert torch.equal(bim, pgd)
    targets = 1 - labels
    towards = attacked(network, images, targets, 4, SUM, Attack("bim", 0.1, 5, 0.03, targeted=True), generator)
    network.eval()
    with torch.no_grad():
        before, after = (SUM.value(network(x.unsqueeze(0), 4), targets) for x in (images, towards))
    assert float(after) < float(before)
