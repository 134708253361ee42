"""What a reference engine returns, the clock and the event tallies it is counted with, and its input checks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from h2sim.activity import Actions
from h2sim.shapes import Tile, groups_of


@dataclass(frozen=True, eq=False)
class EngineRun:
    """One layer in one phase on one engine.

    cycles is the sum of iteration_cycles, which stand in loop order (outermost loop first); values is
    float32. neuron_cycles: what the neuron unit still sweeps after the array's last cycle. `neuron` stays empty:
    the PE arrays end before Soma and Grad (see neuron.py).
    """

    cycles: int
    iteration_cycles: list[int]
    values: np.ndarray
    pe_array: Actions
    acc: Actions
    neuron: Actions = field(default_factory=Actions)
    neuron_cycles: int = 0


@dataclass
class Tally:
    """The events of one component while it runs; `freeze` gives them as Actions."""

    lut_read: int = 0
    lut_write: int = 0
    fp16_add: int = 0
    fp16_multiply: int = 0
    register_access: int = 0
    priority_encode: int = 0

    def freeze(self) -> Actions:
        return Actions(
            lut_read=self.lut_read,
            lut_write=self.lut_write,
            fp16_add=self.fp16_add,
            fp16_multiply=self.fp16_multiply,
            register_access=self.register_access,
            priority_encode=self.priority_encode,
        )


@dataclass
class Clock:
    """Counts cycles, each under the grid iteration in which it passes."""

    iteration_cycles: list[int] = field(default_factory=list)
    now: int = 0  # cycles in all

    def begin_iteration(self) -> None:
        self.iteration_cycles.append(0)

    def tick(self) -> None:
        self.iteration_cycles[-1] += 1
        self.now += 1


@dataclass
class Sweep:
    """The neuron unit behind Acc: takes samples as their sums are complete, P positions per cycle."""

    parallelism: int
    busy_until: int = 0

    def take(self, now: int, tile: Tile, samples: int) -> None:
        """`samples` samples of a tile, complete in cycle `now`."""
        for _ in range(samples):
            self.busy_until = max(self.busy_until, now)
            for _ in groups_of(tile.positions, self.parallelism):
                self.busy_until += 1


@dataclass
class Bench:
    """The clock and the two tallies that all units of one engine share."""

    clock: Clock = field(default_factory=Clock)
    pe_array: Tally = field(default_factory=Tally)
    acc: Tally = field(default_factory=Tally)

    def finish(self, values: np.ndarray, sweep: Sweep | None = None) -> EngineRun:
        """The run's result; values in their final shape; sweep: the neuron unit, where one follows."""
        iterations = self.clock.iteration_cycles
        left = sweep.busy_until - self.clock.now if sweep else 0
        run = EngineRun(
            cycles=self.clock.now,
            iteration_cycles=iterations,
            values=values,
            pe_array=self.pe_array.freeze(),
            acc=self.acc.freeze(),
        )
        return replace(run, neuron_cycles=left)


def checked_values(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`array` as float32; raises ValueError if its shape is not `shape`."""
    _check_shape(name, array, shape)
    return np.asarray(array, dtype=np.float32)


def checked_bits(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`array` as uint8; raises ValueError if its shape is not `shape` or it holds more than 0 and 1."""
    _check_shape(name, array, shape)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: expected only 0 and 1; got values from {np.min(array)} to {np.max(array)}")
    return np.asarray(array, dtype=np.uint8)


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"{name}: expected shape {shape}; got {np.shape(array)}")
