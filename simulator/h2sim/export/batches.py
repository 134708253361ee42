"""Traces of several sub-batches, one of each batch that a loader gives: `h2sim.export.trace` of a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from h2sim.errors import ExportError, OutputError, at
from h2sim.io.progress import Progress, silent

DIGITS = 3  # of a file's number, at least


@dataclass(frozen=True)
class Exports:
    """Traces that were written of several sub-batches: their paths, in order, and the notes of all of them."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Exports({len(self.paths)} sub-batches in {self.paths[0].parent}, {len(self.notes)} notes)"


Write = Callable[[Any, Any, Path], Sequence[str]]


def is_loader(inputs: Any) -> bool:
    """Whether inputs are given batch after batch, as a DataLoader does."""
    one_batch = isinstance(inputs, torch.Tensor | tuple | str | bytes | Mapping | np.ndarray)
    return isinstance(inputs, Iterable) and not one_batch


def write_batches(
    loader: Iterable[Any], folder: str | Path | None, most: int | None, write: Write, progress: Progress = silent
) -> Exports:
    """Writes a trace of each batch of a loader, 000.npz, 001.npz, ..., into a folder, which it makes.

    loader: gives (inputs, targets), batch after batch. most: how many batches are taken; None: all. write(inputs,
    targets, path) writes one and returns its notes. progress(file, done, total) is called after each; total is 0 where
    nobody knows it. Raises ExportError for anything else that the loader gives, and for one that gives nothing;
    OutputError for a folder that holds traces already.
    """
    if most is not None and (type(most) is not int or most < 1):
        raise ExportError(at("export", "batches", "a whole number of at least 1", most))
    if folder is None:
        raise ExportError(at("export", "path", "a folder for the traces of a loader's batches", "nothing"))
    place = _made(Path(folder))
    paths: list[Path] = []
    notes: dict[str, None] = {}
    known = [limit for limit in (most, _length(loader)) if limit is not None]
    total = min(known, default=0)
    for number, item in enumerate(islice(loader, most)):
        if not isinstance(item, tuple | list) or len(item) != 2:
            got = f"{len(item)} things" if isinstance(item, tuple | list) else type(item).__name__
            raise ExportError(at("loader", f"batch {number}", "(inputs, targets)", got))
        path = place / f"{number:0{DIGITS}d}.npz"
        notes |= dict.fromkeys(write(item[0], item[1], path))
        paths.append(path)
        progress(path.name, len(paths), total)
    if not paths:
        raise ExportError(at("loader", "batches", "at least one", "none"))
    return Exports(tuple(paths), tuple(notes))


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader of an iterable data set has a length that it does not know
        return None


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder: {error.strerror}") from None
    if held := sorted(folder.glob("*.npz")):
        raise OutputError(at(str(folder), "traces", "a folder without any", f"{held[0].name} in it"))
    return folder
