"""Makes the layers of a trace from modules and what each reads, for the torch exporter and the NIR reader.

| modules | layer |
|---|---|
| convolution or product, read by one neuron | `conv`, `fc` or `encode` (analog input) |
| convolution or product, read by a sum, a pool or nobody | the same, not spiking |
| average pool, read by one neuron | `pool` |
| neuron that reads a sum | `add` |
| neuron that reads another neuron, or weights that others read too | `pool` of one position: its average is its input |

Batch norm belongs to the weights before it. A product that reads an analog input is a convolution over (F, 1, 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from h2sim.errors import ExportError, at

INPUT = "the network input"  # as what a module reads; no module's path has a space
_WEIGHTS = ("conv", "linear")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A module: its role (one of roles.RoleName but 'identity'), what it reads, and its shapes (C, H, W) or (F,)."""

    name: str
    role: str
    inputs: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    geometry: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A layer of the trace, and the modules that it is made of.

    inputs: the layers that it reads; reads: the modules that it reads; weights, norms, pool, neuron: its modules.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    reads: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    geometry: Mapping[str, Any] | None = None
    weights: str | None = None
    norms: tuple[str, ...] = ()
    pool: str | None = None
    neuron: str | None = None

    @property
    def spiking(self) -> bool:
        """Whether it ends in a neuron."""
        return self.neuron is not None

    def entry(self) -> dict[str, Any]:
        """The layer's entry in a trace's `layers`, without its neuron."""
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind, "inputs": list(self.inputs)}
        if self.kind == "fc":
            entry |= {"in_features": math.prod(self.in_shape), "out_features": math.prod(self.out_shape)}
        else:
            entry |= {"in_shape": list(self.in_shape), "out_shape": list(self.out_shape), **(self.geometry or {})}
        return entry if self.spiking else {**entry, "spiking": False}


@dataclass(frozen=True)
class Structure:
    """The layers in execution order. ignored: average pools behind the last layer, which belong to the read-out."""

    pieces: tuple[Piece, ...]
    ignored: tuple[str, ...]


def assemble(nodes: Mapping[str, Node], analog: bool) -> Structure:
    """The layers that nodes make; nodes are in execution order. analog: the network input is not binary.

    Raises ExportError, which names the node that fits no layer and says why.
    """
    return _Assembly(nodes, analog).structure()


def layer_name(path: str, taken: set[str]) -> str:
    """A layer name, made of a module's path, that the format allows and that is not in `taken`; adds it there."""
    name = "".join("_" if c in "/\\" or not c.isprintable() else c for c in path)[:190] or "layer"
    if name in ("input", "meta"):
        name += "_"
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    taken.add(unique)
    return unique


def _chw(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


class _Assembly:
    def __init__(self, nodes: Mapping[str, Node], analog: bool) -> None:
        self.nodes, self.analog = nodes, analog
        self.readers: dict[str, list[str]] = {name: [] for name in (INPUT, *nodes)}
        for node in nodes.values():
            for name in node.inputs:
                self.readers[name].append(node.name)
        self.pieces: list[Piece] = []
        self.ignored: list[str] = []
        self.sent_by: dict[str, str] = {INPUT: "input"}  # module whose output a reader sees -> its layer
        self.taken: set[str] = set()

    def structure(self) -> Structure:
        """The pieces in the order of their first modules: every layer then comes after what it reads."""
        build = {"conv": self._weights, "linear": self._weights, "pool": self._pool, "neuron": self._neuron}
        for node in self.nodes.values():
            if node.role == "norm":
                self._check_norm(node)
            else:
                build[node.role](node)
        if not self.pieces:
            raise ExportError(at("model", "layers", "a neuron or a layer of weights", "none that was called"))
        named = [replace(piece, inputs=self._inputs(piece)) for piece in self.pieces]
        return Structure(tuple(named), tuple(self.ignored))

    def _inputs(self, piece: Piece) -> tuple[str, ...]:
        names = [self.sent_by[self._base(read)] for read in piece.reads]
        return tuple(sorted(names, key=lambda name: name != "input"))

    def _base(self, name: str) -> str:
        """The module that batch norms follow, if `name` is one of them; else `name`."""
        while name != INPUT and self.nodes[name].role == "norm":
            name = self.nodes[name].inputs[0]
        return name

    def _role(self, name: str) -> str:
        return INPUT if name == INPUT else self.nodes[name].role

    def _chain(self, name: str) -> tuple[tuple[str, ...], list[str]]:
        """The batch norms behind a module, and the modules that read the last of them (or the module itself)."""
        norms: list[str] = []
        readers = self.readers[name]
        while len(readers) == 1 and self.nodes[readers[0]].role == "norm":
            norms.append(readers[0])
            readers = self.readers[readers[0]]
        return tuple(norms), readers

    def _check_norm(self, node: Node) -> None:
        if len(node.inputs) != 1 or self._role(self._base(node.inputs[0])) not in (*_WEIGHTS, "pool"):
            got = " + ".join(node.inputs)
            raise ExportError(at(node.name, "batch norm", "to follow a layer of weights or a pool", f"it after {got}"))
        if self.readers[node.inputs[0]] != [node.name]:
            others = ", ".join(name for name in self.readers[node.inputs[0]] if name != node.name)
            wanted = f"to be all that reads {node.inputs[0]!r}"
            raise ExportError(at(node.name, "batch norm", wanted, f"{others} as well"))

    def _one_source(self, node: Node, what: str) -> str:
        if len(node.inputs) != 1:
            sum_of = " + ".join(node.inputs)
            raise ExportError(at(node.name, what, "one input", f"the sum of {sum_of}, which is not binary"))
        return node.inputs[0]

    def _lone_neuron(self, readers: list[str]) -> str | None:
        """The neuron that is the only reader, if it reads nothing else."""
        if len(readers) == 1 and self._role(readers[0]) == "neuron" and len(self.nodes[readers[0]].inputs) == 1:
            return readers[0]
        return None

    def _weights(self, node: Node) -> None:
        source = self._one_source(node, "inputs")
        role = self._role(self._base(source))
        if role == "pool":
            raise ExportError(at(node.name, "inputs", "spikes", f"averages of {source!r}, no neuron between"))
        if role in _WEIGHTS:
            raise ExportError(at(node.name, "inputs", "spikes", f"currents of {source!r}, no neuron between"))
        norms, readers = self._chain(node.name)
        neuron = self._lone_neuron(readers)
        kind = "conv" if node.role == "conv" else "fc"
        in_shape, out_shape, geometry = node.in_shape, node.out_shape, node.geometry
        if source == INPUT and self.analog:
            if kind == "fc":
                in_shape, out_shape = _chw(in_shape), _chw(out_shape)
                geometry = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0]}
            kind = "encode"
        self._add(
            Piece(
                name=layer_name(node.name, self.taken),
                kind=kind,
                inputs=(),
                reads=(source,),
                in_shape=in_shape,
                out_shape=out_shape,
                geometry=geometry,
                weights=node.name,
                norms=norms,
                pool=None,
                neuron=neuron,
            ),
            neuron or node.name,
        )

    def _pool(self, node: Node) -> None:
        norms, readers = self._chain(node.name)
        if not readers:
            if norms:
                wanted = "to follow a layer of weights where nothing reads it"
                raise ExportError(at(norms[0], "batch norm", wanted, f"it after the average pool {node.name!r}"))
            self.ignored.append(node.name)
            return
        neuron = self._lone_neuron(readers)
        if neuron is None:
            got = f"averages that go on to {', '.join(readers)} without a neuron of their own"
            raise ExportError(at(node.name, "average pool", "one neuron behind it", got))
        source = self._one_source(node, "average pool")
        if self._role(self._base(source)) == "pool":
            raise ExportError(at(node.name, "average pool", "spikes or currents", f"averages of {source!r}"))
        if norms and self._role(self._base(source)) not in _WEIGHTS:
            raise ExportError(
                at(norms[0], "batch norm", "weights to be folded into", f"averages of spikes of {source!r}")
            )
        self._check_not_analog(node, source)
        self._add(
            Piece(
                name=layer_name(node.name, self.taken),
                kind="pool",
                inputs=(),
                reads=(source,),
                in_shape=_chw(node.in_shape),
                out_shape=_chw(node.out_shape),
                geometry=node.geometry,
                weights=None,
                norms=norms,
                pool=node.name,
                neuron=neuron,
            ),
            neuron,
        )

    def _check_not_analog(self, node: Node, source: str) -> None:
        if source == INPUT and self.analog:
            wanted = "a layer of weights to read the analog input"
            raise ExportError(at(node.name, node.role, wanted, "it read directly: encode it before the model"))

    def _neuron(self, node: Node) -> None:
        if node.name in self.sent_by:
            return  # part of the layer of the module that it reads
        if len(node.inputs) != 1:
            for source in node.inputs:
                self._check_term(node, source)
            self._add_neuron(node, "add", None)
            return
        self._check_not_analog(node, node.inputs[0])
        if self._role(self._base(node.inputs[0])) == "pool":
            raise ExportError(at(node.name, "inputs", f"{node.inputs[0]!r} for itself", "a pool that others read too"))
        self._add_neuron(node, "pool", {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0]})

    def _check_term(self, node: Node, source: str) -> None:
        self._check_not_analog(node, source)
        if self._role(self._base(source)) == "pool":
            raise ExportError(at(node.name, "sum", "spikes and currents", f"averages of {source!r}"))

    def _add_neuron(self, node: Node, kind: str, geometry: dict[str, list[int]] | None) -> None:
        shape = _chw(node.out_shape)
        name = layer_name(node.name, self.taken)
        self._add(
            Piece(
                name=name,
                kind=kind,
                inputs=(),
                reads=node.inputs,
                in_shape=shape,
                out_shape=shape,
                geometry=geometry,
                neuron=node.name,
            ),
            node.name,
        )

    def _add(self, piece: Piece, sends: str) -> None:
        self.pieces.append(piece)
        self.sent_by[sends] = piece.name
