"""The decorator of every kernel: numba's njit, with its compiled code kept in the user's cache folder.

numba alone keeps that code beside the source, in __pycache__. pip does not know those files: it leaves them when a
package is replaced, and the folder that remains hides the new one. So a kernel's code goes to NUMBA_CACHE_DIR, if the
user has set it, and else to <user's cache folder>/h2sim/<version>-<hash of the kernels' sources>. Where that folder
cannot be used, kernels are compiled anew in each process; that is slower, and no error.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

from h2sim._version import __version__

Function = TypeVar("Function", bound=Callable[..., Any])

# What numba raises for a folder that has gone, is full or is read-only, or for a file that another process cut short.
UNUSABLE = (OSError, EOFError, pickle.UnpicklingError)
_one_at_a_time = threading.Lock()


def njit(*, cache: bool = False, **options: Any) -> Callable[[Function], Function]:
    """numba.njit with its options; cache=True keeps the compiled code in cache_folder(), never beside the source.

    Under NUMBA_DISABLE_JIT=1 the function comes back as it is, as from numba.njit.
    """

    def compiled(function: Function) -> Function:
        kernel = numba.njit(**options)(function)
        if cache and kernel is not function:
            _keep(kernel)
        return kernel

    return compiled


def cache_folder() -> Path | None:
    """Where compiled kernels are kept (numba adds a folder per place of the source), or None if there is no place."""
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR)
    user = user_cache_folder()
    return user / "h2sim" / f"{__version__}-{_sources()}" if user else None


def user_cache_folder() -> Path | None:
    """The system's folder for a user's caches, or None for a user without a home."""
    if (given := os.environ.get("XDG_CACHE_HOME")) and Path(given).is_absolute():
        return Path(given)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


@functools.cache
def _sources() -> str:
    """A hash of all kernels' sources: numba sees a change in a kernel's own file, not in one that the kernel calls."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@functools.cache
def _usable(folder: Path) -> bool:
    """Whether files can be made in the folder; asked first, since numba's own try leaves a __pycache__ elsewhere."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


class _Cache(FunctionCache):  # type: ignore[misc, unused-ignore]
    """numba's cache of one function, which counts as empty where its folder or a file in it cannot be used."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except UNUSABLE:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except UNUSABLE:
            self.disable()


def _keep(kernel: Any) -> None:
    """Gives a kernel its cache in cache_folder(), or none; numba falls back to other folders, which are refused."""
    folder = cache_folder()
    if folder is None or not _usable(folder):
        return
    with _one_at_a_time, _numba_keeps_in(folder):
        try:
            found = _Cache(kernel.py_func)
        except (OSError, RuntimeError):  # RuntimeError: numba found no folder at all
            return
    if Path(found.cache_path).is_relative_to(folder):
        kernel._cache = found


@contextmanager
def _numba_keeps_in(folder: Path) -> Iterator[None]:
    """Names numba's folder for the time of one call: the user's own compiled functions are kept where they were."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
