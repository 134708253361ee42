"""Batches of a data set, shuffled, augmented and coded as the input of a spiking network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from h2sim.datasets import Dataset, Split
from h2sim.errors import TrainingError, at


@dataclass(frozen=True)
class Batch:
    """A coded batch of N samples.

    inputs: (T, N, C, H, W), or (1, N, C, H, W) where the input does not change over time. labels: (N,). rows: (N,),
    each sample's number in the file that it is from. images: the pixels that were coded, (N, C, H, W); None of events.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    rows: npt.NDArray[np.int64]
    images: torch.Tensor | None = None

    def part(self, start: int, stop: int) -> Batch:
        """The batch's samples i with start <= i < stop."""
        images = None if self.images is None else self.images[start:stop]
        return Batch(self.inputs[:, start:stop], self.labels[start:stop], self.rows[start:stop], images)


@dataclass(frozen=True)
class Coding:
    """How a data set's samples become a network's input over `timesteps`.

    An image is given once, as it is, to a network whose first layer encodes (analog = True), and as rate-coded spikes
    to any other network. The frames of an event data set are given as they are. most: the largest count of an input of
    counts, each of which adds up so many rate-coded spikes of the pixel. shift_pixels: each training sample is
    moved by up to so many pixels in both directions, at random (augmentation).
    """

    timesteps: int
    analog: bool
    shift_pixels: int = 0
    most: int = 1

    def check(self, dataset: Dataset) -> None:
        """Raises TrainingError if the samples are frames and not `timesteps` of them."""
        if dataset.kind == "events":
            frames = dataset.train.samples(np.arange(1)).shape[1]
            if frames != self.timesteps:
                raise TrainingError(at(dataset.name, "timesteps", str(self.timesteps), frames))

    def frames(self, samples: npt.NDArray[np.float32], generator: torch.Generator, shift: bool) -> torch.Tensor:
        """The network's input (T, N, C, H, W), float32, from frames of events (N, T, C, H, W).

        shift: whether samples are moved (see shift_pixels).
        """
        values = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        moved = shifted(values.flatten(1, 2), self.shift_pixels if shift else 0, generator)
        return moved.view(values.shape).transpose(0, 1).contiguous()

    def images(self, samples: npt.NDArray[np.float32], generator: torch.Generator, shift: bool) -> torch.Tensor:
        """Images (N, C, H, W), float32, moved where `shift` says so."""
        values = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        return shifted(values, self.shift_pixels if shift else 0, generator)

    def coded(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The network's input (T or 1, N, C, H, W) from images (N, C, H, W)."""
        if self.analog:
            return images.unsqueeze(0)
        counts = rate_spikes(images, self.timesteps, generator)
        for _ in range(self.most - 1):
            counts += rate_spikes(images, self.timesteps, generator)
        return counts


def rate_spikes(images: torch.Tensor, timesteps: int, generator: torch.Generator) -> torch.Tensor:
    """Bernoulli spikes (T, N, C, H, W), 0.0 or 1.0: a pixel of intensity p spikes with probability p at every
    timestep."""
    draws = torch.rand((timesteps, *images.shape), generator=generator)
    return (draws < images).to(images.dtype)


def shifted(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Images (N, C, H, W), each moved by a random offset of up to `pixels` in both directions.

    Zeros fill the border.
    """
    if not pixels:
        return images
    height, width = images.shape[-2:]
    padded = functional.pad(images, (pixels,) * 4)
    offsets = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets, strict=True)])


class BatchStream:
    """An endless iterator over shuffled batches, epoch after epoch. An epoch's last batch is dropped if it is not full.

    samples: train on so many only, spread over the split. All randomness comes from one generator: a stream that is
    given another stream's state continues as the other would have. Raises TrainingError if not one batch is full.
    """

    def __init__(self, dataset: Dataset, coding: Coding, batch: int, seed: int, samples: int | None = None) -> None:
        self.rows = dataset.train.spread(samples)
        available = len(self.rows)
        if batch > available:
            raise TrainingError(at(dataset.name, "batch", f"at most {available}, the samples to train on", batch))
        self.dataset, self.coding, self.batch, self.available = dataset, coding, batch, available
        self.generator = torch.Generator().manual_seed(seed)
        self.order, self.start = torch.empty(0, dtype=torch.int64), 0

    @property
    def batches_per_epoch(self) -> int:
        """Number of full batches in an epoch."""
        return self.available // self.batch

    def __next__(self) -> Batch:
        if self.start + self.batch > len(self.order):
            self.order, self.start = torch.randperm(self.available, generator=self.generator), 0
        indices = self.rows[self.order[self.start : self.start + self.batch].numpy()]
        self.start += self.batch
        return coded_batch(self.dataset, self.dataset.train, indices, self.coding, self.generator, shift=True)

    def state(self) -> dict[str, Any]:
        """The stream's place: what load_state needs to continue from here."""
        return {"generator": self.generator.get_state(), "order": self.order, "start": self.start}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues where the stream was whose state() returned `state`."""
        self.generator.set_state(state["generator"])
        self.order, self.start = state["order"], state["start"]


def coded_batch(
    dataset: Dataset,
    split: Split,
    indices: npt.NDArray[np.int64],
    coding: Coding,
    generator: torch.Generator,
    *,
    shift: bool,
) -> Batch:
    """The batch of a split's samples at positions `indices` (N,), coded."""
    samples, labels = split.samples(indices), torch.from_numpy(np.asarray(split.labels[indices], np.int64))
    if dataset.kind == "events":
        return Batch(coding.frames(samples, generator, shift), labels, split.rows[indices])
    images = coding.images(samples, generator, shift)
    return Batch(coding.coded(images, generator), labels, split.rows[indices], images)


def held_out(
    dataset: Dataset, coding: Coding, samples: int | None = None, seed: int = 1, part: int = 100
) -> Iterator[Batch]:
    """The held-out samples, or so many spread over them, in batches of `part`. seed: of the random spikes that images
    are coded as."""
    generator, rows = torch.Generator().manual_seed(seed), dataset.test.spread(samples)
    for start in range(0, len(rows), part):
        yield coded_batch(dataset, dataset.test, rows[start : start + part], coding, generator, shift=False)
