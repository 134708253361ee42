"""N-MNIST: MNIST digits that a moving ATIS sensor recorded, in folders Train/<digit> and Test/<digit> of .bin files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from h2sim.datasets.base import Dataset, Options, Split
from h2sim.datasets.events import SOURCE_BIN_US, Recording, Recordings, bins, checked
from h2sim.datasets.files import MOST_EVENT_BYTES, data_bytes
from h2sim.errors import DatasetError, at

SENSOR, CLASSES = (34, 34), 10
EVENT_BYTES = 5
MOST_DIGITS = 18  # of a file's number, which is kept in 64 bits
OVERFLOW_Y, OVERFLOW_US = 240, 1 << 13  # what the data set's own reader takes for a clock overflow, and adds for it


def load_nmnist(name: str, folder: Path, options: Options) -> Dataset:
    """N-MNIST from `folder`. A file is read when its sample is asked for; a row is the number in the file's name."""
    size, bin_us = options.size or SENSOR, options.bin_us or SOURCE_BIN_US
    parts = (_split(folder / part, size, options.timesteps, bin_us) for part in ("Train", "Test"))
    return Dataset(f"{name} ({bins(bin_us)})", "events", (2, *size), CLASSES, *parts)


def _split(folder: Path, size: tuple[int, int], timesteps: int, bin_us: int) -> Split:
    paths, labels, rows = [], [], []
    for digit in range(CLASSES):
        for stem in _stems(folder / str(digit)):
            paths.append(os.path.join(folder, str(digit), f"{stem}.bin"))
            labels.append(digit)
            rows.append(int(stem))
    read = Recordings(
        paths=tuple(paths), read=read_atis, size=size, timesteps=timesteps, bin_us=bin_us, file_of=np.arange(len(paths))
    )
    return Split(np.array(labels, np.int64), np.array(rows, np.int64), read)


def _stems(folder: Path) -> list[str]:
    """The sorted numeric file stems of one digit's folder. Raises DatasetError if there are none, or others."""
    if not folder.is_dir():
        raise DatasetError(at(str(folder), "folder", "one, with a digit's .bin files", "none"))
    stems = [file.stem for file in folder.glob("*.bin")]
    if not stems:
        raise DatasetError(at(str(folder), "files", "at least one .bin", "none"))
    for stem in stems:
        if not stem.isdecimal() or len(stem) > MOST_DIGITS:
            raise DatasetError(at(str(folder / f"{stem}.bin"), "name", "a number and .bin", stem))
    return sorted(stems, key=lambda stem: (int(stem), stem))


def read_atis(path: str) -> Recording:
    """The events of one file of 5-byte records: x (8 bits), y (8), ON (1), time in us (23, big-endian).

    A record with y = 240 is no event: it says that the clock overflowed, and 2^13 us are added to all later times.
    Raises DatasetError if the file is damaged.
    """
    file = Path(path)
    data = data_bytes(file, MOST_EVENT_BYTES)
    if len(data) % EVENT_BYTES:
        raise DatasetError(at(path, "length", f"a multiple of {EVENT_BYTES} bytes, one event each", len(data)))
    x, y, high, middle, low = np.frombuffer(data, np.uint8).reshape(-1, EVENT_BYTES).T.astype(np.int64)
    overflow = y == OVERFLOW_Y
    t_us = ((high & 0x7F) << 16 | middle << 8 | low) + OVERFLOW_US * np.cumsum(overflow)
    events = ~overflow
    return checked(file, t_us[events], x[events], y[events], (high >> 7)[events] == 1, SENSOR)
