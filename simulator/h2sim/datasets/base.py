"""What every data set is to the trainer: labelled samples to train on and others held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["images", "events"]
Read = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled samples.

    labels (N,) int64; rows (N,) int64 the samples' numbers in their source files, which traces record;
    read: positions (n,) -> samples, float32.
    """

    labels: np.ndarray
    rows: np.ndarray
    read: Read

    def __len__(self) -> int:
        return len(self.labels)

    def samples(self, indices: np.ndarray) -> np.ndarray:
        """The samples at positions `indices` (n,) of this split, float32.

        Images: (n, C, H, W) in [0, 1]. Events: (n, T, C, H, W), 0 or 1. Raises DatasetError where samples are read
        from files as they are needed and one of them is damaged.
        """
        return self.read(np.asarray(indices))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: `name` is what a trace records, `shape` (C, H, W) is that of an image or of one frame of events."""

    name: str
    kind: Kind
    shape: tuple[int, int, int]
    classes: int
    train: Split
    test: Split


@dataclass(frozen=True, eq=False)
class Part:
    """Reads some of another reader's samples: position i of this is rows[i] of that."""

    read: Read
    rows: np.ndarray

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        return self.read(self.rows[indices])


@dataclass(frozen=True)
class Options:
    """What a user may ask of any data set.

    size: (H, W) of the samples, None is the data set's own. timesteps: frames T of an event sample. bin_us: the time
    one frame spans, None is the data set's own. seed: of the splits that are drawn at random.
    """

    size: tuple[int, int] | None = None
    timesteps: int = 10
    bin_us: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Description:
    """A data set in words. shape (C, H, W) and classes are None where the user's files set them."""

    name: str
    kind: Kind
    shape: tuple[int, int, int] | None
    classes: int | None
    files: str
    get: str
    note: str


def last_tenth_held_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (train, test) where there is no official split: the last 10 % of each class, at least one, held out.

    labels (N,) are in the order of the files. A class of one sample is all for training.
    """
    held = [own[len(own) - _tenth(len(own)) :] for own in (np.flatnonzero(labels == c) for c in np.unique(labels))]
    test = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), test), test


def _tenth(samples: int) -> int:
    return 0 if samples < 2 else max(1, samples // 10)
