"""A job: one layer in one phase on one engine, with its grid iterations, its traffic and the jobs before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from h2sim.activity import NO_ACTIONS, Actions, JobKey, Phase
from h2sim.arrays import Ints
from h2sim.memory.traffic import Traffic


@dataclass(frozen=True, kw_only=True)
class Job:
    """One layer in one phase on one engine.

    engine: one of the machine's engine_names. side: which sub-batch it belongs to in the steady state, the next one
    ('forward') or the current one ('backward'). cycles: int64 (column groups, tiles, row groups), the compute cycles of
    each grid iteration. fill_cycles: what the pipeline takes to fill and drain, once. after: the jobs whose results it
    reads. pe_array, acc and neuron count H2Learn's events; a rival keeps its own events beside the job.
    """

    layer: str
    phase: Phase
    engine: str
    side: Literal["forward", "backward"]
    cycles: Ints
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
        """(layer, phase), by which other jobs name it in `after`."""
        return (self.layer, self.phase)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.cycles.nbytes + self.traffic.nbytes

    def __repr__(self) -> str:
        cycles = int(self.cycles.sum())
        return f"Job({self.layer} {self.phase} on {self.engine}: {self.cycles.size} iterations, {cycles} cycles)"


def in_pieces(totals: Ints, pieces: Ints) -> Ints:
    """Cuts totals[i] into pieces[i] integer parts that differ by at most 1 and add up to it.

    totals and pieces: int64 (I,), pieces at least 1. Returns the parts in order, int64 (sum of pieces,).
    """
    owner = np.repeat(np.arange(len(totals)), pieces)
    first = np.cumsum(pieces) - pieces
    part = np.arange(len(owner)) - first[owner]
    total, count = totals[owner], pieces[owner]
    parts: Ints = total * (part + 1) // count - total * part // count
    return parts
