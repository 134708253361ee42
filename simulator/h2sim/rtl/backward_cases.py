"""Turns layers of the Backward Engine into what the RTL sees: configuration registers and buffer images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arch.schema import BackwardEngine, TileSize
from h2sim.arrays import Array, Ints
from h2sim.reference.backward import backward_in_time
from h2sim.rtl.bench import Case, Image
from h2sim.rtl.fixed import FixedNeuron
from h2sim.rtl.images import (
    ONE_POSITION,
    SWEEP_AXES,
    by_item,
    cut,
    lane_counts,
    packed,
    padded_to,
    sweep_shape,
    tile_counts,
)
from h2sim.rtl.parameters import Widths
from h2sim.shapes import ConvShape, FcShape, ceil_div


@dataclass(frozen=True)
class NeuronMaps:
    """What the forward pass left of the neurons that Grad serves, (T, N, ...).

    spikes and window: 0 and 1; membrane: integers of 2**-fraction_bits.
    """

    spikes: Array
    window: Array
    membrane: Array

    def words(self, widths: Widths) -> Array:
        """The words of the state buffer, (T, N, ...): bit 0 the spike, bit 1 the window, above them m."""
        membrane = self.membrane & ((1 << widths.state_bits) - 1)
        return self.spikes.astype(np.int64) | self.window.astype(np.int64) << 1 | membrane << 2


def backward_conv(
    engine: BackwardEngine,
    tile: TileSize,
    kernel: tuple[int, int],
    shape: ConvShape,
    grad_mask: Array,
    grad: Array,
    weight: Array,
    neurons: NeuronMaps,
    neuron: FixedNeuron,
    widths: Widths,
) -> Case:
    """The case of a convolution, with the arguments of reference.backward.backward_conv as integers.

    neurons.window is its window mask; kernel: the largest that the RTL is built for.
    """
    s, order = shape, backward_in_time(shape)
    row_groups, column_groups = ceil_div(s.out_channels, engine.rows), ceil_div(s.in_channels, engine.columns)
    counts = tile_counts(tile, s.in_height, s.in_width)
    present = np.ones_like(grad_mask)
    gradients, bits, exist = (
        _halo_tiles(a.reshape(s.samples, *a.shape[2:])[order], s, tile, kernel, counts)
        for a in (grad, grad_mask, present)
    )  # (samples, C_out, tiles y, tiles x, y + halo, x + halo)
    tags = np.concatenate([_tags(bits, s, tile, kernel), _tags(exist, s, tile, kernel)], axis=-1)
    windows = cut(neurons.window.reshape(s.samples, *neurons.window.shape[2:])[order], tile)
    windows = packed(windows.reshape(*windows.shape[:-2], -1))
    windows = padded_to(windows, s.samples, column_groups * engine.columns, *windows.shape[2:])
    windows = windows.reshape(s.samples, column_groups, engine.columns, *windows.shape[2:]).transpose(1, 3, 4, 0, 2)
    images = _backward_images(engine, kernel, (row_groups, column_groups), packed(tags), gradients, weight)
    images |= {"window": Image(windows)}
    states = neurons.words(widths)[::-1]
    images |= {"states": Image(by_item(states, tile, engine, column_groups))}
    config = _backward_config(s, (row_groups, column_groups), counts, neuron)
    config |= {
        "use_window": engine.mode in ("dual", "output_only"),
        "use_gradient": engine.mode in ("dual", "input_only"),
    }
    return Case(
        {k: int(v) for k, v in config.items()}, images, sweep_shape(column_groups, tile, counts, s, engine.parallelism)
    )


def _backward_config(
    shape: ConvShape | FcShape, groups: tuple[int, int], counts: dict[str, int], neuron: FixedNeuron
) -> dict[str, int]:
    config = counts | neuron.registers() | {"row_groups": groups[0], "column_groups": groups[1]}
    config |= {"samples": shape.samples, "batch": shape.batch, "timesteps": shape.timesteps}
    config |= {"lane_groups": 1, "last_lanes": 1, "stride_y": 1, "stride_x": 1, "direct": 0, "encode": 0}
    return config | {"use_window": 0, "use_gradient": 0}


def _halo_tiles(maps: Array, s: ConvShape, tile: TileSize, kernel: tuple[int, int], counts: dict[str, int]) -> Array:
    """Gradients (samples, C, Ho, Wo) as the tiles of the input map read them.

    Zeros are put between them by the stride. Position y of a tile reads through tap ky what lies at row
    y + kernel - 1 - ky. Returns (samples, C, tiles y, tiles x, y + halo, x + halo).
    """
    high, wide = tile.height + kernel[0] - 1, tile.width + kernel[1] - 1
    ys, xs = (
        k - 1 - padding + stride * np.arange(size)
        for k, padding, stride, size in zip(kernel, s.padding, s.stride, (s.out_height, s.out_width), strict=True)
    )
    rows = max(int(ys[-1]) + 1, counts["tiles_y"] * tile.height + kernel[0] - 1)
    columns = max(int(xs[-1]) + 1, counts["tiles_x"] * tile.width + kernel[1] - 1)
    spread = np.zeros((*maps.shape[:2], rows, columns), np.int64)
    spread[:, :, ys[:, None], xs[None, :]] = maps
    out = np.zeros((*maps.shape[:2], counts["tiles_y"], counts["tiles_x"], high, wide), np.int64)
    for ty, tx in np.ndindex(counts["tiles_y"], counts["tiles_x"]):
        y, x = ty * tile.height, tx * tile.width
        out[:, :, ty, tx] = spread[:, :, y : y + high, x : x + wide]
    return out


def _tags(tiles: Array, s: ConvShape, tile: TileSize, kernel: tuple[int, int]) -> Array:
    """The tag bits of every position, (..., tiles y, tiles x, position, tap); taps beyond the layer's kernel are 0."""
    taps = np.zeros((*tiles.shape[:-2], tile.height, tile.width, *kernel), np.int64)
    for ky, kx in np.ndindex(*s.kernel):
        y, x = kernel[0] - 1 - ky, kernel[1] - 1 - kx
        taps[..., ky, kx] = tiles[..., y : y + tile.height, x : x + tile.width]
    return taps.reshape(*tiles.shape[:-2], tile.height * tile.width, kernel[0] * kernel[1])


def _backward_images(
    engine: BackwardEngine,
    kernel: tuple[int, int],
    groups: tuple[int, int],
    tags: Ints,
    gradients: Array,
    weight: Array,
) -> dict[str, Image]:
    """The images of the operand buffers.

    tags: (samples, rows, tiles y, tiles x, position); gradients: (..., y, x); weight: (rows, columns, kh, kw).
    """
    (row_groups, column_groups), channels = groups, groups[0] * engine.rows

    def by_row(maps: Array) -> Array:
        full = padded_to(maps, maps.shape[0], channels, *maps.shape[2:])
        full = full.reshape(maps.shape[0], row_groups, engine.rows, *maps.shape[2:])
        return np.moveaxis(full, (3, 4, 0, 1, 2), (0, 1, 2, 3, 4))  # tiles y, tiles x, sample, row group, row, ...

    kernels = np.zeros((channels, column_groups * engine.columns, *kernel), np.int64)
    kernels[: weight.shape[0], : weight.shape[1], : weight.shape[2], : weight.shape[3]] = weight
    kernels = kernels.reshape(row_groups, engine.rows, column_groups, engine.columns, -1).transpose(2, 0, 1, 3, 4)
    kernels = kernels.reshape(column_groups, row_groups, engine.rows, engine.columns, -1)
    found, tags, gradients = {}, by_row(tags), by_row(gradients)
    for r in range(engine.rows):
        found[f"tags_{r}"] = Image(tags[:, :, :, :, r : r + 1])
        found[f"gradients_{r}"] = Image(gradients[:, :, :, :, r : r + 1])
        found[f"weights_{r}"] = Image(kernels[:, :, r])
    return found


def backward_fc(
    engine: BackwardEngine,
    kernel: tuple[int, int],
    shape: FcShape,
    grad: Array,
    weight: Array,
    neurons: NeuronMaps,
    neuron: FixedNeuron,
    widths: Widths,
) -> Case:
    """The case of a fully connected layer, with the arguments of reference.backward.backward_fc as integers.

    neurons: the layer's inputs, (T, N, in).
    """
    s, p, order = shape, engine.parallelism, backward_in_time(shape)
    row_groups, column_groups = ceil_div(s.out_features, engine.rows), ceil_div(s.in_features, engine.columns)
    lanes = lane_counts(s.samples, p)
    values = padded_to(grad.reshape(s.samples, -1)[order], lanes["lane_groups"] * p, s.out_features)
    by_lane = values.reshape(lanes["lane_groups"], p, s.out_features).transpose(0, 2, 1)[:, :, None, None, None, :]
    tags = np.zeros((1, 1, 1, 1, 1), np.int64)
    images = _backward_images(engine, kernel, (row_groups, column_groups), tags, by_lane, weight[:, :, None, None])
    images |= {"window": Image(np.zeros((1, 1, 1, 1, engine.columns), np.int64))}
    states = neurons.words(widths)[::-1][..., None, None]
    one = TileSize(height=1, width=1)
    images |= {"states": Image(by_item(states, one, engine, column_groups))}
    config = _backward_config(s, (row_groups, column_groups), ONE_POSITION, neuron) | lanes | {"direct": 1}
    return Case(config, images, (column_groups, 1, 1, s.timesteps, s.batch, 1))


def encode_forward(
    engine: BackwardEngine,
    tile: TileSize,
    kernel: tuple[int, int],
    shape: ConvShape,
    analog: Array,
    weight: Array,
    neuron: FixedNeuron,
) -> Case:
    """The case of an encoding layer: arguments of reference.encode.encode_forward, without bias, as integers."""
    s = shape
    row_groups, column_groups = ceil_div(s.in_channels, engine.rows), ceil_div(s.out_channels, engine.columns)
    counts = tile_counts(tile, s.out_height, s.out_width)
    (ph, pw), (sh, sw), (kh, kw) = s.padding, s.stride, s.kernel
    maps = np.pad(analog.reshape(s.samples, *analog.shape[2:]), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    high, wide = (tile.height - 1) * sh + kernel[0], (tile.width - 1) * sw + kernel[1]
    tiles = np.zeros((s.samples, s.in_channels, counts["tiles_y"], counts["tiles_x"], high, wide), np.int64)
    for ty, tx in np.ndindex(counts["tiles_y"], counts["tiles_x"]):
        part = maps[:, :, ty * tile.height * sh :, tx * tile.width * sw :][:, :, :high, :wide]
        tiles[:, :, ty, tx, : part.shape[2], : part.shape[3]] = part
    # tap k of the RTL reads row kernel - 1 - k: the layer's kernel is turned round
    turned = np.zeros((s.in_channels, s.out_channels, *kernel), np.int64)
    turned[:, :, kernel[0] - kh :, kernel[1] - kw :] = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    taps = np.zeros(kernel, np.int64)
    taps[kernel[0] - kh :, kernel[1] - kw :] = 1
    tag = packed(np.concatenate([np.zeros(taps.size, np.int64), taps.ravel()]))
    tags = np.broadcast_to(
        tag, (s.samples, s.in_channels, counts["tiles_y"], counts["tiles_x"], tile.height * tile.width)
    )
    images = _backward_images(engine, kernel, (row_groups, column_groups), tags, tiles, turned)
    images |= {"window": Image(np.zeros((1, 1, 1, 1, engine.columns), np.int64))}
    images |= {"states": Image(np.zeros((*(1,) * SWEEP_AXES, engine.columns * engine.parallelism), np.int64))}
    config = _backward_config(s, (row_groups, column_groups), counts, neuron) | {"encode": 1}
    config |= {"stride_y": sh, "stride_x": sw}
    return Case(config, images, sweep_shape(column_groups, tile, counts, s, engine.parallelism))
