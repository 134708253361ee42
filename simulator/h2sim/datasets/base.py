"""What every data set gives to the trainer: labelled samples to train on, and others that are held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from h2sim.arrays import Float32s, Ints

Kind = Literal["images", "events"]
Read = Callable[[Ints], Float32s]


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled samples.

    labels: int64 (N,); rows: int64 (N,), the samples' numbers in their source files, which traces record; read:
    gives the samples at positions (n,), float32.
    """

    labels: Ints
    rows: Ints
    read: Read

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self)} samples)"

    def samples(self, indices: Ints) -> Float32s:
        """The samples at positions `indices` (n,) of this split, float32.

        Images: (n, C, H, W) in [0, 1]. Events: (n, T, C, H, W), 0 or 1. Raises DatasetError where samples are read
        from files as they are needed and one of them is damaged.
        """
        return self.read(np.asarray(indices))

    def spread(self, count: int | None) -> Ints:
        """Positions of `count` samples at equal distances, since a split may be sorted by class; None: of all."""
        count = len(self) if count is None else min(count, len(self))
        return np.arange(count) * len(self) // max(count, 1)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set. name: what a trace records; shape: (C, H, W) of an image or of one frame of events."""

    name: str
    kind: Kind
    shape: tuple[int, int, int]
    classes: int
    train: Split
    test: Split

    def __repr__(self) -> str:
        size = f"{len(self.train)} + {len(self.test)} {self.kind}"
        return f"Dataset({self.name!r}: {size} of {self.shape}, {self.classes} classes)"


@dataclass(frozen=True, eq=False)
class Part:
    """Reads some of another reader's samples: its position i is position rows[i] of the other."""

    read: Read
    rows: Ints

    def __call__(self, indices: Ints) -> Float32s:
        return self.read(self.rows[indices])


@dataclass(frozen=True)
class Options:
    """What a user may ask of any data set.

    size: (H, W) of the samples, None for the data set's own. timesteps: T, frames of an event sample. bin_us: the time
    that one frame spans, None for the data set's own. seed: of the splits that are drawn at random.
    """

    size: tuple[int, int] | None = None
    timesteps: int = 10
    bin_us: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Description:
    """A data set in words.

    shape (C, H, W) and classes are None where the user's files decide them. files: what must be there; get: where to
    get it.
    """

    name: str
    kind: Kind
    shape: tuple[int, int, int] | None
    classes: int | None
    files: str
    get: str
    note: str


def last_tenth_held_out(labels: Ints) -> tuple[Ints, Ints]:
    """Positions (train, test), int64, for a data set without an official split.

    The last 10 % of each class, but at least one sample, are held out. labels (N,) are in the order of the files. A
    class of one sample is for training.
    """
    held = [own[len(own) - _tenth(len(own)) :] for own in (np.flatnonzero(labels == c) for c in np.unique(labels))]
    test = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), test), test


def _tenth(samples: int) -> int:
    return 0 if samples < 2 else max(1, samples // 10)


def chw(channels: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """(C, H, W) of so many channels of `size` (H, W)."""
    return channels, size[0], size[1]
