"""MNIST and Fashion-MNIST: the IDX files that both are distributed as, plain or gzipped."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from h2sim.arrays import Bytes
from h2sim.datasets.base import Dataset, Options, Split, chw
from h2sim.datasets.files import MOST_ARRAY_BYTES, data_bytes, unpacked_bytes
from h2sim.datasets.resize import Pixels
from h2sim.errors import DatasetError, at

SIDE, CLASSES, ALL_TRAIN = 28, 10, 60000
IMAGES_MAGIC, LABELS_MAGIC = 0x00000803, 0x00000801
STEMS = ("train-images", "train-labels", "t10k-images", "t10k-labels")


def spellings(stem: str) -> tuple[str, ...]:
    """The names under which a file may lie, for example train-images-idx3-ubyte and train-images.idx3-ubyte.gz."""
    ending = "idx3-ubyte" if stem.endswith("images") else "idx1-ubyte"
    return tuple(f"{stem}{mark}{ending}{packed}" for mark in "-." for packed in ("", ".gz"))


def load_idx(name: str, folder: Path, options: Options) -> Dataset:
    """The data set `name` from the four IDX files in `folder`. Raises DatasetError if one is damaged."""
    size = options.size or (SIDE, SIDE)
    train = _split(folder, "train", size)
    _check_which(name, folder, train)
    return Dataset(
        name=name, kind="images", shape=chw(1, size), classes=CLASSES, train=train, test=_split(folder, "t10k", size)
    )


def _split(folder: Path, part: str, size: tuple[int, int]) -> Split:
    image_file, label_file = _file(folder, f"{part}-images"), _file(folder, f"{part}-labels")
    images, labels = read_idx(image_file, IMAGES_MAGIC), read_idx(label_file, LABELS_MAGIC)
    if images.shape[1:] != (SIDE, SIDE):
        raise DatasetError(at(str(image_file), "image size", f"{SIDE}x{SIDE}", "x".join(map(str, images.shape[1:]))))
    if len(labels) != len(images):
        raise DatasetError(
            at(str(label_file), "labels", f"{len(images)}, the images of {image_file.name}", len(labels))
        )
    if not len(labels):
        raise DatasetError(at(str(label_file), "labels", "at least one", 0))
    if labels.max() >= CLASSES:
        raise DatasetError(at(str(label_file), "label", f"0..{CLASSES - 1}", int(labels.max())))
    return Split(labels.astype(np.int64), np.arange(len(labels)), Pixels(images[:, None], size))


def _file(folder: Path, stem: str) -> Path:
    names = spellings(stem)
    return folder / next((name for name in names if (folder / name).is_file()), names[0])


def _check_which(name: str, folder: Path, train: Split) -> None:
    """Raises DatasetError if the files are those of the other data set, which has the same file names.

    Only Fashion-MNIST has 6000 training images of every class.
    """
    even = bool(np.all(np.bincount(train.labels, minlength=CLASSES) == ALL_TRAIN // CLASSES))
    if len(train) == ALL_TRAIN and even != (name == "fashion-mnist"):
        found = (
            "6000 of each class, as in Fashion-MNIST" if even else "other counts than 6000 of each class, as in MNIST"
        )
        raise DatasetError(at(str(_file(folder, "train-labels")), "labels", f"those of {name}", found))


def read_idx(path: Path, magic: int) -> Bytes:
    """The array of an IDX file, uint8.

    The file is a magic number, whose last byte is the number of dimensions, then their sizes in 32 bits each, then the
    values; all are big-endian. Raises DatasetError on another magic number, and on another length than the sizes say.
    """
    data = (unpacked_bytes if path.suffix == ".gz" else data_bytes)(path, MOST_ARRAY_BYTES)
    header = 4 + 4 * (magic & 0xFF)
    if len(data) < header:
        raise DatasetError(at(str(path), "length", f"at least {header} bytes, an IDX header", len(data)))
    found, *extents = (int(word) for word in np.frombuffer(data, ">u4", header // 4))
    if found != magic:
        raise DatasetError(at(str(path), "magic number", f"0x{magic:08x}", f"0x{found:08x}"))
    if len(data) - header != math.prod(extents):
        wanted = f"{' x '.join(map(str, extents))} bytes after the header"
        raise DatasetError(at(str(path), "length", wanted, len(data) - header))
    return np.frombuffer(data, np.uint8, offset=header).reshape(extents)
