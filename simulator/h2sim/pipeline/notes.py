"""Sentences on a step: what it takes for granted, and which rules for operands were used and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

from h2sim.arch.schema import Arch
from h2sim.engines.forward import sub_kernels
from h2sim.memory.traffic import VALUE_BYTES
from h2sim.pipeline.analog_jobs import multiplied
from h2sim.pipeline.normal import BACKWARD_READS, Normalised
from h2sim.trace import Layer, TraceMeta
from h2sim.trace.graph import Graph

MOST_WORDS = 3  # maps of maps that a sentence spells out


def step_notes(arch: Arch, graph: Graph) -> tuple[str, ...]:
    """What a step takes for granted where the trace says nothing, then a sentence for every rule that was used."""
    return (*_of_biases(graph.meta), *(note for layer in graph.meta.layers for note in _of_layer(arch, graph, layer)))


def _of_biases(meta: TraceMeta) -> Iterator[str]:
    unsaid = [layer.name for layer in meta.layers if layer.weight_shape and layer.bias is None]
    if unsaid and "backward" in meta.phases:
        which = "the trace" if len(unsaid) == sum(1 for x in meta.layers if x.weight_shape) else ", ".join(unsaid)
        yield f"bias gradients are counted for every layer with weights: {which} does not say which have a bias"


def _of_layer(arch: Arch, graph: Graph, layer: Layer) -> Iterator[str]:
    if layer.has_weights and layer.kind != "encode":
        yield from _of_operand(arch, graph, layer)
    if layer.groups > 1:
        yield _of_groups(arch, graph, layer)
    if layer.mean_over_time:
        yield (
            f"mean over time before {layer.name}: its products are made at every timestep, its gradient once a sample, "
            f"1/{graph.meta.timesteps} of the Backward Engine's cycles"
        )
    yield from _of_norms(arch, graph, layer)


def _of_operand(arch: Arch, graph: Graph, layer: Layer) -> Iterator[str]:
    """Of what a layer reads: nothing for the spikes of neurons, which is what the machine was made for."""
    name = layer.inputs[0]
    operand, what = graph.operand(layer), f"{described(graph, name)} before {layer.name}"
    if operand.kind == "counts" and multiplied(arch, graph, layer):
        yield (
            f"{what}: counts up to {operand.most}, {operand.planes} bit planes, more than the Forward Engine passes: "
            "multiplied on the Backward Engine, forward and for the weight gradient"
        )
    elif operand.kind == "counts":
        yield f"{what}: counts up to {operand.most}, {operand.planes} bit planes, {operand.planes}x the windows"
    elif operand.kind == "analog":
        yield f"{what}: analog, multiplied on the Backward Engine, dense, forward and for the weight gradient"
    elif name != "input" and not graph.spiking(name):
        yield f"{what}: a bit an element, as spikes"


def described(graph: Graph, name: str, words: int = MOST_WORDS) -> str:
    """`average over 2x2 spikes of conv1`: what a map is made of, up to so many maps deep."""
    if name == "input":
        return {"spikes": "input spikes", "counts": "input counts", "analog": "analog input"}[graph.meta.input_kind]
    layer = graph.meta.layer(name)
    if layer.spiking:
        return f"spikes of {name}"
    if not layer.is_map:
        return f"the current of {name}"
    if not words:
        return name
    below = [described(graph, each, words - 1) for each in layer.inputs]
    if layer.kind == "pool":
        size = (
            "x".join(map(str, layer.kernel)) if layer.kernel else f"windows for {layer.out_chw[1]}x{layer.out_chw[2]}"
        )
        return f"{ {'max': 'largest', 'sum': 'sum', 'average': 'average'}[layer.mode] } over {size} {below[0]}"
    joined = {"add": {"sum": " + ", "and": " and ", "and_not": " and not "}[layer.op], "concat": " beside "}
    if layer.kind in joined:
        return f"({joined[layer.kind].join(below)})"
    made = {"gate": "gated", "upsample": "enlarged", "relu": "rectified", "norm": "normalised"}[layer.kind]
    return f"{made} {below[0]}"


def _of_groups(arch: Arch, graph: Graph, layer: Layer) -> str:
    shape, one = graph.meta.conv_shape(layer), graph.meta.conv_shape(layer).group
    engine, other = arch.engines.forward, arch.engines.backward
    fe = shape.passes((one.in_channels * sub_kernels(engine, shape.kernel), engine.rows),
                      (one.out_channels, engine.columns))  # fmt: skip
    be = shape.passes((one.out_channels, other.rows), (one.in_channels, other.columns))
    return (
        f"{layer.name} in {layer.groups} groups of channels: {_passes(len(fe))} of the Forward Engine and "
        f"{_passes(len(be))} of the Backward Engine, one after the other; what is not on the array's diagonal idles"
    )


def _passes(count: int) -> str:
    return f"{count} pass" if count == 1 else f"{count} passes"


def _of_norms(arch: Arch, graph: Graph, layer: Layer) -> Iterator[str]:
    kinds = " and ".join(f"{norm.kind} norm" for norm in layer.trained_norms)
    where = "of its input" if layer.kind == "norm" else "before its neurons" if layer.spiking else "of its current"
    if folded := len(layer.norm) - len(layer.trained_norms):
        fixed = f"{folded} fixed normalisation{'s' * (folded > 1)}"
        yield f"{layer.name}: {fixed} {where}, folded into the weights, at no cost"
    if not kinds:
        return
    if not Normalised.of(arch, layer).count:
        yield f"{layer.name}: {kinds} {where} costs nothing here (normalisation: none), which flatters the machine"
        return
    elements = graph.samples * layer.neurons * len(layer.trained_norms)
    forward = 2 * VALUE_BYTES * elements
    text = f"{layer.name}: {kinds} {where} takes two passes: {forward} B more to and from memory in the forward pass"
    if "backward" in graph.meta.phases:
        text += f", {(1 + BACKWARD_READS) * VALUE_BYTES * elements} B in the backward pass, and a dense gradient"
    yield text
