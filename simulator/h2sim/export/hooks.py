"""Records every tensor that a module of a model reads or sends in one step, and the gradient of each.

No tensor is copied but where something later writes into it. What a module reads is a view of its own, so that its part
of the gradient is known; what it sends is known by its autograd node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from h2sim.errors import ExportError, at
from h2sim.export.graph import Marks, inner, tensors_in
from h2sim.export.obstacles import Obstacle, Obstacles, Refusal, refusal
from h2sim.export.protocol import ReadOut
from h2sim.export.roles import Role, role_of

COMPILED = "_orig_mod"  # under which torch.compile keeps a module
MOST_TAGGED = 16  # operations of a module that is a map, to which its name is given


@dataclass(eq=False)
class Edge:
    """A tensor that a module read or sent: its value, its autograd node, and its gradient once it is known.

    node: None of the network input as weights read it, whose gradient is not asked for.
    """

    path: str
    output: bool
    value: torch.Tensor
    node: Any = None
    grad: torch.Tensor | None = None

    def collect(self, grad: torch.Tensor) -> None:
        """Adds a gradient of the value, which may come in the shape of what the value is a view of."""
        grad = grad.detach().reshape(self.value.shape)
        self.grad = grad if self.grad is None else self.grad + grad


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

    @property
    def layer(self) -> Any:
        """The module that holds the weights: itself, or a linear layer of an integrator's own weights."""
        readout = self.role.readout
        if readout is None or readout.weight is None:
            return self.module
        outs, ins = readout.weight.shape
        linear: Any = nn.Linear(ins, outs, bias=False, device="meta")
        linear.weight, linear.bias = readout.weight, readout.bias
        return linear


class Recorder:
    """Puts hooks on every module that has a role, but not on modules inside one.

    modules: those that were called, by dotted path, in the order of their first call; a neuron that takes all timesteps
    at once is another one at each call (path, path-2, ...). tags: the map whose operation an autograd node is. leaves:
    ids of the tensors that are the network input. running: the modules that have been entered and not left, the
    innermost last. found: all modules that have a role, called or not. obstacles: modules that were called and that no
    trace can hold.
    """

    def __init__(self, model: nn.Module, obstacles: Obstacles) -> None:
        self.modules: dict[str, Recorded] = {}
        self.marks = Marks()
        self.tags: dict[Any, str] = {}
        self.unread: dict[str, Any] = {}
        self.leaves: set[int] = set()
        self.running: list[Recorded] = []
        self.obstacles = obstacles
        self._kept: list[torch.Tensor] = []  # so that no id of a leaf is used twice
        self._held: dict[int, list[Edge]] = {}
        self.found: list[Recorded] = []
        self._handles: list[Any] = []
        self._searched: set[int] = set()
        self.paused = 0  # above 0: what runs now is the recorder's own
        self._find(model, "")

    def _find(self, module: nn.Module, path: str) -> None:
        """Finds the modules that have a role: a module of two names by its first one."""
        if id(module) in self._searched:
            return
        self._searched.add(id(module))
        role = role_of(module, path or type(module).__name__)
        if role is not None:
            self.found.append(Recorded(path=path or type(module).__name__, module=module, role=role))
            return
        for name, child in module.named_children():
            inside = path if name == COMPILED else f"{path}.{name}" if path else name
            self._find(child, inside)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Inside the block the hooks are in place; after it they are gone, whatever happened."""
        handles = []
        try:
            for found in self.found:
                module = found.module
                if found.role.name == "map":
                    handles.append(module.register_forward_pre_hook(self._before_map(found)))
                    handles.append(module.register_forward_hook(self._after_map(found)))
                    continue
                handles.append(module.register_forward_pre_hook(self._enter(found), prepend=True))
                handles.append(module.register_forward_pre_hook(self._before(found), with_kwargs=True))
                handles.append(module.register_forward_hook(self._after(found)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._held.clear()

    @contextlib.contextmanager
    def _own_work(self) -> Iterator[None]:
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1

    @contextlib.contextmanager
    def running_no_more(self) -> Iterator[None]:
        """Inside the block, which is the backward pass, a call of a module raises ExportError."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            got = "torch.utils.checkpoint, which runs them again in the backward pass"
            raise ExportError(at("model", "layers", "to run once: call them without a checkpoint", got))

        handles = [found.module.register_forward_pre_hook(hook) for found in self.found]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def release(self) -> None:
        """Lets go of autograd's graph: its nodes hold hooks, which hold edges, which hold nodes, unseen by Python."""
        for handle in self._handles:
            handle.remove()
        for found in self.modules.values():
            for edge in (*found.reads, *found.sends):
                edge.node = None
            found.states.clear()
        self.marks.clear()
        self.tags.clear()
        self.unread.clear()

    def before_write(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copies what was recorded of the memory that an operation is about to write into."""
        for tensor in tensors:
            for edge in self._held.pop(_memory(tensor), ()):
                edge.value = edge.value.clone()

    # maps: modules whose operations are followed one by one

    def _before_map(self, found: Recorded) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> Any:
            if not args or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
                return None
            if isinstance(module, nn.modules.dropout._DropoutNd) and bool((args[0] == 1).all()):
                return None  # a mask that the model makes, to multiply by
            return (self._following(args[0]), *args[1:])

        return hook

    def _after_map(self, found: Recorded) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.grad_fn is not None and isinstance(args[0], torch.Tensor):
                self._tag(found, output.grad_fn, args[0].grad_fn)

        return hook

    def _tag(self, found: Recorded, node: Any, before: Any) -> None:
        """Gives the map's name to the operations between what it read and what it sent."""
        pending = [node]
        for _ in range(MOST_TAGGED):
            if not pending:
                break
            top = pending.pop()
            if top is before or top in self.marks or top in self.tags:
                continue
            self.tags[top] = found.path
            pending += inner(top)
        self.unread.setdefault(found.path, node)

    # modules whose input and output are recorded

    def _enter(self, found: Recorded) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            """Comes before hooks of the model's own, which may make a module's weights (weight_norm)."""
            self.running.append(found)

        return hook

    def _before(self, found: Recorded) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            kind = type(module).__name__
            if found.role.reason:
                why = f"{kind}: cannot be exported: {found.role.reason}"
                self.obstacles.add(Refusal(Obstacle(found.path, why, found.role.rewrite)))
            if not args or not isinstance(args[0], torch.Tensor):
                got = type(args[0]).__name__ if args else "keywords only"
                raise ExportError(at(found.path, kind, "a tensor as its first argument", got))
            if not torch.is_grad_enabled():
                raise ExportError(at(found.path, kind, "to run with autograd on", "torch.no_grad()"))
            call = self._call_of(found)
            with self._own_work():
                return (self._read(call, args[0]), *args[1:]), kwargs

        return hook

    def _call_of(self, found: Recorded) -> Recorded:
        """The record of this call: a neuron over all timesteps is another one at every place where it is called."""
        spec = found.role.neuron
        if spec is None or not spec.multi_step or not found.reads:
            return found
        path, number = found.path, 2
        while f"{path}-{number}" in self.modules:
            number += 1
        call = Recorded(path=f"{path}-{number}", module=found.module, role=found.role)
        self.running[-1] = call
        return call

    def _after(self, found: Recorded) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            call = self.running.pop()
            if call.order < 0:
                call.order = len(self.modules)
                self.modules[call.path] = call
            call.states += _states(module, output if isinstance(output, tuple) else ())
            with self._own_work():
                return self._sent(call, output, args)

        return hook

    def _sent(self, found: Recorded, output: Any, args: tuple[Any, ...]) -> Any:
        readout = found.role.readout
        if isinstance(output, torch.Tensor):
            if readout is not None:
                return self._after_readout(found, readout, output)
            return self._send(found, output)
        if found.role.reason and not (isinstance(output, tuple) and output and isinstance(output[0], torch.Tensor)):
            return output
        if not isinstance(output, tuple) or not isinstance(output[0], torch.Tensor):
            raise ExportError(at(found.path, type(found.module).__name__, "a tensor sent", type(output).__name__))
        found.several = True
        first = self._after_readout(found, readout, output[0]) if readout else self._send(found, output[0])
        fields = getattr(output, "_fields", None)
        return type(output)(first, *output[1:]) if fields else (first, *output[1:])

    def _following(self, x: torch.Tensor) -> torch.Tensor:
        """x, if it has a gradient; else a leaf of its values, which is the network input."""
        if x.requires_grad:
            return x
        leaf = x.detach().requires_grad_(True)
        self.leaves.add(id(leaf))
        self._kept.append(leaf)
        return leaf

    def _read(self, found: Recorded, x: torch.Tensor) -> torch.Tensor:
        """Records what a module reads, and returns it as the module goes on with it."""
        if not x.is_floating_point():
            raise ExportError(at(found.path, type(found.module).__name__, "floating-point numbers", x.dtype))
        leaf = not x.requires_grad
        if leaf and found.role.name in ("conv", "linear"):  # whose input gradient nobody needs: it costs a backward
            found.reads.append(Edge(found.path, False, x.detach()))
            self._held.setdefault(_memory(x), []).append(found.reads[-1])
            return x
        x = self._following(x)
        own = x.clone() if leaf else x.view_as(x)  # no operation may write into a view of a leaf
        self._keep(Edge(found.path, False, own.detach()), own, found.reads)
        return own

    def _send(self, found: Recorded, y: torch.Tensor) -> torch.Tensor:
        """Records what a module sends. A view is known by what it views, for a later write would go past the view."""
        if not y.is_floating_point():
            raise ExportError(at(found.path, type(found.module).__name__, "floating-point numbers", y.dtype))
        if not y.requires_grad:
            y = self._following(y).clone()
        elif found.role.neuron is not None:
            y = y.clone()  # the neuron's reset reads its spikes too, whose gradient is not what readers send
        base = y._base if y._is_view() else None
        if base is not None and (base.numel() != y.numel() or not y.is_contiguous() or base.grad_fn is None):
            y, base = y.clone(), None
        if (y if base is None else base).grad_fn in self.marks:  # it sends what it read, or twice the same
            y, base = y.clone(), None
        known = y if base is None else base
        self._keep(Edge(found.path, True, y.detach()), known, found.sends)
        return y

    def _keep(self, edge: Edge, tensor: torch.Tensor, edges: list[Edge]) -> None:
        edge.node = tensor.grad_fn
        self.marks.put(edge.node, edge)
        self._handles.append(tensor.register_hook(edge.collect))  # type: ignore[no-untyped-call]
        self._held.setdefault(_memory(tensor), []).append(edge)
        edges.append(edge)

    def _after_readout(self, found: Recorded, readout: ReadOut, y: torch.Tensor) -> torch.Tensor:
        """Records the product inside an integrator that holds weights, whose output is no layer's."""
        if readout.weight is None:
            return self._send(found, y)
        node = self._product(found, y, readout.weight)
        if node is None:
            raise refusal(found.path, type(found.module).__name__, "a product with its weights", "none that was found")
        x = found.reads[-1].value
        value = functional.linear(x, readout.weight, readout.bias).detach()
        edge = Edge(found.path, True, value, node)
        self.marks.put(node, edge)
        self._handles.append(node.register_prehook(lambda grads: edge.collect(grads[0])))
        found.sends.append(edge)
        return y

    def _product(self, found: Recorded, y: torch.Tensor, weight: torch.Tensor) -> Any:
        """The node inside a module that multiplies what it read by its weights."""
        read, pending, seen = found.reads[-1].node, [y.grad_fn], set()
        while pending:
            node = pending.pop()
            if node in seen or node is None or (node in self.marks and node is not read):
                continue
            seen.add(node)
            inside = inner(node)
            leaves = [leaf for each in inside for leaf in (each, *inner(each)) if hasattr(leaf, "variable")]
            if any(leaf.variable is weight for leaf in leaves) and read in (
                *inside,
                *(b for a in inside for b in inner(a)),
            ):
                return node
            pending += inside
        return None


def _memory(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def _states(module: nn.Module, output: tuple[Any, ...]) -> list[Any]:
    """The autograd nodes of a module's outputs but the first, and of the tensors that are its attributes."""
    held = tensors_in([output[1:], vars(module)])
    return [tensor.grad_fn for tensor in held if tensor.grad_fn is not None]
