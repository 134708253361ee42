"""One recorded training step as a trace: masks packed as soon as they are known, values kept only where asked.

The trainer and the exporters both fill these records; nothing here imports torch, so a record can be built from
whatever turns into numpy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from h2sim.activity import PHASES
from h2sim.trace.model import FORMAT, VERSION

MEMBERS = ("spikes", "window", "grad", "membrane", "grad_membrane", "weight", "bias", "weight_grad")


def pack_bits(mask: np.ndarray) -> np.ndarray:
    """A bool or 0/1 mask (T, N, ...) as uint8 (T, N, ceil(neurons / 8)), most significant bit first, padding bits 0."""
    return np.packbits(mask.reshape(*mask.shape[:2], -1), axis=2)


@dataclass
class LayerRecord:
    """What one layer did in one step. Masks are packed, uint8 (T, N, ceil(neurons / 8)).

    Values are float16 or float32: membrane and grad_membrane (T, N, C, H, W) or (T, N, F); weight, bias and weight_grad
    in PyTorch's layout, weight_grad summed over the sub-batch. A layer that does not spike has neither spikes nor
    window, and its grad is of the current it passes on. `values` says whether the layer should keep its values.
    """

    values: bool = True
    spikes: np.ndarray | None = None
    window: np.ndarray | None = None
    grad: np.ndarray | None = None
    membrane: np.ndarray | None = None
    grad_membrane: np.ndarray | None = None
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    weight_grad: np.ndarray | None = None


@dataclass
class StepRecord:
    """A sub-batch's step: the network input, analog (T or 1, N, C, H, W) or packed spikes, and its layers in order."""

    input_analog: np.ndarray | None = None
    input_spikes: np.ndarray | None = None
    layers: dict[str, LayerRecord] = field(default_factory=dict)

    def members(self) -> Iterator[tuple[str, np.ndarray]]:
        """The trace's members, one at a time, in the order of the layers."""
        for name, array in (("input.analog", self.input_analog), ("input.spikes", self.input_spikes)):
            if array is not None:
                yield name, array
        for layer, record in self.layers.items():
            for member in MEMBERS:
                array = getattr(record, member)
                if array is not None:
                    yield f"{layer}.{member}", array


def step_meta(
    *,
    network: str,
    dataset: str,
    timesteps: int,
    batch: int,
    neuron: dict[str, Any],
    source: dict[str, Any],
    layers: list[dict[str, Any]],
    phases: tuple[str, ...] = PHASES,
) -> dict[str, Any]:
    """The `meta` of a trace, version 1; write_trace checks it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": network,
        "dataset": dataset,
        "timesteps": timesteps,
        "batch": batch,
        "phases": list(phases),
        "neuron": neuron,
        "source": source,
        "layers": layers,
    }
