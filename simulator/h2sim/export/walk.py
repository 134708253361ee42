"""Follows a module's input back through the autograd graph to what it reads: modules, or the network input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from h2sim.errors import ExportError, at
from h2sim.export.accounts import REMEDY, unaccounted
from h2sim.export.graph import RESHAPES, Leaves, behind, inner, is_leaf, is_mark, operation
from h2sim.export.hooks import Recorded
from h2sim.export.structure import INPUT

_JOINS = frozenset(("StackBackward0", "CatBackward0", "CopySlices"))
_ANOTHER = "a recurrent or skipped step, or one module at two places (give each place its own)"
_IN_PLACE = "an in-place change of a part (write y = y + a instead of y += a)"
_HINTS = {
    "AsStrided": "an in-place change of a reshaped tensor: write y = y + a instead of y += a",
    "Mean": "an average over time, channels or space is no layer: average behind the last weights",
    "Sum": "a sum over time, channels or space is no layer: sum behind the last weights",
    "Mul": "the machine reads spikes as they are: no scale, gate, product or dropout in training",
    "NativeDropout": "dropout in training: set p = 0",
    "MaxPool2DWithIndices": "max pooling: the machine pools by averaging, with a neuron behind",
    "AvgPool2D": "call it as the module nn.AvgPool2d, with a neuron behind",
    "AdaptiveAvgPool2D": "call it as the module nn.AdaptiveAvgPool2d, with a neuron behind",
    "NativeBatchNorm": "call it as the module nn.BatchNorm2d",
}

Terms = tuple[str, ...]


class Walker:
    """Finds out what every recorded module reads. The modules' edges keep the autograd graph alive meanwhile."""

    def __init__(self, leaves: Leaves, modules: Iterable[Recorded]) -> None:
        self._leaves = leaves
        self._held = {id(parameter) for found in modules for parameter in found.module.parameters()}
        self._known: dict[Any, Terms] = {}

    def inputs_of(self, found: Recorded) -> Terms:
        """The paths of the modules whose sum the module reads, a single one if it reads no sum; INPUT is the input.

        Raises ExportError, which names the module and the operation, where it reads anything else, or where it reads
        other modules at another timestep, as with a recurrent connection.
        """
        all_terms = [self._terms(edge.node.next_functions[0][0], found) for edge in found.reads]
        first = all_terms[0]
        for terms in all_terms[1:]:
            if set(terms) != set(first):
                wanted = f"the same layers at every timestep ({_listed(first)})"
                raise ExportError(at(found.path, "reads", wanted, f"{_listed(terms)}: {_ANOTHER}"))
        if len(set(first)) != len(first):
            raise ExportError(at(found.path, "reads", "each layer once", f"the sum of {_listed(first)}"))
        return first

    def _terms(self, node: Any, reader: Recorded) -> Terms:
        """The terms behind a node. It uses a stack, not recursion: a step may be thousands of operations deep."""
        pending = [node]
        while pending:
            top = pending[-1]
            if top not in self._known:
                missing = [inner for inner in self._inner(top, reader) if inner not in self._known]
                if missing:
                    pending += missing
                    continue
                self._known[top] = self._combined(top, reader)
            pending.pop()
        return self._known[node]

    def _inner(self, node: Any, reader: Recorded) -> list[Any]:
        """The nodes that a node's value comes from, none for a recorded module's output or a leaf."""
        if is_mark(node) or is_leaf(node):
            return []
        name = type(node).__name__
        if name == "AddBackward0" and node._saved_alpha != 1:
            raise ExportError(at(reader.path, "reads", "a plain sum", f"one with alpha={node._saved_alpha}"))
        if name not in RESHAPES and name not in _JOINS and name != "AddBackward0":
            raise self._refused(node, reader)
        return inner(node)

    def _refused(self, node: Any, reader: Recorded) -> ExportError:
        """The refusal of an operation: by the parameters that it uses, if it uses any, else by the reader."""
        got = f"the operation {operation(node)} on the way"
        used = [found.variable for found in behind([node]) if is_leaf(found)]
        loose = [leaf for leaf in used if not self._leaves.is_input(leaf) and id(leaf) not in self._held]
        if loose:
            return unaccounted(
                sorted(map(self._leaves.name, loose)), self._leaves, f"{got} to {reader.path!r}: {REMEDY}"
            )
        hint = _HINTS.get(operation(node))
        wanted = "layers, sums of them and changes of shape only"
        return ExportError(at(reader.path, "reads", wanted, f"{got} ({hint})" if hint else got))

    def _combined(self, node: Any, reader: Recorded) -> Terms:
        if is_mark(node):
            if not node.edge.output:
                wanted = "what layers send"
                raise ExportError(at(reader.path, "reads", wanted, f"a state inside {node.edge.path!r}"))
            return (node.edge.path,)
        if is_leaf(node):
            if self._leaves.is_input(node.variable):
                return (INPUT,)
            name = self._leaves.name(node.variable)
            got = name if " " in name else f"parameter {name!r}"
            raise ExportError(at(reader.path, "reads", "layers or the network input", got))
        parts = [self._known[found] for found in self._inner(node, reader)]
        if type(node).__name__ == "AddBackward0":
            return tuple(term for part in parts for term in part)
        if any(set(part) != set(parts[0]) for part in parts[1:]):
            shown = " and ".join(_listed(part) for part in dict.fromkeys(parts))
            how = _IN_PLACE if type(node).__name__ == "CopySlices" else "a concatenation"
            raise ExportError(at(reader.path, "reads", "one layer or a sum of layers", f"{how} of {shown}"))
        return parts[0]


def _listed(terms: Terms) -> str:
    return " + ".join(terms)
