"""Operations of a network if nothing were skipped: what a GPU's dense convolutions compute."""

from __future__ import annotations

import math
from collections.abc import Sequence

from h2sim.activity import Phase
from h2sim.trace import Layer

PHASES: tuple[Phase, ...] = ("forward", "backward", "weight_update")


def layer_operations(layer: Layer, timesteps: int) -> int:
    """Operations of one layer in one phase of one sample, over all timesteps: two per multiply-accumulate.

    0 for a layer without weights.
    """
    shape = layer.weight_shape
    if shape is None:
        return 0
    positions = math.prod(layer.out_chw) // shape[0]
    return 2 * math.prod(shape) * positions * timesteps


def layer_phases(layer: Layer) -> tuple[Phase, ...]:
    """The phases in which a layer computes; one that reads the network's input has no backward phase."""
    return tuple(phase for phase in PHASES if phase != "backward" or "input" not in layer.inputs)


def step_operations(layers: Sequence[Layer], timesteps: int) -> int:
    """Operations of the training of one sample: all layers in all their phases."""
    return sum(layer_operations(layer, timesteps) * len(layer_phases(layer)) for layer in layers)
