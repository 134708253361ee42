"""What a trace looks like: spike rates and sparsities, by layer, timestep, sample, channel and position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Bytes, Float64s, Ints
from h2sim.io.progress import Progress
from h2sim.trace.bits import unpack
from h2sim.trace.members import BITS
from h2sim.trace.model import Layer
from h2sim.trace.read import Trace


@dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """One layer's fractions over all timesteps, samples and neurons; None where the trace has no such mask of it.

    spike_rate: fraction of set spikes; output_sparsity: fraction of neurons outside the window (O in table 3.2);
    input_sparsity: fraction of membrane gradients dm that are 0 (I in table 3.2); samples_without_gradient: number of
    samples whose gradient mask is 0 at every timestep; kept: fraction that a gate lets through.
    """

    layer: str
    kind: str
    out_shape: tuple[int, ...]
    neurons: int
    spike_rate: float | None
    output_sparsity: float | None
    input_sparsity: float | None
    samples_without_gradient: int | None
    kept: float | None = None


@dataclass(frozen=True)
class TraceSummary:
    """The fractions of LayerSummary over all neurons of all layers that have the mask.

    samples_without_gradient: number of samples whose gradient masks are 0 in every layer at every timestep.
    """

    spike_rate: float | None
    output_sparsity: float | None
    input_sparsity: float | None
    samples_without_gradient: int | None
    kept: float | None = None


@dataclass(frozen=True)
class LayerCounts:
    """The set bits of a layer's masks, by kind, one of BITS: int64 (T, N) for each mask that it has.

    A mask that all timesteps share counts at each of them.
    """

    layer: Layer
    set_bits: Mapping[str, Ints]

    def __repr__(self) -> str:
        counts = ", ".join(f"{kind} {int(bits.sum())}" for kind, bits in self.set_bits.items())
        return f"LayerCounts({self.layer.name!r}: {counts} set bits)"

    def share(self, kind: str, axis: int | tuple[int, ...] = (0, 1)) -> Float64s | None:
        """Fraction of set bits, the mean over timesteps (axis 0), samples (axis 1) or both; None without that mask."""
        counts = self.set_bits.get(kind)
        return None if counts is None else counts.mean(axis=axis) / self.layer.neurons


@dataclass(frozen=True)
class LayerMaps:
    """The set bits of one mask of a layer: positions, int64 (H, W), and channels, int64 (C, timesteps)."""

    positions: Ints
    channels: Ints


def trace_counts(trace: Trace, progress: Progress | None = None) -> list[LayerCounts]:
    """Counts the set bits of every layer's masks, in execution order.

    progress(layer, done, total) is called before every layer.
    """
    rows, samples = [], (trace.meta.timesteps, trace.meta.batch)
    for number, layer in enumerate(trace.meta.layers):
        if progress:
            progress(layer.name, number, len(trace.meta.layers))
        kinds = [kind for kind in BITS if trace.has(f"{layer.name}.{kind}")]
        counts = {kind: np.broadcast_to(_set_bits(trace.mask(layer.name, kind)), samples) for kind in kinds}
        rows.append(LayerCounts(layer, counts))
    return rows


def layer_table(trace: Trace) -> list[LayerSummary]:
    """One LayerSummary per layer, in execution order."""
    return [layer_summary(counts) for counts in trace_counts(trace)]


def summarise(rows: Sequence[LayerCounts]) -> TraceSummary:
    """The TraceSummary of a trace's counts."""
    window, grad = _mean(rows, "window"), _mean(rows, "grad")
    with_grad = [row.set_bits["grad"].sum(axis=0) for row in rows if "grad" in row.set_bits]
    silent = int(np.count_nonzero(np.sum(with_grad, axis=0) == 0)) if with_grad else None
    return TraceSummary(_mean(rows, "spikes"), _zeros(window), _zeros(grad), silent, _mean(rows, "kept"))


def layer_maps(packed: Bytes, layer: Layer, samples: Sequence[int], timesteps: Sequence[int]) -> LayerMaps:
    """Adds up a packed mask, uint8 (T, N, bytes), over the given samples and timesteps. Unpacks one map at a time."""
    channels, height, width = layer.out_chw
    positions = np.zeros((height, width), np.int64)
    by_channel = np.zeros((channels, len(timesteps)), np.int64)
    for column, t in enumerate(timesteps):
        for n in samples:
            bits = unpack(packed[t, n], layer.neurons).reshape(layer.out_chw)
            positions += bits.sum(axis=0, dtype=np.int64)
            by_channel[:, column] += bits.sum(axis=(1, 2), dtype=np.int64)
    return LayerMaps(positions, by_channel)


def _set_bits(packed: Bytes) -> Ints:
    counts: Ints = np.bitwise_count(packed).sum(axis=-1, dtype=np.int64)
    return counts


def layer_summary(counts: LayerCounts) -> LayerSummary:
    """The LayerSummary of a layer's counts."""
    layer, grad = counts.layer, counts.set_bits.get("grad")
    silent = None if grad is None else int(np.count_nonzero(grad.sum(axis=0) == 0))
    shape = layer.out_chw[:1] if layer.kind == "fc" else layer.out_chw
    spikes, window, gradient, kept = (_mean([counts], kind) for kind in BITS)
    return LayerSummary(
        layer=layer.name,
        kind=layer.kind,
        out_shape=shape,
        neurons=layer.neurons,
        spike_rate=spikes,
        output_sparsity=_zeros(window),
        input_sparsity=_zeros(gradient),
        samples_without_gradient=silent,
        kept=kept,
    )


def _mean(rows: Sequence[LayerCounts], kind: str) -> float | None:
    """Set bits / bits, over all rows that have the mask; None if none has it."""
    having = [row for row in rows if kind in row.set_bits]
    total = sum(row.set_bits[kind].size * row.layer.neurons for row in having)
    return sum(int(row.set_bits[kind].sum()) for row in having) / total if having else None


def _zeros(share: float | None) -> float | None:
    return None if share is None else 1 - share
