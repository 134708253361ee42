"""What the jobs need to know of a trace's masks, read one at a time and dropped again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from h2sim.arch.schema import TileSize
from h2sim.kernels.bits import tile_popcounts
from h2sim.trace import Trace
from h2sim.trace.bits import popcount


class Maps:
    """Masks and their counts; the last few masks stay, so that a layer's window serves the layer above it too."""

    def __init__(self, trace: Trace, tile: TileSize) -> None:
        self._trace = trace
        self._tile = tile
        self.packed = lru_cache(maxsize=3)(self._packed)
        self.set_spikes = lru_cache(maxsize=None)(self._set_spikes)
        self.window_tiles = lru_cache(maxsize=None)(self._window_tiles)

    def _packed(self, layer: str, kind: str) -> np.ndarray:
        """uint8 (T*N, bytes): a mask of a layer ('spikes', 'window', 'grad')."""
        mask = self._trace.mask(layer, kind)
        return mask.reshape(-1, mask.shape[-1])

    def _set_spikes(self, layer: str) -> int:
        """Spikes of a layer (or 'input') over the sub-batch."""
        if layer == "input":
            return popcount(self._trace.input_spikes())
        return popcount(self.packed(layer, "spikes"))

    def _window_tiles(self, layer: str) -> np.ndarray:
        """int64 (C, tiles): neurons inside the window per channel and tile, over all timesteps and samples."""
        channels, height, width = self._trace.meta.layer(layer).out_chw
        return tile_popcounts(
            np.require(self.packed(layer, "window"), np.uint8, ["C", "W"]),
            channels,
            height,
            width,
            self._tile.height,
            self._tile.width,
        )
