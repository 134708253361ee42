"""Runs a model's forward pass once with everything recorded, as it was written and from its initial states."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export.accounts import Accounts, check_own_work
from h2sim.export.graph import Leaves
from h2sim.export.hooks import COMPILED, Recorder
from h2sim.export.neurons import reset_states
from h2sim.export.obstacles import Obstacles
from h2sim.export.products import Products
from h2sim.export.reading import Reading, read_step

Inputs = torch.Tensor | tuple[Any, ...]
Forward = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Pass:
    """A model's forward pass as it was recorded, and what it returned."""

    model: nn.Module
    recorder: Recorder
    products: Products
    leaves: Leaves
    obstacles: Obstacles
    output: Any

    @classmethod
    @contextlib.contextmanager
    def of(cls, model: nn.Module, inputs: Inputs, forward: Forward | None, loss: Any) -> Iterator[Pass]:
        """Runs the model once; neuron states are reset before it. What was recorded is held inside the block.

        forward(model, inputs) runs all timesteps; None: model(inputs) does. Raises ExportError for a model or inputs
        that cannot be run, and for what makes a recording pointless; other obstacles are noted.
        """
        _check_devices(model, inputs)
        obstacles = Obstacles()
        reset_states(model)
        recorder = Recorder(model, obstacles)
        products = Products(model, recorder)
        try:
            try:
                with uncompiled(), recorder.recording(), products:
                    output = (forward or run_model)(model, inputs)
            except Exception:
                obstacles.check()  # what a refused module sends may not be what the next one takes
                raise
            yield cls(model, recorder, products, Leaves(model, loss, inputs, recorder.leaves), obstacles, output)
        finally:
            recorder.release()

    def reading(self, timesteps: int | None, batch: int | None, targets: Any) -> Reading | None:
        """What was recorded, as a step; obstacles are noted."""
        with self.obstacles.noted():
            self.products.check_named(self.leaves)
        noted = self.products.named
        return read_step(self.recorder, self.leaves, self.obstacles, timesteps, batch, targets, noted, self.output)

    def check_products(self) -> None:
        """Notes products that no layer shows."""
        with self.obstacles.noted():
            self.products.check_named(self.leaves)
        with self.obstacles.noted():
            self.products.check_unnamed()

    def accounts(self) -> Accounts:
        """The uses of parameters."""
        modules = [found for found in self.recorder.modules.values() if not found.role.reason]
        check_own_work(modules, self.recorder.marks, self.obstacles)
        return Accounts(modules, self.leaves, self.recorder.marks)


def as_written(model: nn.Module) -> nn.Module:
    """The model that torch.compile was given, or the model itself."""
    inner = getattr(model, COMPILED, None)
    return inner if isinstance(inner, nn.Module) else model


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Compiled modules and functions run as they were written, so that their operations are seen."""
    if "torch._dynamo.eval_frame" not in sys.modules:  # nothing was compiled, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def run_model(model: nn.Module, inputs: Inputs) -> Any:
    """What a model returns of its inputs, all timesteps in one call."""
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _check_devices(model: nn.Module, inputs: Inputs) -> None:
    named = [*model.named_buffers(), *model.named_parameters()]
    for name, tensor in named:
        if nn.parameter.is_lazy(tensor):
            raise ExportError(at(name, "shape", "one that is known: run the model once before", "a lazy module's"))
    found = {tensor.device: name for name, tensor in named}
    tensors = [tensor for tensor in (inputs if isinstance(inputs, tuple) else (inputs,)) if torch.is_tensor(tensor)]
    if len(found) > 1:
        places = " and ".join(f"{name!r} on {device}" for device, name in found.items())
        raise ExportError(at("model", "device", "one for all parameters and buffers", places))
    for device in found:
        for tensor in tensors:
            if tensor.device != device:
                raise ExportError(at("inputs", "device", f"{device} as the model's", tensor.device))
