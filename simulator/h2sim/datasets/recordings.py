"""Data sets that are a folder of class folders of AEDAT recordings: CIFAR10-DVS, and whatever a user recorded."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from h2sim.arrays import Ints
from h2sim.datasets.aedat import read_aedat
from h2sim.datasets.base import Dataset, Options, Part, Split, last_tenth_held_out
from h2sim.datasets.events import SOURCE_BIN_US, Recordings, bins
from h2sim.errors import DatasetError, at

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ENDINGS = (".aedat", ".aedat4")
CIFAR10_DVS_SIZE = (42, 42)  # table 3.4
KEPT_OPEN = 8  # recordings kept in memory, as neighbouring samples come from the same file


def load_cifar10_dvs(name: str, folder: Path, options: Options) -> Dataset:
    """CIFAR10-DVS: a sample per recording. The last 10 % of each class are held out: there is no official split."""
    size, bin_us = options.size or CIFAR10_DVS_SIZE, options.bin_us or SOURCE_BIN_US
    files = [class_files(folder / c) for c in CIFAR10_CLASSES]
    labels = np.repeat(np.arange(len(files)), [len(own) for own in files])
    paths = tuple(path for own in files for path in own)
    source = Recordings(
        paths=paths,
        read=read_aedat,
        size=size,
        timesteps=options.timesteps,
        bin_us=bin_us,
        file_of=np.arange(len(paths)),
    )
    recorded = f"{name} ({bins(bin_us)}, last 10 % of each class held out)"
    return _held_out(recorded, folder, labels, source, CIFAR10_CLASSES)


def load_aedat4(name: str, folder: Path, options: Options) -> Dataset:
    """A folder of class folders of recordings, each cut into as many whole samples of T time bins as it holds.

    A recording shorter than one sample gives one; samples without any event are left out. The last 10 % of each
    class's samples are held out.
    """
    bin_us = options.bin_us or SOURCE_BIN_US
    read = lru_cache(maxsize=KEPT_OPEN)(read_aedat)
    paths: list[str] = []
    sensors: dict[tuple[int, int], str] = {}
    labels, file_of, starts = [], [], []
    classes = sorted(entry.name for entry in folder.iterdir() if _recordings(entry))
    for label, class_name in enumerate(classes):
        for path in class_files(folder / class_name):
            recording = read(path)
            sensors.setdefault(recording.sensor, path)
            cut = _starts(recording.t_us, options.timesteps * bin_us)
            labels += [label] * len(cut)
            file_of += [len(paths)] * len(cut)
            starts += cut
            paths.append(path)
    size = options.size or _only_sensor(sensors)
    source = Recordings(
        paths=tuple(paths),
        read=read,
        size=size,
        timesteps=options.timesteps,
        bin_us=bin_us,
        file_of=np.array(file_of),
        start_us=np.array(starts, np.int64),
    )
    recorded = f"{name} {folder.name} ({bins(bin_us)}, last 10 % of each class held out)"
    return _held_out(recorded, folder, np.array(labels), source, tuple(classes))


def class_files(folder: Path) -> list[str]:
    """The recordings of one class, ordered by the numbers in their names and then by the names.

    Raises DatasetError if there is none.
    """
    files = _recordings(folder)
    if not files:
        raise DatasetError(at(str(folder), "files", f"at least one {' or '.join(ENDINGS)}", "none"))
    return sorted(files, key=lambda file: ([int(digits) for digits in re.findall(r"\d+", Path(file).name)], file))


def _recordings(folder: Path) -> list[str]:
    return [str(file) for file in folder.glob("*") if file.name.lower().endswith(ENDINGS)]


def _starts(t_us: Ints, sample_us: int) -> list[int]:
    first = int(t_us.min())
    whole = max(1, (int(t_us.max()) + 1 - first) // sample_us)
    return [first + int(i) * sample_us for i in np.unique((t_us - first) // sample_us) if i < whole]


def _only_sensor(sensors: dict[tuple[int, int], str]) -> tuple[int, int]:
    if len(sensors) > 1:
        (first, one), (second, other) = list(sensors.items())[:2]
        sizes = f"{first[0]}x{first[1]} in {one}, {second[0]}x{second[1]}"
        raise DatasetError(at(other, "sensor size", "one for all recordings, or a size to bring them to", sizes))
    return next(iter(sensors))


def _held_out(name: str, folder: Path, labels: Ints, source: Recordings, classes: tuple[str, ...]) -> Dataset:
    for label, class_name in enumerate(classes):
        if (count := int((labels == label).sum())) < 2:
            wanted = "at least 2, one to train on and one to hold out"
            raise DatasetError(at(str(folder / class_name), "samples", wanted, count))
    train, test = (Split(labels[rows], rows, Part(source, rows)) for rows in last_tenth_held_out(labels))
    return Dataset(name=name, kind="events", shape=(2, *source.size), classes=len(classes), train=train, test=test)
