"""Whether a list of layers can be trained, and what follows from its structure alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from h2sim.errors import NetworkError, at
from h2sim.trace import Layer, TraceMeta, check_layers
from h2sim.trace.model import VERSION
from h2sim.trace.operands import Operand, operands_of
from h2sim.trace.windows import axis_of

MOST_ROUTED = 256  # elements of a window whose route one byte holds


@dataclass(frozen=True)
class Checked:
    """A checked list of layers.

    meta: metadata of a trace that has them. maps: the operand that each layer, and the input, gives. routed: maxima of
    analog values without neuron, whose route a trace holds. unmasked: layers whose gradient mask a trace does not hold,
    because they only make one map out of others.
    """

    meta: TraceMeta
    maps: dict[str, Operand]
    routed: frozenset[str]
    unmasked: frozenset[str]


def checked(layers: list[dict[str, Any]], input_entry: dict[str, Any] | None, dropout_mask: str) -> Checked:
    """The layers, checked.

    Raises NetworkError, a line per fault, unless a trace may hold them, every layer but the last is read by a later
    one, and training knows what each asks for.
    """
    meta = check_layers(layers, "network", input_entry)
    read = {source for layer in meta.layers for source in layer.inputs}
    for layer in meta.layers[:-1]:
        if layer.name not in read:
            raise NetworkError(f"layer {layer.name}: expected a later layer that reads it; got none")
    maps = operands_of(meta)
    routed = {
        layer.name
        for layer in meta.layers
        if layer.kind == "pool" and layer.mode == "max" and maps[layer.inputs[0]].kind == "analog"
    }
    faults = [f"layer {layer.name}: {fault}" for layer in meta.layers if (fault := _fault(layer, layer.name in routed))]
    if dropout_mask == "timestep":
        faults += _masks_under_mean(meta)
    if faults:
        raise NetworkError(*faults)
    unmasked = {layer.name for layer in meta.layers if layer.is_map and meta.version != VERSION}
    return Checked(meta, maps, frozenset(routed), frozenset(unmasked))


def _fault(layer: Layer, routed: bool) -> str:
    if layer.kind == "gate" and layer.scale < 1:
        return at("scale", "number", "at least 1, as 1 / scale is the share that training keeps", str(layer.scale))
    if len(layer.trained_norms) < len(layer.norm):
        return at("norm", "training", "true, to train it", "false")
    elements = math.prod(axis_of(layer, axis).reads.shape[1] for axis in (0, 1)) if routed else 0
    if elements > MOST_ROUTED:
        return at("window", "elements", f"at most {MOST_ROUTED} for a maximum of analog values", elements)
    return ""


def _masks_under_mean(meta: TraceMeta) -> list[str]:
    """A mean over time takes the same weights at every timestep, so that a gate under it has one mask for all."""
    last = meta.layers[-1]
    return [
        at(
            f"layer {last.name}",
            "dropout mask",
            f"one a sample, for gate {gate.name} under a mean over time",
            "timestep",
        )
        for gate in meta.layers
        if gate.kind == "gate" and gate.name in meta.under_mean
    ]
