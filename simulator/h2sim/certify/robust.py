"""Robust training and the robust error: what the bounds say of a batch, and of the held-out samples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from h2sim.certify.boundary import image_box, image_spikes, spike_picks
from h2sim.certify.bounding import Bounds, bounds
from h2sim.errors import TrainingError, at
from h2sim.train.batches import Batch, held_out
from h2sim.train.network import SpikingNetwork
from h2sim.train.trainer import Trainer

Bound = Literal["crown", "ibp", "max"]
Told = Callable[[int, int], None]  # samples so far, of all


@dataclass(frozen=True)
class RobustError:
    """Shares of samples for which a bound proves nothing: by S-IBP, by S-CROWN, and by the larger of both.

    clean: the share that is wrong as it is, over the same timesteps and random numbers. unstable: share of the input's
    spikes, or pixels, that may differ. All hold for the random numbers that were drawn.
    """

    epsilon: float
    timesteps: int
    samples: int
    clean: float
    ibp: float
    crown: float
    best: float
    unstable: float


@dataclass(frozen=True)
class Boundary:
    """Bounds of a batch's input, (T', N, ...) or (N, ...), and the input itself between them."""

    lower: torch.Tensor
    upper: torch.Tensor
    own: torch.Tensor


def boundary(
    network: SpikingNetwork, batch: Batch, epsilon: float, timesteps: int, generator: torch.Generator
) -> Boundary:
    """What lies near the samples of a batch, over T' timesteps.

    Pixels that the network encodes may lie in a box of width epsilon; those that are coded as spikes give spikes by
    random numbers that the generator draws (eq. 6.10, 6.11). Of the first T' frames of events, each element is picked
    with probability epsilon (eq. 6.9).
    """
    if batch.images is None:
        own = batch.inputs[:timesteps]
        return Boundary(*spike_picks(own, epsilon, generator), own)
    if network.reads_analog:
        return Boundary(*image_box(batch.images, epsilon), batch.images)
    draws = torch.rand((timesteps, *batch.images.shape), generator=generator)
    return Boundary(*image_spikes(batch.images, epsilon, draws), image_spikes(batch.images, 0, draws)[0])


def margins(found: Bounds, bound: Bound) -> torch.Tensor:
    """The lower bounds of the margins that a loss takes, (N, classes - 1)."""
    return {"crown": found.crown, "ibp": found.ibp, "max": found.certificate}[bound]


def robust_loss(values: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the logits 0 at the label and -v at every other class, the mean over samples."""
    logits = torch.cat([torch.zeros_like(values[:, :1]), -values], 1)
    return functional.cross_entropy(logits, torch.zeros(len(values), dtype=torch.int64))


@torch.no_grad()
def robust_error(
    run: Trainer, epsilon: float, timesteps: int, samples: int | None = None, seed: int = 0, told: Told | None = None
) -> RobustError:
    """The robust error of a trained network on held-out samples, in float64. A margin of 0 is no proof.

    Raises TrainingError for more timesteps than the data has, NetworkError for a network without bounds.
    """
    if run.dataset.kind == "events" and timesteps > run.settings.timesteps:
        wanted = f"at most {run.settings.timesteps}, those of the samples"
        raise TrainingError(at("robust error", "timesteps", wanted, timesteps))
    generator, count = torch.Generator().manual_seed(seed), len(run.dataset.test.spread(samples))
    network = copy.deepcopy(run.network).double()
    unproven, wrong, done = torch.zeros(3, dtype=torch.int64), 0, 0
    free = elements = 0
    for batch in held_out(run.dataset, run.coding, samples, part=50):
        near = boundary(network, batch, epsilon, timesteps, generator)
        found = bounds(network, near.lower, near.upper, batch.labels, timesteps=timesteps)
        each = (found.ibp, found.crown, found.certificate)
        unproven += torch.stack([(values <= 0).any(1).sum() for values in each])
        alone = bounds(network, near.own, near.own, batch.labels, timesteps=timesteps)
        wrong += int((~alone.robust).sum())
        free, elements = free + int((near.lower != near.upper).sum()), elements + near.own.numel()
        done += len(batch.labels)
        if told is not None:
            told(done, count)
    ibp, crown, best = (int(n) / count for n in unproven)
    return RobustError(epsilon, timesteps, count, wrong / count, ibp, crown, best, free / elements)
