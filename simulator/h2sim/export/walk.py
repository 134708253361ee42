"""Follows a module's input back through the autograd graph to what it reads: modules, or the network input."""

from __future__ import annotations

from typing import Any

from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export.hooks import Recorded, Recorder
from h2sim.export.structure import INPUT

_RESHAPES = frozenset(
    f"{name}Backward{number}"
    for name in (
        "View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Squeeze", "Unsqueeze", "Select", "Slice",
        "Unbind", "Expand", "Repeat", "Clone", "Alias", "Split", "SplitWithSizes", "ToCopy", "Index", "Flip",
    )
    for number in range(4)
)  # fmt: skip
_JOINS = frozenset(("StackBackward0", "CatBackward0", "CopySlices"))

Terms = tuple[str, ...]


class Walker:
    """Finds out what every recorded module reads. The modules' edges keep the autograd graph alive meanwhile."""

    def __init__(self, model: nn.Module, recorder: Recorder) -> None:
        self._recorder = recorder
        self._parameters = {id(parameter): name for name, parameter in model.named_parameters()}
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
                raise ExportError(at(found.path, "reads", wanted, f"{_listed(terms)}: a recurrent or skipped step"))
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
        if hasattr(node, "edge") or type(node).__name__ == "AccumulateGrad":
            return []
        name = type(node).__name__
        if name == "AddBackward0" and node._saved_alpha != 1:
            raise ExportError(at(reader.path, "reads", "a plain sum", f"one with alpha={node._saved_alpha}"))
        if name not in _RESHAPES and name not in _JOINS and name != "AddBackward0":
            wanted = "layers, sums of them and changes of shape only"
            raise ExportError(at(reader.path, "reads", wanted, f"{_operation(name)} on the way"))
        return [inner for inner, _ in node.next_functions if inner is not None]

    def _combined(self, node: Any, reader: Recorded) -> Terms:
        if hasattr(node, "edge"):
            if not node.edge.output:
                wanted = "what layers send"
                raise ExportError(at(reader.path, "reads", wanted, f"a state inside {node.edge.path!r}"))
            return (node.edge.path,)
        name = type(node).__name__
        if name == "AccumulateGrad":
            parameter = self._parameters.get(id(node.variable))
            if parameter is not None:
                raise ExportError(at(reader.path, "reads", "layers or the network input", f"parameter {parameter!r}"))
            return (INPUT,)
        parts = [self._known[inner] for inner in self._inner(node, reader)]
        if name == "AddBackward0":
            return tuple(term for part in parts for term in part)
        if any(set(part) != set(parts[0]) for part in parts[1:]):
            shown = " and ".join(_listed(part) for part in dict.fromkeys(parts))
            raise ExportError(at(reader.path, "reads", "one layer or a sum of layers", f"a concatenation of {shown}"))
        return parts[0]


def _operation(name: str) -> str:
    return f"the operation {name.rstrip('0123456789').removesuffix('Backward')}"


def _listed(terms: Terms) -> str:
    return " + ".join(terms)
