"""Who feeds whom: the order in which gradients become known and which job completes them."""

from __future__ import annotations

from dataclasses import replace

from h2sim.activity import JobKey
from h2sim.shapes import ConvShape
from h2sim.trace import Layer, TraceMeta


class Graph:
    """The layers of a trace as a graph of spikes (forward) and gradients (backward)."""

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
        """An encoding layer as its engine works through it, and how many timesteps share what it computes: `once`:
        an input that stands still is convolved once (and its gradients are summed over time before)."""
        shape = self.meta.conv_shape(layer)
        if once and self.analog_steps == 1:
            return replace(shape, timesteps=1), shape.timesteps
        return shape, 1

    def spiking(self, name: str) -> bool:
        """Whether a layer's output is spikes (the binary network input is)."""
        return name not in self._layers or self._layers[name].spiking

    def chw(self, name: str) -> tuple[int, int, int]:
        return self._layers[name].out_chw

    def consumers(self, name: str) -> list[Layer]:
        """Layers that read `name`, in execution order."""
        return self._consumers[name]

    def producers(self, layer: Layer) -> tuple[JobKey, ...]:
        """Forward jobs whose results this layer reads."""
        return tuple((name, "forward") for name in layer.inputs if name in self._layers)

    def only_pools_read(self, layer: Layer) -> bool:
        """A current that only pools take goes to them inside the Soma unit and never to memory."""
        consumers = self._consumers[layer.name]
        return bool(consumers) and all(c.kind == "pool" for c in consumers)

    def completed_by(self, layer: Layer) -> list[str]:
        """Inputs of `layer` whose gradient is complete once this layer's part is there.

        The backward pass meets consumers last to first, so the first consumer completes. The current of a
        non-spiking layer under an `add` has the gradient of that add: nothing is left to compute.
        """
        found = []
        for name in layer.inputs:
            if name not in self._layers or self._consumers[name][0] is not layer:
                continue
            if layer.kind == "add" and not self._layers[name].spiking:
                continue
            found.append(name)
        return found

    def other_parts(self, name: str, but: Layer) -> int:
        """Contributions to the gradient of `name` that other consumers left in memory."""
        return sum(1 for c in self._consumers[name] if c is not but)

    def gradient_ready(self, layer: Layer) -> tuple[JobKey, ...]:
        """Jobs after which dm of a layer is in memory; none for an output layer, whose loss closed the forward pass."""
        consumers = self._consumers[layer.name]
        if not consumers:
            return ()
        first = consumers[0]
        if first.kind == "add" and not layer.spiking:
            return self.gradient_ready(first)
        return ((first.name, "backward"),)
