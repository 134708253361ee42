"""Pieces of work that go one by one to the processing element with the least so far, compiled."""

from __future__ import annotations

import numpy as np

from h2sim.arrays import Ints
from h2sim.kernels.jit import njit


def loads(work: Ints, n: int) -> Ints:
    """Work of each of n elements, int64 (n,): each piece of work, int64 (pieces,), goes to the least loaded, of several
    to the lowest."""
    found = np.zeros(n, np.int64)
    deal(work, found)
    return found


@njit()
def deal(work: Ints, found: Ints) -> None:
    """Adds each piece of work to the least of found; see loads."""
    for piece in work:
        least = 0
        for element in range(1, len(found)):
            if found[element] < found[least]:
                least = element
        found[least] += piece
