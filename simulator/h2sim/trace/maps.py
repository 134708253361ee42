"""Keeps the masks of an open trace and counts of their bits, so that each is read and counted only once.

However many machines are simulated on the same trace, they share what is kept here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from h2sim.arrays import Array, Bytes, Ints
from h2sim.kernels.bits import tile_popcounts
from h2sim.trace.bits import popcount

if TYPE_CHECKING:
    from h2sim.trace.read import Trace

MOST_KEPT_BYTES = 256 << 20  # of packed masks; their counts are small and all stay


class Kept:
    """Arrays by name. When together they exceed `most_bytes`, those that were not asked for longest are dropped.

    Threads may share one. It has no lock, which a fork could copy while another thread holds it: what another thread
    drops meanwhile is read again, and two that miss the same array both read it.
    """

    def __init__(self, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._arrays: OrderedDict[str, Array] = OrderedDict()

    def get(self, name: str, read: Callable[[str], Array]) -> Array:
        """The array of that name, read-only. Where it is not kept, `read(name)` makes it."""
        array = self._arrays.get(name)
        if array is None:
            array = read(name)
            array.setflags(write=False)
            self._arrays[name] = array
            self._drop()
        with suppress(KeyError):
            self._arrays.move_to_end(name)
        return array

    def _drop(self) -> None:
        while len(self._arrays) > 1 and sum(a.nbytes for a in list(self._arrays.values())) > self._most_bytes:
            with suppress(KeyError):
                self._arrays.popitem(last=False)


@dataclass(frozen=True)
class AnalogRange:
    """The lowest and highest value of an analog input, how many values there are and how many are exactly those."""

    low: float
    high: float
    values: int
    at_low: int
    at_high: int

    @property
    def between(self) -> int:
        """Values that are neither the lowest nor the highest."""
        return self.values - self.at_low - self.at_high if self.low < self.high else 0


class Maps:
    """What jobs need to know of a trace's masks. An open trace has one (`trace.maps`), which all machines share."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._set_bits: dict[tuple[str, str], int] = {}
        self._analog: AnalogRange | None = None
        self._tiles: dict[tuple[str, str, int, int], Ints] = {}

    def __repr__(self) -> str:
        return f"Maps({self._trace!r})"

    def packed(self, layer: str, kind: str) -> Bytes:
        """A mask of a layer ('spikes', 'window' or 'grad'), packed uint8 (T*N, bytes), read-only."""
        mask = self._trace.mask(layer, kind)
        return mask.reshape(-1, mask.shape[-1])

    def set_spikes(self, layer: str) -> int:
        """The number of spikes of a layer (or 'input') over all timesteps and samples."""
        return self.set_bits(layer, "spikes")

    def set_bits(self, layer: str, kind: str) -> int:
        """Set bits of a mask of a layer (or of the 'input' spikes), over all timesteps, samples and neurons."""
        key = (layer, kind)
        if key not in self._set_bits:
            in_tiles = next((counts for (*mask, _, _), counts in list(self._tiles.items()) if tuple(mask) == key), None)
            self._set_bits[key] = self._counted(layer, kind) if in_tiles is None else int(in_tiles.sum())
        return self._set_bits[key]

    def _counted(self, layer: str, kind: str) -> int:
        return popcount(self._trace.input_spikes() if layer == "input" else self._trace.mask(layer, kind))

    def analog_range(self) -> AnalogRange:
        """Where the values of the analog network input lie; the input is read once."""
        if self._analog is None:
            values = self._trace.input_analog()
            low, high = values.min(), values.max()
            at_low, at_high = int(np.count_nonzero(values == low)), int(np.count_nonzero(values == high))
            self._analog = AnalogRange(float(low), float(high), values.size, at_low, at_high)
        return self._analog

    def in_tiles(self, layer: str, kind: str, tile: tuple[int, int]) -> Ints:
        """Set bits of a layer's mask per channel and tile, over all timesteps and samples: int64 (C, tiles).

        tile: (height, width) of a tile; (1, 1) counts each position. Tiles are in raster order.
        """
        key = (layer, kind, *tile)
        if key not in self._tiles:
            chw = self._trace.meta.layer(layer).out_chw
            packed = np.require(self.packed(layer, kind), np.uint8, ["C", "W"])  # one compiled signature
            counts = tile_popcounts(packed, *chw, *tile)
            counts.setflags(write=False)
            self._tiles[key] = counts
        return self._tiles[key]
