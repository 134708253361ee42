"""Counts of the bits of an open trace's masks, each made only once.

However many machines are simulated on the same trace, they share what is kept here. `Maps.kept` is the store of it:
engines keep there, by the key of all that it depends on, what they count of the masks themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from h2sim.arrays import Bools, Bytes, Ints
from h2sim.io.kept import cached_property
from h2sim.kernels.bits import tile_popcounts
from h2sim.trace.bits import popcount
from h2sim.trace.derived import Derived
from h2sim.trace.kept import Kept
from h2sim.trace.model import VERSION

if TYPE_CHECKING:
    from h2sim.trace.read import Trace

MOST_COUNT_BYTES = 256 << 20


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
        self.kept = Kept(MOST_COUNT_BYTES)

    def __repr__(self) -> str:
        return f"Maps({self._trace!r})"

    def packed(self, layer: str, kind: str) -> Bytes:
        """A mask of a layer ('spikes', 'window' or 'grad'), packed uint8 (T*N, bytes), read-only.

        'needed' is of any map: where its gradient goes on (h2sim.trace.derived); of neurons that is their window.
        """
        if kind == "needed" and not self._spiking(layer):
            return self.kept.get(("needed", layer), lambda: _packed(self.derived.needed(layer)))
        mask = self._trace.mask(layer, "window" if kind == "needed" else kind)
        return mask.reshape(-1, mask.shape[-1])

    @cached_property
    def derived(self) -> Derived:
        """The maps that the trace does not hold."""
        return Derived(self._trace)

    def set_planes(self, name: str) -> int:
        """Set bits of all bit planes of a map of spikes or counts, over all timesteps and samples."""
        if self._trace.meta.version == VERSION or self._spiking(name):
            return self.set_spikes(name)
        return self._number(("planes", name), lambda: int(np.bitwise_count(self.derived.counts(name)).sum()))

    def pairs(self, name: str) -> int:
        """Pairs of an element of a map and one that it feeds, through which its gradient goes on."""
        return self._number(("pairs", name), lambda: self.derived.pairs(name))

    def _number(self, key: tuple[str, str], count: Callable[[], int]) -> int:
        if key not in self._set_bits:
            self._set_bits[key] = count()
        return self._set_bits[key]

    def _spiking(self, name: str) -> bool:
        return name != "input" and self._trace.meta.layer(name).spiking

    def set_spikes(self, layer: str) -> int:
        """The number of spikes of a layer (or 'input') over all timesteps and samples."""
        return self.set_bits(layer, "spikes")

    def set_bits(self, layer: str, kind: str) -> int:
        """Set bits of a mask of a layer (or of the 'input' spikes), over all timesteps, samples and neurons."""
        key = (layer, kind)
        if key not in self._set_bits:
            at_positions = self.kept.find(_positions_key(layer, kind))
            self._set_bits[key] = self._counted(layer, kind) if at_positions is None else int(at_positions.sum())
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
        at_positions = self.kept.get(_positions_key(layer, kind), lambda: self._at_positions(layer, kind))
        if tile == (1, 1):
            return at_positions
        return self.kept.get(
            ("in tiles", layer, kind, *tile),
            lambda: _sums_in_tiles(at_positions, self._trace.meta.layer(layer).out_chw, tile),
        )

    def _at_positions(self, layer: str, kind: str) -> Ints:
        """Set bits of a mask at each position, over all timesteps and samples: int64 (C, positions), read-only."""
        packed = np.require(self.packed(layer, kind), np.uint8, ["C", "W"])  # one compiled signature
        counts = tile_popcounts(packed, *self._trace.meta.layer(layer).out_chw, 1, 1)
        counts.setflags(write=False)
        return counts


def _packed(mask: Bools) -> Bytes:
    """A mask (T, N, C, H, W), packed uint8 (T*N, bytes), read-only."""
    packed = np.packbits(mask.reshape(mask.shape[0] * mask.shape[1], -1), axis=-1)
    packed.setflags(write=False)
    return packed


def _positions_key(layer: str, kind: str) -> tuple[str, str, str]:
    return ("at positions", layer, kind)


def _sums_in_tiles(at_positions: Ints, chw: tuple[int, int, int], tile: tuple[int, int]) -> Ints:
    """Sums of counts, int64 (C, positions), over the tiles of a map: int64 (C, tiles), read-only."""
    channels, height, width = chw
    rows = np.add.reduceat(at_positions.reshape(chw), np.arange(0, height, tile[0]), axis=1)
    counts: Ints = np.add.reduceat(rows, np.arange(0, width, tile[1]), axis=2).reshape(channels, -1)
    counts.setflags(write=False)
    return counts
