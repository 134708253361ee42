"""Networks and data sets in the terminal, and a network as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h2sim.document import Column, Document, Line, Part, Table, counted, table
from h2sim.report.words import shape, spoken
from h2sim.trace import Layer, Network, check_layers

if TYPE_CHECKING:
    from h2sim.datasets import Description
    from h2sim.trace import Trace

# columns of numbers, and in which order they go where a terminal is too narrow (0: they stay)
SIZES = {"input": 2, "T": 1, "layers": 3, "neurons": 0, "weights": 0, "MACs": 0}
LAYER_SIZES = {"out": 0, "kernel": 2, "neurons": 1, "weights": 0, "MACs": 0}
HERE = Column("here")


def layers_of(network: Network) -> tuple[Layer, ...]:
    """The network's layers, checked."""
    return check_layers(list(network.layers), network.name, network.input_entry).layers


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
        "input": {
            "shape": list(network.input_shape),
            "kind": network.input_kind,
            **({"most": network.input_most} if network.input_most else {}),
        },
        "neuron": network.neuron,
        "totals": totals(layers),
        "layers": sizes,
    }


def workloads_document(
    networks: Sequence[Network], data_sets: Sequence[tuple[Description, Path | None]], traces: Sequence[Trace]
) -> Document:
    """What there is to work with: networks, data sets (a path where the files are here), traces."""
    here = sum(place is not None for _, place in data_sets)
    verdict = (
        f"{counted(len(networks), 'network')}, {counted(len(data_sets), 'data set')} ({here} of them here), "
        f"{counted(len(traces), 'trace')}."
    )
    return Document(verdict, (_networks(networks), _data_sets(data_sets), _traces(traces)))


def _networks(networks: Sequence[Network]) -> Table:
    """One line per network."""
    rows = []
    for network in networks:
        sums = totals(layers_of(network))
        counts = [f"{sums[name]:,}" for name in ("neurons", "weights", "multiply_adds")]
        sizes = (shape(network.input_shape), str(network.timesteps), str(len(network.layers)))
        rows.append((network.name, *sizes, *counts, network.source.split(";")[0]))
    columns = [Column(name, right=True, drop=drop) for name, drop in SIZES.items()]
    source = Column("source", prose=True, drop=4)
    title = "Networks (neurons and multiply-accumulates: of one sample and timestep)"
    return Table(title, (Column("network"), *columns, source), tuple(rows))


def _data_sets(rows: Sequence[tuple[Description, Path | None]]) -> Table:
    """One line per data set: what it is, and whether its files are here."""
    cells = []
    for described, place in rows:
        size = "yours" if described.shape is None else shape(described.shape)
        classes = "yours" if described.classes is None else str(described.classes)
        cells.append((described.name, described.kind, size, classes, "yes" if place else "no", described.get))
    left, how = ("data set", "kind"), Column("how to get it", prose=True)
    sizes = (Column("shape", right=True, drop=2), Column("classes", right=True, drop=1))
    return table("Data sets (never downloaded: from your files, or from a package)", left, [*sizes, HERE, how], cells)


def _traces(traces: Sequence[Trace]) -> Table:
    """One line per shipped trace."""
    rows = []
    for trace in traces:
        meta = trace.meta
        source = "SYNTHETIC" if meta.source.get("kind") == "synthetic" else str(meta.source.get("kind"))
        rows.append(
            (trace.path.stem, meta.network, meta.dataset, source, str(meta.timesteps), str(meta.batch))
        )  # fmt: skip
    return table("Traces", ["trace", "network", "data set", "source"], ["T", "batch"], rows, drop=("batch", "data set"))


def network_document(network: Network) -> Document:
    """A network layer by layer."""
    layers = layers_of(network)
    parts: list[Part] = [Line(f"source: {network.source}")] if network.source else []
    if network.neuron:
        parts.append(Line("neuron: " + ", ".join(f"{name} {value}" for name, value in network.neuron.items())))
    return Document(_verdict(network, layers), (*parts, _layers(layers)))


def _verdict(network: Network, layers: Sequence[Layer]) -> str:
    kinds = {
        "analog": "analog, encoded by the first layer" if network.input_entry is None else "analog",
        "counts": f"counts up to {network.input_most}",
        "spikes": "spikes",
    }
    kind = kinds[network.input_kind]
    sums = totals(layers)
    sizes = ", ".join(f"{sums[name]:,} {spoken(name)}" for name in ("neurons", "weights"))
    return (
        f"{network.name}: {counted(len(layers), 'layer')}, input {shape(network.input_shape)} ({kind}), "
        f"T = {network.timesteps}; {sizes}, {sums['multiply_adds']:,} multiply-accumulates per sample and timestep."
    )


def _layers(layers: Sequence[Layer]) -> Table:
    rows = []
    for layer in layers:
        counts = [f"{count:,}" if count else "-" for count in (weights(layer), multiply_adds(layer))]
        rows.append((
            layer.name, layer.kind if layer.spiking else f"{layer.kind}, no LIF", shape(layer.out_chw),
            _kernel(layer), f"{layer.neurons:,}", *counts, " + ".join(layer.inputs),
        ))  # fmt: skip
    sums = totals(layers)
    total = [f"{sums[name]:,}" for name in ("neurons", "weights", "multiply_adds")]
    rows.append(("total", "", "", "", *total, ""))
    right = [Column(name, right=True, drop=drop) for name, drop in LAYER_SIZES.items()]
    return table("Layers", ["layer", "kind"], [*right, Column("reads", prose=True)], rows, elsewhere="--json FILE")


def _kernel(layer: Layer) -> str:
    """3x3, and its stride if that is not 1."""
    if layer.kernel is None or layer.stride is None:
        return "-"
    stride = "" if layer.stride == (1, 1) else f" /{'x'.join(map(str, layer.stride))}"
    return "x".join(map(str, layer.kernel)) + stride
