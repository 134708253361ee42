"""SATO stepped cycle by cycle in plain Python: PEs with rows in their queues add a weight each in every cycle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Row = tuple[int, int, int]  # (output channel, timestep, position)


@dataclass
class Element:
    """A PE: the rows that it has still to do, each with its spikes (columns of im2col), and all that it was given."""

    queue: list[tuple[Row, list[int]]] = field(default_factory=list)
    given: int = 0

    def step(self, weights: np.ndarray, sums: np.ndarray) -> int:
        """One cycle: the next spike's weight goes to its row's sum. Returns how many weights were added."""
        while self.queue and not self.queue[0][1]:
            self.queue.pop(0)
        if not self.queue:
            return 0
        row, spikes = self.queue[0]
        sums[row] += weights[row[0], spikes.pop(0)]
        return 1


def dealt(rows: list[tuple[Row, list[int]]], pes: int) -> list[Element]:
    """Elements that were given the rows one by one, always the one that was given least."""
    elements = [Element() for _ in range(pes)]
    for row, spikes in rows:
        least = min(elements, key=lambda element: element.given)
        least.queue.append((row, list(spikes)))
        least.given += len(spikes)
    return elements


def run(
    spikes: np.ndarray, weights: np.ndarray, pes: int, longest_first: bool, spread: bool
) -> tuple[np.ndarray, int, int]:
    """(sums, cycles, adds) of one sample. spikes: 0 or 1 (T, L, K_in); weights (O, K_in); sums (O, T, L).

    spread: rows of all output channels are dealt at once, else channel by channel.
    """
    steps, positions, _ = spikes.shape
    sums, cycles, adds = np.zeros((len(weights), steps, positions), np.int64), 0, 0
    every = range(len(weights))
    for group in [every] if spread else [[o] for o in every]:
        rows = []
        for o in group:
            own = [((o, t, p), np.flatnonzero(spikes[t, p]).tolist()) for t in range(steps) for p in range(positions)]
            rows += sorted(own, key=lambda row: -len(row[1])) if longest_first else own
        elements = dealt(rows, pes)
        while added := sum(element.step(weights, sums) for element in elements):
            cycles, adds = cycles + 1, adds + added
    return sums, cycles, adds
