"""A network's forward pass timestep by timestep (the source's baseline) or layer by layer, with marks or without.

Both compute what h2sim.train's SpikingNetwork computes, with the same parameters and the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from h2sim.gpu.clock import Marks
from h2sim.gpu.split import Product, mark, split_conv, split_linear
from h2sim.gpu.trace import RowPhase
from h2sim.train.lif import Neuron, fire
from h2sim.train.network import Layer, SpikingNetwork


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

    def begin(self, name: str, phase: RowPhase) -> None:
        """Called when the work of a layer in a phase begins."""

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
        weight, bias = self.network.weights[name], self.network.biases[name]
        if layer["kind"] == "fc":
            return split_linear(inputs[0].flatten(2), weight, bias, Product(self.marks, name))
        how = Product(self.marks, name, tuple(layer["stride"]), tuple(layer["padding"]), (1, 1))
        frames = split_conv(inputs[0].flatten(0, 1), weight, bias, how)
        return torch.unflatten(frames, 0, inputs[0].shape[:2])

    def leave(self, layer: Layer, value: torch.Tensor) -> torch.Tensor:
        return mark(value, self.marks, layer["name"], "backward") if value.requires_grad else value

    def begin(self, name: str, phase: RowPhase) -> None:
        self.marks(name, phase)

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
