"""What a trace looks like: spike rates and sparsities, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.trace.bits import popcount
from h2sim.trace.model import Layer
from h2sim.trace.read import Trace


@dataclass(frozen=True)
class LayerSummary:
    """Fractions over all timesteps, samples and neurons; None where the layer or trace has no such mask.

    output_sparsity: neurons outside the window (table 3.2, O); input_sparsity: dm == 0 (I);
    samples_without_gradient: samples whose gradient mask is 0 at every timestep.
    """

    layer: str
    kind: str
    out_shape: tuple[int, ...]
    neurons: int
    spike_rate: float | None
    output_sparsity: float | None
    input_sparsity: float | None
    samples_without_gradient: int | None


def layer_table(trace: Trace) -> list[LayerSummary]:
    """One row per layer, in execution order."""
    return [_row(trace, layer) for layer in trace.meta.layers]


def _row(trace: Trace, layer: Layer) -> LayerSummary:
    total = trace.meta.timesteps * trace.meta.batch * layer.neurons

    def density(kind: str) -> float | None:
        name = f"{layer.name}.{kind}"
        return popcount(trace.mask(layer.name, kind)) / total if trace.has(name) else None

    window, grad = density("window"), density("grad")
    silent = None
    if grad is not None:
        silent = int(np.count_nonzero(~trace.mask(layer.name, "grad").any(axis=(0, 2))))
    shape = layer.out_chw[:1] if layer.kind == "fc" else layer.out_chw
    return LayerSummary(
        layer.name, layer.kind, shape, layer.neurons, density("spikes"),
        None if window is None else 1 - window, None if grad is None else 1 - grad, silent,
    )  # fmt: skip
