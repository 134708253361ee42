"""The spike-compatible attack on held-out samples of a run, and what it came to in numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from h2sim.attacks.networks import OwnNetwork
from h2sim.attacks.reading import aims, hits, scores_of
from h2sim.attacks.spike import Draws, SpikeAttack, SpikeOutcome, Told, spike_attack
from h2sim.errors import TrainingError, at
from h2sim.train.batches import held_out
from h2sim.train.trainer import Trainer

PART = 100  # samples that are attacked side by side


@dataclass(frozen=True)
class SpikeSummary:
    """An attack on many samples; None stands where there is nothing to take a mean of.

    samples, attacked: looked at, and read right before; targeted, each counts once for every other class. success,
    null, fresh: shares with an example, for which resampling alone gives one, and of an example's fresh spikes that
    fool (see SpikeOutcome). judged: examples made on another network whose own sample this one reads right;
    transferred: share of them that fool this one; transferred_null: share of those samples that new random spikes of
    their own make this one misread. norms: means over the examples. iterations: the mean. vanished: share without a
    gradient in the first iteration, in gradient_dtype. flips: random flips, the mean of an attack. kept: share of
    elements with a gradient that G2S kept. penultimate: spikes a sample in each iteration, of those under attack then.
    """

    name: str
    settings: SpikeAttack
    threshold: float | None
    targeted: bool
    black_box: bool
    samples: int
    attacked: int
    success: float | None
    null: float | None
    fresh: float | None
    judged: int
    transferred: float | None
    transferred_null: float | None
    norms: dict[str, float | None]
    iterations: float | None
    vanished: float | None
    gradient_dtype: str
    flips: float | None
    kept: float | None
    penultimate: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def spike_summary(
    run: Trainer,
    how: SpikeAttack,
    samples: int | None = None,
    *,
    source: Trainer | None = None,
    threshold: float | None = None,
    targeted: bool = False,
    told: Told = lambda done, of: None,
) -> SpikeSummary:
    """Attacks held-out samples. source: the network on which examples are made, to be shown to that of `run` after.

    threshold: of the penultimate layer as they are made. told: of iterations that are done, and their largest number.
    Raises TrainingError for networks that do not fit.
    """
    made_on = source or run
    network = OwnNetwork(made_on, threshold)
    if run.network.most_count is not None:
        raise TrainingError(at("attack", "network", "one that reads spikes or pixels", "counts"))
    if source is not None and source.network.input_shape != run.network.input_shape:
        wanted = f"a network that reads {list(run.network.input_shape)}"
        raise TrainingError(at("attack", "black box", wanted, list(source.network.input_shape)))
    found, judged, first = list[SpikeOutcome](), list[_Judged](), 0
    targets_each = run.network.classes - 1 if targeted else 1
    rounds = -(-len(run.dataset.test.spread(samples)) // PART) * targets_each * how.iterations
    for batch in held_out(run.dataset, run.coding, samples, part=PART):
        labels = batch.labels
        for targets in aims(labels, run.network.classes, targeted=targeted):
            timesteps = None if batch.images is None else made_on.settings.timesteps
            inputs = batch.inputs if batch.images is None else batch.images
            numbers = range(first, first + len(labels))
            before = len(found) * how.iterations
            one = spike_attack(
                network, inputs, labels, how, timesteps=timesteps, targets=targets, numbers=numbers,
                told=partial(_further, told, before, rounds),
            )  # fmt: skip
            found.append(one)
            if source is not None:
                judged.append(_judged(run, one, inputs, labels, targets, Draws(how.seed + 2, numbers)))
        first += len(batch.labels)
    return _summary(how, threshold, found, judged, run, made_on, targeted=targeted, samples=first)


def _further(told: Told, before: int, rounds: int, done: int, of: int) -> None:
    told(before + done, rounds)


@dataclass(frozen=True)
class _Judged:
    """What another network makes of examples whose own sample it reads right, each (examples,): see SpikeSummary."""

    fooled: torch.Tensor
    null: torch.Tensor


def _judged(
    run: Trainer,
    found: SpikeOutcome,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    draws: Draws,
) -> _Judged:
    """Shows the examples that were found to the network of `run`. inputs: the samples themselves."""

    def read(samples: torch.Tensor) -> torch.Tensor:
        if run.dataset.kind == "events":
            return scores_of(run, samples).argmax(1)
        if run.network.reads_analog:
            return scores_of(run, samples.unsqueeze(0)).argmax(1)
        everyone = torch.arange(len(samples))
        return scores_of(run, draws.spikes(samples, everyone, run.settings.timesteps)).argmax(1)

    judged = found.success & (read(inputs) == labels)
    fooled, null = (hits(read(each), labels, targets)[judged].double() for each in (found.examples, inputs))
    drawn = run.dataset.kind != "events" and not run.network.reads_analog
    return _Judged(fooled, null if drawn else torch.full_like(null, math.nan))


def _summary(
    how: SpikeAttack,
    threshold: float | None,
    found: list[SpikeOutcome],
    judged: list[_Judged],
    run: Trainer,
    made_on: Trainer,
    *,
    targeted: bool,
    samples: int,
) -> SpikeSummary:
    attacked = torch.cat([each.attacked for each in found])
    success = torch.cat([each.success for each in found])

    def of_attacked(name: str) -> float | None:
        return _mean(torch.cat([getattr(each, name) for each in found])[attacked])

    def of_examples(values: list[torch.Tensor]) -> float | None:
        return _mean(torch.cat(values)[success])

    pictures = run.dataset.kind != "events"
    name = f"spike{', targeted' if targeted else ''}{', black box' if made_on is not run else ''}"
    return SpikeSummary(
        name=name, settings=how, threshold=threshold, targeted=targeted, black_box=made_on is not run, samples=samples,
        attacked=int(attacked.sum()), success=of_attacked("success"), null=of_attacked("null") if pictures else None,
        fresh=of_examples([each.fooled for each in found]) if pictures else None,
        judged=sum(len(each.fooled) for each in judged),
        transferred=_mean(torch.cat([each.fooled for each in judged])) if judged else None,
        transferred_null=_mean(torch.cat([each.null for each in judged])) if judged else None,
        norms={key: of_examples([each.norms[key] for each in found]) for key in found[0].norms},
        iterations=of_attacked("iterations"), vanished=of_attacked("vanished"),
        gradient_dtype=made_on.settings.objective.gradient_dtype, flips=of_attacked("flips"),
        kept=_mean(torch.cat([each.kept for each in found])), penultimate=_over_iterations(found),
    )  # fmt: skip


def _mean(values: torch.Tensor) -> float | None:
    """The mean of what is a number; None of nothing."""
    values = values.double()
    values = values[~values.isnan()]
    found = float(values.mean()) if len(values) else math.nan
    return None if math.isnan(found) else found


def _over_iterations(found: list[SpikeOutcome]) -> list[float]:
    """Spikes a sample of the penultimate layer, by iteration."""
    longest = max((len(each.penultimate) for each in found), default=0)
    there = [[each.penultimate[k] for each in found if k < len(each.penultimate)] for k in range(longest)]
    return [sum(spikes for spikes, _ in rows) / sum(samples for _, samples in rows) for rows in there]
