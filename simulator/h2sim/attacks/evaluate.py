"""How a trained network stands against attacks, white box and black box, and checks that its gradients hide nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from h2sim.attacks.gradient_sign import Attack, attacked
from h2sim.attacks.reading import aims, hits, read
from h2sim.attacks.steps import norms
from h2sim.errors import TrainingError, at
from h2sim.train.batches import Batch, held_out
from h2sim.train.trainer import Trainer

CHECKED_EPSILONS, CHECKED_STEPS, RANDOM_TRIES = (0.05, 0.1, 0.2, 0.3, 0.5), (1, 3, 7, 20, 40), 20
SLACK = 0.02  # [A] of an accuracy, below which nothing is said
Told = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What an attack left: the share of samples that are right, and how far pictures moved (2-norm, mean).

    attacked: pictures that the network read right before, and with a black box also the other network, which its
    pictures fool; targeted, each counts once for every other class. success: share of them that fool the network; null:
    share that new random spikes of the picture itself fool, None of a network that reads pixels. norms: means over all
    pictures (see steps.norms). None also stands where there is nothing to take a mean of.
    """

    attack: Attack
    accuracy: float
    distance: float
    black_box: bool
    attacked: int
    success: float | None
    null: float | None
    norms: dict[str, float]


@dataclass(frozen=True)
class Check:
    """A sign of masked gradients that was looked for (table 4 of HIRE-SNN). found: whether it is there."""

    name: str
    values: tuple[float, ...]
    found: bool


def outcome(run: Trainer, how: Attack, samples: int | None, source: Trainer | None = None, seed: int = 0) -> Outcome:
    """Attacks the held-out samples. source: another network, on which the pictures are made (black box).

    A network that reads spikes sees the pictures as random ones. Raises TrainingError where the two do not read the
    same pictures, or where that on which they are made encodes none.
    """
    made_on = source or run
    if made_on.network.input_shape != run.network.input_shape:
        wanted = f"a network that reads {list(run.network.input_shape)}"
        raise TrainingError(at("attack", "black box", wanted, list(made_on.network.input_shape)))
    generator, rounds = torch.Generator().manual_seed(seed), list[_Round]()
    for batch in held_out(run.dataset, run.coding, samples):
        images, labels = _pixels(run, batch), batch.labels
        right = _right(run, images, labels) & (True if source is None else _right(source, images, labels))
        again = read(run, images, seed=2)
        for targets in aims(labels, run.network.classes, targeted=how.targeted):
            classes = labels if targets is None else targets
            moved = attacked(
                made_on.network, images, classes, made_on.settings.timesteps, made_on.settings.objective, how, generator
            )
            found = read(run, moved)
            judged = right if source is None else right & hits(read(source, moved), labels, targets)
            rounds.append(
                _Round(found == labels, judged, hits(found, labels, targets), hits(again, labels, targets),
                       norms(moved, images))
            )  # fmt: skip
    return _outcome(how, rounds, black_box=source is not None, pixels=run.network.reads_analog)


@dataclass(frozen=True)
class _Round:
    """An attack on a batch, each (N,): see Outcome."""

    right: torch.Tensor
    judged: torch.Tensor
    hit: torch.Tensor
    null: torch.Tensor
    norms: dict[str, torch.Tensor]


def _outcome(how: Attack, rounds: list[_Round], *, black_box: bool, pixels: bool) -> Outcome:
    right, judged, hit, null = (
        torch.cat([getattr(each, name) for each in rounds]) for name in ("right", "judged", "hit", "null")
    )
    count = int(judged.sum())

    def share(of: torch.Tensor) -> float | None:
        return int(of[judged].sum()) / count if count else None

    means = {name: float(torch.cat([each.norms[name] for each in rounds]).double().mean()) for name in rounds[0].norms}
    return Outcome(
        attack=how, accuracy=int(right.sum()) / len(right), distance=means["l2"], black_box=black_box, attacked=count,
        success=share(hit), null=None if pixels else share(null), norms=means,
    )  # fmt: skip


def checks(run: Trainer, source: Trainer | None, epsilon: float, samples: int | None, tell: Told) -> list[Check]:
    """The five signs of table 4, that of figure 8b, and one of our own: a wider surrogate.

    An iterated attack weaker than one step; black box stronger than white box; accuracy that does not fall with the
    box; that does not fall to about 0; samples that chance moves and the gradient does not; accuracy that goes on
    falling behind 20 iterations; pictures that are made with the slope of a surrogate of twice the width and fool the
    network more often. source: of the black box; without it that sign is not looked for.
    """

    def accuracy(how: Attack, of: Trainer | None = None) -> float:
        tell(f"{how.method}, epsilon {how.epsilon:g}, {how.steps} steps{', black box' if of else ''}")
        return outcome(run, how, samples, of).accuracy

    one, many = accuracy(Attack("fgsm", epsilon)), accuracy(Attack("pgd", epsilon))
    found = [Check("an iterated attack is weaker than one step", (one, many), many > one + SLACK)]
    if source is not None:
        black = accuracy(Attack("pgd", epsilon), source)
        found.append(Check("a black box is stronger than a white one", (many, black), black < many - SLACK))
    by_box = tuple(accuracy(Attack("pgd", each)) for each in CHECKED_EPSILONS)
    rises = any(after > before + SLACK for before, after in pairwise(by_box))
    found.append(Check("a larger box is no stronger", by_box, rises or by_box[-1] >= by_box[0]))
    found.append(Check("the largest box leaves over 2 %", by_box[-1:], by_box[-1] > SLACK))
    tell(f"chance, epsilon {epsilon:g}, {RANDOM_TRIES} points")
    alone = _by_chance_alone(run, epsilon, samples)
    found.append(Check("chance moves a sample that the gradient does not", (alone,), alone > 0))
    alpha = Attack("pgd", epsilon).step
    by_steps = tuple(accuracy(Attack("pgd", epsilon, steps, alpha)) for steps in CHECKED_STEPS)
    found.append(
        Check("over 2 points are lost from 20 to 40 iterations", by_steps, by_steps[-2] - by_steps[-1] > SLACK)
    )
    tell(f"pgd, epsilon {epsilon:g}, made with a wider surrogate")
    wide = outcome(run, Attack("pgd", epsilon), samples, widened(run)).accuracy
    found.append(Check("a wider surrogate finds more", (many, wide), wide < many - SLACK))
    return found


def widened(run: Trainer) -> Trainer:
    """The run with the surrogate of every layer a rectangle of twice its window [A]: its pictures show whether a narrow
    one hides gradients."""
    wide = copy.copy(run)
    wide.network = copy.deepcopy(run.network)
    trained = wide.network.thresholds
    for name, neuron in wide.network.neurons.items():
        threshold = trained.get(name)
        low, high = neuron.window if threshold is None else neuron.at(float(threshold.detach()), neuron.decay).window
        reach = (high - low) / 2
        wide.network.neurons[name] = replace(neuron, surrogate="rectangle", window=(low - reach, high + reach))
    return wide


def _by_chance_alone(run: Trainer, epsilon: float, samples: int | None) -> float:
    """Share of the samples that are wrong at some of RANDOM_TRIES random points of the box, but right as they are and
    under PGD."""
    settings, moved, count = run.settings, 0, 0
    for batch in held_out(run.dataset, run.coding, samples):
        images, generator = _pixels(run, batch), torch.Generator().manual_seed(count)
        best = attacked(
            run.network, images, batch.labels, settings.timesteps, settings.objective, Attack("pgd", epsilon), generator
        )
        right = _right(run, images, batch.labels) & _right(run, best, batch.labels)
        wrong = torch.zeros_like(right)
        for _ in range(RANDOM_TRIES):
            draws = 2 * torch.rand(images.shape, generator=generator) - 1
            wrong |= ~_right(run, (images + epsilon * draws).clamp(0, 1), batch.labels)
        moved += int((wrong & right).sum())
        count += len(images)
    return moved / count


def _pixels(run: Trainer, batch: Batch) -> torch.Tensor:
    """The pictures of a batch. Raises TrainingError for events."""
    if batch.images is None:
        raise TrainingError(at("attack", "data set", "pictures", f"the events of {run.dataset.name}"))
    return batch.images


def _right(run: Trainer, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Which of the images (N, C, H, W) the network classifies as `labels`: bool (N,)."""
    return read(run, images) == labels
