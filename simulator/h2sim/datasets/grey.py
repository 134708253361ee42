"""Grey images in several channels: what a network of colour pictures reads of digits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from h2sim.arrays import Float32s, Ints
from h2sim.datasets.base import Dataset, Read
from h2sim.errors import DatasetError, at


@dataclass(frozen=True, eq=False)
class Repeated:
    """Reads another reader's grey images, float32 (n, 1, H, W), once in each channel: (n, channels, H, W)."""

    read: Read
    channels: int

    def __call__(self, indices: Ints) -> Float32s:
        return np.repeat(self.read(indices), self.channels, axis=1)


def in_channels(dataset: Dataset, channels: int) -> Dataset:
    """The data set with its grey images repeated in so many channels; its name says so.

    Raises DatasetError where samples are no grey images, unless they have so many channels themselves.
    """
    own, *size = dataset.shape
    if channels == own:
        return dataset
    if own != 1 or dataset.kind != "images":
        raise DatasetError(at(dataset.name, "channels", f"{own}, its own: only grey images are repeated", channels))
    train, test = (replace(part, read=Repeated(part.read, channels)) for part in (dataset.train, dataset.test))
    name = f"{dataset.name}, grey in {channels} channels"
    return replace(dataset, name=name, shape=(channels, size[0], size[1]), train=train, test=test)
