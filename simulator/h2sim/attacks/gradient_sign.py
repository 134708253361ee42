"""FGSM, PGD and BIM (eq. 3 and 4 of HIRE-SNN; eq. 5.2, 5.3) on networks that encode pixels.

The gradient of the loss by the pixels passes through all timesteps, at each of which the picture is shown, and through
the surrogate of every neuron. No attack leaves the bounds of a pixel, 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from h2sim.errors import TrainingError, at
from h2sim.train.network import SpikingNetwork
from h2sim.train.objective import Objective

Method = Literal["fgsm", "pgd", "bim"]
METHODS: tuple[Method, ...] = ("fgsm", "pgd", "bim")
OF_SOURCE = 8 / 255, 0.01  # eps and alpha of the source's attacks: alpha grows with eps


@dataclass(frozen=True)
class Attack:
    """How pictures are changed.

    epsilon: by how much a pixel may change, from 0 to 1. steps and step_size (None: epsilon * 0.01 / (8/255)): of PGD
    and BIM. random_start: PGD begins at a random point of the box, as the authors' code does; else at the picture, as
    BIM does. targeted: the labels are classes to be taken for, whose loss is to fall.
    """

    method: Method = "pgd"
    epsilon: float = 8 / 255
    steps: int = 7
    step_size: float | None = None
    random_start: bool = True
    targeted: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise TrainingError(at("attack", "method", f"one of {', '.join(METHODS)}", repr(self.method)))
        if not 0 <= self.epsilon <= 1:
            raise TrainingError(at("attack", "epsilon", "a number from 0 to 1", self.epsilon))
        if self.steps < 1:
            raise TrainingError(at("attack", "steps", "at least 1", self.steps))

    @property
    def step(self) -> float:
        """alpha."""
        return self.epsilon * OF_SOURCE[1] / OF_SOURCE[0] if self.step_size is None else self.step_size


def pixel_gradient(
    network: SpikingNetwork, images: torch.Tensor, labels: torch.Tensor, timesteps: int, objective: Objective
) -> torch.Tensor:
    """The gradient of the samples' summed loss by the pixels, (N, C, H, W). The weights' gradients are left alone."""
    inputs = images.detach().unsqueeze(0).requires_grad_()
    loss = objective.value(network(inputs, timesteps), labels, 1)
    (gradient,) = torch.autograd.grad(loss, inputs)
    return gradient[0]


def attacked(
    network: SpikingNetwork,
    images: torch.Tensor,
    labels: torch.Tensor,
    timesteps: int,
    objective: Objective,
    how: Attack,
    generator: torch.Generator,
) -> torch.Tensor:
    """Images (N, C, H, W) of pixels from 0 to 1, changed so that the network takes them for others than `labels`.

    generator: of random starts. Raises TrainingError for a network that reads no pixels.
    """
    if not network.reads_analog:
        raise TrainingError(at("attack", "network", "one whose first layer encodes pixels", "one that reads spikes"))
    was_training = network.training
    network.eval()
    try:
        sign = -1 if how.targeted else 1
        return _moved(images, lambda x: sign * pixel_gradient(network, x, labels, timesteps, objective), how, generator)
    finally:
        network.train(was_training)


def _moved(
    images: torch.Tensor,
    gradient: Callable[[torch.Tensor], torch.Tensor],
    how: Attack,
    generator: torch.Generator,
) -> torch.Tensor:
    """Eq. 3, or eq. 4: steps along the sign of the gradient, each put back into the box around the picture."""
    if how.method == "fgsm":
        return (images + how.epsilon * gradient(images).sign()).clamp(0, 1)
    found = images
    if how.random_start and how.method == "pgd":
        draws = torch.rand(images.shape, generator=generator, dtype=images.dtype)
        found = (images + how.epsilon * (2 * draws - 1)).clamp(0, 1)
    for _ in range(how.steps):
        found = found + how.step * gradient(found).sign()
        found = (images + (found - images).clamp(-how.epsilon, how.epsilon)).clamp(0, 1)
    return found
