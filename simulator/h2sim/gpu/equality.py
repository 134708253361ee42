"""Whether an implementation computes the reference's values: loss and gradients of one step on the same weights.

A spike that rounding flips changes those behind it, so that right implementations can be far apart. For the comparison
weights and samples are therefore rounded to 8 bits: sums of their products are exact in float32, in whatever order, and
no membrane comes so near the threshold that rounding decides.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from h2sim.gpu.baselines import RUN_BY
from h2sim.gpu.implementations import REFERENCE, Implementation
from h2sim.gpu.network import Plain
from h2sim.gpu.step import TrainingStep
from h2sim.gpu.trace import Values

TOLERANCE = 1e-4  # [A] rounding of gradients alone gives 1e-7 to 1e-5, another surrogate 1e-1
BITS = 7  # of a weight or a sample, beside its sign


@dataclass(frozen=True)
class Checked:
    """values: None where memory has no room for the reference. first_seconds: what the first step took."""

    values: Values | None
    first_seconds: float


def checked_values(training: TrainingStep) -> Checked:
    """Loss and gradients of a first step of the training's implementation beside the reference's.

    Weights and samples are afterwards as before. Raises torch.OutOfMemoryError where memory has no room for the
    implementation itself.
    """
    with _coarse(training):
        start = time.perf_counter()
        ours = _run(training, training.way)
        first_seconds = time.perf_counter() - start
        try:
            theirs = _run(training, RUN_BY[REFERENCE](training.network, training.workload.timesteps))
        except torch.OutOfMemoryError:
            return Checked(None, first_seconds)
    return Checked(compared(ours, theirs), first_seconds)


def compared(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> Values:
    """Of an implementation and of the reference: loss and gradients, in this order."""
    same_bits = all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    loss = relative_difference(ours[:1], theirs[:1])
    gradients = relative_difference(ours[1:], theirs[1:])
    return Values(
        reference=REFERENCE,
        equal=same_bits or (loss <= TOLERANCE and gradients <= TOLERANCE),
        same_bits=same_bits,
        loss_difference=loss,
        gradient_difference=gradients,
        tolerance=TOLERANCE,
    )


def relative_difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """2-norm of the difference over the 2-norm of theirs, all tensors as one vector; the difference's alone over 0."""
    apart = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(ours, theirs, strict=True))
    whole = sum(float(b.double().square().sum()) for b in theirs)
    return float((apart / whole if whole else apart) ** 0.5)


@contextmanager
def _coarse(training: TrainingStep) -> Iterator[None]:
    """A block in which the weights and samples are rounded; behind it no gradients stand."""
    parameters = [parameter.data for parameter in training.network.parameters()]
    held, inputs = [value.clone() for value in parameters], training.inputs
    for value in parameters:
        value.copy_(coarse(value))
    training.inputs = coarse(inputs)
    try:
        yield
    finally:
        for value, before in zip(parameters, held, strict=True):
            value.copy_(before)
        training.inputs = inputs
        training.optimizer.zero_grad(set_to_none=True)
        if training.device.type == "cuda":
            torch.cuda.empty_cache()


def coarse(value: torch.Tensor) -> torch.Tensor:
    """Rounded to multiples of a power of two, 2^BITS of which reach the largest."""
    largest = float(value.abs().max())
    if not largest:
        return value
    step = 2.0 ** (torch.tensor(largest).log2().ceil().item() - BITS)
    return (value / step).round() * step


def _run(training: TrainingStep, way: Implementation) -> list[torch.Tensor]:
    """Loss and gradients of a step, on the processor: the device may have no room for two sets."""
    loss = training.gradients(Plain(training.network), way)
    gradients = [parameter.grad for parameter in training.network.parameters()]
    return [value.detach().cpu().clone() for value in (loss, *gradients) if value is not None]
