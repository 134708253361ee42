"""Restores a model after a step: gradients, batch statistics, membrane potentials and whatever else it changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def as_found(model: nn.Module) -> Iterator[None]:
    """At the start of the block parameters have no gradient. After it gradients, buffers and attributes are as before.

    Tensors that a step changes in place (running statistics) get back their values; other attributes get back the
    objects that they were.
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    states = [(module, _state(module)) for module in model.modules()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, grad in gradients:
            parameter.grad = grad
        for module, state in states:
            _restore(module, state)


def _state(module: nn.Module) -> dict[str, Any]:
    """A module's attributes, and copies of its buffers and SpikingJelly memories, which a step changes in place."""
    state: dict[str, Any] = {"": dict(vars(module))}
    for name in ("_buffers", "_memories"):
        held = vars(module).get(name)
        if held is not None:
            state[name] = {
                key: (value, value.detach().clone() if isinstance(value, torch.Tensor) else None)
                for key, value in held.items()
            }
    return state


def _restore(module: nn.Module, state: dict[str, Any]) -> None:
    held = vars(module)
    held.clear()
    held.update(state[""])
    for name in ("_buffers", "_memories"):
        if name not in state:
            continue
        held[name].clear()
        for key, (value, copy) in state[name].items():
            if copy is not None and not torch.equal(value, copy):
                with torch.no_grad():
                    value.detach().copy_(copy)
            held[name][key] = value
