"""Finds weights whose work no layer of a trace would show, before the trace is made.

A parameter is accounted for where the module that holds it is exported and uses it: the operation lies between what the
module read and what it sent. A penalty that the loss adds (weight decay) is no work of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from h2sim.errors import ExportError
from h2sim.export.graph import RESHAPES, Leaves, Marks, behind, inner, is_leaf, operation
from h2sim.export.hooks import Recorded
from h2sim.export.obstacles import Obstacles, refusal

MOST_NAMED = 4
_HOLDERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Bilinear, nn.Embedding, nn.RNNBase, nn.RNNCellBase, _ConvNd)
_SUMS = ("AddBackward0", "SubBackward0")
_OF_ONE = ("Neg", "Mul", "Div", "Squeeze", "Unsqueeze", "View", "Clone")  # a single number stays one
_WORK = {
    "conv": ("Convolution", "MkldnnConvolution", "CudnnConvolution"),
    "linear": ("Addmm", "Mm", "Bmm", "Linear", "MkldnnLinear"),
}
_INSTEAD = "call an nn.Linear, nn.Conv2d or norm as a module instead"
REMEDY = f"no row would show its work: {_INSTEAD}"


def unaccounted(names: Sequence[str], leaves: Leaves, got: str) -> ExportError:
    """The refusal of parameters or buffers that no exported module accounts for."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    where = ", ".join(names[:MOST_NAMED]) + more
    wanted = "to be used by an exported layer, norm or neuron that holds it, and by nothing else"
    return refusal(where, f"weights of {leaves.holder(names[0])}", wanted, got)


class Accounts:
    """The uses of every leaf behind the loss. penalised: ids of the parameters that a penalty of the loss reads too."""

    def __init__(self, modules: Sequence[Recorded], leaves: Leaves, marks: Marks) -> None:
        self.penalised: set[int] = set()
        self._leaves, self._marks = leaves, marks
        self._interiors = [(found.path, _own(found.module), _interior(found, marks)) for found in modules]
        self._stateful = {found.path for found in modules if found.role.name in ("neuron", "readout")}
        self._accounted: set[int] = set()

    def check_uses(self, roots: Sequence[torch.Tensor], of_loss: bool = True) -> None:
        """Raises ExportError, which names the parameters and the operation, for uses that are not accounted for.

        roots: the loss, or the outputs of a model, whose terms are then no penalty.
        """
        nodes = [root.grad_fn for root in roots]
        reached = behind(nodes, stop=lambda node: False)
        penalty = _penalty(nodes[0], self._marks) if of_loss else set()
        faults: dict[str, str] = {}
        for node in reached:
            for leaf in (found.variable for found in inner(node) if is_leaf(found)):
                got = None if self._leaves.is_input(leaf) else self._fault(node, leaf, reached, node in penalty)
                if got:
                    faults.setdefault(self._leaves.name(leaf), got)
        if faults:
            got = next(iter(faults.values()))
            raise unaccounted([name for name, other in faults.items() if other == got], self._leaves, got)

    def check_gradients(self, model: nn.Module) -> None:
        """Raises ExportError for a parameter that got a gradient by a way that autograd's graph does not show."""
        names = [n for n, p in model.named_parameters() if p.grad is not None and id(p) not in self._accounted]
        if names:
            got = f"a gradient that autograd's graph does not show (a reentrant checkpoint?): {REMEDY}"
            raise unaccounted(names, self._leaves, got)

    def _fault(self, node: Any, leaf: torch.Tensor, reached: dict[Any, Any], penalty: bool) -> str | None:
        """What uses the leaf although it should not; None if the use is accounted for."""
        owners = [(path, nodes) for path, owned, nodes in self._interiors if id(leaf) in owned]
        if penalty:
            self.penalised.add(id(leaf))
        if any(penalty or node in nodes for _, nodes in owners):
            self._accounted.add(id(leaf))
            return None
        if penalty:
            return "a penalty of the loss alone: leave it out of the penalty, or out of the model"
        inside = next((path for path, _, nodes in self._interiors if node in nodes), None)
        if inside in self._stateful and not self._leaves.is_named(leaf):
            return None  # a state that the neuron began with, as Norse makes it
        where = (
            f"inside {inside!r}" if inside else f"outside of {owners[0][0]!r} too" if owners else "outside of every one"
        )
        return f"the operation {_user(node, reached)} {where}: {REMEDY}"


def _own(module: nn.Module) -> set[int]:
    """Ids of the parameters that a module accounts for: not those of layers that it holds inside itself."""
    nested = [inside for inside in module.modules() if inside is not module and isinstance(inside, _HOLDERS)]
    apart = {id(parameter) for inside in nested for parameter in inside.parameters()}
    return {id(parameter) for parameter in module.parameters()} - apart


def _interior(found: Recorded, marks: Marks) -> set[Any]:
    """The nodes between what a module read and what it sent or kept as its state."""
    sent = {edge.node for edge in found.sends}
    reached = behind([*sent, *found.states], stop=lambda node: node in marks and node not in sent)
    return {node for node in reached if node in sent or node not in marks}


def check_own_work(modules: Sequence[Recorded], marks: Marks, obstacles: Obstacles) -> None:
    """Notes weights that compute more than their class, by a hook or a forward put on them."""
    for found in modules:
        if found.role.name not in _WORK or found.role.reason:
            continue
        for edge in found.sends:
            extra = _extra(edge.node, found, marks)
            if extra:
                kind = type(found.module).__name__
                got = f"the operation {extra} inside it too (a hook, an adapter or another forward): {REMEDY}"
                obstacles.add(refusal(found.path, kind, f"what a {kind} computes, and nothing else", got))
                break


def _extra(sent: Any, found: Recorded, marks: Marks) -> str | None:
    """An operation between what a module read and what it sent that its class does not do; None if there is none."""
    reached = behind([sent], stop=lambda node: node in marks and node is not sent)
    users: dict[Any, list[Any]] = {}
    for node in reached:
        for used in () if node in marks and node is not sent else inner(node):
            users.setdefault(used, []).append(node)
    read = {edge.node for edge in found.reads}
    pending = [node for node in reached if node in read]
    way, works = dict.fromkeys(pending), 0
    while pending:
        for node in users.get(pending.pop(), []):
            if node not in way:
                way[node] = None
                pending.append(node)
    for node in way:
        name = operation(node)
        works += name in _WORK[found.role.name or ""]
        both = name == "Add" and sum(used in way for used in inner(node)) > 1
        if works > 1 or both or not (node in read or name in _WORK[found.role.name or ""] or _only_adds(node)):
            return name
    return None


def _only_adds(node: Any) -> bool:
    return type(node).__name__ in RESHAPES or operation(node) == "Add"  # of a bias


def _penalty(root: Any, marks: Marks) -> set[Any]:
    """The nodes of those terms of the loss, a sum of single numbers, that are made of leaves alone."""
    nodes: set[Any] = set()
    for term in _terms(root):
        reached = behind([term], stop=marks.__contains__)
        if not any(node in marks for node in reached):
            nodes |= set(reached)
    return nodes


def _terms(root: Any) -> Iterator[Any]:
    pending = [root]
    while pending:
        node = pending.pop()
        parts = inner(node)
        if type(node).__name__ in _SUMS or (len(parts) == 1 and operation(node) in _OF_ONE):
            pending += parts
        else:
            yield node


def _user(node: Any, reached: dict[Any, Any]) -> str:
    """The operation that uses a leaf: the first one that does more than change its shape."""
    while type(node).__name__ in RESHAPES and reached[node] is not node:
        node = reached[node]
    return operation(node)
