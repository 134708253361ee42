"""Sentences on a step: what it takes for granted, and which rules for operands were used and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from h2sim.arch.schema import Arch
from h2sim.engines.forward import sub_kernels
from h2sim.memory.traffic import VALUE_BYTES
from h2sim.pipeline.analog_jobs import multiplied
from h2sim.pipeline.norms import BACKWARD_READS, Normalised
from h2sim.trace import Layer, TraceMeta
from h2sim.trace.graph import Graph

MOST_WORDS = 3  # maps of maps that a sentence spells out
MOST_NAMED = 6  # layers


def step_notes(arch: Arch, graph: Graph) -> tuple[str, ...]:
    """What a step takes for granted where the trace says nothing, then a sentence for every rule that was used.

    Layers to which a rule did the same share a sentence.
    """
    layers = graph.meta.layers
    return (
        *_of_biases(graph.meta),
        *_shared(("before", layer.name, *said) for layer in layers for said in _of_operand(arch, graph, layer)),
        *_shared(("in", layer.name, *_of_groups(arch, graph, layer)) for layer in layers if layer.groups > 1),
        *(_of_mean(graph, layer) for layer in layers if layer.mean_over_time),
        *_of_norms(arch, graph),
    )


def _shared(found: Iterable[tuple[str, str, str, str]]) -> Iterator[str]:
    """(word, layer, what, cost) as sentences `what word layers: cost`, one for all layers whose rest is alike."""
    layers: dict[tuple[str, str, str], list[str]] = {}
    for word, layer, what, cost in found:
        layers.setdefault((what, word, cost), []).append(layer)
    for (what, word, cost), names in layers.items():
        yield f"{what} {word} {_named(names)}: {cost}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _of_biases(meta: TraceMeta) -> Iterator[str]:
    unsaid = [layer.name for layer in meta.layers if layer.weight_shape and layer.bias is None]
    if unsaid and "backward" in meta.phases:
        which = "the trace" if len(unsaid) == sum(1 for x in meta.layers if x.weight_shape) else ", ".join(unsaid)
        yield f"bias gradients are counted for every layer with weights: {which} does not say which have a bias"


def _of_mean(graph: Graph, layer: Layer) -> str:
    return (
        f"mean over time before {layer.name}: its products are made at every timestep, its gradient once a sample, "
        f"1/{graph.meta.timesteps} of the Backward Engine's cycles"
    )


def _of_operand(arch: Arch, graph: Graph, layer: Layer) -> Iterator[tuple[str, str]]:
    """What a layer with weights reads, and its cost; nothing of neurons' spikes, for which the machine is made."""
    name = layer.inputs[0]
    if not layer.has_weights or layer.kind == "encode":
        return
    operand, what = graph.operand(layer), described(graph, name)
    planes = f"counts up to {operand.most}, {operand.planes} bit planes"
    if operand.kind == "counts" and multiplied(arch, graph, layer):
        yield (
            what,
            f"{planes}, more than the Forward Engine passes: multiplied on the Backward Engine, forward and for the "
            "weight gradient",
        )
    elif operand.kind == "counts":
        yield what, f"{planes}, {operand.planes}x the windows"
    elif operand.kind == "analog":
        yield what, "analog, multiplied on the Backward Engine, dense, forward and for the weight gradient"
    elif name != "input" and not graph.spiking(name):
        yield what, "a bit an element, as spikes"


def described(graph: Graph, name: str, words: int = MOST_WORDS) -> str:
    """`average over 2x2 spikes`: what a map is made of, up to so many maps deep."""
    if name == "input":
        return {"spikes": "input spikes", "counts": "input counts", "analog": "analog input"}[graph.meta.input_kind]
    layer = graph.meta.layer(name)
    if layer.spiking:
        return "spikes"
    if not layer.is_map:
        return "currents"
    if not words:
        return "maps"
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


def _of_groups(arch: Arch, graph: Graph, layer: Layer) -> tuple[str, str]:
    shape, one = graph.meta.conv_shape(layer), graph.meta.conv_shape(layer).group
    engine, other = arch.engines.forward, arch.engines.backward
    rows = one.in_channels * sub_kernels(engine, shape.kernel), engine.rows
    fe = _passes(len(shape.passes(rows, (one.out_channels, engine.columns))))
    be = _passes(len(shape.passes((one.out_channels, other.rows), (one.in_channels, other.columns))))
    return (
        f"{layer.groups} groups of channels",
        f"{fe} of the Forward Engine and {be} of the Backward Engine, one after the other; what is not on the array's "
        "diagonal idles",
    )


def _passes(count: int) -> str:
    return f"{count} pass" if count == 1 else f"{count} passes"


def _of_norms(arch: Arch, graph: Graph) -> Iterator[str]:
    """Sentences on the normalisations of all layers together, for one of each layer is much alike."""
    layers = graph.meta.layers
    fixed = [layer.name for layer in layers if len(layer.norm) > len(layer.trained_norms)]
    if fixed:
        yield f"fixed normalisation of {_named(fixed)}: folded into the weights, at no cost"
    trained = [layer for layer in layers if layer.trained_norms]
    if not trained:
        return
    kinds = " and ".join(dict.fromkeys(f"{norm.kind} norm" for layer in trained for norm in layer.trained_norms))
    what = f"{kinds} of {_named([layer.name for layer in trained])}"
    if not any(Normalised.of(arch, layer).count for layer in trained):
        yield f"{what}: costs nothing here (normalisation: none), which flatters the machine"
        return
    each = VALUE_BYTES * graph.samples * sum(layer.neurons * len(layer.trained_norms) for layer in trained)
    text = f"{what}: two passes, {2 * each} B more to and from memory in the forward pass"
    if "backward" in graph.meta.phases:
        text += f", {(1 + BACKWARD_READS) * each} B in the backward pass, and a dense gradient"
    yield text
