"""What an engine does for one layer: the result that the fast form of every engine gives."""

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
    """Exact cycles and events of one layer on one engine, as if no operand were ever waited for.

    iteration_cycles: int64 (column groups, tiles, row groups), the cycles of each grid iteration in loop order, row
    groups innermost; their sum is the layer's compute_cycles. pe_array and acc: event counts. useful_operations: slots
    of lanes that did work; peak_operations: all slots that the array has in those cycles. neuron_cycles: what Soma or
    Grad still has to sweep when the array is done, a part of the fill.
    """

    iteration_cycles: Ints
    pe_array: Actions
    acc: Actions
    useful_operations: int
    peak_operations: int
    neuron_cycles: int = 0

    @property
    def compute_cycles(self) -> int:
        """Cycles of all grid iterations."""
        return int(self.iteration_cycles.sum())

    def __repr__(self) -> str:
        return f"EngineWork({self.iteration_cycles.size} iterations, {self.compute_cycles} cycles)"


def with_programming(work: Ints, program_cycles: int, hidden: bool) -> Ints:
    """Cycles of every grid iteration, int64 in loop order, when its LUTs are programmed before `work` cycles of work.

    Without `hidden` an iteration takes work + program_cycles. With it (lut_double_buffered) LUTs are programmed while
    the iteration before works: an iteration takes max(work, program_cycles), the last one just work, and the first one
    program_cycles more.
    """
    if not hidden:
        return work + program_cycles
    flat = work.ravel().copy()
    np.maximum(flat[:-1], program_cycles, out=flat[:-1])
    flat[0] += program_cycles
    return flat.reshape(work.shape)


def programmed_late(engine: ForwardEngine | WeightUpdateEngine, latency: Latency) -> int:
    """Cycles by which the last entry of a LUT is ready late, because it leaves the adder's pipeline: fp16_add - 1.

    Windows are read that much later than their addresses are known. 0 without LUTs.
    """
    return max(0, latency.fp16_add - 1) if engine.lut else 0


def sweep_cycles(tiles: Sequence[Tile], parallelism: int) -> Ints:
    """Cycles that Soma or Grad needs for one sample of each tile: ceil(positions / P), int64 (tiles,)."""
    return np.array([ceil_div(t.positions, parallelism) for t in tiles], np.int64)


def exposed_sweep(iteration_cycles: Ints, completed: Ints, sweep: Ints) -> int:
    """Cycles that the neuron unit (Soma or Grad) still sweeps after the array's last one.

    Sums are complete in the last row group of an output block. At each event some samples' sums become complete, and
    bring the unit work. completed: int64 (blocks, events), cycles from the start of that grid iteration to the event.
    sweep: the cycles of work of each event, broadcast to the same shape. The unit serves events first in, first out:
    end = max over events of (cycle of the event + its own work and that of all later events).
    """
    flat = iteration_cycles.ravel()
    starts = (np.cumsum(flat) - flat).reshape(completed.shape[0], -1)[:, -1]
    ready = (starts[:, None] + completed).ravel()
    work = np.broadcast_to(sweep, completed.shape).ravel()
    still = np.cumsum(work[::-1])[::-1]
    return int((ready + still).max() - flat.sum())
