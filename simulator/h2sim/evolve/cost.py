"""The cost of thresholds (eq. 11): how soon accuracy rises, how steeply, and how far it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Latency = Callable[[int], float]  # of a timestep, counted from 1: what it takes to get there


@dataclass(frozen=True)
class Weights:
    """Cost = alpha J + beta (1 - max grad) + gamma (1 - Acc[T]); the source's values for CIFAR10."""

    alpha: float = 1.0
    beta: float = 10.0
    gamma: float = 500.0


def steps(timestep: int) -> float:
    """The source's latency: the timestep itself."""
    return float(timestep)


def steepest(accuracies: Sequence[float], chance: float) -> tuple[int, float]:
    """(J, max grad): the timestep, counted from 1, of the largest rise of accuracy, and that rise; of equal ones the
    first. The rise of the first timestep is from chance, 1 / classes [A]."""
    rises = [now - before for before, now in zip([chance, *accuracies], accuracies, strict=False)]
    largest = max(rises)
    return rises.index(largest) + 1, largest


def cost(accuracies: Sequence[float], chance: float, weights: Weights, latency: Latency = steps) -> float:
    """Eq. 11 of the accuracies up to t = 1 .. T, each from 0 to 1. latency: what stands for J."""
    timestep, rise = steepest(accuracies, chance)
    return weights.alpha * latency(timestep) + weights.beta * (1 - rise) + weights.gamma * (1 - accuracies[-1])


def steps_to(accuracies: Sequence[float], wanted: float) -> int | None:
    """The first timestep, counted from 1, from which on accuracy stays at `wanted` or above; None where it never does.

    It is the time that a user waits: a curve that passes a value and falls below it again has not reached it.
    """
    below = [t for t, accuracy in enumerate(accuracies, 1) if accuracy < wanted]
    last = below[-1] if below else 0
    return last + 1 if last < len(accuracies) else None
