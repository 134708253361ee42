"""numba's decorator, typed, with the compiled code kept in the user's cache folder (see cache.py).

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
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

import numba
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock

from h2sim._version import __version__
from h2sim.kernels.cache import Store

F = TypeVar("F", bound=Callable[..., Any])

# What numba raises for a folder that has gone, is full or is read-only, or for a file that another process cut short.
UNUSABLE = (OSError, EOFError, pickle.UnpicklingError)
_settings: Any = config
_one_at_a_time = threading.Lock()

if hasattr(os, "register_at_fork"):  # a fork amid another thread's compilation would leave the child a lock for ever
    _compiling: Any = global_compiler_lock
    os.register_at_fork(
        before=_compiling.acquire, after_in_parent=_compiling.release, after_in_child=_compiling.release
    )


def njit(*, inline: Literal["never", "always"] = "never", makes_arrays: bool = True) -> Callable[[F], F]:
    """Compiles a function on its first call and keeps the machine code for later runs, in cache_folder().

    The lock of the interpreter is released while it runs: see threads.py for loops on all cores. inline='always': the
    function is pasted into its callers. makes_arrays=False: it reads and fills only arrays that it is given, so that no
    references to them are counted (numba's own option _nrt). numba counts those of every array that a pasted function
    takes, in locked instructions: more than half of the time of a loop that calls small functions on many arrays. Under
    NUMBA_DISABLE_JIT=1 the function comes back as it is.
    """

    def compiled(function: F) -> F:
        untyped: Any = numba
        kernel: F = untyped.njit(nogil=True, inline=inline, _nrt=makes_arrays)(function)
        if kernel is not function:
            _keep(kernel)
        return kernel

    return compiled


def cache_folder() -> Path | None:
    """Where compiled kernels are kept (numba adds a folder per place of the source), or None if there is no place."""
    if _settings.CACHE_DIR:
        return Path(_settings.CACHE_DIR)
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


class _Cache(FunctionCache):
    """numba's cache of one function, which counts as empty where its folder or a file in it cannot be used."""

    def __init__(self, function: Any) -> None:
        numba_s: Any = super()
        numba_s.__init__(function)
        made: Any = self
        stamp = made._impl.locator.get_source_stamp()
        made._cache_file = Store(made._cache_path, made._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        numba_s: Any = super()
        try:
            return numba_s.load_overload(sig, target_context)
        except UNUSABLE:
            with suppress(OSError):
                numba_s.flush()  # what cannot be read makes room for what can
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        numba_s: Any = super()
        try:
            numba_s.save_overload(sig, data)
        except UNUSABLE:
            numba_s.disable()


def _keep(kernel: Any) -> None:
    """Gives a kernel its cache in cache_folder(), or none; numba falls back to other folders, which are refused."""
    folder = cache_folder()
    if folder is None or not _usable(folder):
        return
    made: Any = _Cache
    with _one_at_a_time, _numba_keeps_in(folder):
        try:
            found = made(kernel.py_func)
        except (OSError, RuntimeError):  # RuntimeError: numba found no folder at all
            return
    if Path(found.cache_path).is_relative_to(folder):
        kernel._cache = found


@contextmanager
def _numba_keeps_in(folder: Path) -> Iterator[None]:
    """Names numba's folder for the time of one call: the user's own compiled functions are kept where they were."""
    before = _settings.CACHE_DIR
    _settings.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        _settings.CACHE_DIR = before
