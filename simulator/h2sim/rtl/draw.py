"""Random machines, shapes and masks for the co-simulation, and a layer of both sides: what follows from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from h2sim.arch.schema import Arch, TileSize
from h2sim.arrays import Array, Bytes, Ints
from h2sim.engines.work import EngineWork
from h2sim.reference.result import EngineRun
from h2sim.rtl import fixed, images
from h2sim.rtl.bench import Case
from h2sim.rtl.corners import below, odd_to, often
from h2sim.rtl.fixed import FixedNeuron
from h2sim.rtl.parameters import (
    BackwardParameters,
    LutParameters,
    Widths,
    of_engine,
    weight_update_parameters,
)
from h2sim.shapes import ConvShape, FcShape

Results = Callable[[Array], dict[str, Array]]
WIDTHS = Widths(operand_bits=8, sum_bits=20, fraction_bits=8, psum_blocks=64, plane_bits=2, most_samples=12)
MOST_OFFSETS = 64  # (channel, kernel offset) pairs of a case
WIDE = 20  # PEs (Backward Engine: groups) above which an array counts as wide
KINDS = {
    "forward": ("forward_conv", "forward_fc"),
    "weight_update": ("weight_update_conv", "weight_update_fc"),
    "backward": ("backward_conv", "backward_fc", "encode_forward"),
}


@dataclass(frozen=True)
class Hardware:
    """One engine of an arch, which is built once and runs many cases.

    kernel: the largest that the Backward Engine is built for. planes: the most bit planes of the counts that layers of
    a LUT engine have; 1: spikes. simulated: the arch that the simulator is asked about, if a mutation check makes it
    another one.
    """

    engine: str
    arch: Arch
    kernel: tuple[int, int] = (3, 3)
    planes: int = 1
    simulated: Arch | None = None

    def parameters(self) -> LutParameters | BackwardParameters:
        """What the RTL of the engine is built from."""
        if self.engine == "weight_update":
            return weight_update_parameters(self.arch, WIDTHS, MOST_OFFSETS)
        return of_engine(self.arch, self.engine, WIDTHS, self.kernel)

    def __str__(self) -> str:
        engine = getattr(self.arch.engines, self.engine)
        array = f"{engine.rows}x{engine.columns}x{engine.parallelism}"
        if self.engine == "backward":
            array += f", kernel {self.kernel[0]}x{self.kernel[1]}"
        else:
            array += f", {engine.sub_luts} sub-LUTs of {engine.sub_lut_size}"
            array += ", double buffered" if engine.lut_double_buffered else ""
        latency = self.arch.latency
        depths = f"add {latency.fp16_add} multiply {latency.fp16_multiply} LUT {latency.lut_read} "
        tile = self.arch.tile
        return f"{array}, tile {tile.height}x{tile.width}, {depths}soma {latency.soma} grad {latency.grad}"


@dataclass(frozen=True, eq=False)
class Layer:
    """A case, and what the simulator says that it takes and gives."""

    kind: str
    seed: int
    about: str
    shape: ConvShape | FcShape
    case: Case
    reference: EngineRun
    fast: EngineWork
    fill_cycles: int
    results: dict[str, Array]
    read: Results
    planes: int = 1


def smaller(arch: Arch, engine: str) -> Hardware:
    """The arch with at most 5 x 3 PEs and kernels up to 3x3; tile, parallelism, LUTs and depths are its own."""
    data = arch.model_dump()
    array = data["engines"][engine]
    array |= {"rows": min(array["rows"], 5), "columns": min(array["columns"], 3)}
    return Hardware(engine, Arch(**data))


def hardware_of(rng: np.random.Generator, arch: Arch, engine: str) -> Hardware:
    """A random small machine: the arch with random sizes and depths."""
    pick = rng.integers
    data = arch.model_dump()
    rows, columns = (5, 3) if engine != "backward" else (4, 3)
    for name in ("forward", "weight_update", "backward"):
        data["engines"][name] |= {
            "rows": int(pick(1, rows + 1)),
            "columns": int(pick(1, columns + 1)),
            "parallelism": int(pick(1, 5)),
        }
    for name in ("forward", "weight_update"):
        luts = {"sub_luts": int(pick(1, 4)), "sub_lut_size": int(2 ** pick(1, 5)), "lut_double_buffered": bool(pick(2))}
        data["engines"][name] |= luts
    data["tile"] = {"height": int(pick(1, 6)), "width": int(pick(1, 6))}
    depths = {"lut_read": (1, 3), "fp16_add": (1, 3), "fp16_multiply": (1, 4), "soma": (1, 6), "grad": (1, 6)}
    data["latency"] |= {name: int(pick(*limits)) for name, limits in depths.items()}
    return Hardware(engine, Arch(**data), (int(pick(1, 5)), int(pick(1, 5))))


def machines(hardware: Hardware) -> tuple[Arch, Any, Any]:
    """The arch and engine that the simulator is asked about, and the engine that is built."""
    arch = hardware.simulated or hardware.arch
    return arch, getattr(arch.engines, hardware.engine), getattr(hardware.arch.engines, hardware.engine)


# random layers


def conv_shape(
    rng: np.random.Generator, kernel_most: tuple[int, int], most_offsets: int, engine: Any, stride_most: int = 3
) -> ConvShape:
    """A random small convolution: a kernel up to kernel_most, any stride and padding, and at most 12 samples.

    engine: that on which it runs; its corners (corners.py) are drawn often, and wide arrays get as many channels.
    """
    kernel = _pair(lambda axis: int(rng.integers(1, kernel_most[axis] + 1)))
    by_two = often(rng)
    stride = _pair(lambda axis: 2 if by_two else int(rng.integers(1, stride_most + 1)))
    padding = _pair(lambda axis: int(rng.integers(0, kernel[axis])))
    size = _pair(lambda axis: int(rng.integers(max(1, kernel[axis] - 2 * padding[axis]), 10)))
    out = _pair(lambda axis: (size[axis] + 2 * padding[axis] - kernel[axis]) // stride[axis] + 1)
    wide = _wide(engine)
    most_in = max(1, min(3 * engine.columns // 2 if wide else 5, most_offsets // (kernel[0] * kernel[1])))
    in_channels = odd_to(rng, most_in, engine.parallelism)
    out_channels = int(rng.integers(1, (3 * engine.rows // 2 if wide else 5) + 1))
    steps, batch = int(rng.integers(1, 3 if wide else 5)), below(rng, 2 if wide else 3, engine.parallelism)
    return ConvShape.of((steps, batch), (in_channels, *size), (out_channels, *out), kernel, stride, padding)


def _wide(engine: Any) -> bool:
    """Whether an array is so wide that a layer needs many channels to fill it, and few samples to end in time."""
    return bool(engine.rows * engine.columns > WIDE)


def _pair(each: Callable[[int], int]) -> tuple[int, int]:
    """A pair (vertical, horizontal)."""
    return each(0), each(1)


def bits(rng: np.random.Generator, shape: tuple[int, ...]) -> Bytes:
    """A random mask of 0 and 1, of some sparsity from 0 to 1.

    Bits are independent, or only in one channel, in some samples, or at every few positions.
    """
    density = rng.choice([0.0, 0.03, 0.2, 0.5, 0.9, 1.0])
    mask = rng.random(shape) < density
    pattern = rng.integers(6)
    if pattern == 0:  # all work in one channel
        mask[:] = False
        mask[:, :, rng.integers(shape[2])] = True
    elif pattern == 1:  # whole samples without any
        mask &= (rng.random(shape[:2]) < 0.5).reshape(*shape[:2], *[1] * (len(shape) - 2))
    elif pattern == 2 and len(shape) == 5:  # every P-th position: all work on one PE of a group
        step = int(rng.integers(1, 5))
        raster = np.arange(shape[3] * shape[4]).reshape(shape[3:])
        mask &= raster % step == 0
    drawn: Bytes = mask.astype(np.uint8)
    return drawn


def counts(spikes: Bytes, most: int, seed: int) -> tuple[Ints, int]:
    """Random counts of 1 to `most` bit planes, and how many. The lowest plane is `spikes`; others are drawn as it is.

    They have a generator of their own: the rest of a layer does not depend on `most`.
    """
    rng = np.random.default_rng([seed, most])
    planes = int(rng.integers(1, most + 1))
    k = spikes.astype(np.int64)
    for b in range(1, planes):
        k += bits(rng, spikes.shape).astype(np.int64) << b
    return k, planes


def about(shape: ConvShape | FcShape, planes: int) -> str:
    """A layer in words, for a disagreement."""
    return f"{shape}, {planes} planes"


def values(rng: np.random.Generator, *shape: int) -> Array:
    """Random integers from -4 to 4."""
    return rng.integers(-4, 5, shape)


def fixed_neuron(rng: np.random.Generator) -> FixedNeuron:
    """Random parameters of neurons."""
    threshold = int(rng.integers(-256, 1024))
    low = threshold - int(rng.integers(1, 800))
    decay, scale = int(rng.choice([0, 32, 64, 96, 115, 128])), int(rng.choice([8, 16, 24]))
    return FixedNeuron(
        fraction_bits=WIDTHS.fraction_bits,
        threshold=threshold,
        window=(low, threshold + int(rng.integers(1, 800))),
        decay=decay,
        surrogate_scale=scale,
        detach_reset=bool(rng.integers(2)),
    )


def maps(shape: ConvShape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    s = shape
    return (s.timesteps, s.batch, s.in_channels, s.in_height, s.in_width), (
        s.timesteps,
        s.batch,
        s.out_channels,
        s.out_height,
        s.out_width,
    )


def fc_shape(rng: np.random.Generator, most_in: int, engine: Any) -> FcShape:
    """A random small fully connected layer for an engine, as conv_shape draws convolutions."""
    steps, batch = int(rng.integers(1, 5)), below(rng, 3, engine.parallelism)
    wide = _wide(engine)
    features = odd_to(rng, 3 * engine.columns // 2 if wide else most_in, engine.parallelism)
    return FcShape(steps, batch, features, int(rng.integers(1, (3 * engine.rows // 2 if wide else 8) + 1)))


def stalling(case: Case, stall_seed: int, engine: object) -> Case:
    """The case with late buffers; not where programming is hidden: there stalls and programming overlap."""
    hidden = getattr(engine, "lut_double_buffered", False)
    return Case(case.config, case.images, case.results_shape, 0 if hidden else stall_seed)


def integers(run: EngineRun) -> Array:
    found = run.values.astype(np.int64)
    if not np.array_equal(found, run.values):
        raise AssertionError("the reference's values are not integers")
    return found


def soma_results(x: Array, neuron: FixedNeuron) -> dict[str, Array]:
    spikes, membrane, window = fixed.soma(x, neuron)
    return {"currents": x, "membranes": membrane, "spikes": spikes, "windows": window}


def soma_reader(tile: TileSize, columns: int, map_shape: tuple[int, ...], shape: tuple[int, ...]) -> Results:
    low, bits_ = WIDTHS.sum_bits, WIDTHS.state_bits

    def read(results: Array) -> dict[str, Array]:
        words = images.from_items(results, tile, columns, map_shape).reshape(shape)
        return {
            "currents": images.field(words, 0, low),
            "membranes": images.field(words, low, bits_),
            "spikes": images.field(words, low + bits_, 1, False),
            "windows": images.field(words, low + bits_ + 1, 1, False),
        }

    return read
