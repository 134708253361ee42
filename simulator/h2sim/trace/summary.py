"""What a trace looks like: spike rates and sparsities, by layer, timestep, sample, channel and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from h2sim.io.progress import Progress
from h2sim.trace.bits import unpack
from h2sim.trace.members import MASKS
from h2sim.trace.model import Layer
from h2sim.trace.read import Trace


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True)
class TraceSummary:
    """The same fractions over all layers that have the mask, so each layer weighs as many neurons as it has.

    samples_without_gradient: samples whose gradient masks are 0 in every layer at every timestep.
    """

    spike_rate: float | None
    output_sparsity: float | None
    input_sparsity: float | None
    samples_without_gradient: int | None


@dataclass(frozen=True)
class LayerCounts:
    """Set bits of each mask that the trace has of a layer, int64 (T, N), by kind: 'spikes', 'window', 'grad'."""

    layer: Layer
    set_bits: Mapping[str, np.ndarray]

    def share(self, kind: str, axis: int | tuple[int, ...] = (0, 1)) -> np.ndarray | None:
        """Fraction of set bits, the mean over timesteps (axis 0), samples (1) or both; None without that mask."""
        counts = self.set_bits.get(kind)
        return None if counts is None else counts.mean(axis=axis) / self.layer.neurons


@dataclass(frozen=True)
class LayerMaps:
    """Set bits of one mask of a layer by place: positions int64 (H, W), channels int64 (C, timesteps)."""

    positions: np.ndarray
    channels: np.ndarray


def trace_counts(trace: Trace, progress: Progress | None = None) -> list[LayerCounts]:
    """Counts of every layer in execution order; one mask at a time is in memory."""
    rows = []
    for number, layer in enumerate(trace.meta.layers):
        if progress:
            progress(layer.name, number, len(trace.meta.layers))
        kinds = [kind for kind in MASKS if trace.has(f"{layer.name}.{kind}")]
        rows.append(LayerCounts(layer, {kind: _set_bits(trace.mask(layer.name, kind)) for kind in kinds}))
    return rows


def layer_table(trace: Trace) -> list[LayerSummary]:
    """One row per layer, in execution order."""
    return [layer_summary(counts) for counts in trace_counts(trace)]


def summarise(rows: Sequence[LayerCounts]) -> TraceSummary:
    """A trace in four numbers."""
    window, grad = _mean(rows, "window"), _mean(rows, "grad")
    with_grad = [row.set_bits["grad"].sum(axis=0) for row in rows if "grad" in row.set_bits]
    silent = int(np.count_nonzero(np.sum(with_grad, axis=0) == 0)) if with_grad else None
    return TraceSummary(_mean(rows, "spikes"), _zeros(window), _zeros(grad), silent)


def layer_maps(packed: np.ndarray, layer: Layer, samples: Sequence[int], timesteps: Sequence[int]) -> LayerMaps:
    """Adds up a packed mask (T, N, bytes) over the given samples and timesteps; one map at a time is unpacked."""
    channels, height, width = layer.out_chw
    positions = np.zeros((height, width), np.int64)
    by_channel = np.zeros((channels, len(timesteps)), np.int64)
    for column, t in enumerate(timesteps):
        for n in samples:
            bits = unpack(packed[t, n], layer.neurons).reshape(layer.out_chw)
            positions += bits.sum(axis=0, dtype=np.int64)
            by_channel[:, column] += bits.sum(axis=(1, 2), dtype=np.int64)
    return LayerMaps(positions, by_channel)


def _set_bits(packed: np.ndarray) -> np.ndarray:
    return np.bitwise_count(packed).sum(axis=-1, dtype=np.int64)


def layer_summary(counts: LayerCounts) -> LayerSummary:
    """A layer in its fractions."""
    layer, grad = counts.layer, counts.set_bits.get("grad")
    silent = None if grad is None else int(np.count_nonzero(grad.sum(axis=0) == 0))
    shape = layer.out_chw[:1] if layer.kind == "fc" else layer.out_chw
    spikes, window, gradient = (_mean([counts], kind) for kind in MASKS)
    return LayerSummary(
        layer=layer.name,
        kind=layer.kind,
        out_shape=shape,
        neurons=layer.neurons,
        spike_rate=spikes,
        output_sparsity=_zeros(window),
        input_sparsity=_zeros(gradient),
        samples_without_gradient=silent,
    )


def _mean(rows: Sequence[LayerCounts], kind: str) -> float | None:
    """Set bits over bits, of all rows that have the mask."""
    having = [row for row in rows if kind in row.set_bits]
    total = sum(row.set_bits[kind].size * row.layer.neurons for row in having)
    return sum(int(row.set_bits[kind].sum()) for row in having) / total if having else None


def _zeros(share: float | None) -> float | None:
    return None if share is None else 1 - share
