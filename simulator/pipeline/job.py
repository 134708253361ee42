"""A job: one layer in one phase on one engine, with its grid iterations, traffic and what must come before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from h2sim.activity import Actions, Engine, Phase
from h2sim.memory.traffic import Traffic

JobKey = tuple[str, Phase]


@dataclass(frozen=True)
class Job:
    """side: the sub-batch it belongs to in the steady state (forward: the next one, backward: the current one).

    cycles: int64 (column groups, tiles, row groups), compute cycles of each grid iteration; `after` are the jobs
    whose results it reads.
    """

    layer: str
    phase: Phase
    engine: Engine
    side: Literal["forward", "backward"]
    cycles: np.ndarray
    fill_cycles: int
    traffic: Traffic
    pe_array: Actions
    acc: Actions
    neuron: Actions
    useful_operations: int
    peak_operations: int
    after: tuple[JobKey, ...]

    @property
    def key(self) -> JobKey:
        return (self.layer, self.phase)


def in_pieces(totals: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Each total cut into its number of nearly equal integer parts, in order; the parts sum to the total."""
    owner = np.repeat(np.arange(len(totals)), pieces)
    first = np.cumsum(pieces) - pieces
    part = np.arange(len(owner)) - first[owner]
    total, count = totals[owner], pieces[owner]
    return total * (part + 1) // count - total * part // count
