"""Records every tensor that a module of a model reads or sends in one step, and the gradient of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export.graph import tensors_in
from h2sim.export.roles import Role, role_of


@dataclass(eq=False)
class Edge:
    """A tensor that a module read or sent: its value, its autograd node, and its gradient once it is known."""

    path: str
    output: bool
    value: torch.Tensor
    node: Any = None
    grad: torch.Tensor | None = None


@dataclass(eq=False)
class Recorded:
    """A module that has a role in a trace, and the edges of its calls in their order.

    order: its place among the modules by first call, -1 if not called; several: whether it also sends its state;
    states: the autograd nodes of what it sends beside its first output, or keeps.
    """

    path: str
    module: nn.Module
    role: Role
    order: int = -1
    reads: list[Edge] = field(default_factory=list)
    sends: list[Edge] = field(default_factory=list)
    several: bool = False
    states: list[Any] = field(default_factory=list)


class _Mark(torch.autograd.Function):
    """The identity, which records the gradient of its edge. It copies, so that `x += y` after it still works."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, edge: Edge) -> torch.Tensor:
        ctx.edge = edge
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (grad,), edge = grads, ctx.edge
        edge.grad = grad.detach() if edge.grad is None else edge.grad + grad.detach()
        return grad, None


_mark: Callable[[torch.Tensor, Edge], torch.Tensor] = _Mark.apply


class Recorder:
    """Puts hooks on every module that has a role, but not on modules inside one.

    modules: those that were called, by dotted path, in the order of their first call. leaves: ids of the tensors that
    are the network input. running: the recorded modules that have been entered and not left, the innermost last.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, Recorded] = {}
        self.leaves: set[int] = set()
        self.running: list[Recorded] = []
        self._kept: list[torch.Tensor] = []  # so that no id of a leaf is used twice
        self._found: list[Recorded] = []
        self._find(model, "")

    def _find(self, module: nn.Module, path: str) -> None:
        role = role_of(module, path or type(module).__name__)
        if role is not None:
            self._found.append(Recorded(path=path or type(module).__name__, module=module, role=role))
            return
        for name, child in module.named_children():
            self._find(child, f"{path}.{name}" if path else name)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Inside the block the hooks are in place; after it they are gone, whatever happened."""
        handles = []
        try:
            for found in self._found:
                handles.append(found.module.register_forward_pre_hook(self._enter(found), prepend=True))
                handles.append(found.module.register_forward_pre_hook(self._before(found), with_kwargs=True))
                handles.append(found.module.register_forward_hook(self._after(found)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, found: Recorded) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            """Comes before hooks of the model's own, which may make a module's weights (weight_norm)."""
            self.running.append(found)

        return hook

    def _before(self, found: Recorded) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            kind = type(module).__name__
            if found.role.reason:
                raise ExportError(f"{found.path}: {kind}: cannot be exported: {found.role.reason}")
            if not args or not isinstance(args[0], torch.Tensor):
                got = type(args[0]).__name__ if args else "keywords only"
                raise ExportError(at(found.path, kind, "a tensor as its first argument", got))
            if not torch.is_grad_enabled():
                raise ExportError(at(found.path, kind, "to run with autograd on", "torch.no_grad()"))
            return (self._marked(found, args[0], found.reads, output=False), *args[1:]), kwargs

        return hook

    def _after(self, found: Recorded) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            self.running.pop()
            if found.order < 0:
                found.order = len(self.modules)
                self.modules[found.path] = found
            found.states += _states(module, output if isinstance(output, tuple) else ())
            if isinstance(output, torch.Tensor):
                return self._marked(found, output, found.sends, output=True)
            if not isinstance(output, tuple) or not isinstance(output[0], torch.Tensor):
                raise ExportError(at(found.path, type(module).__name__, "a tensor sent", type(output).__name__))
            found.several = True
            first = self._marked(found, output[0], found.sends, output=True)
            fields = getattr(output, "_fields", None)
            return type(output)(first, *output[1:]) if fields else (first, *output[1:])

        return hook

    def _marked(self, found: Recorded, x: torch.Tensor, edges: list[Edge], *, output: bool) -> torch.Tensor:
        """Records x and returns it as the model goes on with it. A tensor without gradient becomes a leaf: an input."""
        if not x.is_floating_point():
            raise ExportError(at(found.path, type(found.module).__name__, "floating-point numbers", x.dtype))
        if not x.requires_grad:
            x = x.detach().requires_grad_(True)
            self.leaves.add(id(x))
            self._kept.append(x)
        edge = Edge(found.path, output, x.detach())
        marked = _mark(x, edge)
        edge.node = marked.grad_fn
        edges.append(edge)
        return marked


def _states(module: nn.Module, output: tuple[Any, ...]) -> list[Any]:
    """The autograd nodes of a module's outputs but the first, and of the tensors that are its attributes."""
    held = tensors_in([output[1:], vars(module)])
    return [tensor.grad_fn for tensor in held if tensor.grad_fn is not None]
