"""Output folders of a report."""

from __future__ import annotations

import os
from pathlib import Path

from h2sim.errors import OutputError


def check_folder(name: str) -> None:
    """Raises OutputError unless files can be written into the folder, or it can be made."""
    path = Path(name)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: cannot be written: is a file, expected a folder")
    place = path if path.exists() else path.parent
    if not place.is_dir():
        raise OutputError(f"{path}: cannot be written: no folder {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: folder {place} is not writable")
