"""A bounded store of what was read from a trace or counted of it, so that machine after machine finds it there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Protocol, TypeVar


class Sized(Protocol):
    """An array, or whatever else knows its own size."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class Kept:
    """Things by the key of all that they depend on. When together they exceed `most_bytes`, those go first that were
    not asked for longest.

    A thing's bytes are asked for once, when it comes: it must not grow. Threads may share one. It has no lock, which a
    fork could copy while another thread holds it: what another thread drops meanwhile is made again, two that miss the
    same thing both make it, and their sums may miss one another's bytes until all are summed again.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._things: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()  # with their bytes
        self._sum = 0  # of their bytes
        self._since_summed = 0  # things that came

    def bound(self, most_bytes: int) -> None:
        """From now on at most so many bytes are kept."""
        self._most_bytes = most_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(n_bytes for _, n_bytes in list(self._things.values()))

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key, which always holds the same type; `make` makes it where nothing is."""
        found: T | None = self.find(key)
        return self.keep(key, make()) if found is None else found

    def find(self, key: Hashable) -> Any:
        """What is kept under a key, or None."""
        found = self._things.get(key)
        if found is None:
            return None
        with suppress(KeyError):
            self._things.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, thing: T) -> T:
        """Keeps a thing in place of what was there, drops what has no room, and returns it."""
        before = self._things.get(key)
        n_bytes = thing.nbytes
        self._things[key] = thing, n_bytes
        with suppress(KeyError):
            self._things.move_to_end(key)
        self._sum += n_bytes - (before[1] if before else 0)
        self._since_summed += 1
        if 2 * self._since_summed >= len(self._things):  # as seldom as there is much to sum
            self._sum, self._since_summed = self.nbytes, 0
        while len(self._things) > 1 and self._sum > self._most_bytes:
            with suppress(KeyError):
                self._sum -= self._things.popitem(last=False)[1][1]
        return thing
