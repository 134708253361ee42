"""Small engines, shapes, random operands and plain-numpy oracles for the tests of the reference engines."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from h2sim.arch.schema import (
    BackwardBuffers,
    BackwardEngine,
    Buffer,
    ForwardBuffers,
    ForwardEngine,
    TileSize,
    WeightUpdateBuffers,
    WeightUpdateEngine,
)
from h2sim.shapes import ConvShape

Floats = npt.NDArray[np.float64]
BUFFER = Buffer(bytes=1024, word_bits=64, banks=1)


def forward_engine(**changes: Any) -> ForwardEngine:
    buffers = ForwardBuffers(spikes=BUFFER, weights=BUFFER, psum=BUFFER, output=BUFFER)
    small = {"rows": 3, "columns": 2, "parallelism": 2, "sub_luts": 3, "sub_lut_size": 8, "buffers": buffers}
    return ForwardEngine.model_validate(small | changes)


def update_engine(**changes: Any) -> WeightUpdateEngine:
    buffers = WeightUpdateBuffers(gradients=BUFFER, spikes=BUFFER, weight_gradients=BUFFER)
    small = {"rows": 2, "columns": 2, "parallelism": 4, "sub_luts": 2, "sub_lut_size": 4, "buffers": buffers}
    return WeightUpdateEngine.model_validate(small | changes)


def backward_engine(**changes: Any) -> BackwardEngine:
    buffers = BackwardBuffers(gradients=BUFFER, weights=BUFFER, psum=BUFFER, state=BUFFER, output=BUFFER)
    small = {"rows": 2, "columns": 2, "parallelism": 2, "buffers": buffers}
    return BackwardEngine.model_validate(small | changes)


def tile_size(height: int, width: int) -> TileSize:
    return TileSize(height=height, width=width)


def conv_shape(t: int, n: int, c_in: int, size: int, c_out: int, k: int, stride: int, padding: int) -> ConvShape:
    out = (size + 2 * padding - k) // stride + 1
    return ConvShape(
        timesteps=t,
        batch=n,
        in_channels=c_in,
        in_height=size,
        in_width=size,
        out_channels=c_out,
        out_height=out,
        out_width=out,
        kernel=(k, k),
        stride=(stride, stride),
        padding=(padding, padding),
    )


# T, N, C_in, H = W, C_out, k, stride, padding and the tile: T is no multiple of the rows, P divides nothing,
# channels leave edge groups and tiles edge tiles
SHAPES = {
    "3x3": (conv_shape(3, 1, 4, 5, 3, 3, 1, 1), tile_size(3, 2)),
    "3x3 stride 2": (conv_shape(1, 3, 2, 6, 3, 3, 2, 1), tile_size(2, 2)),
    "5x5": (conv_shape(3, 1, 2, 5, 2, 5, 1, 2), tile_size(3, 4)),
    "1x1 stride 2": (conv_shape(3, 1, 5, 4, 3, 1, 2, 0), tile_size(2, 1)),
    "2x2 unpadded": (conv_shape(2, 2, 3, 4, 1, 2, 1, 0), tile_size(8, 8)),
    "3x2 oblong": (
        ConvShape(
            timesteps=2,
            batch=1,
            in_channels=2,
            in_height=4,
            in_width=7,
            out_channels=3,
            out_height=4,
            out_width=4,
            kernel=(3, 2),
            stride=(1, 2),
            padding=(1, 1),
        ),
        tile_size(2, 3),
    ),
}
every_shape = pytest.mark.parametrize(("shape", "tile"), SHAPES.values(), ids=SHAPES)


def bits(rng: np.random.Generator, shape: tuple[int, ...], density: float = 0.4) -> npt.NDArray[np.uint8]:
    return (rng.random(shape) < density).astype(np.uint8)


def values(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def maps(shape: ConvShape) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes of the input map, the output map and the weight."""
    lead = (shape.timesteps, shape.batch)
    return (
        (*lead, shape.in_channels, shape.in_height, shape.in_width),
        (*lead, shape.out_channels, shape.out_height, shape.out_width),
        (shape.out_channels, shape.in_channels, *shape.kernel),
    )


def patches(shape: ConvShape, x: npt.NDArray[Any]) -> Floats:
    """Oracle: x (T, N, Cin, H, W) as (T, N, Cin, Ho, Wo, kh, kw) float64, every window of the padded map."""
    (ph, pw), (sh, sw) = shape.padding, shape.stride
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape.kernel, axis=(3, 4))
    return windows[:, :, :, ::sh, ::sw]


def convolution(shape: ConvShape, x: npt.NDArray[Any], weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> Floats:
    """Oracle: the sums of x (T, N, Cin, H, W) under weight (Cout, Cin, kh, kw), (T, N, Cout, Ho, Wo)."""
    sums: Floats = np.einsum("tncyxij,ocij->tnoyx", patches(shape, x), weight) + bias[:, None, None]
    return sums


def weight_gradient(shape: ConvShape, x: npt.NDArray[Any], dm: npt.NDArray[Any]) -> Floats:
    """Oracle: dL/dw (Cout, Cin, kh, kw) from x (T, N, Cin, H, W) and dm (T, N, Cout, Ho, Wo)."""
    sums: Floats = np.einsum("tncyxij,tnoyx->ocij", patches(shape, x), dm)
    return sums


def transposed_convolution(shape: ConvShape, dm: npt.NDArray[Any], weight: npt.NDArray[Any]) -> Floats:
    """Oracle: what dm (T, N, Cout, Ho, Wo) sends back to the input map, (T, N, Cin, H, W)."""
    (ph, pw), (sh, sw), (kh, kw) = shape.padding, shape.stride, shape.kernel
    t, n, c, h, w = maps(shape)[0]
    ds = np.zeros((t, n, c, h + 2 * ph, w + 2 * pw))
    for y, x in product(range(shape.out_height), range(shape.out_width)):
        ds[..., y * sh : y * sh + kh, x * sw : x * sw + kw] += np.einsum("tno,ocij->tncij", dm[..., y, x], weight)
    return ds[..., ph : ph + h, pw : pw + w]


def c(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def cuts(length: int, size: int) -> list[int]:
    """Lengths of the pieces that a length is cut into."""
    return [min(size, length - start) for start in range(0, length, size)]


def output_tiles(shape: ConvShape, tile: TileSize) -> list[tuple[int, int]]:
    return list(product(cuts(shape.out_height, tile.height), cuts(shape.out_width, tile.width)))
