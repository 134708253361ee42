"""The spike-compatible attack on a torch model of one's own: `h2sim.attack`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from h2sim.attacks.networks import Loss, Model
from h2sim.attacks.spike import SpikeAttack, SpikeOutcome, Told, spike_attack


def attack(
    model: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    labels: torch.Tensor,
    *,
    timesteps: int | None = None,
    targets: torch.Tensor | None = None,
    loss: str | Loss = "ce",
    reset: Callable[[], None] | None = None,
    penultimate: str | None = None,
    threshold: float | None = None,
    told: Told = lambda done, of: None,
    **how: Any,
) -> SpikeOutcome:
    """Makes adversarial examples of a spiking model by the spike-compatible attack (chapter 5).

    model: from spikes (T, N, ...) to scores (N, classes), or (T, N, classes), by the surrogate gradients of its own
    neurons; see networks.Model for loss, reset, penultimate and threshold. inputs: spikes (T, N, ...); or, with
    timesteps, pictures (N, ...) from 0 to 1, which are rate-coded anew in each iteration. targets: classes to be taken
    for; None: any other than the label. how: the fields of spike.SpikeAttack. The model is evaluated, and left as it
    was. Raises TrainingError for inputs, or a model, that do not fit.

    >>> found = h2sim.attack(net, images, labels, timesteps=15, iterations=25)  # doctest: +SKIP
    >>> found.success_rate, found.null_rate, found.mean_norm("perturbation")  # doctest: +SKIP
    """
    attacked = Model(model, loss=loss, reset=reset, penultimate=penultimate, threshold=threshold)
    modes = {m: m.training for m in model.modules()} if isinstance(model, nn.Module) else {}
    if isinstance(model, nn.Module):
        model.eval()
    try:
        return spike_attack(
            attacked, inputs, labels, SpikeAttack(**how), timesteps=timesteps, targets=targets, told=told
        )
    finally:
        for module, was_training in modes.items():
            module.training = was_training
