"""Where a data set's files are looked for, and the error that says what to do if they are nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from h2sim.errors import DatasetError, at

VARIABLE = "H2SIM_DATA"


@dataclass(frozen=True)
class Layout:
    """One way in which the files of a data set may lie in a folder. Patterns are relative to the folder.

    wanted: for each file or folder that must be there, patterns of which one must match. subfolders: where this layout
    is looked for too. unless: patterns that must not match.
    """

    wanted: tuple[tuple[str, ...], ...]
    subfolders: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    def missing(self, folder: Path) -> list[str]:
        """The wanted files or folders that `folder` lacks, each by its first pattern."""
        if any(_matches(folder, pattern) for pattern in self.unless):
            return [patterns[0] for patterns in self.wanted]
        return [patterns[0] for patterns in self.wanted if not any(_matches(folder, p) for p in patterns)]


@dataclass(frozen=True)
class Place:
    """How to find one data set.

    layouts: the best first; package_folder: where a package of the data set installs its files; named_only: a folder of
    its name in $H2SIM_DATA is looked into, but not $H2SIM_DATA itself.
    """

    name: str
    layouts: tuple[Layout, ...]
    package_folder: Callable[[], Path | None] = lambda: None
    named_only: bool = False

    def searched(self, folder: Path | None) -> list[Path]:
        """The folders to look into, in this order: that of the user, else those of $H2SIM_DATA and of a package."""
        if folder is not None:
            return [folder, folder / self.name]
        root, packaged = os.environ.get(VARIABLE), self.package_folder()
        own = [Path(root) / self.name, *([] if self.named_only else [Path(root)])] if root else []
        return [*own, *([packaged] if packaged else [])]

    def find(self, folder: Path | None) -> Path | None:
        """The first folder that holds all wanted files, or None."""
        return next((at_ for at_, _, missing in self._looks(folder) if not missing), None)

    def partly(self, folder: Path | None) -> str:
        """`folder without file, file` for the folder that lacks the fewest; empty if none has a wanted file."""
        looks = [(len(gone), at_, gone) for at_, layout, gone in self._looks(folder) if len(gone) < len(layout.wanted)]
        if not looks:
            return ""
        _, best, missing = min(looks)
        return f"{best} without {', '.join(missing)}"

    def _looks(self, folder: Path | None) -> Iterator[tuple[Path, Layout, list[str]]]:
        """Every folder that is looked into, with the layout that it is looked into for and what it lacks of that."""
        for layout in self.layouts:
            for root in self.searched(folder):
                for candidate in (root, *(root / sub for sub in layout.subfolders)):
                    if candidate.is_dir():
                        yield candidate, layout, layout.missing(candidate)


def missing_files(place: Place, folder: Path | None, files: str, get: str) -> DatasetError:
    """The error for a data set that is not found: its files, where they were looked for, how to get and place them."""
    searched = [str(path) for path in place.searched(folder)]
    unset = "" if folder or os.environ.get(VARIABLE) else f" (${VARIABLE} is not set)"
    where = f"in {' or '.join(searched)}{unset}" if searched else f"in a folder to search{unset}"
    advice = f"get it: {get}; then put it into ${VARIABLE}/{place.name} or name its folder with --data"
    got = place.partly(folder) or ("no such folder" if folder and not folder.is_dir() else "none there")
    return DatasetError(at(place.name, "files", f"{files} {where}; {advice}", got))


def _matches(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None if "*" in pattern else (folder / pattern).exists()
