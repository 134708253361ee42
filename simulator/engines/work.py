"""What an engine does for one layer: the interface that every engine's fast form fills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.activity import Actions


@dataclass(frozen=True)
class EngineWork:
    """Exact cycles and events of one layer on one engine, with data always at hand.

    iteration_cycles: int64 (column groups, tiles, row groups), one grid iteration each, in loop order
    (row groups innermost); its sum is the layer's compute_cycles (result.md).
    useful_operations: lane slots that did work; peak_operations: all slots of the array in those cycles.
    """

    iteration_cycles: np.ndarray
    pe_array: Actions
    acc: Actions
    useful_operations: int
    peak_operations: int

    @property
    def compute_cycles(self) -> int:
        return int(self.iteration_cycles.sum())


def with_programming(work: np.ndarray, program_cycles: int, hidden: bool) -> np.ndarray:
    """Cycles per iteration of LUT programming followed by `work`, int64, in loop order.

    hidden (lut_double_buffered): an iteration's LUTs are programmed while the one before streams, so only
    the first programming shows, and an iteration lasts at least as long as the next one's programming.
    """
    if not hidden:
        return work + program_cycles
    flat = work.ravel().copy()
    np.maximum(flat[:-1], program_cycles, out=flat[:-1])
    flat[0] += program_cycles
    return flat.reshape(work.shape)
