"""Which layer reads which, and therefore which job must come before which.

The gradient of a layer's spikes is the sum of what each of its consumers contributes. The backward pass meets the
consumers last to first, so the job of the first consumer adds the last part: it completes the gradient.
"""

from __future__ import annotations

from dataclasses import replace

from h2sim.activity import JobKey
from h2sim.shapes import ConvShape
from h2sim.trace import Layer, TraceMeta


class Graph:
    """The layers of a trace as a graph; analog_steps: timesteps of its analog input, 1 where that stands still."""

    def __init__(self, meta: TraceMeta, analog_steps: int = 1) -> None:
        self.meta = meta
        self.samples = meta.timesteps * meta.batch
        self.analog_steps = analog_steps
        self._layers = {layer.name: layer for layer in meta.layers}
        self._consumers: dict[str, list[Layer]] = {layer.name: [] for layer in meta.layers}
        for layer in meta.layers:
            for name in layer.inputs:
                if name in self._consumers:
                    self._consumers[name].append(layer)

    def encoded(self, layer: Layer, once: bool) -> tuple[ConvShape, int]:
        """The shape that the engine computes of an encoding layer, and how many timesteps share each result.

        Normally every timestep is computed: (shape of all T timesteps, 1). With `once`, an input that is the same at
        every timestep is convolved once, or its gradients are summed over time first: (shape of one timestep, T).
        """
        shape = self.meta.conv_shape(layer)
        if once and self.analog_steps == 1:
            return replace(shape, timesteps=1), shape.timesteps
        return shape, 1

    def spiking(self, name: str) -> bool:
        """Whether the output of a layer, or the network input, is spikes."""
        return name not in self._layers or self._layers[name].spiking

    def chw(self, name: str) -> tuple[int, int, int]:
        """Output neurons of the layer of that name, (C, H, W)."""
        return self._layers[name].out_chw

    def consumers(self, name: str) -> list[Layer]:
        """The layers that read layer `name`, in execution order."""
        return self._consumers[name]

    def producers(self, layer: Layer) -> tuple[JobKey, ...]:
        """The forward jobs whose results this layer reads."""
        return tuple((name, "forward") for name in layer.inputs if name in self._layers)

    def only_pools_read(self, layer: Layer) -> bool:
        """Whether only pools read this layer. Its current then stays inside the Soma unit and never goes to memory."""
        consumers = self._consumers[layer.name]
        return bool(consumers) and all(c.kind == "pool" for c in consumers)

    def completed_by(self, layer: Layer) -> list[str]:
        """The inputs of `layer` whose gradient is complete once this layer's part is there.

        These are the inputs of which `layer` is the first consumer. The current that a non-spiking layer gives to an
        `add` is left out: its gradient is the add's own, so nothing is to be computed.
        """
        found = []
        for name in layer.inputs:
            if name not in self._layers or self._consumers[name][0] is not layer:
                continue
            if layer.kind == "add" and not self._layers[name].spiking:
                continue
            found.append(name)
        return found

    def biases_of(self, name: str) -> int:
        """How many bias gradients (eq. 2.8) are sums of the gradient dm of layer `name`.

        Its own, and those of the non-spiking layers under an `add`, whose gradient is the add's.
        """
        layer = self._layers[name]
        own = int(layer.has_bias)
        if layer.kind != "add":
            return own
        under = [n for n in layer.inputs if n in self._layers and not self._layers[n].spiking]
        return own + sum(self.biases_of(n) for n in under)

    def other_parts(self, name: str, but: Layer) -> int:
        """How many consumers of `name` other than `but` left their part of its gradient in memory."""
        return sum(1 for c in self._consumers[name] if c is not but)

    def gradient_ready(self, layer: Layer) -> tuple[JobKey, ...]:
        """The jobs after which the membrane gradient dm of a layer is in memory.

        None for an output layer: its gradient comes from the loss, at the end of the forward pass. A non-spiking
        layer under an `add` waits for what that add waits for.
        """
        consumers = self._consumers[layer.name]
        if not consumers:
            return ()
        first = consumers[0]
        if first.kind == "add" and not layer.spiking:
            return self.gradient_ready(first)
        return ((first.name, "backward"),)
