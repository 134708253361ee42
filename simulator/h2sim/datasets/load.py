"""Finds and reads a data set by its name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from h2sim.datasets import saccade
from h2sim.datasets.base import Dataset, Description, Options
from h2sim.datasets.grey import in_channels
from h2sim.datasets.registry import ENTRIES, SACCADE, SACCADE_SOURCES
from h2sim.datasets.search import missing_files
from h2sim.errors import DatasetError, at
from h2sim.io.faults import show

MOST_SIDE, MOST_TIMESTEPS, MOST_CHANNELS = 4096, 65536, 1024
MOST_BIN_US = 10**12  # eleven days; times and bins of all timesteps then fit into 64 bits
MOST_SEED = 2**64 - 1


def names() -> list[str]:
    """The names of the data sets that load_dataset knows."""
    return [*ENTRIES, SACCADE.name]


def describe(name: str) -> Description:
    """A data set in words: kind, shape, classes, its files and where to get them.

    Raises DatasetError for an unknown name.
    """
    _check_name(name)
    return SACCADE if name == SACCADE.name else ENTRIES[name].description


def searched(name: str, folder: Path | None = None) -> list[Path]:
    """The folders in which a data set's files are looked for, in this order; with `folder`, only there."""
    _check_name(name)
    sources = SACCADE_SOURCES if name == SACCADE.name else (name,)
    return list(dict.fromkeys(path for source in sources for path in ENTRIES[source].place.searched(folder)))


def find(name: str, folder: Path | None = None) -> Path | None:
    """The folder that holds all of a data set's files, or None. Looks at the files' names only.

    Raises DatasetError for an unknown name.
    """
    _check_name(name)
    if name == SACCADE.name:
        return next((found for source in SACCADE_SOURCES if (found := find(source, folder))), None)
    return ENTRIES[name].place.find(folder)


def load_dataset(
    name: str,
    *,
    folder: Path | None = None,
    size: tuple[int, int] | None = None,
    timesteps: int = 10,
    time_bin_ms: float | None = None,
    seed: int = 0,
    channels: int | None = None,
) -> Dataset:
    """A data set from files that the user has; nothing is ever downloaded.

    folder: where the files are; without it $H2SIM_DATA/<name>, $H2SIM_DATA and the folder of an installed package are
    searched. size: (H, W) of the samples, None for the data set's own; images are averaged where the old size is a
    multiple of the new one, else resized bilinearly, and an event at x goes to floor(x * W / sensor W). timesteps:
    frames of an event sample. time_bin_ms: the time of each frame, in whole microseconds; None for 5 ms (table 5.6), or
    for saccade-mnist for frames that divide the movement's 300 ms. seed: draws the split of mnist-5k.
    channels: grey images are repeated in so many (None: the data set's own). Raises DatasetError, in one line, for
    anything missing, damaged or out of range.
    """
    options = _options(name, size, timesteps, time_bin_ms, seed)
    if channels is not None:
        _check_within(name, "channels", channels, 1, MOST_CHANNELS)
    data = _read(name, None if folder is None else Path(folder), options)
    return data if channels is None else in_channels(data, channels)


def _read(name: str, folder: Path | None, options: Options) -> Dataset:
    if name == SACCADE.name:
        source = next((source for source in SACCADE_SOURCES if find(source, folder)), None)
        if source is None:
            needs = "; or ".join(str(_missing(source, folder)) for source in SACCADE_SOURCES)
            raise DatasetError(f"{name}: needs digits: {needs}")
        return saccade.of_digits(name, load_dataset(source, folder=folder, seed=options.seed), options)
    found = find(name, folder)
    if found is None:
        raise _missing(name, folder)
    try:
        return ENTRIES[name].load(name, found, options)
    except OSError as error:  # a folder that cannot be listed
        raise DatasetError(at(str(error.filename or found), "file", "a readable one", error.strerror)) from None


def _missing(name: str, folder: Path | None) -> DatasetError:
    entry = ENTRIES[name]
    return missing_files(entry.place, folder, entry.description.files, entry.description.get)


def _check_name(name: str) -> None:
    if name not in names():
        raise DatasetError(at("data set", "name", f"one of {', '.join(names())}", name))


def _check_within(name: str, field: str, number: int, least: int, most: int) -> None:
    if not number >= least:  # nor is nan
        raise DatasetError(at(name, field, f"at least {least}", show(number)))
    if not isinstance(number, int | np.integer) or number > most:
        raise DatasetError(at(name, field, f"an integer of at most {most}", show(number)))


def _options(name: str, size: tuple[int, int] | None, timesteps: int, time_bin_ms: float | None, seed: int) -> Options:
    """The options, checked against each other and the data set's kind."""
    kind = describe(name).kind
    if size is not None and (len(size) != 2 or not min(size) >= 1):
        raise DatasetError(at(name, "size", "two positive integers H,W", ",".join(map(show, size))))
    for side in size or ():
        _check_within(name, "size", side, 1, MOST_SIDE)
    _check_within(name, "timesteps", timesteps, 1, MOST_TIMESTEPS)
    _check_within(name, "seed", seed, 0, MOST_SEED)
    if time_bin_ms is None:
        return Options(size, timesteps, None, seed)
    if kind == "images":
        raise DatasetError(at(name, "time bin", "none, as images have no events", f"{time_bin_ms:g} ms"))
    bin_us = round(time_bin_ms * 1000) if math.isfinite(time_bin_ms) else 0
    if not 1 <= bin_us <= MOST_BIN_US or abs(bin_us - time_bin_ms * 1000) > 1e-6:
        wanted = f"whole microseconds, at least 0.001 ms and at most {MOST_BIN_US // 1000} ms"
        raise DatasetError(at(name, "time bin", wanted, f"{time_bin_ms:g} ms"))
    return Options(None if size is None else (size[0], size[1]), timesteps, bin_us, seed)
