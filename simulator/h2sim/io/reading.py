"""Opens the files that users name: plain files and fed pipes, no larger than their kind can need.

Whatever else it is (a device that never ends, a pipe into which nobody writes, a file of terabytes) is refused before
any of it is read, by an OSError whose `strerror` says what it is, as for a file that is missing.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MOST_YAML_BYTES = 2 * MIB
MOST_JSON_BYTES = 64 * MIB
_WAIT_S = 10.0  # for the next bytes of a pipe
_CHUNK_BYTES = MIB
_KINDS = ((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"))


class Refused(OSError):
    """What stands there is no file of a size that is read. `strerror` says what it is instead."""

    def __init__(self, path: str | Path, found: str) -> None:
        super().__init__(errno.EFBIG, found, str(path))


@contextmanager
def opened(path: str | Path, most_bytes: int) -> Iterator[IO[bytes]]:
    """A file open for reading from its first byte; the content of a pipe. Raises OSError, Refused among them."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))  # a pipe nobody feeds would block
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if stat.S_ISFIFO(found.st_mode):
            yield io.BytesIO(_piped(handle, path, most_bytes))
            return
        _check(found, path, most_bytes)
        yield file


def check_file(path: str | Path, most_bytes: int) -> None:
    """For files that another package opens by their name. Raises OSError unless it is a plain file of such a size."""
    _check(os.stat(path), path, most_bytes)


def read_bytes(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a file. Raises OSError, Refused among them."""
    with opened(path, most_bytes) as file:
        return _drained(file, path, most_bytes, "more bytes than it said")


def read_text(path: str | Path, most_bytes: int) -> str:
    """The text of a UTF-8 file, line ends as they are in Python. Raises OSError, Refused among them, and ValueError."""
    return io.TextIOWrapper(io.BytesIO(read_bytes(path, most_bytes)), encoding="utf-8").read()


def read_gzip(path: str | Path, most_bytes: int) -> bytes:
    """What a gzip file unpacks to, at most `most_bytes`. Raises OSError (and Refused), EOFError and zlib.error."""
    with opened(path, most_bytes) as file, gzip.GzipFile(fileobj=file) as unpacked:
        return _drained(unpacked, path, most_bytes, "a gzip file that unpacks to more")


def _check(found: os.stat_result, path: str | Path, most_bytes: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "a pipe")
        raise Refused(path, f"{kind}, where a file is expected")
    if found.st_size > most_bytes:
        raise _too_large(path, f"{found.st_size} bytes", most_bytes)


def _too_large(path: str | Path, found: str, most_bytes: int) -> Refused:
    return Refused(path, f"{found}, where at most {most_bytes} are read")


def _drained(file: IO[bytes] | gzip.GzipFile, path: str | Path, most_bytes: int, found: str) -> bytes:
    """All that comes, a piece at a time: sizes that a file or its directory entry states can be wrong."""
    blocks, total = [], 0
    while block := file.read(min(_CHUNK_BYTES, most_bytes + 1 - total)):
        total += len(block)
        if total > most_bytes:
            raise _too_large(path, found, most_bytes)
        blocks.append(block)
    return b"".join(blocks)


def _piped(handle: int, path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a pipe, which is open without blocking."""
    blocks: list[bytes] = []
    total = 0
    while True:
        if not select.select([handle], [], [], _WAIT_S)[0]:
            raise Refused(path, f"a pipe into which nobody wrote for {_WAIT_S:g} s")
        block = os.read(handle, _CHUNK_BYTES)
        if not block:
            return b"".join(blocks)
        blocks.append(block)
        total += len(block)
        if total > most_bytes:
            raise _too_large(path, "more bytes", most_bytes)
