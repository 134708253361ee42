"""Every compiled kernel with numba's bounds check, over random shapes, against its own plain form.

    python -m tests.robust.bounds --shapes 1000

A kernel without a check reads and writes beside its arrays in silence. The campaign runs in a process of its own with
NUMBA_BOUNDSCHECK=1 and a cache folder of its own, so that no unchecked code is found in a cache. Kernels are found in
the package: one that no case reaches is a fault. `tests/robust/test_bounds.py` runs a few shapes.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

import h2sim.kernels
from h2sim.kernels.unit import NEURON

Rng = np.random.Generator
Case = Callable[[Rng], tuple[Any, ...]]  # draws a kernel's arguments

CASES: dict[str, Case] = {}


# --- kernels and their plain forms -----------------------------------------------------------------------------------


def kernels() -> dict[str, Any]:
    """Every compiled function of the package by module and name, such as 'bits.count_in_tiles'."""
    found = {}
    for module in _modules():
        for name, value in vars(module).items():
            if hasattr(value, "py_func") and value.py_func.__module__ == module.__name__:
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = value
    return found


def _modules() -> Iterator[types.ModuleType]:
    for part in pkgutil.iter_modules(h2sim.kernels.__path__):
        yield import_module(f"h2sim.kernels.{part.name}")


def plain_forms() -> dict[str, Callable[..., Any]]:
    """The same functions as plain Python, those that they call included."""
    spaces = {module.__name__: dict(vars(module)) for module in _modules()}
    made = {
        value.py_func: types.FunctionType(value.py_func.__code__, spaces[value.py_func.__module__])
        for value in kernels().values()
    }
    for space in spaces.values():
        for name, value in space.items():
            if hasattr(value, "py_func"):
                space[name] = made[value.py_func]
            elif name == "trailing_zeros":
                space[name] = _trailing_zeros
    return {name: made[kernel.py_func] for name, kernel in kernels().items()}


def _trailing_zeros(word: np.uint64) -> np.uint64:
    n = int(word)
    return np.uint64((n & -n).bit_length() - 1 if n else 64)


# --- what to call them with ------------------------------------------------------------------------------------------


def case(name: str) -> Callable[[Case], Case]:
    def named(draw: Case) -> Case:
        CASES[name] = draw
        return draw

    return named


@dataclass(frozen=True)
class Window:
    """A convolution's maps: size, kernel, stride and padding, each (vertical, horizontal)."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def out(self) -> tuple[int, int]:
        sides = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        y, x = ((n + 2 * p - k) // s + 1 for n, k, s, p in sides)
        return y, x

    @property
    def geometry(self) -> tuple[int, ...]:
        return (*self.stride, *self.padding)


def one(rng: Rng, *choices: int) -> int:
    return int(rng.choice(choices))


def draw_window(rng: Rng) -> Window:
    """1 x 1 maps and kernels, strides beyond the kernel, and sizes that leave a rest, among others."""
    sides = []
    for _ in range(2):
        kernel, stride = one(rng, 1, 1, 2, 3, 5), one(rng, 1, 1, 2, 3, 7)
        padding = int(rng.integers(0, kernel))
        sides.append((int(rng.integers(max(1, kernel - 2 * padding), 10)), kernel, stride, padding))
    size, kernel, stride, padding = zip(*sides, strict=True)
    return Window(size, kernel, stride, padding)


def density(rng: Rng) -> float:
    return float(rng.choice([0.0, 0.1, 0.5, 1.0]))


def bits(rng: Rng, *shape: int) -> np.ndarray:
    return (rng.random(shape) < density(rng)).astype(np.uint8)


def counts(rng: Rng, planes: int, *shape: int) -> np.ndarray:
    """Spikes, or counts of so many bit planes."""
    return bits(rng, *shape) * rng.integers(0, 1 << planes, shape).astype(np.uint8)


def above(rng: Rng, rows: int, own: int) -> int:
    """Rows that other groups of channels hold above `own`; none where all do not fit."""
    return int(rng.integers(0, rows - own + 1)) if rows >= own else 0


def packed(rng: Rng, samples: int, neurons: int) -> np.ndarray:
    return np.packbits(bits(rng, samples, neurons), axis=1)


def values(rng: Rng, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) * (rng.random(shape) < 0.8)).astype(np.float32)


def room(*shape: int) -> np.ndarray:
    """What a kernel fills: not a number until it does."""
    return np.full(shape, np.nan, np.float32)


def some(rng: Rng) -> int:
    return one(rng, 1, 1, 2, 3, 8, 9)


def part_of(rng: Rng, n: int) -> tuple[int, int]:
    """A part of 0 to n; often all of it, sometimes nothing."""
    start = one(rng, 0, 0, int(rng.integers(0, n)))
    return start, one(rng, n, n, int(rng.integers(start, n + 1)))


@case("backward.bit_at")
def _(rng: Rng) -> tuple[Any, ...]:
    n = one(rng, 1, 8, 9, 30)
    return packed(rng, 1, n)[0], int(rng.integers(0, n))


@case("lanes.byte_at")
def _(rng: Rng) -> tuple[Any, ...]:
    n = one(rng, 1, 8, 9, 30)
    row = packed(rng, 1, n)[0]
    return np.concatenate([row, np.zeros(2, np.uint8)]), np.uint64(rng.integers(0, n))


@case("lanes.byte_sum")
def _(rng: Rng) -> tuple[Any, ...]:
    return (np.uint64(rng.integers(0, 32, 8, np.uint8).view(np.uint64)[0]),)


@case("datapath.pe_add")
def _(rng: Rng) -> tuple[Any, ...]:
    n = one(rng, 1, 2, 3, 5)
    address, lut, first = int(rng.integers(0, 1 << n)), bool(rng.integers(2)), bool(rng.integers(2))
    return np.float32(0.5), values(rng, n), n, values(rng, 1 << n), address, lut, first


def sweep(rng: Rng, kinds: tuple[type, ...], channels: tuple[int, ...]) -> tuple[Any, ...]:
    """Arguments of either sample_cycles; the counter is the narrowest of `kinds` that holds a PE's cycles."""
    w, samples, empty_cycles = draw_window(rng), one(rng, 1, 1, 2, 3), one(rng, 0, 1, 3)
    n_rows, n_columns = one(rng, *channels), some(rng)
    tile = one(rng, 1, 2, 4, 20), one(rng, 1, 2, 4, 20)
    groups = one(rng, 1, 3, 40), one(rng, 1, 2, 5), one(rng, 1, 2, 4, 7)
    held = max(1, empty_cycles, w.kernel[0] * w.kernel[1]) * min(tile[0], w.size[0]) * min(tile[1], w.size[1])
    kind = next(kind for kind in kinds if held <= np.iinfo(kind).max)
    n_tiles = -(-w.size[0] // tile[0]) * -(-w.size[1] // tile[1])
    cycles = np.zeros((samples, -(-n_columns // groups[1]), n_tiles, -(-n_rows // groups[0])), np.int64)
    return (
        *part_of(rng, samples), packed(rng, samples, n_rows * w.out[0] * w.out[1]),
        packed(rng, samples, n_columns * w.size[0] * w.size[1]), (n_rows, n_columns), w.size,
        (*w.out, *w.kernel, *w.geometry), tile, groups, empty_cycles, np.empty(0, kind), cycles,
        np.zeros((samples, 3), np.int64),
    )  # fmt: skip


@case("backward.sample_cycles")
def _(rng: Rng) -> tuple[Any, ...]:
    return sweep(rng, (np.uint8, np.uint16, np.int64)[one(rng, 0, 1, 2) :], (1, 2, 9, 65))


@case("backward_lanes.sample_cycles")
def _(rng: Rng) -> tuple[Any, ...]:
    return sweep(rng, (np.uint8, np.uint16)[one(rng, 0, 1) :], (1, 8, 9, 65))


@case("bits.count_in_tiles")
def _(rng: Rng) -> tuple[Any, ...]:
    channels, samples, size = some(rng), one(rng, 1, 2), (some(rng), some(rng))
    tile = one(rng, 1, 2, 4, 20), one(rng, 1, 2, 4, 20)
    counts = np.zeros((channels, -(-size[0] // tile[0]) * -(-size[1] // tile[1])), np.int64)
    return *part_of(rng, channels), packed(rng, samples, channels * size[0] * size[1]), size, tile, counts


@case("datapath.conv_luts")
def _(rng: Rng) -> tuple[Any, ...]:
    return values(rng, some(rng), some(rng), one(rng, 1, 3), one(rng, 1, 2, 3, 5)), one(rng, 1, 2, 3, 6)


@case("datapath.forward_conv")
def _(rng: Rng) -> tuple[Any, ...]:
    w, samples, n_in, n_out, lut_inputs = draw_window(rng), one(rng, 1, 2), some(rng), some(rng), one(rng, 1, 2, 3, 6)
    weight, planes = values(rng, n_out, n_in, *w.kernel), one(rng, 1, 1, 3)
    sub_luts, rows = one(rng, 1, 2, 4), one(rng, 1, 2, 5, 64)
    own = n_in * -(-w.kernel[0] // sub_luts) * -(-w.kernel[1] // lut_inputs)
    return (
        *part_of(rng, samples), counts(rng, planes, samples, n_in, *w.size), weight,
        PLAIN["datapath.conv_luts"](weight, lut_inputs), values(rng, n_out), w.geometry, bool(rng.integers(2)),
        lut_inputs, sub_luts, rows, planes, above(rng, rows, own), room(samples, n_out, *w.out),
    )  # fmt: skip


@case("datapath.forward_fc")
def _(rng: Rng) -> tuple[Any, ...]:
    samples, n_in, n_out, planes = some(rng), one(rng, 1, 2, 9, 40), some(rng), one(rng, 1, 1, 3)
    arrays = counts(rng, planes, samples, n_in), values(rng, n_out, n_in), values(rng, n_out)
    sizes = one(rng, 1, 2, 8), one(rng, 1, 3, 64), one(rng, 1, 8)
    return *part_of(rng, samples), *arrays, *sizes, planes, room(samples, n_out)


@case("datapath.weight_gradient_conv")
def _(rng: Rng) -> tuple[Any, ...]:
    w, batch, steps, n_in, n_out = draw_window(rng), one(rng, 1, 2), one(rng, 1, 3), one(rng, 1, 2), some(rng)
    planes = one(rng, 1, 1, 3)
    arrays = counts(rng, planes, steps * batch, n_in, *w.size), values(rng, steps * batch, n_out, *w.out)
    return (
        *part_of(rng, n_out), *arrays, w.geometry, (one(rng, 1, 4, 20), one(rng, 1, 4, 20)), bool(rng.integers(2)),
        one(rng, 1, 2, 6), one(rng, 1, 2, 4), one(rng, 1, 2, 5), batch, planes,
        np.zeros((n_out, n_in, *w.kernel), np.float32),
    )  # fmt: skip


@case("datapath.weight_gradient_fc")
def _(rng: Rng) -> tuple[Any, ...]:
    batch, steps, n_in, n_out, planes = one(rng, 1, 2), one(rng, 1, 4), some(rng), some(rng), one(rng, 1, 1, 3)
    arrays = counts(rng, planes, steps * batch, n_in), values(rng, steps * batch, n_out)
    return *part_of(rng, n_out), *arrays, one(rng, 1, 2, 5), batch, planes, np.zeros((n_out, n_in), np.float32)


@case("datapath.backward_conv")
def _(rng: Rng) -> tuple[Any, ...]:
    w, samples, n_in, n_out = draw_window(rng), one(rng, 1, 2), one(rng, 1, 3), some(rng)
    grad = values(rng, samples, n_out, *w.out)
    arrays = grad, (grad != 0).astype(np.uint8), bits(rng, samples, n_in, *w.size), values(rng, n_out, n_in, *w.kernel)
    rows = one(rng, 1, 2, 64)
    return *part_of(rng, samples), *arrays, w.geometry, rows, above(rng, rows, n_out), room(samples, n_in, *w.size)


@case("datapath.backward_fc")
def _(rng: Rng) -> tuple[Any, ...]:
    samples, n_in, n_out = some(rng), some(rng), one(rng, 1, 2, 9, 40)
    arrays = values(rng, samples, n_out), values(rng, n_out, n_in)
    return *part_of(rng, samples), *arrays, one(rng, 1, 3, 64), room(samples, n_in)


@case("datapath.encode_forward")
def _(rng: Rng) -> tuple[Any, ...]:
    w, samples, n_in, n_out = draw_window(rng), one(rng, 1, 2), one(rng, 1, 3), some(rng)
    arrays = values(rng, samples, n_in, *w.size), values(rng, n_out, n_in, *w.kernel), values(rng, n_out)
    rows = one(rng, 1, 2, 64)
    return *part_of(rng, samples), *arrays, w.geometry, rows, above(rng, rows, n_in), room(samples, n_out, *w.out)


@case("datapath.encode_weight_gradient")
def _(rng: Rng) -> tuple[Any, ...]:
    w, samples, n_in, n_out = draw_window(rng), one(rng, 1, 2), one(rng, 1, 3), some(rng)
    arrays = values(rng, samples, n_in, *w.size), values(rng, samples, n_out, *w.out)
    tile = one(rng, 1, 4, 20), one(rng, 1, 4, 20)
    return *part_of(rng, n_out), *arrays, w.geometry, tile, np.zeros((n_out, n_in, *w.kernel), np.float32)


@case("lif.forward")
def _(rng: Rng) -> tuple[Any, ...]:
    shape = one(rng, 1, 1, 2, 5), one(rng, 1, 2, 30)
    numbers = np.float32(rng.choice([0.0, 0.25, 1.0])), np.float32(0.3), bool(rng.integers(2))
    return values(rng, *shape), *numbers, *_reset(rng), room(*shape), room(*shape)


@case("lif.backward")
def _(rng: Rng) -> tuple[Any, ...]:
    shape = one(rng, 1, 1, 2, 5), one(rng, 1, 2, 30)
    arrays = values(rng, *shape), values(rng, *shape), bits(rng, *shape).astype(np.float32)
    numbers = (np.float32(n) for n in (0.25, 0.3, 0.05, 0.55, 1))
    return *arrays, *numbers, bool(rng.integers(2)), np.float32(rng.integers(2)), *_reset(rng), room(*shape)


def _reset(rng: Rng) -> tuple[Any, ...]:
    """None of three, or one."""
    chosen = rng.integers(4)
    return tuple(np.float32(n == chosen) for n in range(3))


@dataclass(frozen=True)
class Maps:
    """Maps of a layer over time, with channels or places side by side, as fused/compiled.py hands them over."""

    steps: int
    samples: int
    channels: int
    places: int
    along: int

    @classmethod
    def drawn(cls, rng: Rng) -> Maps:
        return cls(one(rng, 1, 2, 5), some(rng), some(rng), some(rng), one(rng, 0, 1))

    @property
    def elements(self) -> int:
        return self.steps * self.samples * self.channels * self.places

    @property
    def across(self) -> tuple[Any, ...]:
        """wide, channels and along."""
        if self.along:
            return self.channels, np.zeros(self.samples * self.places, np.int64), 1
        return self.places, np.tile(np.arange(self.channels), self.samples), 0

    def rows(self, rng: Rng) -> tuple[Any, ...]:
        """Memory, each row's start and the elements of a timestep; one timestep may stand for all."""
        per_step = self.elements // self.steps
        whole = bool(rng.integers(4)) or self.steps == 1
        starts = np.arange(0, per_step, self.across[0])
        return values(rng, self.elements if whole else per_step), starts, per_step if whole else 0


def unit_neuron(rng: Rng) -> np.ndarray:
    zeroed, before, after = _reset(rng)
    chosen = {"decay": 0.25, "fires_from": 0.3, "threshold": 0.3, "low": 0.05, "high": 0.55, "scale": 1,
              "attached": rng.integers(2), "zeroed": zeroed, "before": before, "after": after,
              "triangle": rng.integers(2)}  # fmt: skip
    return np.array([chosen[name] for name in NEURON], np.float32)


def unit_pair(rng: Rng, maps: Maps) -> tuple[Any, ...]:
    """Arguments of spikes, sums and backward, norm and neuron included; x may be one timestep, the other is not."""
    other = maps.rows(rng)
    while other[2] == 0:
        other = maps.rows(rng)
    norm = values(rng, 4, maps.channels)
    return *maps.rows(rng), *other, maps.steps, *maps.across, norm, unit_neuron(rng)


@case("unit.spikes")
def _(rng: Rng) -> tuple[Any, ...]:
    return unit_pair(rng, Maps.drawn(rng))


@case("unit.sums")
def _(rng: Rng) -> tuple[Any, ...]:
    maps = Maps.drawn(rng)
    return *unit_pair(rng, maps), np.zeros((2, maps.channels))


@case("unit.backward")
def _(rng: Rng) -> tuple[Any, ...]:
    maps = Maps.drawn(rng)
    return *unit_pair(rng, maps), values(rng, 2, maps.channels)


@case("unit.moments")
def _(rng: Rng) -> tuple[Any, ...]:
    maps = Maps.drawn(rng)
    return *maps.rows(rng), maps.steps, *maps.across, maps.elements // maps.channels, np.empty((2, maps.channels))


@case("schedule.run_schedule")
def _(rng: Rng) -> tuple[Any, ...]:
    return _scheduled(rng, "schedule.run_schedule")


@case("rows.cut_rows")
def _(rng: Rng) -> tuple[Any, ...]:
    return _scheduled(rng, "rows.cut_rows")


@case("path.walk")
def _(rng: Rng) -> tuple[Any, ...]:
    return _scheduled(rng, "path.walk")


def _scheduled(rng: Rng, name: str) -> tuple[Any, ...]:
    """What a kernel is called with where jobs of any lengths, zeros included, are scheduled and explained."""
    from h2sim.arch import load_arch
    from h2sim.memory.job import Job
    from h2sim.memory.schedule import schedule
    from h2sim.memory.traffic import Traffic

    sides = {"forward": "forward", "backward": "backward", "weight_update": "backward"}
    jobs: list[Any] = []
    for number in range(one(rng, 1, 2, 6)):
        engine, n = str(rng.choice(list(sides))), one(rng, 1, 2, 5)
        moved = (rng.integers(0, 30, (4, 1, n, 1)) * one(rng, 0, 1)) * 80
        traffic = Traffic(
            reads=moved[0], gradient_reads=moved[1], writes=moved[2], gradient_writes=moved[3],
            pieces=rng.integers(1, 4, (1, n, 1)), buffers=(),
        )  # fmt: skip
        after = tuple(job.key for job in jobs if rng.random() < 0.4)
        jobs.append(
            Job(layer=f"j{number}", phase=engine, engine=engine, side=sides[engine],  # type: ignore[arg-type]
                cycles=rng.integers(0, 25, (1, n, 1)), fill_cycles=one(rng, 0, 3), traffic=traffic, after=after)
        )  # fmt: skip
    machine = load_arch("h2learn").with_({"memory.burst_bytes": one(rng, 64, 640, 9600)})
    with _recorded(name) as calls:
        books = schedule(machine, jobs, keep_books=True).books
        if books is not None and name == "path.walk":
            books.critical_path()
    return calls[-1]


@contextmanager
def _recorded(name: str) -> Iterator[list[tuple[Any, ...]]]:
    """The arguments of every call of a kernel, as they were before it; its plain form answers."""
    calls: list[tuple[Any, ...]] = []
    module_name, _, function = name.partition(".")
    module = import_module(f"h2sim.kernels.{module_name}")
    kernel = getattr(module, function)

    def record(*arguments: Any) -> Any:
        calls.append(copied(arguments))
        return PLAIN[name](*arguments)

    setattr(module, function, record)
    try:
        yield calls
    finally:
        setattr(module, function, kernel)


@case("channel_maps.count_channels")
def _(rng: Rng) -> tuple[Any, ...]:
    channels, positions, samples = some(rng), some(rng), some(rng)
    return packed(rng, samples, channels * positions), np.zeros((samples, positions), np.int64)


@case("channel_maps.sum_fed")
def _(rng: Rng) -> tuple[Any, ...]:
    w, samples = draw_window(rng), some(rng)
    outputs = rng.integers(0, 3, (samples, *w.out)).astype(np.int64)
    return outputs, w.kernel, w.stride, w.padding, np.zeros((samples, *w.size), np.int64)


WORDS = ((np.uint16, 16), (np.uint32, 32), (np.uint64, 64))


def words(rng: Rng, *shape: int) -> np.ndarray:
    """Few patterns, so that some rows are alike and some hold others."""
    dtype, _ = WORDS[int(rng.integers(0, 3))]
    return rng.integers(0, one(rng, 1, 4, 16), shape).astype(dtype)


@case("product_sparsity.fill_words")
def _(rng: Rng) -> tuple[Any, ...]:
    w, channels, steps = draw_window(rng), some(rng), some(rng)
    dtype, most = WORDS[int(rng.integers(0, 3))]
    width = int(rng.integers(1, most + 1))
    columns = channels * w.kernel[0] * w.kernel[1]
    room_for = np.zeros((w.out[0] * w.out[1] * steps, -(-columns // width)), dtype)
    spikes = packed(rng, steps, channels * w.size[0] * w.size[1])
    window = (*w.kernel, *w.stride, *w.padding)
    return spikes, (channels, *w.size), w.out, window, width, room_for, np.array([1 << i for i in range(width)], dtype)


@case("product_sparsity.count_tiles")
def _(rng: Rng) -> tuple[Any, ...]:
    found, tile_rows = words(rng, some(rng), some(rng)), int(rng.integers(1, 9))
    counted = np.zeros((-(-len(found) // tile_rows), found.shape[1], 7), np.int64)
    return found, tile_rows, bool(rng.integers(0, 2)), counted


@case("product_sparsity.count_rows")
def _(rng: Rng) -> tuple[Any, ...]:
    found = words(rng, some(rng))
    ones = np.array([int(word).bit_count() for word in found], found.dtype)
    return found, ones, bool(rng.integers(0, 2)), np.zeros(7, np.int64)


@case("product_sparsity.largest_subset")
def _(rng: Rng) -> tuple[Any, ...]:
    found = words(rng, some(rng))
    ones = np.array([int(word).bit_count() for word in found], found.dtype)
    return found, ones, int(rng.integers(0, len(found)))


# --- the campaign ----------------------------------------------------------------------------------------------------


def copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)


def fault(kernel: Callable[..., Any], plain: Callable[..., Any], arguments: tuple[Any, ...]) -> str | None:
    """What is wrong with a kernel's answer, if anything is: an index out of its array, or not what the plain form says.

    The answer is what the kernel returns, and all arrays that it was given.
    """
    ours, theirs = copied(arguments), copied(arguments)
    try:
        found = kernel(*ours)
    except IndexError as error:
        return f"beside an array: {error}"
    with np.errstate(over="ignore"):  # words are made to wrap
        expected = plain(*theirs)
    for what, a, b in (("result", found, expected), *(("argument", a, b) for a, b in zip(ours, theirs, strict=True))):
        if not np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f"):
            return f"another {what} than the plain form's"
    return None


def campaign(shapes: int, seed: int = 0, only: Mapping[str, Case] | None = None) -> list[str]:
    """A line for each fault: of a kernel with some shape, or that no case has reached."""
    faults, found = [], kernels()
    for name, draw in (only or CASES).items():
        for number in range(shapes):
            said = fault(found[name], PLAIN[name], draw(np.random.default_rng([seed, number])))
            if said:
                faults.append(f"{name}: shape {number} of seed {seed}: {said}")
                break
    if only is None:
        faults += [f"{name}: no case reaches it" for name in found if not reached(name, found)]
    return faults


def reached(name: str, found: Mapping[str, Any]) -> bool:
    """Whether a kernel was compiled: itself, or what it is pasted into, where its indices are checked as well."""
    kernel, function = found[name], name.partition(".")[2]
    if kernel.signatures or kernel.targetoptions.get("inline") != "always":
        return bool(kernel.signatures)
    callers = [other for other, each in found.items() if function in each.py_func.__code__.co_names and other != name]
    return any(reached(caller, found) for caller in callers)


PLAIN = plain_forms()


def checked(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """This module in a process in which numba checks bounds, with nothing in its cache."""
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": cache, "NUMBA_DISABLE_JIT": "0"}
        command = [sys.executable, "-m", "tests.robust.bounds", "--checked", *arguments]
        return subprocess.run(command, env={**env, **environment}, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=200, help="per kernel")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kernel")
    parser.add_argument("--checked", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.checked:
        done = checked(sys.argv[1:])
        print(done.stdout + done.stderr, end="")
        return done.returncode
    from numba.core import config

    if not config.BOUNDSCHECK:  # type: ignore[attr-defined]
        raise SystemExit("numba checks no bounds")
    only = {options.only: CASES[options.only]} if options.only else None
    faults = campaign(options.shapes, options.seed, only)
    print("\n".join(faults) or f"{len(only or CASES)} cases, {len(kernels())} kernels, {options.shapes} shapes each")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
