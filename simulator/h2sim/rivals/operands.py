"""What of version 2 of the format a rival machine has no place for: its source knows neurons, weights and spikes."""

from __future__ import annotations

from h2sim.trace import Layer, TraceMeta
from h2sim.trace.model import VERSION


def unknown_operand(meta: TraceMeta, layer: Layer) -> str | None:
    """Why a rival cannot run a layer that only version 2 of the format has; None where nothing of it is new.

    Norms are left to the layer's recorded spikes, and a mean over time to who reads the potentials.
    """
    if meta.version == VERSION:
        return None
    if "input" in layer.inputs and meta.input_kind == "counts":
        return "an input of counts: the machine takes binary spikes"
    if layer.is_map:
        return f"kind {layer.kind!r} without neurons: the machine passes on spikes of neurons alone"
    if layer.groups > 1:
        return f"{layer.groups} groups of channels: the machine reads all channels"
    if layer.op != "sum":
        return f"an {layer.op!r} of spikes: the machine sums"
    if layer.kind == "pool" and (layer.mode != "average" or layer.adaptive):
        return f"a pool of mode {layer.mode!r}{', adaptive' * layer.adaptive}: the machine averages over one window"
    return None
