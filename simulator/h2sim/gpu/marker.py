"""Divides the step of any torch model among its layers: hooks that set marks where a module begins and ends.

Forward: marks before and after a module. Backward: a hook on each tensor that a module sent sets a mark as the module's
backward pass begins, and one on each that it read sets a mark as it ends. Hooks on tensors stand where an operation
writes into the tensor later, which no module's own backward hook and no identity function does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn

from h2sim.export.graph import tensors_in
from h2sim.export.places import Place
from h2sim.gpu.clock import Label, Marks
from h2sim.gpu.split import Product, split_conv, split_linear

BETWEEN: Label = ("between layers", "other")
Weigh = Callable[[Place, str, list[torch.Tensor], list[torch.Tensor]], None]


class Marker:
    """Sets marks as a model with these places runs, forwards and backwards.

    weigh(place, layer, read, sent) is called after each call of a module that belongs to a layer. unsplit: modules of
    weights whose two gradients came in one call, by path.
    """

    def __init__(self, places: Sequence[Place], marks: Marks, weigh: Weigh | None = None) -> None:
        self.places, self.marks, self.weigh = places, marks, weigh
        self.unsplit: dict[str, None] = {}
        self._inside: list[tuple[Place, str | None]] = []  # entered and not left, the innermost last
        self._calls: dict[str, int] = {}
        self._sent: set[Any] = set()  # autograd's nodes whose tensors a module sent; held, so that each stays itself

    @contextlib.contextmanager
    def marking(self) -> Iterator[None]:
        """A block in which modules set marks; after it they are as before, whatever happened."""
        handles: list[Any] = []
        try:
            for place in self.places:
                handles.append(place.module.register_forward_pre_hook(self._before(place), with_kwargs=True))
                handles.append(place.module.register_forward_hook(self._after(place), with_kwargs=True))
            with contextlib.ExitStack() as stack:
                for place in self.places:
                    stack.enter_context(self._splitting(place))
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._sent.clear()

    # forward

    def _before(self, place: Place) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._on(tensors_in([args, kwargs]), self._outer("backward"), again=False)
            self._inside.append((place, self._layer(place)))
            self.marks(*self._outer("forward"))

        return hook

    def _after(self, place: Place) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._on(tensors_in(output), self._outer("backward"), again=True)
            _, layer = self._inside.pop()
            if self.weigh is not None and layer is not None:
                self.weigh(place, layer, list(tensors_in([args, kwargs])), list(tensors_in(output)))
            self.marks(*self._outer("forward"))

        return hook

    def _layer(self, place: Place) -> str | None:
        """The layer of this call. A module of several places is called at each of them in every timestep."""
        call = self._calls[place.path] = self._calls.get(place.path, -1) + 1
        return place.layers[call % len(place.layers)] if place.layers else None

    def _outer(self, phase: Any) -> Label:
        """What the time in the innermost module that runs belongs to; a module of no layer is `other`."""
        if not self._inside:
            return BETWEEN
        place, layer = self._inside[-1]
        return (place.path, "other") if layer is None else (layer, phase)

    # backward

    def _on(self, tensors: Iterator[torch.Tensor], label: Label, again: bool) -> None:
        """Sets the mark as the backward pass reaches these tensors. again: also where a module sent them before."""
        for tensor in tensors:
            node = tensor.grad_fn
            if node is None or (node in self._sent and not again):
                continue
            tensor.register_hook(lambda grad: self.marks(*label))  # type: ignore[no-untyped-call]
            if again:
                self._sent.add(node)

    # the two gradients of a product

    @contextlib.contextmanager
    def _splitting(self, place: Place) -> Iterator[None]:
        role, module = place.role, cast(Any, place.module)
        name = {"conv": "_conv_forward", "linear": "forward"}.get(role.name or "")
        if name is None or role.reason or not place.layers or name in vars(module):
            if place.layers and (name or role.reason or role.name == "readout") and list(module.parameters()):
                self.unsplit.setdefault(place.path)
            yield
        else:
            own = getattr(module, name)
            setattr(module, name, self._split_conv(place, own) if name != "forward" else self._split_linear(place, own))
            try:
                yield
            finally:
                delattr(module, name)

    def _split_conv(self, place: Place, own: Any) -> Any:
        module: Any = place.module

        def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            if not self._splits(place, x, weight):
                plain: torch.Tensor = own(x, weight, bias)
                return plain
            how = Product(self.marks, self._now(), module.stride, _padding(module), module.dilation, module.groups)
            return split_conv(x, weight, bias, how)

        return forward

    def _split_linear(self, place: Place, own: Any) -> Any:
        module: Any = place.module

        def forward(x: torch.Tensor) -> torch.Tensor:
            if not self._splits(place, x, module.weight):
                plain: torch.Tensor = own(x)
                return plain
            return split_linear(x, module.weight, module.bias, Product(self.marks, self._now()))

        return forward

    def _now(self) -> str:
        layer = self._inside[-1][1]
        assert layer is not None  # only modules of a layer are split
        return layer

    def _splits(self, place: Place, x: torch.Tensor, weight: torch.Tensor) -> bool:
        """Whether a product computes in one type of number; torch's autocast is left to its own ways."""
        plain = x.dtype == weight.dtype and not torch.is_autocast_enabled(x.device.type)
        if not plain:
            self.unsplit.setdefault(place.path)
        return plain


def _padding(module: Any) -> tuple[int, ...]:
    """Padding on each side. 'same' of an even kernel is refused by the exporter, and so is not split."""
    if isinstance(module.padding, str):
        return tuple(size // 2 if module.padding == "same" else 0 for size in module.kernel_size)
    return tuple(module.padding)
