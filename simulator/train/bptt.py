"""The training loop: BPTT with Adam and cross-entropy on the mean over time of the read-out's current."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from h2sim.train.data import Digits, coded_input, shifted
from h2sim.train.network import SpikingNetwork


@dataclass(frozen=True)
class Recipe:
    """How to train: the learning rate falls linearly to 0 over all iterations; `shift_pixels` is augmentation.

    `max_iterations` ends training early (a test's two iterations); the rate still falls as if it did not.
    """

    epochs: int
    batch: int = 32
    learning_rate: float = 1e-3
    timesteps: int = 10
    shift_pixels: int = 0
    seed: int = 0
    max_iterations: int | None = None


@dataclass(frozen=True)
class Step:
    """One finished iteration: its number of `total`, and the loss of its batch."""

    iteration: int
    total: int
    loss: float


@dataclass(frozen=True)
class Batch:
    """A coded batch: inputs (T or 1, N, C, H, W), labels (N,), and the index of each sample in the training set."""

    inputs: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor


def first_samples(batch: Batch, count: int) -> Batch:
    """The first `count` samples of a batch: a sub-batch."""
    return Batch(batch.inputs[:, :count], batch.labels[:count], batch.indices[:count])


@contextmanager
def torch_session(threads: int = 1) -> Iterator[None]:
    """Torch with `threads` threads and deterministic algorithms only; what was set before comes back.

    One thread by default: OpenMP's threads spin, and two of them beside one busy process took 20 times as long.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def loss_of(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the time-averaged read-out current, output (T, N, classes), mean over the N samples."""
    return functional.cross_entropy(output.mean(0), labels)


def batches(digits: Digits, recipe: Recipe, analog: bool, generator: torch.Generator) -> Iterator[Batch]:
    """Shuffled, augmented, coded batches, epoch after epoch without end; a last partial batch is dropped."""
    n_train = len(digits.train_labels)
    while True:
        order = torch.randperm(n_train, generator=generator)
        for start in range(0, n_train - recipe.batch + 1, recipe.batch):
            indices = order[start : start + recipe.batch]
            images = shifted(digits.train_images[indices], recipe.shift_pixels, generator)
            inputs = coded_input(images, recipe.timesteps, analog, generator)
            yield Batch(inputs, digits.train_labels[indices], indices)


def train(
    network: SpikingNetwork,
    digits: Digits,
    recipe: Recipe,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Iterator[Batch]:
    """Train the network in place; returns the stream of batches, whose next one training has not seen yet."""
    generator = torch.Generator().manual_seed(recipe.seed)
    stream = batches(digits, recipe, network.reads_analog, generator)
    total = recipe.epochs * (len(digits.train_labels) // recipe.batch)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    for iteration in range(min(total, recipe.max_iterations or total)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (1 - iteration / total)
        batch = next(stream)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(network(batch.inputs, recipe.timesteps), batch.labels)
        loss.backward()
        optimizer.step()
        on_step(Step(iteration + 1, total, float(loss.detach())))
    return stream


@torch.no_grad()
def accuracy(network: SpikingNetwork, digits: Digits, timesteps: int, seed: int = 1, batch: int = 100) -> float:
    """Share of the held-out digits that the network names rightly; `seed` fixes the spikes they are coded with."""
    generator = torch.Generator().manual_seed(seed)
    right = 0
    for start in range(0, len(digits.test_labels), batch):
        images = digits.test_images[start : start + batch]
        inputs = coded_input(images, timesteps, network.reads_analog, generator)
        output = network(inputs, timesteps).mean(0)
        right += int((output.argmax(1) == digits.test_labels[start : start + batch]).sum())
    return right / len(digits.test_labels)
