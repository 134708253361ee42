"""Autograd's graph as the exporter reads it: what lies behind a node, what was recorded there, what its leaves are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from h2sim.export.hooks import Edge

RESHAPES = frozenset(
    f"{name}Backward{number}"
    for name in (
        "View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Squeeze", "Unsqueeze", "Select", "Slice",
        "Unbind", "Expand", "Repeat", "Clone", "Alias", "Split", "SplitWithSizes", "ToCopy", "Index", "Flip",
        "AsStrided",
    )
    for number in range(4)
)  # fmt: skip


def is_leaf(node: Any) -> bool:
    """Whether the node stands for a tensor that no operation made: `node.variable`."""
    return type(node).__name__ == "AccumulateGrad"


def operation(node: Any) -> str:
    """`Addmm` of AddmmBackward0."""
    return type(node).__name__.rstrip("0123456789").removesuffix("Backward")


def inner(node: Any) -> list[Any]:
    """The nodes that a node's value was made of."""
    return [found for found, _ in node.next_functions if found is not None]


def out_shape(node: Any) -> tuple[int, ...]:
    """The shape of what a node's operation made."""
    return tuple(int(size) for size in node._input_metadata[0].shape)


class Marks:
    """Which nodes stand for what a recorded module read or sent. Holding a node keeps its Python object the same."""

    def __init__(self) -> None:
        self._edges: dict[Any, Edge] = {}

    def put(self, node: Any, edge: Edge) -> None:
        """Says that the edge's tensor was made by the node."""
        self._edges[node] = edge

    def clear(self) -> None:
        """Forgets all nodes."""
        self._edges.clear()

    def of(self, node: Any) -> Edge | None:
        """The edge of a node, None of one in between."""
        return self._edges.get(node)

    def sent(self, node: Any) -> Edge | None:
        """The edge of a node whose value a module sent."""
        edge = self._edges.get(node)
        return edge if edge is not None and edge.output else None

    def __contains__(self, node: Any) -> bool:
        return node in self._edges


def behind(roots: Iterable[Any], stop: Callable[[Any], bool]) -> dict[Any, Any]:
    """{node: the node that it was reached from (itself for a root)}; what lies behind a node that stops is left out."""
    reached = {root: root for root in roots}
    pending = list(reached)
    while pending:
        node = pending.pop()
        if stop(node):
            continue
        for found in inner(node):
            if found not in reached:
                reached[found] = node
                pending.append(found)
    return reached


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in tuples, lists and dicts, however deep."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


class Leaves:
    """What the leaves of a step's graph are: parameters of the model or of the loss, the network input, or unknown."""

    def __init__(self, model: nn.Module, loss: Any, inputs: Any, known: set[int]) -> None:
        """known: ids of the leaves that stand for the network input; the list grows while the model runs."""
        self.model, self.loss = model, loss
        self._inputs = {id(tensor) for tensor in tensors_in(inputs)}
        self._known = known
        held = list(loss.named_parameters(prefix="loss")) if isinstance(loss, nn.Module) else []
        self._names = {id(parameter): name for name, parameter in [*held, *model.named_parameters()]}

    def is_input(self, leaf: torch.Tensor) -> bool:
        """Whether the leaf is the network input, or what a module was given without gradient."""
        return id(leaf) in self._known or id(leaf) in self._inputs

    def is_named(self, leaf: torch.Tensor) -> bool:
        """Whether the leaf is a parameter of the model or of the loss."""
        return id(leaf) in self._names

    def name(self, leaf: torch.Tensor) -> str:
        """A parameter's dotted name, or what the leaf looks like."""
        return self._names.get(id(leaf)) or f"a tensor of shape {tuple(leaf.shape)} that is no parameter of the model"

    def holder(self, name: str) -> str:
        """The class of the module that holds a parameter or buffer of this name; `nobody` for any other leaf."""
        if " " in name:
            return "nobody"
        try:
            return type(self.model.get_submodule(name.rpartition(".")[0])).__name__
        except AttributeError:
            return type(self.loss).__name__ if name.startswith("loss.") else "nobody"
