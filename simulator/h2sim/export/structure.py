"""Makes the layers of a trace from modules and the maps between them, for the torch exporter and the NIR reader.

| nodes | layer |
|---|---|
| convolution or product, read by one neuron | `conv`, `fc` or `encode` (analog input) |
| convolution or product, read by anything else, or by nobody | the same, not spiking |
| pool or sum, read by one neuron | `pool`, `add` |
| pool, sum, gate, ... read by anything else | the same, not spiking |
| neuron that reads anything else, or what others read too | `pool` of one position: its average is its input |

A norm by fixed numbers and a factor belong to the weights before them; a norm by the statistics of the step belongs to
the layer before its neurons, or is a `norm` of its own. A product that reads the analog input is a convolution over
(F, 1, 1). A mean over time belongs to the last product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from h2sim.export.obstacles import Obstacles, refusal

INPUT = "the network input"  # as what a module reads; no module's path has a space
ONE_POSITION = {"kernel": [1, 1], "stride": [1, 1], "padding": [0, 0]}
_WEIGHTS = ("conv", "linear")
_POOLS = ("pool", "upsample")
_SCALABLE = (*_POOLS, "gate", "relu", "concat")  # f(c x) = c f(x) for c > 0
_MEANABLE = ("pool", "gate", "upsample", "scale")  # that a mean over time may stand in front of as well as behind
_FOLD = "put it directly behind a convolution or a linear layer, or train it"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A module or a map: its role, what it reads, and its shapes (C, H, W) or (F,).

    role: conv, linear, neuron, norm, or the kind of a map. entry: keys of a trace's layer. norm: of a norm by the
    statistics of the step, its entry; None of one by fixed numbers. rising: whether a fixed norm has no factor below 0.
    factor: of a gate or scale. implied: whether it is an operation that no module stands for.
    """

    name: str
    role: str
    inputs: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    entry: Mapping[str, Any] = field(default_factory=dict)
    norm: Mapping[str, Any] | None = None
    rising: bool = True
    factor: Fraction = Fraction(1)
    implied: bool = False


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A layer of the trace, and the nodes that it is made of.

    inputs: the layers that it reads; reads: the nodes that it reads. weights, map, neuron: its nodes. folded: fixed
    norms and factors of its weights, in their order, and behind: those behind maps of it. norms: those by the
    statistics of the step; then: factors behind them. last: the node whose value it gives to its neurons or passes on.
    mean: whether it reads the mean over time.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    reads: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    entry_keys: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    map: str | None = None
    neuron: str | None = None
    folded: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    last: str = ""
    mean: bool = False

    @property
    def spiking(self) -> bool:
        """Whether it ends in a neuron."""
        return self.neuron is not None

    @property
    def is_map(self) -> bool:
        """Whether it only makes one map out of others."""
        return self.neuron is None and self.weights is None

    def entry(self) -> dict[str, Any]:
        """The layer's entry in a trace's `layers`, without its neuron."""
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind, "inputs": list(self.inputs)}
        if self.kind == "fc":
            entry |= {"in_features": math.prod(self.in_shape), "out_features": math.prod(self.out_shape)}
        else:
            entry |= {"in_shape": list(self.in_shape), "out_shape": list(self.out_shape)}
        entry |= self.entry_keys
        if self.mean:
            entry["mean_over_time"] = True
        return entry if self.spiking or self.kind in _SILENT else {**entry, "spiking": False}


_SILENT = ("gate", "concat", "upsample", "relu", "norm")


def assemble(nodes: Mapping[str, Node], analog: bool, obstacles: Obstacles | None = None) -> tuple[Piece, ...]:
    """The layers that nodes make, in execution order, as nodes are. analog: the network input is.

    What fits no layer is put with obstacles, if they are given. Otherwise this raises ExportError, a line each.
    """
    found = Obstacles() if obstacles is None else obstacles
    pieces = _Assembly(nodes, analog, found).pieces()
    if obstacles is None:
        found.check()
    return pieces


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


def chw(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of one sample as (C, H, W)."""
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


class _Graph:
    """Nodes in execution order, and who reads them; a node can be taken out."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = dict(nodes)
        self.readers: dict[str, list[str]] = {name: [] for name in (INPUT, *nodes)}
        for node in nodes.values():
            for name in dict.fromkeys(node.inputs):
                self.readers[name].append(node.name)

    def role(self, name: str) -> str:
        return INPUT if name == INPUT else self.nodes[name].role

    def only(self, name: str, role: str) -> str | None:
        """The one reader of a node, if it has that role and reads nothing else."""
        readers = self.readers[name]
        if len(readers) == 1 and self.role(readers[0]) == role and len(self.nodes[readers[0]].inputs) == 1:
            return readers[0]
        return None

    def remove(self, name: str) -> None:
        """Takes a node of one input out; its readers then read that input."""
        node = self.nodes.pop(name)
        (source,) = node.inputs
        place = self.readers[source].index(name)
        self.readers[source][place : place + 1] = self.readers.pop(name)
        for reader in self.readers[source]:
            inputs = tuple(source if each == name else each for each in self.nodes[reader].inputs)
            self.nodes[reader] = replace(self.nodes[reader], inputs=inputs)

    def inline(self, name: str, reader: str) -> None:
        """Takes a sum out that one other sum reads: its terms become that one's."""
        node = self.nodes.pop(name)
        of = self.nodes[reader]
        inputs = tuple(each for source in of.inputs for each in (node.inputs if source == name else (source,)))
        self.nodes[reader] = replace(of, inputs=inputs)
        del self.readers[name]
        for source in node.inputs:
            place = self.readers[source].index(name)
            self.readers[source][place] = reader


class _Assembly:
    def __init__(self, nodes: Mapping[str, Node], analog: bool, obstacles: Obstacles) -> None:
        self.graph, self.analog, self.obstacles = _Graph(nodes), analog, obstacles
        self.entries = {name: node.norm for name, node in nodes.items() if node.norm is not None}  # of norms
        self.folded: dict[str, list[str]] = {}
        self.behind: dict[str, list[str]] = {}
        self.norms: dict[str, list[str]] = {}
        self.then: dict[str, list[str]] = {}
        self.meaned: set[str] = set()
        self.last: dict[str, str] = {}
        self.made: list[Piece] = []
        self.sent_by: dict[str, str] = {INPUT: "input"}  # node whose output a reader sees -> its layer
        self.taken: set[str] = set()

    def pieces(self) -> tuple[Piece, ...]:
        """The pieces in the order of their first nodes: every layer then comes after what it reads."""
        for simplify in (self._drop_unread, self._sums, self._means, self._fixed):
            simplify()
        build = {"conv": self._weights, "linear": self._weights, "neuron": self._neuron}
        for node in list(self.graph.nodes.values()):
            with self.obstacles.noted():
                build.get(node.role, self._map)(self.graph.nodes[node.name])
        if not self.made and not self.obstacles:
            raise refusal("model", "layers", "a neuron or a layer of weights", "none that was called")
        if self.obstacles:
            return ()
        return tuple(replace(piece, inputs=self._inputs(piece)) for piece in self.made)

    def _inputs(self, piece: Piece) -> tuple[str, ...]:
        names = [self.sent_by[read] for read in piece.reads]
        ordered = piece.entry_keys.get("op") or piece.kind == "concat"
        return tuple(names if ordered else sorted(names, key=lambda name: name != "input"))

    # what stands between is put where the format has a place for it

    def _drop_unread(self) -> None:
        """Maps that nothing reads belong to the read-out."""
        graph = self.graph
        for name, node in reversed(list(graph.nodes.items())):
            if graph.readers[name] or node.role in ("conv", "linear", "neuron", "norm"):
                continue
            for source in dict.fromkeys(node.inputs):
                graph.readers[source].remove(name)
            del graph.nodes[name], graph.readers[name]

    def _sums(self) -> None:
        graph = self.graph
        for name, node in list(graph.nodes.items()):
            reader = graph.readers[name][0] if len(graph.readers[name]) == 1 else None
            if not reader or not self._is_sum(node) or not self._is_sum(graph.nodes[reader]):
                continue
            if not set(node.inputs) & set(graph.nodes[reader].inputs):
                graph.inline(name, reader)

    @staticmethod
    def _is_sum(node: Node) -> bool:
        return node.role == "add" and "op" not in node.entry

    def _means(self) -> None:
        """A mean over time goes into the last product; what stands between may as well stand before the mean."""
        graph = self.graph
        for name, node in list(graph.nodes.items()):
            if node.role != "mean":
                continue
            with self.obstacles.noted():
                at = name
                while len(readers := graph.readers[at]) == 1 and self._is_meanable(graph.nodes[readers[0]]):
                    at = readers[0]
                last = graph.only(at, "linear")
                if last is None or graph.readers[last]:
                    got = f"one in front of {', '.join(graph.readers[at]) or 'nothing'}"
                    rewrite = "average behind the last neurons, in front of one linear layer"
                    raise refusal(name, "mean over time", "in front of the last product alone", got, rewrite)
                self.meaned.add(last)
            graph.remove(name)

    @staticmethod
    def _is_meanable(node: Node) -> bool:
        """Whether a mean over time may as well stand behind a map: a maximum of means is not the mean of maxima."""
        return node.role in _MEANABLE and node.entry.get("mode") != "max"

    def _fixed(self) -> None:
        """Norms and factors go to the weights, or the layer, before them."""
        for name in [n for n, node in self.graph.nodes.items() if node.role in ("norm", "scale")]:
            with self.obstacles.noted():
                self._place(self.graph.nodes[name])

    def _place(self, node: Node) -> None:
        (source,) = node.inputs
        alone, role = self.graph.readers[source] == [node.name], self.graph.role(source)
        if node.norm is not None:
            if alone and (role in _WEIGHTS or (role in ("pool", "add") and self._fires(node.name))):
                self._absorb(node, source, self.norms)
            return
        live = self.norms.get(source)
        if alone and live and node.role == "scale":
            self._absorb(node, source, self.then)
        elif alone and role in _WEIGHTS and not live:
            self._absorb(node, source, self.folded)
        elif alone and node.role == "scale" and role in ("gate", "scale"):
            first = self.graph.nodes[source]
            self.graph.nodes[source] = replace(first, factor=first.factor * node.factor)
            self.graph.remove(node.name)
            if role == "scale" and first.factor * node.factor == 1:
                self.graph.remove(source)
        elif (weights := self._through_maps(node)) is not None:
            self.behind.setdefault(weights, []).append(node.name)
            self.graph.remove(node.name)
        elif node.role == "norm":
            raise refusal(node.name, "batch norm", *self._misplaced(node, source), _FOLD)

    def _misplaced(self, node: Node, source: str) -> tuple[str, str]:
        others = [name for name in self.graph.readers[source] if name != node.name]
        if self.graph.role(source) in (*_WEIGHTS, *_SCALABLE) and others:
            return f"to be all that reads {source!r}", f"{', '.join(others)} as well"
        return "to follow a layer of weights, or to be trained", f"one by fixed numbers after {source}"

    def _absorb(self, node: Node, source: str, into: dict[str, list[str]]) -> None:
        into.setdefault(source, []).append(node.name)
        self.last[source] = node.name
        self.graph.remove(node.name)

    def _fires(self, name: str) -> bool:
        """Whether what a norm gives goes to one neuron alone, maybe by a factor."""
        while (factor := self.graph.only(name, "scale")) is not None:
            name = factor
        return self.graph.only(name, "neuron") is not None

    def _through_maps(self, node: Node) -> str | None:
        """The weights before maps that a fixed norm or a factor may as well stand in front of."""
        graph, name, reader = self.graph, node.inputs[0], node.name
        while graph.role(name) not in (*_WEIGHTS, INPUT) and graph.readers[name] == [reader]:
            before = graph.nodes[name]
            if len(before.inputs) != 1 or not self._commutes(before, node):
                return None
            name, reader = before.inputs[0], name
        if graph.role(name) not in _WEIGHTS or graph.readers[name] != [reader] or self.norms.get(name):
            return None
        return name if name != node.inputs[0] else None

    @staticmethod
    def _commutes(before: Node, node: Node) -> bool:
        if node.role == "scale":
            return before.role in _SCALABLE
        if before.role not in _POOLS:
            return False
        mode = before.entry.get("mode", "average")
        padded = any(before.entry.get("padding", (0, 0))) and before.entry.get("count_include_pad", True)
        plain = "divisor" not in before.entry and not padded
        return before.role == "upsample" or (mode == "max" and node.rising) or (mode == "average" and plain)

    # pieces

    def _weights(self, node: Node) -> None:
        (source,) = node.inputs
        neuron = self.graph.only(node.name, "neuron")
        kind = "conv" if node.role == "conv" else "fc"
        in_shape, out_shape, entry = node.in_shape, node.out_shape, node.entry
        if source == INPUT and self.analog:
            if kind == "fc":
                in_shape, out_shape, entry = chw(in_shape), chw(out_shape), ONE_POSITION
            kind = "encode"
        self._add(node, kind, neuron, in_shape, out_shape, entry, weights=node.name)

    def _map(self, node: Node) -> None:
        if node.name not in self.graph.nodes:
            return
        if node.role in ("not", "sign"):
            got = "1 - spikes" if node.role == "not" else "the sign of spikes"
            raise refusal(node.name, "map", "spikes, their maxima, sums, ...", got, "take it in a product only")
        kind, entry = node.role, dict(node.entry)
        if node.role in ("gate", "scale"):
            kind, entry["scale"] = "gate", [node.factor.numerator, node.factor.denominator]
        if node.role == "norm":
            entry["norm"] = dict(node.norm or {})
        neuron = self.graph.only(node.name, "neuron") if kind in ("pool", "add") and "op" not in entry else None
        self._add(node, kind, neuron, chw(node.in_shape), chw(node.out_shape), entry, map=node.name)

    def _neuron(self, node: Node) -> None:
        if node.name in self.sent_by:
            return  # part of the layer of what it reads
        shape = chw(node.out_shape)
        self._add(node, "pool", node.name, shape, shape, ONE_POSITION)

    def _add(
        self,
        node: Node,
        kind: str,
        neuron: str | None,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        entry: Mapping[str, Any],
        weights: str | None = None,
        map: str | None = None,
    ) -> None:
        norms = self.norms.get(node.name, [])
        of_norms = [dict(self.entries[name]) for name in norms]
        if of_norms:
            entry = {**entry, "norm": of_norms[0] if len(of_norms) == 1 else of_norms}
        piece = Piece(
            name=layer_name(neuron if neuron and node.implied else node.name, self.taken),
            kind=kind,
            reads=node.inputs,
            in_shape=in_shape,
            out_shape=out_shape,
            entry_keys=entry,
            weights=weights,
            map=map,
            neuron=neuron,
            folded=tuple(self.folded.get(node.name, ())),
            behind=tuple(self.behind.get(node.name, ())),
            norms=tuple(norms),
            then=tuple(self.then.get(node.name, ())),
            last=self.last.get(node.name, node.name),
            mean=node.name in self.meaned,
        )
        self.made.append(piece)
        self.sent_by[neuron or node.name] = piece.name
