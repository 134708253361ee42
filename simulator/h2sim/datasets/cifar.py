"""CIFAR-10 and CIFAR-100: the pickled batches ("python version") or the binary version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from h2sim.arrays import Bytes, Ints
from h2sim.datasets.base import Dataset, Options, Split, chw
from h2sim.datasets.files import MOST_ARRAY_BYTES, data_bytes, integer_words
from h2sim.datasets.resize import Pixels
from h2sim.datasets.unpickle import read_plain_pickle
from h2sim.errors import DatasetError, at

SHAPE = (3, 32, 32)
VALUES = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """The files of one of the two data sets.

    train and test: names of the pickled files; the binary ones end in .bin. key: of the labels in a pickled dict.
    label_bytes: of a binary record, whose last one is the label (CIFAR-100 has the coarse label before it).
    """

    classes: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    key: str
    label_bytes: int


CIFAR10 = Version(10, tuple(f"data_batch_{n}" for n in range(1, 6)), ("test_batch",), "labels", 1)
CIFAR100 = Version(100, ("train",), ("test",), "fine_labels", 2)


def load_cifar10(name: str, folder: Path, options: Options) -> Dataset:
    """CIFAR-10: five batches to train on and one to test. Raises DatasetError if a batch is damaged."""
    return _load(name, folder, options, CIFAR10)


def load_cifar100(name: str, folder: Path, options: Options) -> Dataset:
    """CIFAR-100 with its 100 fine labels. Raises DatasetError if a file is damaged."""
    return _load(name, folder, options, CIFAR100)


def _load(name: str, folder: Path, options: Options, version: Version) -> Dataset:
    size = options.size or SHAPE[1:]
    train, test = (_split(folder, files, version, size) for files in (version.train, version.test))
    return Dataset(name=name, kind="images", shape=chw(SHAPE[0], size), classes=version.classes, train=train, test=test)


def _split(folder: Path, files: tuple[str, ...], version: Version, size: tuple[int, int]) -> Split:
    batches = [_batch(folder, file, version) for file in files]
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Split(labels, np.arange(len(labels)), Pixels(pixels.reshape(-1, *SHAPE), size))


def _batch(folder: Path, file: str, version: Version) -> tuple[Bytes, Ints]:
    """Pixels (n, 3072) uint8 and labels (n,) int64 of one file, checked."""
    path = folder / file
    pixels, labels = _pickled(path, version) if path.is_file() else _binary(path.with_name(f"{file}.bin"), version)
    wrong = max(labels) if max(labels) >= version.classes else min(labels)
    if not 0 <= wrong < version.classes:
        raise DatasetError(at(str(path), "label", f"0..{version.classes - 1}", integer_words(wrong)))
    return pixels, np.array(labels, np.int64)


def _pickled(path: Path, version: Version) -> tuple[Bytes, list[int]]:
    """Pixels, and as many labels of any size, at least one."""
    batch = read_plain_pickle(path)
    if not isinstance(batch, dict):
        raise DatasetError(at(str(path), "content", f"a dict with data and {version.key}", type(batch).__name__))
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    for key in ("data", version.key):
        if key not in named:
            raise DatasetError(at(str(path), key, "a key of the pickled dict", "none"))
    pixels, labels = named["data"], named[version.key]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (VALUES,):
        raise DatasetError(at(str(path), "data", f"uint8 of shape (n, {VALUES})", _kind(pixels)))
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DatasetError(at(str(path), version.key, "a list of integers", _kind(labels)))
    if not 0 < len(labels) == len(pixels):
        raise DatasetError(
            at(str(path), version.key, f"{len(pixels)}, the rows of data, and at least one", len(labels))
        )
    return pixels, labels


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__}"


def _binary(path: Path, version: Version) -> tuple[Bytes, list[int]]:
    data = np.frombuffer(data_bytes(path, MOST_ARRAY_BYTES), np.uint8)
    record = version.label_bytes + VALUES
    if not len(data) or len(data) % record:
        raise DatasetError(at(str(path), "length", f"a multiple of {record} bytes, one image each", len(data)))
    records = data.reshape(-1, record)
    return records[:, version.label_bytes :], records[:, version.label_bytes - 1].tolist()
