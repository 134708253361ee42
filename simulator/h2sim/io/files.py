"""Output files: written to a temporary file in the same folder and then renamed, so that none is ever half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from h2sim.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary file beside `path` to write to, and renames it to `path` when the block ends well.

    On any exception the temporary file is deleted and what stood at `path` stays. Raises OutputError where the folder
    is missing or cannot be written to, or where `path` is a folder.
    """
    check_writable(path)
    try:
        handle, name = tempfile.mkstemp(prefix=".h2sim-", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def check_writable(path: Path) -> None:
    """Raises OutputError if a file could not be written at `path`; leaves nothing behind."""
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written: is a folder")
    if os.path.lexists(path) and not path.is_file():  # renaming would put a plain file there
        raise OutputError(f"{path}: cannot be written: is no plain file")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: folder {path.parent} is not writable")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
