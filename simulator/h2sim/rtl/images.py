"""How maps lie in the buffers, tile by tile, and how results are read back: what the memory side knows.

Operands lie where the engines' address generators expect them. What is outside a map, a kernel or the channels that the
array has is zero.
"""

from __future__ import annotations

import numpy as np

from h2sim.arch.schema import BackwardEngine, TileSize
from h2sim.arrays import Array, Ints
from h2sim.shapes import ConvShape, ceil_div

SWEEP_AXES = 6  # column group, tile y, tile x, timestep, sample, item of P positions


def tile_counts(tile: TileSize, height: int, width: int) -> dict[str, int]:
    """The registers that describe the tiles of a map; edge_height and edge_width are the size of the last tile."""
    tiles_y, tiles_x = ceil_div(height, tile.height), ceil_div(width, tile.width)
    return {
        "tiles_y": tiles_y,
        "tiles_x": tiles_x,
        "height": tile.height,
        "edge_height": height - (tiles_y - 1) * tile.height,
        "width": tile.width,
        "edge_width": width - (tiles_x - 1) * tile.width,
    }


ONE_POSITION: dict[str, int] = dict.fromkeys(("tiles_y", "tiles_x", "height", "edge_height", "width", "edge_width"), 1)


def lane_counts(samples: int, parallelism: int) -> dict[str, int]:
    """The registers that describe groups of P lanes over the samples; last_lanes: lanes of the last group."""
    groups = ceil_div(samples, parallelism)
    return {"lane_groups": groups, "last_lanes": samples - (groups - 1) * parallelism}


def padded_to(array: Array, *shape: int) -> Array:
    """`array` enlarged to `shape` by zeros at the end of each axis."""
    return np.pad(array, [(0, n - have) for n, have in zip(shape, array.shape, strict=True)])


def over(words: Array, axes: dict[int, int]) -> Array:
    """`words` repeated along new axes. axes: the position of each new axis in the result, and its extent."""
    shape = list(words.shape)
    for axis, extent in sorted(axes.items()):
        shape.insert(axis, extent)
        words = np.broadcast_to(np.expand_dims(words, axis), shape)
    return words


def cut(maps: Array, tile: TileSize) -> Array:
    """Maps (..., H, W) cut into tiles, (..., tiles y, tiles x, y, x); zero outside the map."""
    *lead, height, width = maps.shape
    tiles_y, tiles_x = ceil_div(height, tile.height), ceil_div(width, tile.width)
    full = padded_to(maps, *lead, tiles_y * tile.height, tiles_x * tile.width)
    split = full.reshape(*lead, tiles_y, tile.height, tiles_x, tile.width)
    return np.moveaxis(split, -3, -2)


def planes_of(counts: Array, planes: int) -> Ints:
    """The bit planes of counts along a new first axis, lowest first."""
    bits: Ints = np.stack([counts.astype(np.int64) >> b & 1 for b in range(planes)])
    return bits


def packed(bits: Array) -> Ints:
    """Packs the bits along the last axis into one word, element 0 in the lowest bit."""
    words: Ints = (bits.astype(np.int64) << np.arange(bits.shape[-1])).sum(axis=-1)
    return words


def sweep_shape(groups: int, tile: TileSize, counts: dict[str, int], shape: ConvShape, lanes: int) -> tuple[int, ...]:
    """The extents of the sweep's loops, for so many column groups and so many positions (lanes) per item."""
    items = ceil_div(tile.height * tile.width, lanes)
    return (groups, counts["tiles_y"], counts["tiles_x"], shape.timesteps, shape.batch, items)


def _rasters(maps: Array, tile: TileSize, most: int) -> Array:
    """Maps (..., H, W) as tiles in raster order, (..., tiles y, tiles x, most), with zeros behind the last position."""
    *lead, height, width = maps.shape
    tiles = np.zeros((*lead, ceil_div(height, tile.height), ceil_div(width, tile.width), most), maps.dtype)
    for ty, tx in np.ndindex(*tiles.shape[-3:-1]):
        part = maps[..., ty * tile.height :, tx * tile.width :][..., : tile.height, : tile.width]
        raster = part.reshape(*lead, -1)
        tiles[..., ty, tx, : raster.shape[-1]] = raster
    return tiles


def by_item(maps: Array, tile: TileSize, engine: BackwardEngine, column_groups: int) -> Array:
    """Maps (T, N, C, H, W) in the order in which the sweep reads them: (sweep loops, column x lane)."""
    p, lead = engine.parallelism, maps.shape[:2]
    full = padded_to(maps, *lead, column_groups * engine.columns, *maps.shape[3:])
    tiles = _rasters(full, tile, ceil_div(tile.height * tile.width, p) * p)
    tiles = tiles.reshape(*lead, column_groups, engine.columns, *tiles.shape[3:5], -1, p)
    items = tiles.transpose(2, 4, 5, 0, 1, 6, 3, 7)
    return items.reshape(*items.shape[:SWEEP_AXES], -1)


def from_items(results: Array, tile: TileSize, columns: int, map_shape: tuple[int, ...]) -> Array:
    """Result words (sweep loops, column x lane) as maps (T, N, C, H, W): the inverse of by_item."""
    channels, height, width = map_shape
    words = results.reshape(*results.shape[:SWEEP_AXES], columns, results.shape[-1] // columns)
    groups, tiles_y, tiles_x, steps, batch = words.shape[:5]
    tiles = words.transpose(3, 4, 0, 6, 1, 2, 5, 7).reshape(steps, batch, groups * columns, tiles_y, tiles_x, -1)
    maps = np.zeros((steps, batch, channels, height, width), results.dtype)
    for ty, tx in np.ndindex(tiles_y, tiles_x):
        part = maps[..., ty * tile.height :, tx * tile.width :][..., : tile.height, : tile.width]
        part[:] = tiles[:, :, :channels, ty, tx, : part.shape[3] * part.shape[4]].reshape(part.shape)
    return maps


def field(words: Array, low: int, bits: int, is_signed: bool = True) -> Array:
    """The field of so many bits, from bit `low` on, of unsigned result words: int64."""
    values = (words >> np.uint64(low)) & np.uint64((1 << bits) - 1)
    signed = values.astype(np.int64)
    return signed - ((signed >> (bits - 1)) << bits) if is_signed else signed
