"""What a reference engine returns, the clock and the event tallies it is counted with, and its input checks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from h2sim.activity import Actions


@dataclass(frozen=True, eq=False)
class EngineRun:
    """One layer in one phase on one engine.

    cycles is the sum of iteration_cycles, which stand in loop order (outermost loop first); values is
    float32. `neuron` stays empty: the PE arrays end before Soma and Grad (see neuron.py).
    """

    cycles: int
    iteration_cycles: list[int]
    values: np.ndarray
    pe_array: Actions
    acc: Actions
    neuron: Actions = field(default_factory=Actions)


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

    def begin_iteration(self) -> None:
        self.iteration_cycles.append(0)

    def tick(self) -> None:
        self.iteration_cycles[-1] += 1


@dataclass
class Bench:
    """The clock and the two tallies that all units of one engine share."""

    clock: Clock = field(default_factory=Clock)
    pe_array: Tally = field(default_factory=Tally)
    acc: Tally = field(default_factory=Tally)

    def finish(self, values: np.ndarray) -> EngineRun:
        """The run's result; values in their final shape."""
        iterations = self.clock.iteration_cycles
        return EngineRun(sum(iterations), iterations, values, self.pe_array.freeze(), self.acc.freeze())


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
