"""A network's structure from a NIR graph (nir 1.0, Neural Intermediate Representation): layers without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import nir

from h2sim.errors import ExportError, NetworkError, at
from h2sim.export.nirfields import MOST_EXTENT, integers
from h2sim.export.nirfile import read_graph
from h2sim.export.nirgraph import flattened
from h2sim.export.nirnodes import Reader
from h2sim.export.obstacles import Obstacles
from h2sim.io.faults import show
from h2sim.trace import Network, check_layers


def load_nir(
    graph: str | Path | nir.NIRGraph,
    *,
    input_kind: Literal["spikes", "analog"] = "spikes",
    timesteps: int = 10,
    name: str | None = None,
) -> Network:
    """The layers of a NIR file or graph, as `synthesise` or a network file takes them.

    Weights and neuron parameters are not read. input_kind and timesteps are asked for because a graph does not say
    whether its input is binary and for how long it runs. Shapes follow from the Input's and the weights': types that a
    graph states for other nodes are not read. A node that reads several gets their sum. A leaky integrator without
    spikes (LI, CubaLI, I) is a read-out and no layer; a Scale belongs to weights beside it, or is a gate. Graphs in the
    graph are written out, their nodes' names behind theirs. The network's `source` says that an input's batch dimension
    of 1, which NIR has not and exporters write, was left out. Raises ExportError with a line for each node that no
    trace can hold, which says why.
    """
    where = str(graph) if isinstance(graph, str | Path) else "NIR graph"
    if input_kind not in ("spikes", "analog"):
        raise ExportError(at(where, "input_kind", "'spikes' or 'analog'", show(input_kind)))
    (steps,) = integers(where, "timesteps", timesteps, (1,), 1, MOST_EXTENT)
    found = _read(graph, where) if isinstance(graph, str | Path) else graph
    if not isinstance(found, nir.NIRGraph):
        raise ExportError(at(where, "graph", "a nir.NIRGraph or a file's name", type(found).__name__))
    try:
        input_shape, layers, notes = _structure(found, input_kind == "analog")
    except ExportError as error:
        raise ExportError(*(f"{where}: {line}" for line in error.args)) from None
    channels, height, width = input_shape if len(input_shape) == 3 else (*input_shape, 1, 1)
    network = Network(
        name=name or (Path(where).stem if isinstance(graph, str | Path) else "nir"),
        input_shape=(channels, height, width),
        input_kind=input_kind,
        timesteps=steps,
        layers=layers,
        source="; ".join((f"NIR graph {where}" if isinstance(graph, str | Path) else where, *notes)),
    )
    _check(network, where)
    return network


def _structure(
    graph: nir.NIRGraph, analog: bool
) -> tuple[tuple[int, ...], tuple[dict[str, Any], ...], tuple[str, ...]]:
    """The input's shape, the layers, and what the network's source should say. Raises ExportError, a line each."""
    obstacles = Obstacles()
    reader = Reader(flattened(graph), obstacles)
    pieces = reader.pieces(analog)
    obstacles.check()
    return reader.input_shape, tuple(piece.entry() for piece in pieces), tuple(reader.notes)


def _read(path: str | Path, where: str) -> nir.NIRGraph:
    try:
        return read_graph(path)
    except Exception as error:  # damage can make h5py and nir raise any
        text = str(getattr(error, "strerror", None) or error)
        reason = " ".join(text.split())[:200] or type(error).__name__
        raise ExportError(at(where, "file", "a NIR graph in HDF5", reason)) from None


def _check(network: Network, where: str) -> None:
    """Raises ExportError unless a trace can hold the layers: extents, sizes and the number of layers."""
    try:
        check_layers(list(network.layers), where, network.input_entry)
    except NetworkError as error:
        raise ExportError(*error.args) from None
