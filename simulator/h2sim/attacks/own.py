"""The spike-compatible attack on a torch model of one's own: `h2sim.attack`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from h2sim.attacks.networks import Loss, Model
from h2sim.attacks.spike import SpikeAttack, SpikeOutcome, Told, spike_attack
from h2sim.errors import TrainingError, at
from h2sim.export.state import as_found


def attack(
    model: Callable[[torch.Tensor], torch.Tensor],
    inputs: Any,
    labels: Any,
    *,
    timesteps: int | None = None,
    targets: Any = None,
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
    for; None: any other than the label. Inputs and classes are tensors, or what torch makes tensors of. how: the fields
    of spike.SpikeAttack. A torch module is evaluated and left as it was: modes, gradients, buffers, neuron states. Any
    other callable brings what it calls into evaluation mode itself. Raises TrainingError for inputs, or a model, that
    do not fit.

        found = h2sim.attack(net, images, labels, timesteps=15, iterations=25)
        found.success_rate, found.null_rate, found.mean_norm("perturbation")
    """
    attacked = Model(model, loss=loss, reset=reset, penultimate=penultimate, threshold=threshold)
    given, chosen = _numbers("inputs", inputs), SpikeAttack(**how)
    classes, aims = _classes("labels", labels, given), None if targets is None else _classes("targets", targets, given)
    with as_found(model) if isinstance(model, nn.Module) else nullcontext():
        if isinstance(model, nn.Module):
            model.eval()
        return spike_attack(attacked, given, classes, chosen, timesteps=timesteps, targets=aims, told=told)


def _numbers(name: str, given: Any) -> torch.Tensor:
    """Floating-point numbers, of whatever torch makes a tensor of."""
    try:
        tensor = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise TrainingError(at("attack", name, "a tensor", type(given).__name__)) from None
    return tensor.detach() if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def _classes(name: str, given: Any, beside: torch.Tensor) -> torch.Tensor:
    """Classes as torch.int64, where the inputs are. Raises TrainingError for what is no whole number."""
    values = _numbers(name, given)
    if not bool((values == values.round()).all()):
        raise TrainingError(at("attack", name, "classes, whole numbers", "others"))
    return torch.as_tensor(given).to(beside.device, torch.int64)
