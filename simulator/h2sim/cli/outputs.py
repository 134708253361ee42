"""Where a command's results go, checked before it works: no two into one, none over what it reads, no devices."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from h2sim.cli.support import check_target
from h2sim.errors import OutputError, at

STDOUT = "-"


def check_outputs(*targets: str | None, folder: str | None = None, reads: Iterable[str | Path] = ()) -> None:
    """Raises OutputError now where a result could not be written later; None is an output that nobody asked for.

    targets: files, '-' for standard output; folder: for pictures; reads: files that the command reads.
    """
    from h2sim.report.folder import check_folder

    inputs = {os.path.realpath(path) for path in reads if Path(path).is_file()}
    seen: set[str] = set()
    for target in targets:
        if target is not None:
            place = _place(target)
            if place in seen:
                raise OutputError(f"{target}: cannot be written: expected one output there; got two")
            if place in inputs:
                raise OutputError(f"{target}: cannot be written: it is read by the same command")
            seen.add(place)
    if folder is not None:
        _named(folder)
        check_folder(folder)


def _place(target: str) -> str:
    """The file behind the name, so that two names of one are found out."""
    _named(target)
    check_target(target)
    if target == STDOUT:
        return STDOUT
    return os.path.realpath(target)


def _named(target: str) -> None:
    if not target or "\0" in target:
        raise OutputError(at("output", "name", "a file's, a folder's, or '-'", repr(target)))
