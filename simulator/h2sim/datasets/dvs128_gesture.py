"""DVS128 Gesture as IBM gives it out: recordings of several gestures each, tables of when each was made, two lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from h2sim.arrays import Float32s, Ints
from h2sim.datasets.aedat3 import PacketIndex, index_packets
from h2sim.datasets.aedat_header import read_header
from h2sim.datasets.base import Dataset, Options, Split, chw
from h2sim.datasets.events import bins, frames
from h2sim.datasets.files import data_bytes
from h2sim.errors import DatasetError, at
from h2sim.io.faults import show
from h2sim.io.reading import MIB

LISTS = ("trials_to_train.txt", "trials_to_test.txt")
ENDING, TABLE_ENDING = ".aedat", "_labels.csv"
COLUMNS = ("class", "startTime_usec", "endTime_usec")
SENSOR, CLASSES = (128, 128), 11
SIZE = (32, 32)  # the input of the source's network of table 5.5, `attack-gesture`
BIN_US = 1000  # table 5.6
MOST_TEXT_BYTES = MIB  # of a list or a table; those of the data set have 2 KiB
MOST_DIGITS = 18  # of a time, which is kept in 64 bits


@dataclass(frozen=True)
class Gesture:
    """A row of a table: from when to when a gesture of a class, 1 to 11, was made. table, line: where it stands."""

    recording: str
    table: str
    line: int
    number: int
    start_us: int
    stop_us: int


@dataclass(frozen=True, eq=False)
class Gestures:
    """Reads samples, float32 (n, T, 2, H, W) of 0 and 1: a gesture's first T time bins, none of them behind its end.

    packets: gives the index of a recording, which is made when the first of its samples is asked for.
    """

    gestures: tuple[Gesture, ...]
    packets: Callable[[str], PacketIndex]
    size: tuple[int, int]
    timesteps: int
    bin_us: int

    def __call__(self, indices: Ints) -> Float32s:
        out = np.zeros((len(indices), self.timesteps, 2, *self.size), np.float32)
        for at_row, i in enumerate(indices):
            gesture = self.gestures[i]
            index, last_us = self.packets(gesture.recording), gesture.start_us + self.timesteps * self.bin_us
            events = index.between(gesture.start_us, min(gesture.stop_us, last_us))
            if events is not None:
                out[at_row] = frames(events, self.size, self.timesteps, self.bin_us, gesture.start_us)
            elif index.between(gesture.start_us, gesture.stop_us) is None:
                raise _outside(gesture, index)
        return out


def load_dvs128_gesture(name: str, folder: Path, options: Options) -> Dataset:
    """DVS128 Gesture from `folder`. Lists and tables are read at once, a recording when a sample of it is asked for.

    A row of the data set is a gesture's number, counted over both lists in their order.
    """
    size, bin_us = options.size or SIZE, options.bin_us or BIN_US
    packets = lru_cache(maxsize=None)(_packets)
    splits: list[Split] = []
    seen: dict[str, str] = {}
    for listed in LISTS:
        gestures = tuple(g for trial in _trials(folder / listed, seen) for g in _gestures(folder, trial))
        labels = np.array([gesture.number - 1 for gesture in gestures], np.int64)
        rows = np.arange(len(labels)) + sum(len(split) for split in splits)
        splits.append(Split(labels, rows, Gestures(gestures, packets, size, options.timesteps, bin_us)))
    return Dataset(f"{name} ({bins(bin_us)})", "events", chw(2, size), CLASSES, *splits)


def _packets(path: str) -> PacketIndex:
    header = read_header(path)
    if header.version != "3.1":
        raise DatasetError(at(path, "AEDAT version", "3.1", header.version or "none"))
    return index_packets(path, header, SENSOR)


def _outside(gesture: Gesture, index: PacketIndex) -> DatasetError:
    first, last = index.runs[:, 2].min(), index.runs[:, 3].max()
    wanted = f"a time with events, of which {gesture.recording} has those of {first} to {last} us"
    return DatasetError(
        at(gesture.table, f"line {gesture.line}", wanted, f"{gesture.start_us} to {gesture.stop_us} us")
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers. Raises DatasetError if it is no text."""
    try:
        text = data_bytes(path, MOST_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetError(at(str(path), "content", "text in UTF-8", "other bytes")) from None
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return ((number, line) for number, line in lines if line)


def _trials(path: Path, seen: dict[str, str]) -> list[str]:
    """The recordings that a list names. seen: those of any list, with the place of each; the list's own are added."""
    trials = []
    for number, trial in _lines(path):
        place = f"{path}: line {number}"
        if not trial.endswith(ENDING) or "/" in trial or "\\" in trial or not trial.isprintable():
            raise DatasetError(at(place, "recording", f"a file's name with {ENDING}", show(trial)))
        if trial in seen:
            raise DatasetError(at(place, "recording", f"one that no line before names, as {seen[trial]} does", trial))
        if not (path.parent / trial).is_file():
            raise DatasetError(at(str(path.parent / trial), "file", f"one, as {path.name} says", "none"))
        seen[trial] = f"{path.name}, line {number}"
        trials.append(trial)
    if not trials:
        raise DatasetError(at(str(path), "recordings", "at least one", "none"))
    return trials


def _gestures(folder: Path, trial: str) -> list[Gesture]:
    """The rows of the table beside a recording. Raises DatasetError, which names the line, if one is wrong."""
    table = folder / f"{trial.removesuffix(ENDING)}{TABLE_ENDING}"
    lines = _lines(table)
    _, head = next(lines, (1, ""))
    if tuple(cell.strip() for cell in head.split(",")) != COLUMNS:
        raise DatasetError(at(str(table), "line 1", ",".join(COLUMNS), show(head)))
    found = [Gesture(str(folder / trial), str(table), number, *_cells(table, number, line)) for number, line in lines]
    if not found:
        raise DatasetError(at(str(table), "gestures", "at least one", "none"))
    return found


def _cells(table: Path, number: int, line: str) -> tuple[int, int, int]:
    """A gesture's class, start and end."""
    cells = [cell.strip() for cell in line.split(",")]
    whole = all(cell.isascii() and cell.isdecimal() and len(cell) <= MOST_DIGITS for cell in cells)
    if len(cells) != len(COLUMNS) or not whole:
        raise DatasetError(at(str(table), f"line {number}", "three integers, a class and two times in us", show(line)))
    label, start_us, stop_us = map(int, cells)
    if not 1 <= label <= CLASSES:
        raise DatasetError(at(str(table), f"line {number}: class", f"1..{CLASSES}", label))
    if stop_us <= start_us:
        wanted = f"more than {start_us}, its start"
        raise DatasetError(at(str(table), f"line {number}: endTime_usec", wanted, stop_us))
    return label, start_us, stop_us
