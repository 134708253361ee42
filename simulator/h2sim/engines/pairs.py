"""What the Backward Engine counts of two masks, dm~ and ds~: the cycles of the slowest PEs, and the pairs behind them.

Counting is by far the slowest part of a simulation, and few parameters of a machine bear on it (PairsKey). An open
trace keeps what was counted (pairs_of). A group of rows x columns is as slow as the slowest of its PEs, so the counts
of coarser groups follow from those of finer ones, and one count per mode, parallelism, tile and empty_window_cycles
serves many machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np

from h2sim.arch.schema import BackwardEngine, TileSize
from h2sim.arrays import Array, Bytes
from h2sim.kernels.backward_lanes import conv_cycles
from h2sim.shapes import ConvShape, ceil_div
from h2sim.trace.maps import Maps

MOST_FINER_BYTES = 16 << 20  # of a layer's counts, finer than any one machine needs them


@dataclass(frozen=True, kw_only=True)
class PairsKey:
    """All of a machine that its counts of a layer depend on.

    uses_grad, uses_window: whether the mode looks at dm~ and ds~. tile, (height, width), lies within the map. rows and
    columns: PEs that wait for each other; not more than channels are told apart.
    """

    uses_grad: bool
    uses_window: bool
    parallelism: int
    tile: tuple[int, int]
    empty_cycles: int
    rows: int
    columns: int

    @classmethod
    def of(cls, engine: BackwardEngine, tile: TileSize, shape: ConvShape) -> PairsKey:
        """The key of an engine's counts of one layer."""
        uses_grad, uses_window = engine.mode in ("dual", "input_only"), engine.mode in ("dual", "output_only")
        return cls(
            uses_grad=uses_grad,
            uses_window=uses_window,
            parallelism=engine.parallelism,
            tile=(min(tile.height, shape.in_height), min(tile.width, shape.in_width)),
            empty_cycles=engine.empty_window_cycles,
            rows=min(engine.rows, shape.out_channels) if uses_grad else 1,
            columns=min(engine.columns, shape.in_channels) if uses_window else 1,
        )


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """Counts of one layer. A mask that the mode ignores counts as all ones, and its channels and samples as alike.

    cycles: of the slowest PE in every tile and group, without tile_sync_cycles: unsigned or int64 (samples or 1, column
    groups or 1, tiles, row groups or 1). Over all samples and channels: pairs that are multiplied, empty tags, and
    dealt positions.
    """

    rows: int
    columns: int
    cycles: Array
    pairs: int
    empty: int
    dealt: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.cycles.nbytes

    def grouped(self, rows: int, columns: int) -> PairCounts:
        """The counts of groups that are made of these: multiples of them, or all channels."""
        if (rows, columns) == (self.rows, self.columns):
            return self
        by_column = _slowest(self.cycles, 1, ceil_div(columns, self.columns))
        return replace(self, rows=rows, columns=columns, cycles=_slowest(by_column, 3, ceil_div(rows, self.rows)))


def slowest_of(together: Sequence[PairCounts]) -> PairCounts:
    """The counts of groups that share a pass: each tile takes as long as in the slowest, the events add up."""
    first, *_ = together
    slowest: Array = np.maximum.reduce([c.cycles for c in together])
    return replace(first, cycles=slowest, **_events(together))


def side_by_side(passes: Sequence[PairCounts]) -> PairCounts:
    """The counts of passes one after the other, as column groups."""
    first, *_ = passes
    return replace(first, cycles=np.concatenate([c.cycles for c in passes], axis=1), **_events(passes))


def _events(parts: Sequence[PairCounts]) -> dict[str, int]:
    return {name: sum(getattr(c, name) for c in parts) for name in ("pairs", "empty", "dealt")}


def pairs_of(maps: Maps, key: PairsKey, shape: ConvShape, layer: str, source: str) -> PairCounts:
    """The counts of a layer's dm~ against what is needed of its input `source` (of neurons their ds~).

    They come from what the trace keeps, or are counted now.
    The finest groups that were asked for are kept. Groups that are not made of those are counted together with them,
    by their greatest common divisors.
    """
    kept_as = ("pairs", layer, source, replace(key, rows=0, columns=0))
    kept: PairCounts | None = maps.kept.find(kept_as)
    if kept is None or not _made_of(key, kept, shape):
        finer = key if kept is None else _for_both(key, kept, shape)
        counts = count_pairs(finer, shape, maps.packed(layer, "grad"), maps.packed(source, "needed"))
        kept = maps.kept.keep(kept_as, counts)
    return kept.grouped(key.rows, key.columns)


def _made_of(key: PairsKey, kept: PairCounts, shape: ConvShape) -> bool:
    """Whether the groups of the key are made of whole groups that were counted."""
    rows = key.rows % kept.rows == 0 or key.rows == shape.out_channels
    return rows and (key.columns % kept.columns == 0 or key.columns == shape.in_channels)


def _for_both(key: PairsKey, kept: PairCounts, shape: ConvShape) -> PairsKey:
    """The key of the coarsest groups of which both are made; the key itself where those would be too many to keep."""

    def common(ours: int, theirs: int, channels: int) -> int:
        if channels in (ours, theirs):  # all channels are a group that any groups make
            return min(ours, theirs)
        return gcd(ours, theirs)

    rows = common(key.rows, kept.rows, shape.out_channels)
    columns = common(key.columns, kept.columns, shape.in_channels)
    finer = ceil_div(kept.rows, rows) * ceil_div(kept.columns, columns)  # times as many as were kept, at most
    return replace(key, rows=rows, columns=columns) if finer * kept.nbytes <= MOST_FINER_BYTES else key


def count_pairs(key: PairsKey, shape: ConvShape, grad: Bytes, window: Bytes) -> PairCounts:
    """Counts a layer's masks, packed as h2sim.engines.backward.conv takes them.

    Where a mask is ignored one sample or channel is counted, and its events are multiplied.
    """
    n_rows = shape.out_channels if key.uses_grad else 1
    n_columns = shape.in_channels if key.uses_window else 1
    if not key.uses_grad:
        grad = _all_ones(shape.out_height * shape.out_width, shape.samples if key.uses_window else 1)
    if not key.uses_window:
        window = _all_ones(shape.in_height * shape.in_width, grad.shape[0])
    kind = _counter(key, shape)
    cycles, events = conv_cycles(
        np.require(grad, np.uint8, ["C", "W"]),  # one compiled signature, read-only or not
        np.require(window, np.uint8, ["C", "W"]),
        (n_rows, n_columns),
        (shape.in_height, shape.in_width),
        (shape.out_height, shape.out_width, *shape.kernel, *shape.stride, *shape.padding),
        key.tile,
        (key.rows, key.columns, key.parallelism),
        key.empty_cycles,
        np.empty(0, kind),
    )
    columns = shape.samples // grad.shape[0] * (shape.in_channels // n_columns)
    pairs, empty, dealt = (int(n) for n in events.sum(axis=0))
    every = columns * (shape.out_channels // n_rows)
    return PairCounts(
        rows=key.rows,
        columns=key.columns,
        cycles=cycles.astype(kind),
        pairs=pairs * every,
        empty=empty * every,
        dealt=dealt * columns,
    )


def _all_ones(positions: int, samples: int) -> Bytes:
    return np.broadcast_to(np.packbits(np.ones(positions, np.uint8)), (samples, ceil_div(positions, 8)))


def _counter(key: PairsKey, shape: ConvShape) -> np.dtype[Any]:
    """The narrowest type that holds the most cycles one PE can spend on one tile."""
    (kh, kw), (sh, sw) = shape.kernel, shape.stride
    feeds = max(key.empty_cycles, ceil_div(kh, sh) * ceil_div(kw, sw))
    most = feeds * ceil_div(key.tile[0] * key.tile[1], key.parallelism)
    return next((np.dtype(kind) for kind in (np.uint8, np.uint16) if most <= np.iinfo(kind).max), np.dtype(np.int64))


def _slowest(cycles: Array, axis: int, size: int) -> Array:
    """The largest of every `size` neighbours along an axis."""
    slowest: Array = np.maximum.reduceat(cycles, np.arange(0, cycles.shape[axis], size), axis=axis)
    return slowest
