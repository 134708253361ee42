"""The signals that end a program from outside."""

from __future__ import annotations

import signal


def ending_signals() -> list[signal.Signals]:
    """The signals with which schedulers and closed terminals end a program, as far as the system has them."""
    return [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
