"""One real training step of a user's own model on a device, with marks or without; the model is left as it was."""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from h2sim.errors import GpuTraceError, H2SimError, at
from h2sim.export.capture import Loss, loss_value
from h2sim.export.forward import Forward, run_model
from h2sim.export.neurons import reset_states
from h2sim.export.places import Place
from h2sim.gpu.clock import Clock, Label, Marks
from h2sim.gpu.marker import BETWEEN, Marker
from h2sim.gpu.trace import RowPhase
from h2sim.gpu.work import FlopClock, Traffic

Optimizer = torch.optim.Optimizer | Callable[[list[nn.Parameter]], torch.optim.Optimizer]
LEARNING_RATE = 1e-3  # of the Adam that stands for an optimizer that is not given
_Set = Callable[[str, RowPhase], None]


def _unmarked(layer: str, phase: RowPhase) -> None:
    """Sets no mark."""


class ModelStep:
    """The training step of a model on a batch: forward, loss, backward, update.

    The update runs on copies of the parameters: the model's own stay, so that all steps compute the same. inputs and
    targets are copied to the device in every step. optimizer: one whose settings are taken, or what makes one of
    parameters; None: Adam. places: where marks are set. Neurons are reset before a step, outside its time.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        targets: Any,
        loss: Loss,
        *,
        device: torch.device,
        places: Sequence[Place],
        forward: Forward | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        self.model, self.inputs, self.targets, self.loss = model, inputs, targets, loss
        self.device, self.places, self.forward = device, places, forward or run_model
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.copies = [(name, p, nn.Parameter(p.detach().clone())) for name, p in trained]
        self.update = _optimizer_of(optimizer, model, {id(p): copy for _, p, copy in self.copies})
        self.unsplit: dict[str, None] = {}
        reset_states(model)
        self._states = [(module, dict(vars(module))) for module in model.modules()]

    def prepare(self) -> None:
        """Puts states that modules keep between calls back to what they were."""
        for module, state in self._states:
            held = vars(module)
            held.clear()
            held.update(state)
        reset_states(self.model)

    def step(self) -> None:
        """Runs one whole step."""
        self._run(_unmarked)

    def _run(self, mark: _Set) -> None:
        mark("data", "other")
        inputs, targets = moved(self.inputs, self.device), moved(self.targets, self.device)
        mark("optimizer", "other")
        for _, parameter, _ in self.copies:
            parameter.grad = None
        mark(*BETWEEN)
        with torch.enable_grad():
            output = self.forward(self.model, inputs)
            mark("loss", "other")
            value = self.loss(output, targets)
        torch.autograd.backward(value)
        mark("optimizer", "other")
        for _, parameter, copy in self.copies:
            copy.grad = parameter.grad
        self.update.step()

    def marked_step(self, clock: Clock) -> tuple[float, dict[Label, float]]:
        """Runs one step with marks: (its seconds, seconds by layer and phase). The latter add up to the former."""
        clock.wait()
        marks = Marks(clock)
        return self._marked(Marker(self.places, marks), marks)

    def _marked(self, marker: Marker, marks: Marks) -> tuple[float, dict[Label, float]]:
        with marker.marking():
            self._run(marks)
            found = marks.end()
        self.unsplit |= marker.unsplit
        return found

    def work(self) -> tuple[dict[Label, int], Counter[Label]]:
        """(operations, bytes) of one step by layer and phase."""
        traffic = Traffic()
        self.prepare()
        with FlopClock() as clock:
            marks = Marks(clock)
            _, flops = self._marked(Marker(self.places, marks, traffic), marks)
        return {label: int(number) for label, number in flops.items() if number}, traffic.bytes

    def first(self) -> None:
        """Runs a step and checks its loss. Raises GpuTraceError in a line for what the model or the loss raises."""
        self.prepare()
        inputs, targets = moved(self.inputs, self.device), moved(self.targets, self.device)
        with torch.enable_grad():
            with one_line("model", f"one that runs on {shape_of(self.inputs)}"):
                output = self.forward(self.model, inputs)
            with one_line("loss", f"one of {shape_of(output)} and targets {shape_of(self.targets)}"):
                value = self.loss(output, targets)
            loss_value(value)
            with one_line("loss", "one that autograd goes back through"):
                torch.autograd.backward(value)

    def check(self) -> None:
        """Raises GpuTraceError if weights are not finite, for a step on such weights may take another time."""
        for name, _, copy in self.copies:
            if not math.isfinite(float(copy.detach().sum())):
                raise GpuTraceError(at("record", name, "finite weights after the steps", "NaN or Inf"))


def _optimizer_of(given: Optimizer | None, model: nn.Module, copies: dict[int, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of the copies. Raises GpuTraceError for what is none, and for one of other parameters."""
    if given is None:
        return torch.optim.Adam(copies.values(), lr=LEARNING_RATE)
    if isinstance(given, torch.optim.Optimizer):
        groups = [
            {**group, "params": [copies[id(p)] for p in group["params"] if id(p) in copies]}
            for group in given.param_groups
        ]
        if not any(group["params"] for group in groups):
            raise GpuTraceError(at("record", "optimizer", "one of the model's parameters", "one of others"))
        kind: Any = type(given)
        with one_line("optimizer", "one that can be made again of its param_groups"):
            made: torch.optim.Optimizer = kind([group for group in groups if group["params"]])
            return made
    if not callable(given):
        wanted = "a torch optimizer, or what makes one of parameters"
        raise GpuTraceError(at("record", "optimizer", wanted, type(given).__name__))
    with one_line("optimizer", "what makes one of a list of parameters"):
        made = given(list(copies.values()))
    if not isinstance(made, torch.optim.Optimizer):
        raise GpuTraceError(at("record", "optimizer", "what makes a torch optimizer", type(made).__name__))
    return made


@contextlib.contextmanager
def one_line(what: str, wanted: str) -> Iterator[None]:
    """A block of the user's own code: what it raises becomes a GpuTraceError of one line, but for lack of memory."""
    try:
        yield
    except (torch.OutOfMemoryError, H2SimError):
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        got = f"{type(error).__name__}: {told}" if told else type(error).__name__
        raise GpuTraceError(at("record", what, wanted, got)) from error


def shape_of(value: Any) -> str:
    """The shape of a tensor, or of the tensors in a tuple, in words."""
    if isinstance(value, torch.Tensor):
        return str(tuple(value.shape))
    if isinstance(value, tuple | list):
        return f"({', '.join(map(shape_of, value))})"
    return type(value).__name__


def moved(value: Any, device: torch.device) -> Any:
    """Tensors in tuples, lists and dicts on a device; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(held, device) for key, held in value.items()}
    if isinstance(value, tuple | list):
        parts = [moved(held, device) for held in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


@contextlib.contextmanager
def placed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """A block in which the model is on a device; after it its parameters are where they were, with the same values.

    Buffers and other attributes are the business of export.state.as_found, around this block.
    """
    held = [(module, dict(module._parameters)) for module in model.modules()]
    data = [(parameter, parameter.data) for parameter in model.parameters()]
    model.to(device)
    try:
        yield
    finally:
        for module, parameters in held:
            module._parameters.update(parameters)
        for parameter, values in data:
            parameter.grad = None
            parameter.data = values


@contextlib.contextmanager
def random_as_found() -> Iterator[None]:
    """A block after which torch's, numpy's and Python's random numbers go on as if it had not been."""
    ours, theirs = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(theirs)
