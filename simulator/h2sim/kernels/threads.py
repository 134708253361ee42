"""Runs a kernel's loop on all cores, in threads of this call's own, with the lock of the interpreter released.

numba's parallel loops are not used, for their thread pools outlive a call. The pool of GNU OpenMP, which they prefer on
Linux, hangs in a process that was forked after it was started; the one that survives a fork, workqueue, aborts as soon
as two threads use it. Threads that end with the call leave nothing behind that a fork could break, and calls from any
number of threads do not meet.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any, Concatenate, ParamSpec

from numba.core import config

P = ParamSpec("P")

PARTS_PER_THREAD = 8  # so that a thread with cheap parts takes more of them, and that a signal waits for a short part
_settings: Any = config


def in_parts(kernel: Callable[Concatenate[int, int, P], None], n: int, *args: P.args, **kwargs: P.kwargs) -> None:
    """Calls kernel(start, stop, *args) for parts of 0 to n, which cover it, on NUMBA_NUM_THREADS threads.

    By default these are as many as the cores this process may use. No part may write where another reads or writes; the
    results then do not depend on the number of threads. An error in a part ends the work and is raised here.
    """
    if n <= 0:
        return
    threads = min(n, int(_settings.NUMBA_NUM_THREADS))
    parts = min(n, threads * PARTS_PER_THREAD) if threads > 1 else 1
    bounds = [n * i // parts for i in range(parts + 1)]
    work = _Work(lambda start, stop: kernel(start, stop, *args, **kwargs), pairwise(bounds))
    work.next()  # alone: the first call may compile, and a loop of one part needs no thread
    helpers = [threading.Thread(target=work.finish, daemon=True) for _ in range(min(threads, parts) - 1)]
    with suppress(RuntimeError):  # no thread to be had: a limit of the system, or the interpreter is ending
        for helper in helpers:
            helper.start()
    work.finish()
    for helper in helpers:
        if helper.ident is not None:
            helper.join()
    if work.error is not None:
        raise work.error


class _Work:
    """Parts that are still to do, which several threads take from; the first error empties it."""

    def __init__(self, call: Callable[[int, int], None], parts: Iterable[tuple[int, int]]) -> None:
        self._call, self._parts = call, deque[tuple[int, int]](parts)
        self.error: BaseException | None = None

    def next(self) -> bool:
        """Does one part; returns whether there was one."""
        try:
            start, stop = self._parts.popleft()  # one step of the interpreter: no two threads get the same
        except IndexError:
            return False
        self._call(start, stop)
        return True

    def finish(self) -> None:
        """Does parts until none is left, here or in another thread."""
        try:
            while self.next():
                pass
        except BaseException as error:
            self._parts.clear()
            self.error = error
