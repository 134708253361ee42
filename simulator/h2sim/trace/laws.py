"""What masks and metadata of real training obey, whatever the network: where a file does not, its numbers mislead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from h2sim.trace.bits import popcount

if TYPE_CHECKING:
    from h2sim.trace.model import Layer, TraceMeta
    from h2sim.trace.read import Trace

MOST_NAMED = 6
ENDLESS = 1e30  # a side of a window that has no end, as the exporter writes it
SYNTHETIC = (
    "the masks are SYNTHETIC: spikes, windows and gradients were drawn apart from each other, so that gradients stand "
    "where eq. 2.4 to 2.6 allow none"
)


def broken_laws(trace: Trace) -> tuple[str, ...]:
    """A sentence for each law that the trace breaks, with the layers and how often; empty for one of real training.

    Synthetic masks are not held against the laws of masks; one sentence says so. Each mask is read once for an open
    trace.
    """
    if trace.meta.source.get("kind") == "synthetic":
        return (SYNTHETIC, *_metadata(trace)) if "backward" in trace.meta.phases else tuple(_metadata(trace))
    return (*_gradients(trace), *_forward_only(trace), *_windows(trace), *_metadata(trace))


def impossible_gradients(trace: Trace, layer: Layer) -> int:
    """Gradient bits of a layer that eq. 2.4 to 2.6 do not allow.

    dm[t] is not 0 only if m[u] lies inside the surrogate's window at some timestep u >= t: dm[t] has a part through
    the neuron's spike, which the window of t lets through, and a part through m[t + 1].
    """
    window, grad = trace.mask(layer.name, "window"), trace.mask(layer.name, "grad")
    open_later = np.bitwise_or.accumulate(window[::-1], axis=0)[::-1]
    return popcount(grad & ~open_later)


def _gradients(trace: Trace) -> Iterator[str]:
    if "backward" not in trace.meta.phases:
        return
    found = {}
    for layer in trace.meta.layers:
        has_masks = all(trace.has(f"{layer.name}.{kind}") for kind in ("window", "grad"))
        if layer.trained_norms:
            continue  # its mask is of dL/dx before the norm, which is not 0 where dm is
        if has_masks and layer.neuron.equation == "lif" and (count := impossible_gradients(trace, layer)):
            found[layer.name] = count
    if found:
        yield (
            f"gradients that no training has (eq. 2.4 to 2.6), set where the neuron's window is closed from then on: "
            f"{_counts(found)}"
        )


def _forward_only(trace: Trace) -> Iterator[str]:
    if "backward" not in trace.meta.phases:
        named = [layer.name for layer in trace.meta.layers if trace.has(f"{layer.name}.grad")]
        if named:
            yield f"gradients in a trace of the forward pass alone, which no phase reads: {_listed(named)}"


def _windows(trace: Trace) -> Iterator[str]:
    """A neuron that fires passes its threshold; over many spikes some lie inside a window that begins below it."""
    if "backward" not in trace.meta.phases:
        return
    empty = [
        layer.name
        for layer in trace.meta.layers
        if layer.spiking
        and trace.has(f"{layer.name}.window")
        and layer.neuron.window[0] < layer.neuron.threshold <= layer.neuron.window[1]
        and trace.maps.set_bits(layer.name, "window") == 0 < trace.maps.set_spikes(layer.name)
    ]
    if empty:
        yield f"spikes, and no neuron ever inside a window that begins below the threshold: {_listed(empty)}"
    outside = {}
    for layer in trace.meta.layers:
        if layer.spiking and layer.neuron.equation == "lif" and (count := _outside_endless_window(trace, layer)):
            outside[layer.name] = count
    if outside:
        yield f"neurons outside a window that has no end on their side of the threshold: {_counts(outside)}"


def _outside_endless_window(trace: Trace, layer: Layer) -> int:
    """Window bits that are 0 although every membrane above, or below, the threshold lies inside the window."""
    (low, high), threshold = layer.neuron.window, layer.neuron.threshold
    above, below = low < threshold and high >= ENDLESS, high > threshold and low <= -ENDLESS
    if not (above or below) or not all(trace.has(f"{layer.name}.{kind}") for kind in ("window", "spikes")):
        return 0
    window, spikes = trace.mask(layer.name, "window"), trace.mask(layer.name, "spikes")
    bits = trace.meta.timesteps * trace.meta.batch * layer.neurons
    fired = popcount(spikes & ~window) if above else 0
    return fired + (bits - popcount(window | spikes) if below else 0)


def _metadata(trace: Trace) -> Iterator[str]:
    meta = trace.meta
    yield from _labels(meta)
    odd = {layer.name: layer.neuron.decay for layer in meta.layers if not 0 <= layer.neuron.decay <= 1}
    if odd:
        told = ", ".join(f"{name} {decay:g}" for name, decay in list(odd.items())[:MOST_NAMED])
        yield f"a decay outside 0 to 1, so that membranes grow or change sign on their own: {told}"
    shut = [
        layer.name
        for layer in meta.layers
        if layer.spiking and not layer.neuron.window[0] <= layer.neuron.threshold <= layer.neuron.window[1]
    ]
    if shut:
        yield f"a window of the surrogate that does not hold the threshold: {_listed(shut)}"


def _labels(meta: TraceMeta) -> Iterator[str]:
    labels = meta.source.get("labels")
    if labels is None:
        return
    if not isinstance(labels, list):
        yield f"source.labels is no list of {meta.batch} labels, one a sample"
        return
    if len(labels) != meta.batch:
        yield f"source.labels has {len(labels)} labels for a batch of {meta.batch} samples"
    last = meta.layers[-1]
    wrong = [label for label in labels if type(label) is int and not 0 <= label < last.neurons]
    if wrong:
        yield f"source.labels has {len(wrong)} labels that are no class of the {last.neurons} outputs of {last.name}"


def _counts(found: dict[str, int]) -> str:
    return _listed([f"{name} {count:,}" for name, count in found.items()])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
