"""A job: one layer in one phase on one engine, with its grid iterations, traffic and what must come before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions, JobKey, Phase
from h2sim.memory.traffic import Traffic


@dataclass(frozen=True, kw_only=True)
class Job:
    """side: the sub-batch it belongs to in the steady state (forward: the next one, backward: the current one).

    engine: one of the machine's engine_names. cycles: int64 (column groups, tiles, row groups), compute cycles of each
    grid iteration. after: the jobs whose results it reads. pe_array, acc and neuron count H2Learn's events; a rival
    keeps events of its own beside the job.
    """

    layer: str
    phase: Phase
    engine: str
    side: Literal["forward", "backward"]
    cycles: np.ndarray
    fill_cycles: int
    traffic: Traffic
    after: tuple[JobKey, ...]
    pe_array: Actions = NO_ACTIONS
    acc: Actions = NO_ACTIONS
    neuron: Actions = NO_ACTIONS
    useful_operations: int = 0
    peak_operations: int = 0

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
