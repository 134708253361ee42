"""A network's structure from a NIR graph (nir 1.0, Neural Intermediate Representation): layers without data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import nir
import numpy as np

from h2sim.errors import ExportError, NetworkError, at
from h2sim.export.nirfile import read_graph
from h2sim.export.structure import INPUT, Node, assemble
from h2sim.io.faults import show
from h2sim.trace import Network, check_layers
from h2sim.trace.model import MOST_LAYERS, MOST_NEURONS

_NEURONS = ("LIF", "CubaLIF", "IF")
_INTEGRATORS = ("LI", "CubaLI", "I")
_WEIGHTS = {"Conv2d": "conv", "Linear": "linear", "Affine": "linear"}
_POOLS = ("AvgPool2d", "SumPool2d")
MOST_EXTENT = 65536
MOST_NODES = 4 * MOST_LAYERS
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
    neuron must then be divided by the pool's size, and the network's `source` says so, as it does of an input's batch
    dimension of 1, which NIR has not and exporters write. Raises ExportError, which names the node that a trace cannot
    hold and says why.
    """
    where = str(graph) if isinstance(graph, str | Path) else "NIR graph"
    if input_kind not in ("spikes", "analog"):
        raise ExportError(at(where, "input_kind", "'spikes' or 'analog'", show(input_kind)))
    (steps,) = _integers(where, "timesteps", timesteps, (1,), 1, MOST_EXTENT)
    found = _read(graph, where) if isinstance(graph, str | Path) else graph
    if not isinstance(found, nir.NIRGraph):
        raise ExportError(at(where, "graph", "a nir.NIRGraph or a file's name", type(found).__name__))
    reader = _Reader(found, where)
    nodes = reader.nodes()
    pieces = assemble(nodes, input_kind == "analog")
    summed = [key for key in nodes if type(found.nodes[key]).__name__ == "SumPool2d"]
    source = f"NIR graph {where}" if isinstance(graph, str | Path) else where
    for key in summed:
        source += f"; {key} sums: its neuron's threshold and window are to be divided by the window's size"
    if reader.batched:
        source += f"; {reader.batched}: the batch of 1 in front of its shape is left out"
    default = Path(where).stem if isinstance(graph, str | Path) else "nir"
    layers = tuple(piece.entry() for piece in pieces)
    _checked(layers, where)
    channels, height, width = reader.input_shape if len(reader.input_shape) == 3 else (*reader.input_shape, 1, 1)
    return Network(
        name=name or default,
        input_shape=(channels, height, width),
        input_kind=input_kind,
        timesteps=steps,
        layers=layers,
        source=source,
    )


def _read(path: str | Path, where: str) -> nir.NIRGraph:
    try:
        return read_graph(path)
    except Exception as error:  # damage can make h5py and nir raise any
        text = str(getattr(error, "strerror", None) or error)
        reason = " ".join(text.split())[:200] or type(error).__name__
        raise ExportError(at(where, "file", "a NIR graph in HDF5", reason)) from None


def _checked(layers: tuple[dict[str, Any], ...], where: str) -> None:
    """Raises ExportError unless a trace can hold these layers: extents, sizes and the number of layers."""
    try:
        check_layers(list(layers), where)
    except NetworkError as error:
        raise ExportError(*error.args) from None


def _integers(where: str, what: str, value: Any, shape: Shape, least: int, most: int) -> tuple[int, ...]:
    """The whole numbers in a value of this shape. Raises ExportError for any other value."""
    wanted = f"{'a whole number' if shape == (1,) else f'{shape[0]} whole numbers'} from {least} to {most}"
    try:
        found = np.atleast_1d(np.asarray(value)).reshape(shape)
        whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and bool((found == np.floor(found)).all()))
        numbers = tuple(int(number) for number in found) if whole else ()
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if not numbers or not all(least <= number <= most for number in numbers):
        raise ExportError(at(where, what, wanted, show(value.tolist() if isinstance(value, np.ndarray) else value)))
    return numbers


class _Reader:
    """Reads a graph's nodes in an order in which each comes after what it reads, and passes shapes along."""

    def __init__(self, graph: nir.NIRGraph, where: str) -> None:
        self.graph, self.where = graph, where
        inputs = [key for key, node in graph.nodes.items() if type(node).__name__ == "Input"]
        if len(inputs) != 1:
            raise ExportError(at(where, "Input", "one node", len(inputs)))
        if len(graph.nodes) > MOST_NODES:
            raise ExportError(at(where, "nodes", f"at most {MOST_NODES}", len(graph.nodes)))
        if INPUT in graph.nodes:
            raise ExportError(at(where, INPUT, "another name of a node", "this one, which stands for the input"))
        self.batched = ""  # the input, if its shape begins with a batch of 1
        self.input_shape = self._input_shape(inputs[0])
        self.shapes: dict[str, Shape] = {inputs[0]: self.input_shape}
        self.before: dict[str, list[str]] = {key: [] for key in graph.nodes}
        for start, end in self._edges():
            if start not in self.before or end not in self.before:
                raise ExportError(at(where, "edges", "names of nodes", f"{start} to {end}"))
            if type(graph.nodes[start]).__name__ == "Output" or end == inputs[0]:
                raise ExportError(at(where, "edges", "none from an Output or to the Input", f"{start} to {end}"))
            self.before[end].append(start)
        self.passed: dict[str, tuple[str, ...]] = {inputs[0]: (INPUT,)}  # what stands behind a node that only passes on

    def _edges(self) -> Iterable[tuple[str, str]]:
        try:
            return dict.fromkeys((str(start), str(end)) for start, end in self.graph.edges)
        except (TypeError, ValueError):
            raise ExportError(at(self.where, "edges", "pairs of names", show(self.graph.edges))) from None

    def _input_shape(self, key: str) -> Shape:
        stated = self.graph.nodes[key].input_type
        shape = next(iter(stated.values()), None) if isinstance(stated, dict) else stated
        listed: list[Any] = [] if shape is None else np.atleast_1d(np.asarray(shape, object)).tolist()
        sizes: Shape = np.shape(np.asarray(listed, object)) if listed else ()
        if sizes in ((2,), (4,)) and listed[0] == 1:  # no other reading of (1, F) and (1, C, H, W)
            shape, sizes, self.batched = listed[1:], (len(listed) - 1,), key
        if len(sizes) != 1 or sizes[0] not in (1, 3):
            got = show(shape.tolist() if isinstance(shape, np.ndarray) else shape)
            raise ExportError(at(self.where, key, "an input of shape (C, H, W) or (F,), without a batch", got))
        most = MOST_NEURONS if sizes[0] == 1 else MOST_EXTENT
        return _integers(self.where, f"{key}: input of shape (C, H, W) or (F,)", shape, sizes, 1, most)

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
        place = {key: number for number, key in enumerate(self.graph.nodes)}
        after: dict[str, list[str]] = {key: [] for key in place}
        missing = {key: len(starts) for key, starts in self.before.items()}
        for end, starts in self.before.items():
            for start in starts:
                after[start].append(end)
        ready = [key for key, count in missing.items() if not count]
        while ready:
            yield from ready
            ended = [end for key in ready for end in after[key]]
            for end in ended:
                missing[end] -= 1
            ready = sorted({end for end in ended if not missing[end]}, key=place.__getitem__)
        if left := [key for key, count in missing.items() if count]:
            raise ExportError(at(self.where, ", ".join(left), "edges without a cycle", "recurrent connections"))

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
            self._check_neurons(key, node, shape)
            return Node(name=key, role="neuron", inputs=sources, in_shape=shape, out_shape=shape)
        if kind in _POOLS:
            geometry = self._geometry(key, node.kernel_size, node.stride, node.padding)
            return Node(
                name=key,
                role="pool",
                inputs=sources,
                in_shape=shape,
                out_shape=self._out(key, shape, shape[0], geometry),
                entry=geometry,
            )
        if _WEIGHTS.get(kind) == "conv":
            return self._conv(key, node, sources, shape)
        if _WEIGHTS.get(kind) == "linear":
            weight = self._weight_shape(key, node)
            if len(weight) != 2 or weight[1] != math.prod(shape) or not weight[0]:
                raise ExportError(at(self.where, key, f"a weight (F, {math.prod(shape)})", weight))
            return Node(name=key, role="linear", inputs=sources, in_shape=(weight[1],), out_shape=(weight[0],))
        known = ", ".join((*_WEIGHTS, *_POOLS, "Flatten", *_NEURONS, *_INTEGRATORS))
        raise ExportError(at(self.where, key, f"one of {known}", kind))

    def _conv(self, key: str, node: Any, sources: tuple[str, ...], shape: Shape) -> Node:
        weight = self._weight_shape(key, node)
        (groups,) = _integers(self.where, f"{key}: groups", node.groups, (1,), 1, MOST_EXTENT)
        dilation = self._pair(key, "dilation", node.dilation, 1)
        if dilation != [1, 1]:
            wanted = "dilation 1: the machine's windows are dense"
            raise ExportError(at(self.where, key, wanted, dilation))
        if len(shape) == 3 and (shape[0] % groups or (weight and weight[0] % groups)):
            raise ExportError(at(self.where, key, f"groups that divide {shape[0]} and {weight[0]} channels", groups))
        if len(weight) != 4 or len(shape) != 3 or weight[1] != shape[0] // groups or not weight[0]:
            raise ExportError(at(self.where, key, f"a weight (C, {shape[0] // groups}, kh, kw) of (C, H, W)", weight))
        if node.input_shape is not None and self._pair(key, "input_shape", node.input_shape, 1) != list(shape[1:]):
            raise ExportError(at(self.where, key, f"an input_shape of {list(shape[1:])}", show(node.input_shape)))
        geometry = self._geometry(key, weight[2:], node.stride, node.padding)
        return Node(
            name=key,
            role="conv",
            inputs=sources,
            in_shape=shape,
            out_shape=self._out(key, shape, weight[0], geometry),
            entry={**geometry, "groups": groups} if groups > 1 else geometry,
        )

    def _check_neurons(self, key: str, node: Any, shape: Shape) -> None:
        """Raises ExportError unless there is a threshold for each neuron, each channel, or for all of them."""
        found = self._shape(f"{key}: v_threshold", node.v_threshold)
        own = found[len(found) - len(shape) :] if len(found) > len(shape) else found
        one_each = all(size in (1, wanted) for size, wanted in zip(own[::-1], shape[::-1], strict=False))
        if (not one_each and own != shape[:1]) or math.prod(found[: len(found) - len(own)]) != 1:
            raise ExportError(at(self.where, key, f"neurons of shape {list(shape)}", list(found)))

    def _shape(self, what: str, value: Any) -> Shape:
        try:
            return tuple(int(size) for size in np.shape(value))
        except ValueError:
            raise ExportError(at(self.where, what, "an array", "lists of several lengths")) from None

    def _weight_shape(self, key: str, node: Any) -> Shape:
        return self._shape(f"{key}: weight", node.weight)

    def _pair(self, key: str, what: str, value: Any, least: int) -> list[int]:
        n_values = math.prod(self._shape(f"{key}: {what}", value))
        both = _integers(self.where, f"{key}: {what}", value, (1,) if n_values == 1 else (2,), least, MOST_EXTENT)
        return list(both * 2 if len(both) == 1 else both)

    def _geometry(self, key: str, kernel: Any, stride: Any, padding: Any) -> Geometry:
        sizes = self._pair(key, "kernel", kernel, 1)
        text = padding.decode("latin1") if isinstance(padding, bytes) else padding
        if isinstance(text, str):
            if text not in ("same", "valid") or (text == "same" and any(size % 2 == 0 for size in sizes)):
                wanted = "numbers, 'valid', or 'same' with an odd kernel, as padding"
                raise ExportError(at(self.where, key, wanted, f"{show(text)} with kernel {sizes}"))
            padding = [size // 2 if text == "same" else 0 for size in sizes]
        strides, paddings = self._pair(key, "stride", stride, 1), self._pair(key, "padding", padding, 0)
        return {"kernel": sizes, "stride": strides, "padding": paddings}

    def _out(self, key: str, shape: Shape, channels: int, geometry: Geometry) -> Shape:
        if len(shape) != 3:
            raise ExportError(at(self.where, key, "an input of shape (C, H, W)", list(shape)))
        sizes = zip(shape[1:], geometry["kernel"], geometry["stride"], geometry["padding"], strict=True)
        out = [(size + 2 * p - k) // s + 1 for size, k, s, p in sizes]
        if min(out) < 1 or max(out) > MOST_EXTENT:
            raise ExportError(at(self.where, key, "a window that fits its input", f"{geometry} on {list(shape)}"))
        return (int(channels), *out)
