"""A kernel's machine code on disk, which is run only if it is, byte for byte, what was written for that very call.

numba's own files have no checksum, and its index can name a file that holds the code of another signature: it writes
the index before the code, and two processes at once number their files alike. Code of another signature, or with a
flipped bit, ends in a wrong answer or a crash. Here every file begins with a hash of its name, of the versions and the
source behind it, and of all that follows. A file that does not fit its hash counts as missing, and is made anew.
"""

from __future__ import annotations

import os
import pickle
import platform
import time
import uuid
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
from numba.core import config, serialize

DIGEST_BYTES = sha256().digest_size
ABANDONED_SECONDS = 3600  # a file half-written for so long has no writer any more
_settings: Any = config
_dumps: Any = serialize.dumps


class Store:
    """The files of one kernel: an index (.nbi) from signatures to names, and a file of code (.nbc) for each.

    stamp: numba's description of the source file's state.
    """

    def __init__(self, folder: str, base: str, stamp: object) -> None:
        self._folder, self._base = Path(folder), base
        versions = (numba.__version__, llvmlite.__version__, platform.python_version(), stamp)
        self._origin = repr(versions).encode()

    def load(self, key: object) -> Any:
        """The code that was saved under a key, or None where there is none that can be trusted."""
        key = _full(key)
        name = self._index().get(key)
        found = None if name is None else self._read(name)
        return found[1] if found is not None and found[0] == key else None

    def save(self, key: object, code: object) -> None:
        """Keeps code under a key. Raises OSError where its folder cannot be used."""
        key = _full(key)
        name = f"{self._base}.{sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
        self._write(name, (key, code))  # before the index: what the index names is there
        index = self._index()
        if index.get(key) != name:
            self._write(self._index_name, {**index, key: name})
        self._sweep()

    def flush(self) -> None:
        """Forgets all keys. Raises OSError where the folder cannot be used."""
        self._write(self._index_name, {})

    @property
    def _index_name(self) -> str:
        return f"{self._base}.nbi"

    def _index(self) -> dict[object, str]:
        return self._read(self._index_name) or {}

    def _digest(self, name: str, content: bytes) -> bytes:
        return sha256(b"\0".join((name.encode(), self._origin, content))).digest()

    def _read(self, name: str) -> Any:
        """What was written under a name, or None where the file is missing, damaged or another version's."""
        try:
            blob = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        digest, content = blob[:DIGEST_BYTES], blob[DIGEST_BYTES:]
        return pickle.loads(content) if digest == self._digest(name, content) else None

    def _write(self, name: str, what: object) -> None:
        """Writes a file aside and renames it, so that no reader sees a part of it."""
        content: bytes = _dumps(what)
        aside = self._folder / f"{name}.tmp.{uuid.uuid4().hex[:16]}"
        try:
            aside.write_bytes(self._digest(name, content) + content)
            aside.replace(self._folder / name)
        finally:
            aside.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Removes what killed processes left half-written."""
        with suppress(OSError):
            for left in self._folder.glob("*.tmp.*"):
                if time.time() - os.stat(left).st_mtime > ABANDONED_SECONDS:
                    left.unlink(missing_ok=True)


def _full(key: object) -> object:
    """numba's key, with the one setting of numba that changes the code and is not in it."""
    return key, bool(_settings.BOUNDSCHECK)
