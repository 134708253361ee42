"""What networks take samples for, and the classes that attacks aim at."""

from __future__ import annotations

import torch

from h2sim.train.trainer import Trainer


@torch.no_grad()
def scores_of(run: Trainer, inputs: torch.Tensor) -> torch.Tensor:
    """Scores (N, classes) of coded inputs (T or 1, N, ...), summed over time."""
    network, was_training = run.network, run.network.training
    network.eval()
    scores: torch.Tensor = network(inputs, run.settings.timesteps).sum(0)
    network.train(was_training)
    return scores


def read(run: Trainer, images: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """The classes (N,) that a network takes pictures (N, C, H, W) for. seed: of their random spikes, if it has any."""
    return scores_of(run, run.coding.coded(images, torch.Generator().manual_seed(seed))).argmax(1)


def aims(labels: torch.Tensor, classes: int, *, targeted: bool) -> list[torch.Tensor | None]:
    """Targets (N,) of the rounds of an attack: none, or each of the other classes in turn."""
    return [(labels + offset) % classes for offset in range(1, classes)] if targeted else [None]


def hits(found: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor:
    """Where classes (N,) are what an attack wanted: others than the labels, or the targets."""
    return found != labels if targets is None else found == targets
