"""Networks and data sets in the terminal, and a network as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from h2sim.report.text import new_table
from h2sim.trace import Layer, Network, check_layers

if TYPE_CHECKING:
    from rich.console import Console

    from h2sim.datasets import Description
    from h2sim.trace import Trace


def layers_of(network: Network) -> tuple[Layer, ...]:
    """The network's layers, checked."""
    return check_layers(list(network.layers), network.name).layers


def weights(layer: Layer) -> int:
    """Weights of a layer, without its bias."""
    return math.prod(layer.weight_shape) if layer.weight_shape else 0


def multiply_adds(layer: Layer) -> int:
    """Dense multiply-accumulates of one sample and timestep, forward: positions x weights."""
    return weights(layer) * (1 if layer.kind == "fc" else math.prod(layer.out_chw[1:]))


def totals(layers: Sequence[Layer]) -> dict[str, int]:
    """Sums over layers: neurons, weights, multiply_adds."""
    return {
        "neurons": sum(layer.neurons for layer in layers if layer.spiking),
        "weights": sum(weights(layer) for layer in layers),
        "multiply_adds": sum(multiply_adds(layer) for layer in layers),
    }


def network_dict(network: Network) -> dict[str, Any]:
    """A network as JSON holds it: input, timesteps, source, totals, and layers with their sizes."""
    layers = layers_of(network)
    sizes = [
        {**entry, "neurons": layer.neurons, "weights": weights(layer), "multiply_adds": multiply_adds(layer)}
        for entry, layer in zip(network.layers, layers, strict=True)
    ]
    return {
        "name": network.name,
        "source": network.source,
        "timesteps": network.timesteps,
        "input": {"shape": list(network.input_shape), "kind": network.input_kind},
        "neuron": network.neuron,
        "totals": totals(layers),
        "layers": sizes,
    }


def networks_table(console: Console, networks: Sequence[Network]) -> None:
    """One line per network."""
    table = new_table(
        "Networks (neurons and multiply-accumulates: of one sample and timestep)",
        ["network"],
        ["input", "T", "layers", "neurons", "weights", "MACs"],
    )
    table.add_column("source", no_wrap=True)
    for network in networks:
        sums = totals(layers_of(network))
        counts = [f"{sums[name]:,}" for name in ("neurons", "weights", "multiply_adds")]
        table.add_row(
            network.name, "x".join(map(str, network.input_shape)), str(network.timesteps), str(len(network.layers)),
            *counts, shorten(network.source.split(";")[0], 44, placeholder=" ..."),
        )  # fmt: skip
    console.print(table)


def datasets_table(console: Console, rows: Sequence[tuple[Description, Path | None]]) -> None:
    """One line per data set: what it is, and whether its files are here."""
    table = new_table("Data sets (never downloaded: from your files, or from a package)", ["data set", "kind"], [])
    for name in ("shape", "classes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("how to get it", overflow="fold")
    for described, place in rows:
        shape = "yours" if described.shape is None else "x".join(map(str, described.shape))
        classes = "yours" if described.classes is None else str(described.classes)
        table.add_row(described.name, described.kind, shape, classes, "yes" if place else "no", described.get)
    console.print(table)


def traces_table(console: Console, traces: Sequence[Trace]) -> None:
    """One line per shipped trace."""
    table = new_table("Traces", ["trace", "network", "data set", "source"], ["T", "batch"])
    for trace in traces:
        meta = trace.meta
        table.add_row(
            trace.path.stem, meta.network, meta.dataset, str(meta.source.get("kind")), str(meta.timesteps),
            str(meta.batch),
        )  # fmt: skip
    console.print(table)


def network_table(console: Console, network: Network) -> None:
    """A network layer by layer."""
    kind = "analog, encoded by the first layer" if network.input_kind == "analog" else "spikes"
    shape = "x".join(map(str, network.input_shape))
    console.print(f"{network.name}: input {shape} ({kind}), T = {network.timesteps}")
    if network.source:
        console.print(f"source: {network.source}", markup=False)
    if network.neuron:
        console.print("neuron: " + ", ".join(f"{name} {value}" for name, value in network.neuron.items()), markup=False)
    console.print()
    table = new_table("Layers", ["layer", "kind"], ["out", "kernel", "neurons", "weights", "MACs"])
    table.add_column("reads", overflow="fold")
    layers = layers_of(network)
    for layer in layers:
        counts = [f"{count:,}" if count else "-" for count in (weights(layer), multiply_adds(layer))]
        table.add_row(
            layer.name, layer.kind if layer.spiking else f"{layer.kind}, no LIF", "x".join(map(str, layer.out_chw)),
            _kernel(layer), f"{layer.neurons:,}", *counts, " + ".join(layer.inputs),
        )  # fmt: skip
    sums = totals(layers)
    table.add_row("total", "", "", "", *(f"{sums[name]:,}" for name in ("neurons", "weights", "multiply_adds")))
    console.print(table)


def _kernel(layer: Layer) -> str:
    """3x3, and its stride if that is not 1."""
    if layer.kernel is None or layer.stride is None:
        return "-"
    stride = "" if layer.stride == (1, 1) else f" /{'x'.join(map(str, layer.stride))}"
    return "x".join(map(str, layer.kernel)) + stride
