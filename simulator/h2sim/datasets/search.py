"""Where a data set's files are looked for, and the one line that says what to do if they are nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from h2sim.errors import DatasetError, at

VARIABLE = "H2SIM_DATA"


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies in a folder.

    wanted: for each file or folder that must be there, the patterns (relative to the folder) of which one must match.
    subfolders: where under the searched folder this layout is also looked for. unless: patterns that rule it out.
    """

    wanted: tuple[tuple[str, ...], ...]
    subfolders: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def missing(self, folder: Path) -> list[str]:
        """The wanted entries that `folder` lacks, by their first pattern."""
        if any(_matches(folder, pattern) for pattern in self.unless):
            return [patterns[0] for patterns in self.wanted]
        return [patterns[0] for patterns in self.wanted if not any(_matches(folder, p) for p in patterns)]


@dataclass(frozen=True)
class Place:
    """How to find one data set: its layouts, the best first, and where a package of it installs them.

    named_only: $H2SIM_DATA itself is not taken for the data set, only a folder of its name in it.
    """

    name: str
    layouts: tuple[Layout, ...]
    package_folder: Callable[[], Path | None] = lambda: None
    named_only: bool = False

    def searched(self, folder: Path | None) -> list[Path]:
        """The folders to look in, in this order: the one the user named, else those of $H2SIM_DATA and of a package."""
        if folder is not None:
            return [folder, folder / self.name]
        root, packaged = os.environ.get(VARIABLE), self.package_folder()
        own = [Path(root) / self.name, *([] if self.named_only else [Path(root)])] if root else []
        return [*own, *([packaged] if packaged else [])]

    def find(self, folder: Path | None) -> Path | None:
        """The folder that holds all wanted files, or None."""
        return next((at_ for at_, _, missing in self._looks(folder) if not missing), None)

    def partly(self, folder: Path | None) -> str:
        """Where some of the wanted files are and which are not, for the error; nothing if there are none anywhere."""
        looks = [(len(gone), at_, gone) for at_, layout, gone in self._looks(folder) if len(gone) < len(layout.wanted)]
        if not looks:
            return ""
        _, best, missing = min(looks)
        return f"{best} without {', '.join(missing)}"

    def _looks(self, folder: Path | None) -> Iterator[tuple[Path, Layout, list[str]]]:
        """Every folder that is looked into, for which layout, and what of that it lacks."""
        for layout in self.layouts:
            for root in self.searched(folder):
                for candidate in (root, *(root / sub for sub in layout.subfolders)):
                    if candidate.is_dir():
                        yield candidate, layout, layout.missing(candidate)


def missing_files(place: Place, folder: Path | None, files: str, get: str) -> DatasetError:
    """The error for a data set that is nowhere: what, where, whence, and where to put it, in one line."""
    searched = [str(path) for path in place.searched(folder)]
    unset = "" if folder or os.environ.get(VARIABLE) else f" (${VARIABLE} is not set)"
    where = f"in {' or '.join(searched)}{unset}" if searched else f"in a folder to search{unset}"
    advice = f"get it: {get}; then put it into ${VARIABLE}/{place.name} or name its folder with --data"
    got = place.partly(folder) or ("no such folder" if folder and not folder.is_dir() else "none there")
    return DatasetError(at(place.name, "files", f"{files} {where}; {advice}", got))


def _matches(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None if "*" in pattern else (folder / pattern).exists()
