"""One recorded training step, as the arrays of a trace.

The trainer and the exporter both fill these records. Masks are packed as soon as they are known. Nothing here imports
torch: a record takes numpy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from h2sim.activity import PHASES
from h2sim.arrays import Array, Bytes, Floats
from h2sim.trace.members import OF_NORM
from h2sim.trace.model import FORMAT, NEWEST
from h2sim.trace.parse import version_of

MEMBERS = ("spikes", "window", "grad", "membrane", "grad_membrane", "weight", "bias", "weight_grad", "kept", *OF_NORM,
           "route")  # fmt: skip


def pack_bits(mask: Array) -> Array:
    """Packs a mask (T, N, ...), bool or 0 and 1: uint8 (T, N, ceil(neurons / 8)), highest bit first, padded with 0."""
    return np.packbits(mask.reshape(*mask.shape[:2], -1), axis=2)


def half(values: Floats) -> Floats:
    """The values rounded to float16; as they are where one is too large for it."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    return values.copy() if np.isinf(rounded).any() else rounded


@dataclass
class LayerRecord:
    """What one layer did in one step.

    Masks (spikes, window, grad) are packed, uint8 (T, N, ceil(neurons / 8)). Values are float16 or float32: membrane
    and grad_membrane are (T, N, C, H, W) or (T, N, F); weight, bias and weight_grad have PyTorch's layout, and
    weight_grad is summed over the sub-batch. A layer that does not spike has neither spikes nor window; its grad is
    that of its current. values: whether the layer keeps its values.

    Version 2: kept: a gate's mask, packed, of every timestep or of one for all. current and grad_current: x (T, N, ...)
    of what is normalised, before the norm, and dL/dx; grad is then the mask of dL/dx, and grad_membrane still dm.
    norm_weight, norm_bias: (C,), what the norm multiplies by and adds. route: uint8 (T, N, C, H, W), which element of
    its window a maximum of analog values gives on, in raster order.

    neuron: the layer's neuron in this step, as a `neuron` entry, where it is trained.
    """

    values: bool = True
    spikes: Bytes | None = None
    window: Bytes | None = None
    grad: Bytes | None = None
    membrane: Array | None = None
    grad_membrane: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    weight_grad: Array | None = None
    kept: Bytes | None = None
    current: Array | None = None
    grad_current: Array | None = None
    norm_weight: Array | None = None
    norm_bias: Array | None = None
    route: Bytes | None = None
    neuron: dict[str, Any] | None = None


@dataclass
class StepRecord:
    """What a sub-batch did in one step: its input and its layers.

    The input is analog (T or 1, N, C, H, W), packed spikes, or counts, uint8 or uint16 (T, N, C, H, W).
    """

    input_analog: Array | None = None
    input_spikes: Array | None = None
    input_counts: Array | None = None
    layers: dict[str, LayerRecord] = field(default_factory=dict)

    def members(self) -> Iterator[tuple[str, Array]]:
        """The trace's members, one at a time, in the order of the layers."""
        for kind in ("analog", "spikes", "counts"):
            array = getattr(self, f"input_{kind}")
            if array is not None:
                yield f"input.{kind}", array
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
    input: dict[str, Any] | None = None,
    input_gradient: bool = False,
    derived: bool = False,
) -> dict[str, Any]:
    """The `meta` of a trace, of the first version that has what its layers use, unchecked: write_trace checks it.

    input_gradient: whether the step went on to the network input. derived: whether the record leaves maps out that
    follow from others, which only the newest version does.
    """
    of_input = {} if input is None else {"input": input}
    return {
        "format": FORMAT,
        "version": NEWEST if derived else version_of({"layers": layers, **of_input}),
        "network": network,
        "dataset": dataset,
        "timesteps": timesteps,
        "batch": batch,
        "phases": list(phases),
        "neuron": neuron,
        "source": source,
        **of_input,
        **({"input_gradient": True} if input_gradient else {}),
        "layers": layers,
    }
