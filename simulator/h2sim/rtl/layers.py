"""Random layers on random small machines, which the co-simulation compares.

Everything follows from the seed: shape, stride, sparsity from 0 to 1, patterns that are hard, mode, late buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from h2sim.rtl import backward_layers, lut_layers
from h2sim.rtl.draw import KINDS, Hardware, Layer, hardware_of, smaller

__all__ = ["KINDS", "Hardware", "Layer", "hardware_of", "layer_of", "layers", "smaller"]


def layers(hardware: Hardware, seeds: Sequence[int]) -> Iterator[Layer]:
    """Random layers for a machine, one per seed, of the kinds of its engine in turn."""
    for seed in seeds:
        kinds = KINDS[hardware.engine]
        yield layer_of(hardware, kinds[seed % len(kinds)], seed)


def layer_of(hardware: Hardware, kind: str, seed: int) -> Layer:
    """The layer of one seed, from which its shape, sparsity and pattern follow."""
    rng = np.random.default_rng([seed, next(map(ord, kind)), len(kind)])
    build = {
        "forward_conv": lut_layers.forward_conv,
        "forward_fc": lut_layers.forward_fc,
        "weight_update_conv": lut_layers.weight_update_conv,
        "weight_update_fc": lut_layers.weight_update_fc,
        "backward_conv": backward_layers.backward_conv,
        "backward_fc": backward_layers.backward_fc,
        "encode_forward": backward_layers.encode_forward,
    }[kind]
    stall_seed = int(rng.integers(1, 1 << 31)) if rng.random() < 0.1 else 0
    return build(hardware, kind, seed, rng, stall_seed)
