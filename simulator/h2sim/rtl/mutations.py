"""Mutation checks: the simulator is changed in one number or one rule, and the co-simulation must notice.

The RTL stays as it is. If no case noticed a mutation, the co-simulation would prove nothing about that number.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.arrays import Array, Ints
from h2sim.reference import finder, result
from h2sim.reference.acc import AccTree
from h2sim.reference.array import LutArray
from h2sim.rtl.bench import RtlRun, VerilatorBench
from h2sim.rtl.check import differences
from h2sim.rtl.corners import (
    BATCH_BELOW_P,
    COUNTS,
    PARTIAL_COLUMNS,
    PARTIAL_LANES,
    PARTIAL_ROWS,
    SAMPLES_BELOW_P,
    STRIDE_2,
    corners_drawn,
    corners_of,
)
from h2sim.rtl.layers import Hardware, hardware_of, layers
from h2sim.shapes import ConvShape, FcShape, Tile, ceil_div


@dataclass(frozen=True)
class Mutation:
    """One change of the simulator: another arch that it is asked about, or a patch of its code.

    corner: the mutation has to be noticed by layers of this corner (corners.py), and is shown to no others.
    """

    name: str
    engine: str
    change: Callable[[Arch], Arch] | None = None
    patch: tuple[str, Any] | None = None  # what to replace ("module.name" or "module.Class.name"), and by what
    corner: str | None = None

    @contextmanager
    def applied(self, hardware: Hardware) -> Iterator[Hardware]:
        """Gives the machine as the changed simulator sees it; the change lasts as long as the block."""
        if self.change:
            yield replace(hardware, simulated=self.change(hardware.arch))
        if self.patch:
            with mock.patch(*self.patch):
                yield hardware


def _set(path: str, value: object) -> Callable[[Arch], Arch]:
    """A change of one field of an arch, named by its dotted path."""
    return lambda arch: arch.with_({path: value})


def _number(path: str, step: int) -> Callable[[Arch], Arch]:
    """A change that adds `step` to one number of an arch, named by its dotted path."""

    def change(arch: Arch) -> Arch:
        data = arch.model_dump()
        *outer, last = path.split(".")
        inner = data
        for key in outer:
            inner = inner[key]
        inner[last] += step
        return Arch(**data)

    return change


def _flipped(engine: str) -> Callable[[Arch], Arch]:
    def change(arch: Arch) -> Arch:
        data = arch.model_dump()
        data["engines"][engine]["lut_double_buffered"] ^= True
        return Arch(**data)

    return change


def _deal_in_runs(self: finder.OutputFinder, window: Array, tile: Tile) -> list[list[finder.Position]]:
    """A wrong rule of dealing: neighbouring positions go to the same PE instead of to the PEs in turn."""
    ids = [(y, x) for y in range(tile.y0, tile.y1) for x in range(tile.x0, tile.x1) if window[y, x]]
    share = max(1, ceil_div(len(ids), self.parallelism))
    return [ids[i * share : (i + 1) * share] for i in range(self.parallelism)]


def _rows_swept(tiles: list[Tile], parallelism: int) -> Array:
    """A wrong sweep: every row of a tile begins a new item."""
    return np.array([t.height * ceil_div(t.width, parallelism) for t in tiles], np.int64)


def _at_once(self: result.Sweep, now: int, tile: Tile, samples: int) -> None:
    """A wrong sweep: it takes no time."""
    self.busy_until = max(self.busy_until, now)


def _asked(target: str, another: Callable[[Any, Any], Any]) -> tuple[str, Any]:
    """A patch of an engine's function: it is asked about another shape than the layer's, another(engine, shape)."""
    original = pkgutil.resolve_name(target)

    def wrong(engine: Any, *arguments: Any) -> Any:
        return original(engine, *[another(engine, a) if isinstance(a, ConvShape | FcShape) else a for a in arguments])

    return target, wrong


def _stride_1(engine: Any, shape: ConvShape) -> ConvShape:
    return replace(shape, stride=(1, 1))


def _stride_one_less(key: Any, shape: ConvShape) -> ConvShape:
    return replace(shape, stride=(max(1, shape.stride[0] - 1), max(1, shape.stride[1] - 1)))


def _whole(field: str, array: str) -> Callable[[Any, Any], Any]:
    """Another shape: what its last, partial group has is left out. field: of the shape; array: the groups' size."""

    def another(engine: Any, shape: Any) -> Any:
        size, count = getattr(engine, array), getattr(shape, field)
        return replace(shape, **{field: max(min(size, count), count // size * size)})

    return another


def _batch_padded(engine: Any, shape: FcShape) -> FcShape:
    return replace(shape, batch=ceil_div(shape.batch, engine.parallelism) * engine.parallelism)


def _all_lanes(engine: Any, shape: Any) -> Ints:
    """A wrong number of samples on the lanes: all lanes of the last turn have one."""
    return np.full(ceil_div(shape.samples, engine.parallelism), engine.parallelism, np.int64)


def _shift(another: Callable[[int], int]) -> tuple[str, Any]:
    """A patch of Acc: a sum is shifted by another number than its plane's."""
    original = AccTree.accumulate

    def wrong(self: AccTree, psum: Any, outputs: Any, plane: int = 0, first: int = 0) -> np.float32:
        return original(self, psum, outputs, another(plane), first)

    return "h2sim.reference.acc.AccTree.accumulate", wrong


def _plane_late() -> tuple[str, Any]:
    """A patch of the array of a convolution: a sum is shifted by the plane of the cycle before."""
    original = LutArray.accumulate

    def wrong(self: LutArray, addresses: Any, column: int, psum: np.float32, plane: int = 0) -> np.float32:
        cycle, latest, before = vars(self).get("plane_seen", (-1, 0, 0))
        if cycle != self.bench.clock.now:
            latest, before = plane, latest
        vars(self)["plane_seen"] = self.bench.clock.now, latest, before
        return original(self, addresses, column, psum, before)

    return "h2sim.reference.array.LutArray.accumulate", wrong


def _highest_first(name: str, array: Array, shape: tuple[int, ...], planes: int) -> Ints:
    """Wrong planes: they pass highest first, while the shifts count up."""
    counts = result.checked_counts(name, array, shape, planes)
    reversed_planes: Ints = np.zeros_like(counts)
    for b in range(planes):
        reversed_planes += result.plane(counts, b).astype(np.int64) << (planes - 1 - b)
    return reversed_planes


def _at_one_pass(target: str) -> tuple[str, Any]:
    """A patch of a fast engine's function: all planes pass in the cycles of one."""
    original = pkgutil.resolve_name(target)
    return target, lambda *arguments: original(*arguments[:-1])


MUTATIONS = (
    Mutation("tile_sync_cycles - 1", "backward", _number("engines.backward.tile_sync_cycles", -1)),
    Mutation("tile_sync_cycles + 1", "backward", _number("engines.backward.tile_sync_cycles", 1)),
    Mutation("empty_window_cycles 0", "backward", _number("engines.backward.empty_window_cycles", -1)),
    Mutation("empty_window_cycles 2", "backward", _number("engines.backward.empty_window_cycles", 1)),
    Mutation("finder latency + 1", "backward", _number("latency.finder", 1)),
    Mutation("multiplier latency + 1", "backward", _number("latency.fp16_multiply", 1)),
    Mutation("adder latency + 1", "backward", _number("latency.fp16_add", 1)),
    Mutation("Grad latency + 1", "backward", _number("latency.grad", 1)),
    Mutation("backward parallelism + 1", "backward", _number("engines.backward.parallelism", 1)),
    Mutation("IDs dealt in runs (stepped)", "backward",
             patch=("h2sim.reference.finder.OutputFinder.deal", _deal_in_runs)),
    Mutation("samples first timestep first (stepped)", "backward",
             patch=("h2sim.reference.backward.backward_in_time", lambda shape: list(range(shape.samples)))),
    Mutation("Grad sweeps row by row (fast)", "backward", patch=("h2sim.engines.backward.sweep_cycles", _rows_swept)),
    Mutation("sweep in no time (stepped)", "forward", patch=("h2sim.reference.result.Sweep.take", _at_once)),
    Mutation("Soma sweeps row by row (fast)", "forward", patch=("h2sim.engines.forward.sweep_cycles", _rows_swept)),
    Mutation("Soma latency + 1", "forward", _number("latency.soma", 1)),
    Mutation("LUT read latency + 1", "forward", _number("latency.lut_read", 1)),
    Mutation("adder latency + 1", "forward", _number("latency.fp16_add", 1)),
    Mutation("programming hidden or not", "forward", _flipped("forward")),
    Mutation("forward rows + 1", "forward", _number("engines.forward.rows", 1)),
    Mutation("LUT read latency + 1", "weight_update", _number("latency.lut_read", 1)),
    Mutation("adder latency + 1", "weight_update", _number("latency.fp16_add", 1)),
    Mutation("programming hidden or not", "weight_update", _flipped("weight_update")),
    Mutation("weight update parallelism + 1", "weight_update", _number("engines.weight_update.parallelism", 1)),
    Mutation("late windows forgotten (fast)", "weight_update",
             patch=("h2sim.engines.weight_update.programmed_late", lambda engine, latency: 0)),
    # the corners: strides, batch below P, partial groups
    Mutation("stride taken as 1 (stepped)", "backward", corner=STRIDE_2,
             patch=_asked("h2sim.reference.backward.backward_conv", _stride_1)),
    Mutation("stride one less (fast)", "backward", corner=STRIDE_2,
             patch=_asked("h2sim.engines.backward.count_pairs", _stride_one_less)),
    Mutation("encoding stride taken as 1 (stepped)", "backward", corner=STRIDE_2,
             patch=_asked("h2sim.reference.encode.encode_forward", _stride_1)),
    Mutation("batch filled up to P (fast FC)", "backward", corner=BATCH_BELOW_P,
             patch=_asked("h2sim.engines.backward.fc", _batch_padded)),
    Mutation("partial column group left out (fast FC)", "backward", corner=PARTIAL_COLUMNS,
             patch=_asked("h2sim.engines.backward.fc", _whole("in_features", "columns"))),
    Mutation("partial row group left out (fast FC)", "backward", corner=PARTIAL_ROWS,
             patch=_asked("h2sim.engines.backward.fc", _whole("out_features", "rows"))),
    Mutation("partial row group left out (fast encoding)", "backward", corner=PARTIAL_ROWS,
             patch=_asked("h2sim.engines.backward.encode_forward", _whole("in_channels", "rows"))),
    Mutation("stride taken as 1 (stepped)", "forward", corner=STRIDE_2,
             patch=_asked("h2sim.reference.forward.forward_conv", _stride_1)),
    Mutation("lanes take samples of one timestep", "forward", _set("engines.forward.lanes", "samples"),
             corner=BATCH_BELOW_P),
    Mutation("empty lanes swept (fast)", "forward", corner=SAMPLES_BELOW_P,
             patch=("h2sim.engines.forward._lane_samples", _all_lanes)),
    Mutation("partial column group left out (fast)", "forward", corner=PARTIAL_COLUMNS,
             patch=_asked("h2sim.engines.forward.conv", _whole("out_channels", "columns"))),
    Mutation("stride taken as 1 (stepped)", "weight_update", corner=STRIDE_2,
             patch=_asked("h2sim.reference.weight_update.weight_update_conv", _stride_1)),
    Mutation("lanes take channels of one offset", "weight_update", _set("engines.weight_update.lanes", "channels"),
             corner=PARTIAL_LANES),
    Mutation("partial lanes left out (fast FC)", "weight_update", corner=PARTIAL_LANES,
             patch=_asked("h2sim.engines.weight_update.fc", _whole("in_features", "parallelism"))),
    Mutation("partial column group left out (fast)", "weight_update", corner=PARTIAL_COLUMNS,
             patch=_asked("h2sim.engines.weight_update.conv", _whole("out_channels", "columns"))),
    *(
        Mutation(name, engine, patch=patch, corner=COUNTS)
        for engine in ("forward", "weight_update")
        for name, patch in (
            ("planes not shifted (stepped)", _shift(lambda plane: 0)),
            ("planes shifted by one too many (stepped)", _shift(lambda plane: plane + 1)),
            ("plane number a cycle late (stepped)", _plane_late()),
            ("planes highest first, shifts lowest first (stepped)",
             (f"h2sim.reference.{engine}.checked_counts", _highest_first)),
            ("planes in one pass (fast)", _at_one_pass(f"h2sim.engines.{engine}.conv")),
            ("planes in one pass (fast FC)", _at_one_pass(f"h2sim.engines.{engine}.fc")),
        )
    ),
)  # fmt: skip


def mutation_machine(arch: Arch, engine: str) -> Hardware:
    """A small machine on which every mutation of an engine makes a difference."""
    for seed in range(10_000):
        hardware = hardware_of(np.random.default_rng([7, seed]), arch, engine)
        built, tile = getattr(hardware.arch.engines, engine), hardware.arch.tile
        big_enough = min(built.rows, built.columns, built.parallelism, tile.height) >= 2 and tile.width >= 3
        plain = not getattr(built, "lut_double_buffered", False) and getattr(built, "sub_lut_size", 8) >= 8
        small = built.rows * built.columns * getattr(built, "sub_luts", 1) <= 8  # builds in seconds
        if small and big_enough and plain and tile.width % built.parallelism and hardware.arch.latency.fp16_add == 2:
            return hardware
    raise AssertionError("no machine found")


def corner_of(engine: str, name: str) -> str | None:
    """The corner of a mutation; None for one that all layers are shown, and for `unchanged`."""
    return next((m.corner for m in MUTATIONS if (m.engine, m.name) == (engine, name)), None)


def check_mutations(hardware: Hardware, bench: VerilatorBench, n_cases: int) -> dict[str, int]:
    """For each mutation of the machine's engine, how many of n_cases layers (those of its corner) differ from the RTL.

    `unchanged` is the simulator as it is, for which none must differ. bench: the machine, built.
    """
    original = list(layers(hardware, range(n_cases)))
    runs = list(bench.run([layer.case for layer in original]))
    found = {"unchanged": sum(bool(differences(layer, run)) for layer, run in zip(original, runs, strict=True))}
    engine = getattr(hardware.arch.engines, hardware.engine)
    lies = [corners_of(layer.kind, layer.shape, engine, layer.planes) for layer in original]
    for mutation in MUTATIONS:
        if mutation.engine == hardware.engine and mutation.corner in (None, *corners_drawn(hardware.planes)):
            seeds = [seed for seed, corners in enumerate(lies) if mutation.corner in (None, *corners)]
            found[mutation.name] = _noticed(mutation, hardware, seeds, [runs[seed] for seed in seeds])
    return found


def _noticed(mutation: Mutation, hardware: Hardware, seeds: Sequence[int], runs: list[RtlRun]) -> int:
    with mutation.applied(hardware) as changed:
        return sum(bool(differences(layer, run)) for layer, run in zip(layers(changed, seeds), runs, strict=True))
