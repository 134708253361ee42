"""What an engine does for one layer: the interface that every engine's fast form fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from h2sim.activity import Actions
from h2sim.arch.schema import ForwardEngine, Latency, WeightUpdateEngine
from h2sim.arrays import Ints
from h2sim.shapes import Tile, ceil_div


@dataclass(frozen=True, kw_only=True)
class EngineWork:
    """Exact cycles and events of one layer on one engine, with data always at hand.

    iteration_cycles: int64 (column groups, tiles, row groups), one grid iteration each, in loop order
    (row groups innermost); its sum is the layer's compute_cycles (result.md).
    useful_operations: lane slots that did work; peak_operations: all slots of the array in those cycles.
    neuron_cycles: what Soma or Grad still has to sweep when the array is done; part of the fill.
    """

    iteration_cycles: Ints
    pe_array: Actions
    acc: Actions
    useful_operations: int
    peak_operations: int
    neuron_cycles: int = 0

    @property
    def compute_cycles(self) -> int:
        return int(self.iteration_cycles.sum())


def with_programming(work: Ints, program_cycles: int, hidden: bool) -> Ints:
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


def programmed_late(engine: ForwardEngine | WeightUpdateEngine, latency: Latency) -> int:
    """Cycles by which windows run behind their addresses: the last LUT entry leaves the adder that much later."""
    return max(0, latency.fp16_add - 1) if engine.lut else 0


def sweep_cycles(tiles: Sequence[Tile], parallelism: int) -> Ints:
    """Cycles Soma or Grad needs for one sample of each tile: P positions at a time in raster order, int64."""
    return np.array([ceil_div(t.positions, parallelism) for t in tiles], np.int64)


def exposed_sweep(iteration_cycles: Ints, completed: Ints, sweep: Ints) -> int:
    """Cycles that the neuron unit still sweeps after the array's last one.

    Sums are complete in the last row group of an output block. completed: int64 (blocks, events), cycles from the
    beginning of that grid iteration to each event in which samples complete; sweep: the cycles of work that each
    brings, broadcast to the same shape. The unit takes them in order: the end is the latest that any event and all
    the work from it on allow.
    """
    flat = iteration_cycles.ravel()
    starts = (np.cumsum(flat) - flat).reshape(completed.shape[0], -1)[:, -1]
    ready = (starts[:, None] + completed).ravel()
    work = np.broadcast_to(sweep, completed.shape).ravel()
    still = np.cumsum(work[::-1])[::-1]
    return int((ready + still).max() - flat.sum())
