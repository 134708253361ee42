"""How a command ends when it is told to from outside: tidied, with one line and the signal's status."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from h2sim.io.signals import ending_signals

SIGNALLED = 128  # and the signal's number: the exit status
PATIENCE = 20.0  # seconds until a command that goes on all the same is told again: tidying a large file takes some


class _Told:
    """Raises SystemExit at the first signal, and once more every PATIENCE seconds until the block is left.

    Once is not enough: an exception out of a destructor or a callback is printed and dropped. A second signal, which a
    process that is sent one with its group gets, may not stop the tidying.
    """

    def __init__(self) -> None:
        self.status: int | None = None

    def first(self, number: int, _: FrameType | None) -> NoReturn:
        for each in (*ending_signals(), signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        self.status, sys.unraisablehook = SIGNALLED + number, _without_exits(sys.unraisablehook)
        line = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        with suppress(RuntimeError, OSError):  # amid another line to the same stream, or nobody reads it
            click.echo(f"h2sim: {line}; nothing was half-written", err=True)
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self.again)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
        sys.exit(self.status)

    def again(self, *_: object) -> NoReturn:
        sys.exit(self.status)


def _without_exits(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """Python's report of an exception that goes nowhere, but not of a SystemExit: the block that it is to end tells."""

    def told(unraisable: Any) -> None:
        if unraisable.exc_type is not SystemExit:
            hook(unraisable)

    return told


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """A block in which SIGINT, SIGTERM and SIGHUP end the process as an exception would: temporary files go.

    The status is 128 and the signal's number, whatever became of the exception on its way: compiled code that was
    called back may make another one of it, or none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = _Told()
    # what the caller of the process chose to ignore (nohup) stays ignored
    mine = [n for n in (*ending_signals(), signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, told.first) for number in mine}
    try:
        yield
    except BaseException:
        if told.status is None:
            raise
    finally:
        if told.status is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if told.status is not None:
        sys.exit(told.status)
