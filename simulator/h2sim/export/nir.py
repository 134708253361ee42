"""A network's structure from a NIR graph (nir 1.0, Neural Intermediate Representation): layers without data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import nir
import numpy as np

from h2sim.errors import ExportError, at
from h2sim.export.structure import INPUT, Node, assemble
from h2sim.trace import Network

_NEURONS = ("LIF", "CubaLIF", "IF")
_INTEGRATORS = ("LI", "CubaLI", "I")
_WEIGHTS = {"Conv2d": "conv", "Linear": "linear", "Affine": "linear"}
_POOLS = ("AvgPool2d", "SumPool2d")
Geometry = dict[str, list[int]]
Shape = tuple[int, ...]


def load_nir(
    graph: str | Path | nir.NIRGraph,
    *,
    input_kind: Literal["spikes", "analog"] = "spikes",
    timesteps: int = 10,
    name: str | None = None,
) -> Network:
    """The layers of a NIR file or graph, as `synthesise` or a network file takes them.

    Weights and neuron parameters are not read. input_kind and timesteps are asked for because a graph does not say
    whether its input is binary and for how long it runs. A leaky integrator without spikes (LI, CubaLI, I) is a
    read-out and no layer. A SumPool2d in front of a neuron becomes an average pool; the threshold and window of its
    neuron must then be divided by the pool's size, and the network's `source` says so. Raises ExportError, which names
    the node that a trace cannot hold and says why.
    """
    where = str(graph) if isinstance(graph, str | Path) else "NIR graph"
    found = _read(graph, where) if isinstance(graph, str | Path) else graph
    reader = _Reader(found, where)
    nodes = reader.nodes()
    structure = assemble(nodes, input_kind == "analog")
    summed = [key for key in nodes if type(found.nodes[key]).__name__ == "SumPool2d"]
    source = f"NIR graph {where}" if isinstance(graph, str | Path) else where
    for key in summed:
        source += f"; {key} sums: its neuron's threshold and window are to be divided by the window's size"
    default = Path(where).stem if isinstance(graph, str | Path) else "nir"
    layers = tuple(piece.entry() for piece in structure.pieces)
    channels, height, width = reader.input_shape if len(reader.input_shape) == 3 else (*reader.input_shape, 1, 1)
    return Network(
        name=name or default,
        input_shape=(channels, height, width),
        input_kind=input_kind,
        timesteps=timesteps,
        layers=layers,
        source=source,
    )


def _read(path: str | Path, where: str) -> nir.NIRGraph:
    try:
        return nir.read(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ExportError(at(where, "file", "a NIR graph in HDF5", reason)) from None


class _Reader:
    """Reads a graph's nodes in an order in which each comes after what it reads, and passes shapes along."""

    def __init__(self, graph: nir.NIRGraph, where: str) -> None:
        self.graph, self.where = graph, where
        inputs = [key for key, node in graph.nodes.items() if type(node).__name__ == "Input"]
        if len(inputs) != 1:
            raise ExportError(at(where, "Input", "one node", len(inputs)))
        self.input_shape = self._input_shape(inputs[0])
        self.shapes: dict[str, Shape] = {inputs[0]: self.input_shape}
        self.before: dict[str, list[str]] = {key: [] for key in graph.nodes}
        for start, end in dict.fromkeys((str(start), str(end)) for start, end in graph.edges):
            if start not in self.before or end not in self.before:
                raise ExportError(at(where, "edges", "names of nodes", f"{start} to {end}"))
            self.before[end].append(start)
        self.passed: dict[str, tuple[str, ...]] = {inputs[0]: (INPUT,)}  # what stands behind a node that only passes on

    def _input_shape(self, key: str) -> Shape:
        shape = next(iter(self.graph.nodes[key].input_type.values()))
        sizes = () if shape is None else tuple(int(size) for size in np.atleast_1d(shape))
        if len(sizes) not in (1, 3) or min(sizes) < 1:
            raise ExportError(at(self.where, key, "an input of shape (C, H, W) or (F,)", sizes))
        return sizes

    def nodes(self) -> dict[str, Node]:
        """The graph's layers as `assemble` wants them."""
        found: dict[str, Node] = {}
        for key in self._order():
            kind = type(self.graph.nodes[key]).__name__
            if kind in ("Input", "Output"):
                continue
            sources = [term for start in self.before[key] for term in self.passed[start]]
            if not sources:
                raise ExportError(at(self.where, key, "an edge that ends here", "none"))
            shape = self._shape_before(key)
            if kind == "Flatten":
                self.passed[key], self.shapes[key] = tuple(sources), (math.prod(shape),)
            elif kind in _INTEGRATORS:
                self._check_readout(key, kind)
                self.passed[key], self.shapes[key] = (), shape
            else:
                found[key] = self._node(key, kind, tuple(sources), shape)
                self.passed[key], self.shapes[key] = (key,), found[key].out_shape
        return found

    def _order(self) -> Iterable[str]:
        """The nodes in topological order, else in the file's. Raises ExportError for a cycle: a recurrent network."""
        left, done = list(self.graph.nodes), set[str]()
        while left:
            ready = [key for key in left if all(start in done for start in self.before[key])]
            if not ready:
                raise ExportError(at(self.where, ", ".join(left), "edges without a cycle", "recurrent connections"))
            yield from ready
            done.update(ready)
            left = [key for key in left if key not in done]

    def _shape_before(self, key: str) -> Shape:
        shapes = {start: self.shapes[start] for start in self.before[key]}
        first = next(iter(shapes.values()))
        for start, shape in shapes.items():
            if shape != first:
                raise ExportError(
                    at(self.where, key, f"inputs of one shape {list(first)}", f"{start} of {list(shape)}")
                )
        return first

    def _check_readout(self, key: str, kind: str) -> None:
        readers = [end for end, starts in self.before.items() if key in starts]
        others = [end for end in readers if type(self.graph.nodes[end]).__name__ != "Output"]
        if others:
            raise ExportError(at(self.where, key, f"a {kind} at the output only", f"{', '.join(others)} behind it"))

    def _node(self, key: str, kind: str, sources: tuple[str, ...], shape: Shape) -> Node:
        node = self.graph.nodes[key]
        if kind in _NEURONS:
            return Node(name=key, role="neuron", inputs=sources, in_shape=shape, out_shape=shape)
        if kind in _POOLS:
            geometry = self._geometry(key, node.kernel_size, node.stride, node.padding)
            return Node(
                name=key,
                role="pool",
                inputs=sources,
                in_shape=shape,
                out_shape=self._out(key, shape, shape[0], geometry),
                geometry=geometry,
            )
        if _WEIGHTS.get(kind) == "conv":
            return self._conv(key, node, sources, shape)
        if _WEIGHTS.get(kind) == "linear":
            weight = np.shape(node.weight)
            if len(weight) != 2 or weight[1] != math.prod(shape):
                raise ExportError(at(self.where, key, f"a weight (F, {math.prod(shape)})", weight))
            return Node(name=key, role="linear", inputs=sources, in_shape=(weight[1],), out_shape=(weight[0],))
        known = ", ".join((*_WEIGHTS, *_POOLS, "Flatten", *_NEURONS, *_INTEGRATORS))
        raise ExportError(at(self.where, key, f"one of {known}", kind))

    def _conv(self, key: str, node: Any, sources: tuple[str, ...], shape: Shape) -> Node:
        weight = np.shape(node.weight)
        if int(node.groups) != 1:
            raise ExportError(at(self.where, key, "groups 1: the machine reads all channels", int(node.groups)))
        if self._pair(node.dilation) != [1, 1]:
            wanted = "dilation 1: the machine's windows are dense"
            raise ExportError(at(self.where, key, wanted, self._pair(node.dilation)))
        if len(weight) != 4 or len(shape) != 3 or weight[1] != shape[0]:
            raise ExportError(at(self.where, key, f"a weight (C, {shape[0]}, kh, kw) of (C, H, W)", weight))
        geometry = self._geometry(key, weight[2:], node.stride, node.padding)
        return Node(
            name=key,
            role="conv",
            inputs=sources,
            in_shape=shape,
            out_shape=self._out(key, shape, weight[0], geometry),
            geometry=geometry,
        )

    def _pair(self, value: Any) -> list[int]:
        sizes = [int(size) for size in np.atleast_1d(value)]
        return sizes * 2 if len(sizes) == 1 else sizes

    def _geometry(self, key: str, kernel: Any, stride: Any, padding: Any) -> Geometry:
        sizes = self._pair(kernel)
        text = padding.decode() if isinstance(padding, bytes) else padding
        if isinstance(text, str):
            if text not in ("same", "valid") or (text == "same" and any(size % 2 == 0 for size in sizes)):
                wanted = "numbers, 'valid', or 'same' with an odd kernel, as padding"
                raise ExportError(at(self.where, key, wanted, f"{text!r} with kernel {sizes}"))
            padding = [size // 2 if text == "same" else 0 for size in sizes]
        return {"kernel": sizes, "stride": self._pair(stride), "padding": self._pair(padding)}

    def _out(self, key: str, shape: Shape, channels: int, geometry: Geometry) -> Shape:
        if len(shape) != 3:
            raise ExportError(at(self.where, key, "an input of shape (C, H, W)", list(shape)))
        sizes = zip(shape[1:], geometry["kernel"], geometry["stride"], geometry["padding"], strict=True)
        out = [(size + 2 * p - k) // s + 1 for size, k, s, p in sizes]
        if min(out) < 1:
            raise ExportError(at(self.where, key, "a window that fits its input", f"{geometry} on {list(shape)}"))
        return (int(channels), *out)
