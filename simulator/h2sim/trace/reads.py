"""What each layer with weights reads, and of which neurons that is made; what the maps between carry in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from h2sim.trace.model import Layer, TraceMeta
from h2sim.trace.operands import Operand, operands_of
from h2sim.trace.read import Trace


@dataclass(frozen=True)
class Made:
    """A map as what reads it sees it.

    name: a layer, or 'input'. operand: its kind, scales and largest count. sources: the layers with neurons or weights
    ('input' is one) that it is made of, in execution order; itself, where it is one of them.
    """

    name: str
    operand: Operand
    sources: tuple[str, ...]


def made_of(meta: TraceMeta) -> dict[str, Made]:
    """Every map of a network by its name, 'input' first. Raises TraceError where there is no operand for one."""
    operands = operands_of(meta)
    order = {name: number for number, name in enumerate(operands)}
    found = {"input": Made("input", operands["input"], ("input",))}
    for layer in meta.layers:
        below = {source for name in layer.inputs for source in found[name].sources}
        sources = tuple(sorted(below, key=order.__getitem__)) if layer.is_map else (layer.name,)
        found[layer.name] = Made(layer.name, operands[layer.name], sources)
    return found


def read_by_weights(meta: TraceMeta, made: Mapping[str, Made]) -> list[tuple[Layer, Made]]:
    """Each layer with weights beside the map that it reads, in execution order."""
    return [(layer, made[layer.inputs[0]]) for layer in meta.layers if layer.has_weights]


def carried(trace: Trace) -> dict[str, tuple[str, ...]]:
    """The kinds of members that each layer, and 'input', has in a file."""
    found: dict[str, list[str]] = {name: [] for name in ("input", *(layer.name for layer in trace.meta.layers))}
    for member in trace.members:
        layer, _, kind = member.rpartition(".")
        found[layer].append(kind)
    return {name: tuple(kinds) for name, kinds in found.items()}
