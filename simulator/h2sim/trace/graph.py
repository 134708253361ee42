"""Which layer reads which, and therefore which job must come before which.

The gradient of a layer's spikes is the sum of what each of its consumers contributes. The backward pass meets the
consumers last to first, so the job of the first consumer adds the last part: it completes the gradient.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import TYPE_CHECKING

from h2sim.activity import JobKey
from h2sim.shapes import ConvShape
from h2sim.trace import Layer, TraceMeta
from h2sim.trace.gradients import Gradients
from h2sim.trace.operands import Operand, operands_of

if TYPE_CHECKING:
    from h2sim.trace.read import Trace

VALUE_BITS = 16  # of FP16


class Graph:
    """The layers of a trace as a graph.

    analog_steps: timesteps of its analog input, 1 where that stands still. once: gates of which all timesteps of a
    sample share what they keep.
    """

    def __init__(self, meta: TraceMeta, analog_steps: int = 1, once: Container[str] = ()) -> None:
        self._once = once
        self.meta = meta
        self.samples = meta.timesteps * meta.batch
        self.operands = operands_of(meta)
        self.gradients = Gradients(meta)
        self.analog_steps = analog_steps
        self._layers = {layer.name: layer for layer in meta.layers}
        self._consumers: dict[str, list[Layer]] = {layer.name: [] for layer in meta.layers}
        for layer in meta.layers:
            for name in layer.inputs:
                if name in self._consumers:
                    self._consumers[name].append(layer)

    @classmethod
    def of(cls, trace: Trace) -> Graph:
        """The graph of an open trace."""
        gates = [layer.name for layer in trace.meta.layers if layer.kind == "gate"]
        once = {name for name in gates if trace.steps_of(f"{name}.kept") == 1}
        return cls(trace.meta, trace.analog_steps, once)

    def kept_steps(self, gate: Layer) -> int:
        """For how many timesteps of a sample a gate keeps a mask of its own: T, or 1."""
        return 1 if gate.name in self._once else self.meta.timesteps

    def gradient_samples(self, layer: Layer) -> int:
        """How many gradients there are of an element of a layer's output: T*N, of a mean over time N."""
        return self.meta.batch if layer.mean_over_time else self.samples

    def reads_analog_input(self, layer: Layer) -> bool:
        """Whether a layer reads the analog network input itself."""
        return layer.inputs == ("input",) and self.meta.analog

    def encoded(self, layer: Layer, once: bool) -> tuple[ConvShape, int]:
        """The shape that the engine computes of a convolution of analog values, and how many timesteps share a result.

        Normally every timestep is computed: (shape of all T timesteps, 1). With `once`, an encoding layer's input that
        is the same at every timestep is convolved once, or its gradients are summed over time first: (shape of one
        timestep, T).
        """
        shape = self.meta.conv_shape(layer)
        if layer.kind == "encode" and once and self.analog_steps == 1:
            return replace(shape, timesteps=1), shape.timesteps
        return shape, 1

    def spiking(self, name: str) -> bool:
        """Whether the output of a layer, or the network input, is spikes."""
        return name not in self._layers or self._layers[name].spiking

    def chw(self, name: str) -> tuple[int, int, int]:
        """(C, H, W) of the layer of that name, or of the network input."""
        return self._layers[name].out_chw if name in self._layers else self.meta.input_shape

    def operand(self, layer: Layer) -> Operand:
        """What the first input of a layer gives it."""
        return self.operands[layer.inputs[0]]

    def bits(self, name: str) -> int:
        """Bits that an element of a map takes in memory: those of its counts, at most as many as FP16's."""
        return min(self.operands[name].planes or VALUE_BITS, VALUE_BITS)

    def consumers(self, name: str) -> list[Layer]:
        """The layers that read layer `name`, in execution order."""
        return self._consumers[name]

    def producers(self, layer: Layer) -> tuple[JobKey, ...]:
        """The forward jobs whose results this layer reads."""
        return tuple((name, "forward") for name in layer.inputs if name in self._layers)

    def stays_in_soma(self, layer: Layer) -> bool:
        """Whether only pools, or other layers of one input without weights, read this layer's current or map.

        It then stays inside the Soma unit and never goes to memory.
        """
        consumers = self._consumers[layer.name]
        return bool(consumers) and not any(c.has_weights or len(c.inputs) > 1 for c in consumers)

    def feeds_conv(self, name: str) -> bool:
        """Whether a convolution reads a map: the Backward Engine then asks where its gradient is needed."""
        return any(c.kind == "conv" for c in self._consumers[name])

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

    def gradient_ready(self, layer: Layer) -> tuple[JobKey, ...]:
        """The jobs after which the membrane gradient dm of a layer is in memory.

        None for an output layer: its gradient comes from the loss, at the end of the forward pass. A non-spiking
        layer under an `add` waits for what that add waits for.
        """
        consumers = self._consumers[layer.name]
        if not consumers:
            return ()
        first = consumers[0]
        if self.is_own(layer, first):
            return self.gradient_ready(first)
        return tuple((job, "backward") for job in self.gradients.jobs_of(layer.name)[-1:])

    def is_own(self, layer: Layer, reader: Layer) -> bool:
        """Whether the gradient of a layer's output is that of an `add` which reads it, so that nothing is computed."""
        own = layer.spiking or self.gradients.is_routed(layer) or layer.trained_norms
        return reader.kind == "add" and not own and self.gradients.has_job(reader)
