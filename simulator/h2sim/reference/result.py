"""What a reference engine returns, the clock and the event tallies it is counted with, and its input checks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from h2sim.activity import Actions
from h2sim.arrays import Array, Bytes, Float32s, Ints
from h2sim.shapes import Tile, groups_of


@dataclass(frozen=True, eq=False)
class EngineRun:
    """What the stepped run of one layer in one phase on one engine gave.

    cycles: the sum of iteration_cycles, which are the cycles of the grid iterations in loop order. values: the result.
    pe_array and acc: event counts; neuron has none, for Soma and Grad are modelled apart (neuron.py). neuron_cycles:
    cycles that the neuron unit still sweeps after the array's last one.
    """

    cycles: int
    iteration_cycles: list[int]
    values: Float32s
    pe_array: Actions
    acc: Actions
    neuron: Actions = field(default_factory=Actions)
    neuron_cycles: int = 0


@dataclass
class Tally:
    """Counts the events of one component while it runs; `freeze` gives them as Actions."""

    lut_read: int = 0
    lut_write: int = 0
    fp16_add: int = 0
    fp16_multiply: int = 0
    register_access: int = 0
    priority_encode: int = 0

    def freeze(self) -> Actions:
        """The counts so far."""
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
        """The cycles from here on belong to the next grid iteration."""
        self.iteration_cycles.append(0)

    def tick(self) -> None:
        """One cycle passes."""
        self.iteration_cycles[-1] += 1
        self.now += 1


@dataclass
class Sweep:
    """The neuron unit behind Acc: it takes samples when their sums are complete, P positions a cycle."""

    parallelism: int
    busy_until: int = 0

    def take(self, now: int, tile: Tile, samples: int) -> None:
        """Takes so many samples of a tile, whose sums are complete in cycle `now`."""
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

    def finish(self, values: Float32s, sweep: Sweep | None = None) -> EngineRun:
        """The run's result, with values in their final shape; sweep: the neuron unit, where one follows Acc."""
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


def checked_values(name: str, array: Array, shape: tuple[int, ...]) -> Float32s:
    """`array` as float32. Raises ValueError if its shape is not `shape`."""
    _check_shape(name, array, shape)
    return np.asarray(array, dtype=np.float32)


def checked_bits(name: str, array: Array, shape: tuple[int, ...]) -> Bytes:
    """`array` as uint8. Raises ValueError if its shape is not `shape` or it holds more than 0 and 1."""
    _check_shape(name, array, shape)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: expected only 0 and 1; got values from {np.min(array)} to {np.max(array)}")
    return np.asarray(array, dtype=np.uint8)


def checked_counts(name: str, array: Array, shape: tuple[int, ...], planes: int) -> Ints:
    """`array` as int64. Raises ValueError if its shape is not `shape` or it holds more than 0 to 2^planes - 1."""
    if planes == 1:
        return checked_bits(name, array, shape).astype(np.int64)
    _check_shape(name, array, shape)
    most = (1 << planes) - 1
    if not np.isin(array, np.arange(most + 1)).all():
        raise ValueError(f"{name}: expected integers from 0 to {most}; got values to {np.max(array)}")
    return np.asarray(array, dtype=np.int64)


def plane(counts: Ints, number: int) -> Bytes:
    """Bit `number` of every count, uint8 of 0 and 1."""
    return (counts >> number & 1).astype(np.uint8)


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"{name}: expected shape {shape}; got {np.shape(array)}")
