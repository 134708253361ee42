"""What pools, sums, concatenation and upsampling make of the maps that they read, in torch: (T, N, C, H, W).

A map of a fully connected layer may be (T, N, F).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from h2sim.trace import Layer
from h2sim.trace.windows import axis_of


def shaped(x: torch.Tensor, chw: tuple[int, int, int]) -> torch.Tensor:
    """A map as (T, N, C, H, W)."""
    return x if x.dim() == 5 else x.reshape(*x.shape[:2], *chw)


def over_time(value: torch.Tensor, timesteps: int) -> torch.Tensor:
    """A value (T or 1, N, ...) at every timestep."""
    return value.expand(timesteps, *value.shape[1:]) if value.shape[0] == 1 < timesteps else value


def added(layer: Layer, reads: list[torch.Tensor]) -> torch.Tensor:
    """The sum of all inputs; of two, a b or a (1 - b), with sizes of 1 repeated."""
    if len({x.dim() for x in reads}) > 1:
        reads = [x if x.dim() == 5 else x[..., None, None] for x in reads]
    if layer.op == "sum":
        return sum(reads[1:], reads[0])
    a, b = reads
    return a * b if layer.op == "and" else a * (1 - b)


def joined(layer: Layer, reads: list[torch.Tensor]) -> torch.Tensor:
    """All channels of all inputs, one input after another."""
    return torch.cat([x if x.dim() == 5 else x[..., None, None] for x in reads], dim=2)


def upsampled(layer: Layer, reads: list[torch.Tensor]) -> torch.Tensor:
    """Each element repeated `factor` times, (vertical, horizontal)."""
    assert layer.factor is not None
    x = shaped(reads[0], layer.in_chw)
    down, across = layer.factor
    repeated = x[..., :, None, :, None].expand(*x.shape[:4], down, x.shape[4], across)
    return repeated.reshape(*x.shape[:3], *layer.out_chw[1:])


def pooled(layer: Layer, reads: list[torch.Tensor]) -> torch.Tensor:
    """The average or sum of each window."""
    x = shaped(reads[0], layer.in_chw)
    if layer.mode == "sum" and layer.adaptive:
        return _adaptive_sum(layer, x)
    frames = x.flatten(0, 1)
    if layer.adaptive:
        frames = functional.adaptive_avg_pool2d(frames, layer.out_chw[1:])
    else:
        assert layer.kernel is not None
        assert layer.padding is not None
        divisor = 1 if layer.mode == "sum" else layer.divisor
        frames = functional.avg_pool2d(
            frames, layer.kernel, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad, divisor
        )
    return torch.unflatten(frames, 0, x.shape[:2])


def places_of_maxima(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """Where the maximum of each window stands in its channel, (T, N, C, H_out, W_out): the first of the largest."""
    frames = x.flatten(0, 1)
    if layer.adaptive:
        _, places = functional.adaptive_max_pool2d(frames, layer.out_chw[1:], return_indices=True)
    else:
        assert layer.kernel is not None
        assert layer.padding is not None
        _, places = functional.max_pool2d(
            frames, layer.kernel, layer.stride, layer.padding, layer.dilation or 1, layer.ceil_mode, return_indices=True
        )
    return torch.unflatten(places, 0, x.shape[:2])


def at_places(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The elements of a map at places in their channels, in the shape of `places`."""
    return x.flatten(3).gather(3, places.flatten(3)).view_as(places)


def routes(layer: Layer, places: torch.Tensor) -> torch.Tensor:
    """Places as numbers in the window, in raster order; what lies outside the map is counted too."""
    width = layer.in_chw[2]
    row, column = torch.div(places, width, rounding_mode="floor"), places % width
    (first_row, down), (first_column, across) = (_starts(layer, axis, places.device) for axis in (0, 1))
    down_by, across_by = (row - first_row[:, None]) // down, (column - first_column) // across
    found: torch.Tensor = down_by * axis_of(layer, 1).reads.shape[1] + across_by
    return found


def _starts(layer: Layer, axis: int, device: torch.device) -> tuple[torch.Tensor, int]:
    """Where each window of an axis begins, maybe outside the map, and the step between its elements."""
    size, out = layer.in_chw[1 + axis], layer.out_chw[1 + axis]
    number = torch.arange(out, device=device)
    if layer.adaptive:
        return number * size // out, 1
    assert layer.stride is not None
    assert layer.padding is not None
    return number * layer.stride[axis] - layer.padding[axis], (layer.dilation or (1, 1))[axis]


def _adaptive_sum(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    """Sums over adaptive windows, by a product with each axis's 0 and 1: sums of whole numbers stay exact."""
    down, across = (_ones(layer, axis).to(x) for axis in (0, 1))
    return down @ x @ across.t()


def _ones(layer: Layer, axis: int) -> torch.Tensor:
    """(windows, size): 1 where a window of the axis reads an element."""
    reads = torch.from_numpy(axis_of(layer, axis).reads)
    size = layer.in_chw[1 + axis]
    ones: torch.Tensor = (reads[..., None] == torch.arange(size)).any(1)
    return ones


MAKERS: dict[str, Callable[[Layer, list[torch.Tensor]], torch.Tensor]] = {
    "add": added,
    "concat": joined,
    "upsample": upsampled,
    "pool": pooled,
    "relu": lambda layer, reads: torch.relu(reads[0]),
    "norm": lambda layer, reads: shaped(reads[0], layer.in_chw),
}
