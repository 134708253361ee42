"""A network's forward pass timestep by timestep (the source's baseline) or layer by layer, with marks or without.

Both compute what h2sim.train's SpikingNetwork computes, with the same parameters and the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from h2sim.gpu.clock import Marks
from h2sim.gpu.trace import RowPhase
from h2sim.train.lif import Neuron, fire
from h2sim.train.network import Layer, SpikingNetwork

_Conv = tuple[Marks, str, tuple[int, ...], tuple[int, ...]]  # marks, layer, stride, padding
_Linear = tuple[Marks, str]  # marks, layer


class _Mark(torch.autograd.Function):
    """The identity. Its backward pass sets a mark: the time after it belongs to the layer and phase."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, marks: Marks, layer: str, phase: RowPhase) -> torch.Tensor:
        ctx.set = (marks, layer, phase)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        marks, layer, phase = ctx.set
        marks(layer, phase)
        return grads[0], None, None, None


class _SplitConv(torch.autograd.Function):
    """A convolution whose weight gradient and input gradient are computed in two calls, with a mark before each."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, how: _Conv) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        _, _, stride, padding = how
        return functional.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        marks, name, stride, padding = ctx.how

        def part(mask: list[bool]) -> list[torch.Tensor]:
            sizes = [weight.shape[0]] if mask[2] else None
            found: list[torch.Tensor] = torch.ops.aten.convolution_backward(
                grad, x, weight, sizes, stride, padding, (1, 1), False, (0, 0), 1, mask
            )
            return found

        marks(name, "weight_update")
        _, of_weight, of_bias = part([False, True, True])
        marks(name, "backward")
        of_input = part([True, False, False])[0] if ctx.needs_input_grad[0] else None
        return of_input, of_weight, of_bias, None


class _SplitLinear(torch.autograd.Function):
    """A fully connected layer whose two gradients are computed and marked apart, as in _SplitConv. x is (T, N, F)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, how: _Linear) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None]:
        x, weight = ctx.saved_tensors
        marks, name = ctx.how
        flat = grad.flatten(0, 1)
        marks(name, "weight_update")
        of_weight, of_bias = flat.t() @ x.flatten(0, 1), flat.sum(0)
        marks(name, "backward")
        of_input = grad @ weight if ctx.needs_input_grad[0] else None
        return of_input, of_weight, of_bias, None


# torch leaves apply untyped
_mark: Callable[[torch.Tensor, Marks, str, RowPhase], torch.Tensor] = _Mark.apply
_split_conv: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, _Conv], torch.Tensor] = _SplitConv.apply
_split_linear: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, _Linear], torch.Tensor] = _SplitLinear.apply


class Plain:
    """The layers as PyTorch computes them, without marks."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network

    def enter(self, layer: Layer) -> None:
        """Called when a layer's forward pass begins."""

    def current(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Current x (T, N, ...) of a layer from the outputs of the layers that it reads, each (T, N, ...)."""
        return self.network.current(layer, inputs)

    def leave(self, layer: Layer, value: torch.Tensor) -> torch.Tensor:
        """The layer's output, which the next layers read."""
        return value

    def set(self, name: str) -> None:
        """Called when a part of the step begins that belongs to no layer (loss, optimizer, data)."""


class Marked(Plain):
    """The same values as Plain, with a mark where a layer begins, and before each of its two gradients."""

    def __init__(self, network: SpikingNetwork, marks: Marks) -> None:
        super().__init__(network)
        self.marks = marks

    def enter(self, layer: Layer) -> None:
        self.marks(layer["name"], "forward")

    def current(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        name = layer["name"]
        if name not in self.network.weights:
            return self.network.current(layer, inputs)
        # marks on the parameters: adding up their gradients over timesteps is the weight update's
        held = (self.network.weights[name], self.network.biases[name])
        weight, bias = (_mark(value, self.marks, name, "weight_update") for value in held)
        if layer["kind"] == "fc":
            return _split_linear(inputs[0].flatten(2), weight, bias, (self.marks, name))
        how: _Conv = (self.marks, name, tuple(layer["stride"]), tuple(layer["padding"]))
        frames = _split_conv(inputs[0].flatten(0, 1), weight, bias, how)
        return torch.unflatten(frames, 0, inputs[0].shape[:2])

    def leave(self, layer: Layer, value: torch.Tensor) -> torch.Tensor:
        return _mark(value, self.marks, layer["name"], "backward") if value.requires_grad else value

    def set(self, name: str) -> None:
        self.marks(name, "other")


def vanilla(ops: Plain, inputs: torch.Tensor, timesteps: int) -> torch.Tensor:
    """Output (T, N, classes) for inputs (T or 1, N, C, H, W): an outer loop over timesteps, an inner one over layers.

    Membranes are plain torch operations, and the current of a static input is computed anew at every timestep.
    """
    network, outputs = ops.network, []
    state: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for t in range(timesteps):
        values = {"input": inputs[t : t + 1] if inputs.shape[0] > 1 else inputs}
        for layer in network.layers:
            name = layer["name"]
            ops.enter(layer)
            value = ops.current(layer, [values[source] for source in layer["inputs"]])
            if layer.get("spiking", True):
                state[name] = _next(value, state.get(name), network.neurons[name])
                value = state[name][1]
            values[name] = ops.leave(layer, value)
        outputs.append(values[network.layers[-1]["name"]])
    return torch.cat(outputs)


def through_steps(current: torch.Tensor, neuron: Neuron) -> torch.Tensor:
    """Spikes of currents (T, N, ...), each timestep by autograd."""
    state, spikes = None, []
    for x in current.unbind():
        state = _next(x, state, neuron)
        spikes.append(state[1])
    return torch.stack(spikes)


def _next(
    current: torch.Tensor, before: tuple[torch.Tensor, torch.Tensor] | None, neuron: Neuron
) -> tuple[torch.Tensor, torch.Tensor]:
    """(membrane, spikes) of the next timestep: eq. 2.1-2.3."""
    membrane = current
    if before is not None:
        last, fired = before
        spikes = fired.detach() if neuron.detach_reset else fired
        membrane = neuron.decay * neuron.kept(last, spikes) + current
        if neuron.reset == "subtract-after-leak":
            membrane = membrane - neuron.threshold * spikes
    return membrane, fire(membrane, neuron)


def by_layer(
    ops: Plain, inputs: torch.Tensor, timesteps: int, fired: Callable[[torch.Tensor, Neuron], torch.Tensor]
) -> torch.Tensor:
    """Output (T, N, classes) for inputs (T or 1, N, C, H, W), layer by layer over all timesteps.

    fired: spikes of a layer's currents, both (T, N, ...).
    """
    network, values = ops.network, {"input": inputs}
    for layer in network.layers:
        ops.enter(layer)
        value = spread(ops.current(layer, [values[source] for source in layer["inputs"]]), timesteps)
        if layer.get("spiking", True):
            value = fired(value, network.neurons[layer["name"]])
        values[layer["name"]] = ops.leave(layer, value)
    return values[network.layers[-1]["name"]]


def spread(value: torch.Tensor, timesteps: int) -> torch.Tensor:
    """A value of one timestep as that of all, without a copy."""
    return value.expand(timesteps, *value.shape[1:]) if value.shape[0] == 1 < timesteps else value
