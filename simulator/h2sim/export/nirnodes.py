"""Makes layers of the nodes of a NIR graph, read in an order in which each comes after what it reads."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from h2sim.errors import ExportError
from h2sim.export.nirfields import (
    Shape,
    check_dilation,
    check_neurons,
    convolution,
    factors,
    fault,
    geometry,
    input_shape,
    size_of,
    windows,
)
from h2sim.export.nirgraph import PASS, Flat
from h2sim.export.obstacles import Obstacles
from h2sim.export.structure import INPUT, Node, Piece, assemble

_NEURONS = ("LIF", "CubaLIF", "IF")
_INTEGRATORS = ("LI", "CubaLI", "I")
_LINEAR = ("Linear", "Affine")
_WEIGHTS = ("Conv2d", *_LINEAR)
_POOLS: dict[str, dict[str, str]] = {"AvgPool2d": {}, "SumPool2d": {"mode": "sum"}}
_KNOWN = (*_WEIGHTS, *_POOLS, "Flatten", "Scale", *_NEURONS, *_INTEGRATORS)
_SHIFTS = ("Delay", "Threshold")  # refused, but their output has the shape of their input
_REFUSED = {
    "Delay": ("no delays, which the machine does not have", "train without delays"),
    "Threshold": ("a neuron with a membrane, LIF, CubaLIF or IF", "write an integrator and its Threshold as one LIF"),
    "Conv1d": ("a convolution in two dimensions", "write it as a Conv2d over (C, L, 1)"),
    "NoneType": ("a node", "its exporter could not translate the module"),
}


@dataclass(frozen=True)
class _Sent:
    """What a node gives on: of which layer, map or INPUT; the shape that NIR gives it; the shape of that layer."""

    source: str
    shape: Shape
    held: Shape


class Reader:
    """Reads a graph's nodes and passes shapes along; what no trace can hold is put with obstacles."""

    def __init__(self, flat: Flat, obstacles: Obstacles) -> None:
        self.flat, self.obstacles = flat, obstacles
        self.nodes: dict[str, Node] = {}
        self.sent: dict[str, _Sent] = {}
        self.refused: set[str] = set()
        self.sums: dict[tuple[str, ...], str] = {}
        self.unfit: dict[str, str] = {}  # factors that must not be left as a layer of their own: why
        self.notes: list[str] = []
        self.input_shape: Shape = ()

    def pieces(self, analog: bool) -> tuple[Piece, ...]:
        """The layers; none if there are obstacles. analog: the network input is."""
        for key, kind in self.flat.kinds.items():
            try:
                self._check_alone(key, kind)
            except ExportError as error:
                self.obstacles.add(error)
                self.refused.add(key)
        ordered, looped = self.flat.order()
        if looped:
            wanted, rewrite = "edges without a cycle", "the machine only feeds forward"
            self.obstacles.add(fault(", ".join(looped), wanted, "recurrent connections", rewrite))
        for key in ordered:
            with self.obstacles.noted():
                self._read(key, self.flat.kinds[key])
        if self.obstacles:
            return ()
        with self.obstacles.noted():
            pieces = assemble(self.nodes, analog, self.obstacles)
            self._check_factors(pieces)
            return pieces
        return ()

    def _check_alone(self, key: str, kind: str) -> None:
        """Raises a Refusal for a node that no trace can hold, whatever it reads."""
        if kind in _REFUSED:
            wanted, rewrite = _REFUSED[kind]
            raise fault(key, wanted, "none" if kind == "NoneType" else f"a {kind}", rewrite)
        if kind not in (*_KNOWN, PASS, "Input", "Output"):
            raise fault(key, f"one of {', '.join(_KNOWN)}", kind)
        if kind == "Conv2d":
            check_dilation(key, self.flat.nodes[key])

    def _read(self, key: str, kind: str) -> None:
        if key == self.flat.input:
            self._read_input(key)
            return
        before = self.flat.before[key]
        if not before and kind != "Output":
            rewrite = "exporters lose edges at operations that no module stands for, as x.flatten(1)"
            raise fault(key, "an edge that ends here", "none", rewrite)
        if (
            kind == "Output"
            or (key in self.refused and kind not in _SHIFTS)
            or not all(start in self.sent for start in before)
        ):
            return  # what it reads has been refused
        sent = self._joined(key, kind, before)
        if kind in _INTEGRATORS:
            self.sent[key] = replace(sent, source=key)
        elif kind in (PASS, *_SHIFTS):
            self.sent[key] = sent
        elif kind == "Flatten":
            self.sent[key] = replace(sent, shape=(math.prod(sent.shape),))
        elif kind == "Scale":
            self.sent[key] = self._scaled(key, sent)
        elif kind in _KNOWN:
            self.nodes[key] = node = self._node(key, kind, sent)
            self.sent[key] = _Sent(key, sent.shape if kind in _NEURONS else node.out_shape, node.out_shape)

    def _read_input(self, key: str) -> None:
        node = self.flat.nodes[key]
        self.input_shape, batched = input_shape(key, node.input_type)
        self.sent[key] = _Sent(INPUT, self.input_shape, self.input_shape)
        if batched:
            self.notes.append(f"{key}: the batch of 1 in front of its shape is left out")

    def _joined(self, key: str, kind: str, before: list[str]) -> _Sent:
        """What a node reads: of several their sum, a map of its own."""
        found = {start: self.sent[start] for start in before}
        first, silent = found[before[0]], kind in (*_INTEGRATORS, *_SHIFTS)
        for start, sent in found.items():
            if sent.shape != first.shape:
                raise fault(key, f"inputs of one shape {list(first.shape)}", f"{start} of {list(sent.shape)}")
            if sent.held != first.held:
                wanted = f"inputs that are all {list(first.held)} before they are flattened"
                raise fault(key, wanted, f"{start} of {list(sent.held)}", "flatten behind the sum")
        sources = tuple(sent.source for sent in found.values())
        if silent or (len(sources) == 1 and kind in (PASS, "Flatten")):
            return first
        self._check_readouts(key, sources)
        if len(sources) == 1:
            return first
        if len(set(sources)) != len(sources):
            raise fault(key, "each input once", f"{' + '.join(sources)}", "double it by its weights")
        return replace(first, source=self._sum(key, tuple(sorted(sources)), first.held))

    def _sum(self, key: str, sources: tuple[str, ...], held: Shape) -> str:
        """The sum of several maps: one for all that read the same, named after the first of them."""
        if sources not in self.sums:
            self.sums[sources] = name = self._free(f"{key}.sum")
            self.nodes[name] = Node(name=name, role="add", inputs=sources, in_shape=held, out_shape=held, implied=True)
        return self.sums[sources]

    def _check_readouts(self, key: str, sources: Iterable[str]) -> None:
        for source in sources:
            kind = self.flat.kinds.get(source)
            if kind in _INTEGRATORS:
                rewrite = "let neurons fire in front of weights"
                raise fault(source, f"a {kind} at the output only", f"{key} behind it", rewrite)

    def _free(self, name: str) -> str:
        unique, number = name, 2
        while unique in self.flat.nodes or unique in self.nodes:
            unique, number = f"{name}-{number}", number + 1
        return unique

    def _node(self, key: str, kind: str, sent: _Sent) -> Node:
        node, shape, inputs = self.flat.nodes[key], sent.shape, (sent.source,)
        if kind in _NEURONS:
            check_neurons(key, node, shape)
            return Node(name=key, role="neuron", inputs=inputs, in_shape=sent.held, out_shape=sent.held)
        if kind in _POOLS:
            found = geometry(key, node.kernel_size, node.stride, node.padding)
            out = windows(key, shape, shape[0], found)
            return Node(
                name=key, role="pool", inputs=inputs, in_shape=shape, out_shape=out, entry={**found, **_POOLS[kind]}
            )
        if kind == "Conv2d":
            entry, out = convolution(key, node, shape)
            return Node(name=key, role="conv", inputs=inputs, in_shape=shape, out_shape=out, entry=entry)
        weight = size_of(key, "weight", node.weight)
        if len(weight) != 2 or weight[1] != math.prod(shape) or not weight[0]:
            raise fault(key, f"a weight (F, {math.prod(shape)})", weight)
        return Node(name=key, role="linear", inputs=inputs, in_shape=(weight[1],), out_shape=(weight[0],))

    # factors

    def _scaled(self, key: str, sent: _Sent) -> _Sent:
        """A factor that all its readers' weights can take needs no node; `assemble` finds a place for any other."""
        each, factor = factors(key, self.flat.nodes[key].scale, sent.shape)
        if each == "channel" and len(sent.shape) != len(sent.held):
            each = "element"
        weights = _LINEAR if each == "element" else _WEIGHTS
        readers = [(self.flat.kinds[reader], alone) for reader, alone in self.flat.readers(key)]
        if all((alone and kind in weights) or kind in ("Output", *_INTEGRATORS) for kind, alone in readers):
            return sent
        role = self.nodes[sent.source].role if sent.source in self.nodes else ""
        if each == "element" and role != "linear":
            wanted = "one factor, or one for each channel, that weights beside it can take"
            raise fault(key, wanted, "a factor for each position", "multiply the weights by it")
        if factor is None:
            self.unfit[key] = "a factor for each channel" if each != "one" else "one that is no number above 0"
        self.nodes[key] = Node(
            name=key, role="scale", inputs=(sent.source,), in_shape=sent.held, out_shape=sent.held,
            factor=factor or Fraction(1),
        )  # fmt: skip
        return replace(sent, source=key)

    def _check_factors(self, pieces: tuple[Piece, ...]) -> None:
        """Refuses factors that went to no weights and that no gate can have, and says which are gates."""
        for piece in pieces:
            if piece.map and piece.kind == "gate":
                self.notes.append(f"{piece.map}: a factor that no weights take, a gate that keeps everything")
            if piece.map in self.unfit:
                wanted = "one factor above 0, or weights beside it alone that can take it"
                self.obstacles.add(fault(piece.map, wanted, self.unfit[piece.map], "multiply the weights by it"))
