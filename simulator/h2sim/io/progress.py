"""How work that takes long reports its progress: it calls a function that it was given after each part."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what was done, how many parts are done, how many there are

Say = Callable[[str], None]  # what is being done, where nobody knows how much is left


def silent(what: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""
