"""Follows what a module reads back through the autograd graph: to other modules, maps of them, or the network input."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Any

import torch

from h2sim.export.accounts import REMEDY, unaccounted
from h2sim.export.graph import RESHAPES, Leaves, Marks, behind, inner, is_leaf, operation, out_shape
from h2sim.export.hooks import Recorded
from h2sim.export.layout import Extent
from h2sim.export.maps import Made, Map, Shape, Unknown, fraction_of, made_of, positive_of
from h2sim.export.obstacles import Obstacles, refusal
from h2sim.export.structure import INPUT

_JOINS = frozenset(("Stack", "Cat", "CopySlices"))
_ANOTHER = "a recurrent or skipped step, or one module at two places (give each place its own)"
_LABELS = {"mean": "mean_over_time", "add": "sum", "scale": "scaled", "gate": "dropout", "not": "not"}
_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Clone", "Alias")  # of a whole tensor
_RECTIFY = ("Relu", "Abs", "Sign")
_COUNTED = ("pool", "gate", "add", "concat", "upsample", "scale")
_BINARY = ("gate", "concat", "upsample", "and", "and_not")
_WANTED = "layers, the network input, and what pools, sums, gates make of them"
_LOOSE = "a parameter"  # of no recorded module
_OF_VALUES = "only of spikes: attention, which is planned, and gates by values are not yet there"
HOLE = "?"  # what a module reads that no map is: an obstacle has been noted


class Walker:
    """Finds out what every recorded module reads. maps: what stands between them, by name, each after its inputs.

    shape_of: the shape of one sample of what a module sends. The modules' edges keep the autograd graph alive.
    """

    def __init__(
        self,
        leaves: Leaves,
        marks: Marks,
        tags: Mapping[Any, str],
        modules: Mapping[str, Recorded],
        extent: Extent,
        shape_of: Callable[[str], Shape],
        obstacles: Obstacles,
        noted: Container[str] = (),
    ) -> None:
        """noted: operations, in lower case, that an obstacle has been noted of."""
        self._noted = noted
        self.maps: dict[str, Map] = {}
        self._leaves, self._marks, self._tags, self._modules = leaves, marks, tags, modules
        self._extent, self._shape_of, self._obstacles = extent, shape_of, obstacles
        self._held = {id(parameter) for found in modules.values() for parameter in found.module.parameters()}
        self.inputs: dict[str, list[torch.Tensor]] = {}  # the network input, by the module that was followed to it
        self._input_shape: Shape = ()
        self._known: dict[Any, str] = {}
        self._named: dict[Any, str] = {}
        self._draws: Counter[Any] = Counter()

    def source_of(self, found: Recorded) -> str:
        """What a module reads: a module, a map or INPUT. HOLE where it reads anything else, of which a note is made.

        So is where it reads something else at another timestep, as with a recurrent connection.
        """
        sources = [
            INPUT if edge.node is None else self._read(edge.node.next_functions[0][0], found) for edge in found.reads
        ]
        for source in sources[1:]:
            if source != sources[0] and HOLE not in (source, sources[0]):
                wanted = f"the same layers at every timestep ({sources[0]})"
                self._obstacles.add(refusal(found.path, "reads", wanted, f"{source}: {_ANOTHER}"))
                return HOLE
        return sources[0]

    def _read(self, node: Any, reader: Recorded) -> str:
        source = self._source(node, reader)
        if source != _LOOSE:
            return source
        (leaf,) = [found.variable for found in behind([node], self._marks.__contains__) if is_leaf(found)]
        name = self._leaves.name(leaf)
        got = name if " " in name else f"parameter {name!r}"
        self._obstacles.add(refusal(reader.path, "reads", _WANTED, got))
        return HOLE

    def shape(self, name: str) -> Shape:
        """The shape of one sample of a map, of what a module sends, or of the network input."""
        if name in self.maps:
            return self.maps[name].out_shape
        return self._input_shape if name in (INPUT, HOLE) else self._shape_of(name)

    def _source(self, node: Any, reader: Recorded) -> str:
        """The source behind a node. It uses a stack, not recursion: a step may be thousands of operations deep."""
        pending = [node]
        while pending:
            top = pending[-1]
            if top not in self._known:
                missing = [found for found in self._inside(top) if found not in self._known]
                if missing:
                    pending += missing[::-1]  # timesteps in their order, as the masks of a gate are
                    continue
                self._known[top] = self._combined(top, reader)
            pending.pop()
        return self._known[node]

    def _inside(self, node: Any) -> list[Any]:
        """The nodes that a node's value comes from; none for a recorded module's output or a leaf."""
        return [] if node in self._marks or is_leaf(node) else inner(node)

    def _combined(self, node: Any, reader: Recorded) -> str:
        try:
            if node in self._marks:
                return self._sent(node, reader)
            if is_leaf(node):
                return self._leaf(node, reader)
            sources = [self._known[found] for found in inner(node)]
            if HOLE in sources:
                return HOLE
            if _LOOSE in sources:
                if type(node).__name__ in RESHAPES:
                    return _LOOSE
                raise Unknown(f"the operation {operation(node)}")
            return self._operation(node, sources, reader)
        except Unknown as unknown:
            self._refuse(node, unknown, reader)
            return HOLE

    def _sent(self, node: Any, reader: Recorded) -> str:
        edge = self._marks.of(node)
        assert edge is not None
        found = self._modules.get(edge.path)
        if not edge.output:
            raise Unknown(f"a state inside {edge.path!r}", "read what the neuron sends")
        if found is not None and found.role.reason:
            return HOLE  # which has been noted
        if found is not None and found.role.readout is not None and found.role.readout.weight is None:
            raise Unknown(f"the membrane of {edge.path!r}, an integrator that sends no spikes")
        return edge.path

    def _leaf(self, node: Any, reader: Recorded) -> str:
        leaf = node.variable
        if self._leaves.is_input(leaf):
            self.inputs.setdefault(reader.path, []).append(leaf)
            self._input_shape = self._extent.sample(tuple(leaf.shape))
            return INPUT
        return _LOOSE

    def _operation(self, node: Any, sources: list[str], reader: Recorded) -> str:
        name, kind = operation(node), type(node).__name__
        if kind in RESHAPES:
            return sources[0]
        if name == "CopySlices":
            parts = list(dict.fromkeys(sources))
            return parts[0] if len(parts) == 1 else self._sum(node, parts)
        if name in _JOINS:
            return self._joined(node, sources)
        if name == "Add":
            return self._added(node, sources)
        if len(sources) == 2 and name == "Mul":
            return self._product(node, sources)
        if len(sources) != 1:
            raise Unknown(f"the operation {name}", _attention(name))
        shape = self.shape(sources[0])
        if name in _RECTIFY and self._is_counted(sources[0]):
            return self._rectified(node, sources[0], shape)
        for made in made_of(node, shape, self._extent):
            if made.in_shape is not None and made.in_shape != shape:
                raise Unknown(f"a {made.kind} over {made.in_shape} of {sources[0]}, which sends {shape}")
            sources = [self._interned(node, made, tuple(sources))]
        return sources[0]

    def _joined(self, node: Any, sources: list[str]) -> str:
        """All timesteps of one source, or a concatenation of channels."""
        if len(set(sources)) == 1 and not self._joins_channels(node, sources[0]):
            return sources[0]
        shapes = [self.shape(source) for source in sources]
        if not self._joins_channels(node, sources[0]):
            raise Unknown(f"a concatenation of {', '.join(dict.fromkeys(sources))} along other axes than channels")
        channels = sum(shape[0] for shape in shapes)
        return self._interned(node, Made("concat", (channels, *shapes[0][1:]), in_shape=shapes[0]), tuple(sources))

    def _joins_channels(self, node: Any, first: str) -> bool:
        if operation(node) != "Cat":
            return False
        axes = self._extent.axes(out_shape(inner(node)[0]), self.shape(first))
        dim = int(node._saved_dim)
        dim -= (1 << 64) * (dim >> 63)
        return axes is not None and axes[dim % len(axes)] in ("C", "F")

    def _added(self, node: Any, sources: list[str]) -> str:
        if len(sources) == 1:
            return sources[0]  # and a constant, which the check by value refuses
        if len(set(sources)) == 1:
            once = len(set(inner(node))) == 1
            hint = "double it by a factor: 2 * x" if once else "of timesteps, stack them and take the mean over time"
            raise Unknown(f"the sum of {' + '.join(sources)}", hint)
        if node._saved_alpha != 1:
            if node._saved_alpha <= 0:
                raise Unknown(f"a sum with alpha={node._saved_alpha}", "add with a factor above 0")
            factor = fraction_of(float(node._saved_alpha))
            made = Made("scale", self.shape(sources[1]), factor=factor)
            sources = [sources[0], self._interned(node, made, (sources[1],))]
        return self._sum(node, sources)

    def _sum(self, node: Any, sources: list[str]) -> str:
        shapes = [self.shape(source) for source in sources]
        if len({math.prod(shape) for shape in shapes}) > 1:
            raise Unknown(f"the sum of {' and '.join(map(str, shapes))}", "add maps of one shape")
        return self._interned(node, Made("add", max(shapes, key=len)), tuple(sources))

    def _rectified(self, node: Any, source: str, shape: Shape) -> str:
        """The sign of x >= 0, or x where its gradient passes only above 0."""
        if operation(node) == "Sign":
            return self._interned(node, Made("sign", shape), (source,))
        if source in self.maps and self.maps[source].label:
            return source
        return self._interned(node, positive_of(node, shape), (source,))

    def _product(self, node: Any, sources: list[str]) -> str:
        """a b, or a (1 - b), of spikes; or sign(x) |x|, as torch's LPPool2d has it."""
        kinds = [self.maps[source].kind if source in self.maps else "" for source in sources]
        if kinds[0] == "sign" and sources[1] in self.maps:
            size = self.maps[sources[1]]
            if size.label and size.inputs == self.maps[sources[0]].inputs:
                return size.name
        if kinds[0] == "not":
            sources, kinds = sources[::-1], kinds[::-1]
        op = "and_not" if kinds[1] == "not" else "and"
        a, b = sources[0], self.maps[sources[1]].inputs[0] if op == "and_not" else sources[1]
        if not (self._is_binary(a) and self._is_binary(b)):
            raise Unknown(f"a product of {a} and {b}", _OF_VALUES)
        shapes = [self.shape(a), self.shape(b)]
        if len({len(shape) for shape in shapes}) > 1:
            raise Unknown(f"a product of {shapes[0]} and {shapes[1]}")
        shape = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
        return self._interned(node, Made("add", shape, {"op": op}, in_shape=shapes[0]), (a, b))

    def _is_counted(self, name: str) -> bool:
        """Whether a map holds spikes or counts of them, by structure: no number below 0."""
        if name in self.maps:
            made = self.maps[name]
            return made.kind in _COUNTED and all(map(self._is_counted, made.inputs))
        return name != INPUT and self._modules[name].role.neuron is not None

    def _is_binary(self, name: str) -> bool:
        """Whether a map holds spikes, by structure."""
        if name in self.maps:
            made = self.maps[name]
            through = made.kind in _BINARY or made.entry.get("mode") == "max" or "op" in made.entry
            return through and all(map(self._is_binary, made.inputs))
        return name == INPUT or self._modules[name].role.neuron is not None

    def _interned(self, node: Any, made: Made, sources: tuple[str, ...]) -> str:
        """The name of a map: the same for the same operation on the same sources, at another timestep or twice."""
        tag = self._tags.get(node) if made.kind != "sign" else None  # of which no layer is made
        entry = tuple(sorted((key, str(value)) for key, value in made.entry.items()))
        drawn = (tag, self._draw(node)) if made.kind == "gate" and not made.label else None
        key = (made.kind, sources, entry, made.factor, made.out_shape, made.label, drawn)
        name = self._named.get(key)
        if name is None:
            name = self._named[key] = self._free(tag or f"{_base(sources[0])}.{_label(made)}")
            in_shape = made.in_shape or self.shape(sources[0])
            self.maps[name] = Map(name, made.kind, sources, in_shape, made.out_shape or in_shape, dict(made.entry),
                                  made.factor, not tag, label=made.label)  # fmt: skip
        if made.constant is not None:
            self.maps[name].factors.append(made.constant)
        return name

    def _draw(self, node: Any) -> int:
        """How many masks the tensor that a gate reads was multiplied by before: each is another gate's."""
        read = next(each for each in node.next_functions if each[0] is not None)
        while operation(read[0]) in _VIEWS and read[0] not in self._marks:
            read = read[0].next_functions[0]
        self._draws[read] += 1
        return self._draws[read] - 1

    def _free(self, name: str) -> str:
        unique, number = name, 2
        while unique in self.maps or unique in self._modules:
            unique, number = f"{name}-{number}", number + 1
        return unique

    def _refuse(self, node: Any, unknown: Unknown, reader: Recorded) -> None:
        """Notes an operation: by the parameters that it uses, if it uses any, else by the reader."""
        if operation(node).lower() in self._noted:
            return
        used = [found.variable for found in behind([node], self._marks.__contains__) if is_leaf(found)]
        loose = [leaf for leaf in used if not self._leaves.is_input(leaf) and id(leaf) not in self._held]
        if loose and not is_leaf(node):
            names = sorted(map(self._leaves.name, loose))
            got = f"{unknown.got} on the way to {reader.path!r}: {REMEDY}"
            self._obstacles.add(unaccounted(names, self._leaves, got))
            return
        got = f"{unknown.got} on the way"
        self._obstacles.add(refusal(reader.path, "reads", _WANTED, got, unknown.rewrite))


def _attention(name: str) -> str:
    return "attention between spikes is planned and not yet there" if name in ("Bmm", "Matmul", "Mm") else ""


def _base(source: str) -> str:
    return "input" if source == INPUT else source


def _label(made: Made) -> str:
    if made.kind == "pool":
        return {"max": "max_pool", "sum": "sum_pool"}.get(made.entry.get("mode", ""), "avg_pool")
    return str(made.label or made.entry.get("op") or _LABELS.get(made.kind, made.kind))
