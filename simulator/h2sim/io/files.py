"""Output files: written to a temporary file in the same folder and then renamed, so that none is ever half-written."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from h2sim.errors import OutputError
from h2sim.io.signals import ending_signals

_PART = re.compile(r"\.h2sim-(?P<place>[0-9a-f]{8})-(?P<pid>[0-9]+)-.*\.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary file beside `path` to write to, and renames it to `path` when the block ends well.

    A link is written through: the file behind it is replaced, in its folder. A file that stands there leaves its
    permissions to the new one. On any exception the temporary file is deleted and what stood at `path` stays; what
    killed processes left in the folder is deleted too. Raises OutputError where the folder is missing or cannot be
    written to, or where `path` is a folder.
    """
    check_writable(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    aside = target.parent / f".h2sim-{_place()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part"
    try:  # from before it is made: a signal may come at any time
        with _gone_on_signals(aside):
            os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            yield aside
            _as_before(target, aside)
            os.replace(aside, target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    sweep(target.parent)


@contextmanager
def _gone_on_signals(aside: Path) -> Iterator[None]:
    """A block in which a signal that ends the process at once deletes the file first.

    Handlers that the program has set stay: those of the h2sim command raise an exception. Only a program's main thread
    can set any.
    """
    mine = []
    if threading.current_thread() is threading.main_thread():
        mine = [n for n in ending_signals() if signal.getsignal(n) == signal.SIG_DFL]

    def end(number: int, _: object) -> None:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    try:
        for number in mine:
            signal.signal(number, end)
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def sweep(folder: Path) -> None:
    """Deletes the temporary files in a folder whose processes, of this machine, are gone: killed while they wrote."""
    with suppress(OSError):
        for left in folder.glob(".h2sim-*.part"):
            found = _PART.fullmatch(left.name)
            if found and found["place"] == _place() and not _alive(int(found["pid"])):
                left.unlink(missing_ok=True)


def _as_before(target: Path, aside: Path) -> None:
    """Gives the new file the mode, and where allowed the owner, of the one that it replaces; else the usual mode."""
    try:
        before = os.stat(target)
    except FileNotFoundError:
        os.chmod(aside, 0o666 & ~_umask())
        return
    os.chmod(aside, stat.S_IMODE(before.st_mode))
    if hasattr(os, "chown"):
        with suppress(OSError):
            os.chown(aside, before.st_uid, before.st_gid)


@cache
def _place() -> str:
    """Where this process's number counts: the machine's name and, where the system has them, its space of processes."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    if os.name != "posix":
        return True  # asking would end it there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def check_writable(path: Path) -> None:
    """Raises OutputError if a file could not be written at `path`; leaves nothing behind."""
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_dir():
        raise OutputError(f"{path}: cannot be written: is a folder")
    if os.path.lexists(path) and not path.is_file():  # renaming would put a plain file there
        raise OutputError(f"{path}: cannot be written: is no plain file")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: no folder {target.parent}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written: folder {target.parent} is not writable")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
