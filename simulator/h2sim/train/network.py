"""A torch module made of a trace's layer list: plain and residual spiking networks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from h2sim.errors import NetworkError
from h2sim.export.record import LayerRecord
from h2sim.trace import check_layers
from h2sim.train.lif import Neuron, lif, record_grad, rounded

Layer = dict[str, Any]


def weight_shape(layer: Layer) -> tuple[int, ...] | None:
    """Shape of a layer's weight in PyTorch's layout: (C_out, C_in, kh, kw) or (F_out, F_in).

    None if it has no weight.
    """
    if layer["kind"] == "fc":
        return layer["out_features"], layer["in_features"]
    if layer["kind"] in ("encode", "conv"):
        return layer["out_shape"][0], layer["in_shape"][0], *layer["kernel"]
    return None


def check_read(layers: list[Layer]) -> None:
    """Raises NetworkError unless a trace may hold these layers and every layer but the last is read by a later one."""
    check_layers(layers, "network")
    read = {source for layer in layers for source in layer["inputs"]}
    for layer in layers[:-1]:
        if layer["name"] not in read:
            raise NetworkError(f"layer {layer['name']}: expected a later layer that reads it; got none")


class LayerParameters(nn.Module):
    """Parameters by layer name.

    torch allows no dot in a parameter's name, and a layer's name has no '/'; so dots are stored as '/'.
    """

    def __setitem__(self, layer: str, parameter: nn.Parameter) -> None:
        self.register_parameter(layer.replace(".", "/"), parameter)

    def __getitem__(self, layer: str) -> nn.Parameter:
        parameter = self._parameters[layer.replace(".", "/")]
        assert parameter is not None  # none is ever registered as None
        return parameter

    def __contains__(self, layer: str) -> bool:
        return layer.replace(".", "/") in self._parameters


class SpikingNetwork(nn.Module):
    """Runs the `layers` of a trace's meta over all timesteps, layer by layer.

    A layer's current is a convolution, a matrix product, an average pool, or (kind add) the sum of its inputs. The
    current then drives LIF neurons, unless the layer says `"spiking": false`. Weights and biases are drawn from
    `generator`, uniform in +-1 / sqrt(fan in). Gradients of membranes and currents are rounded to `gradient_dtype`
    (see lif.rounded). Raises NetworkError as check_read does.
    """

    def __init__(
        self, layers: list[Layer], neuron: Neuron, generator: torch.Generator, gradient_dtype: str = "float32"
    ) -> None:
        super().__init__()
        self.layers, self.neuron, self.gradient_dtype = layers, neuron, gradient_dtype
        check_read(layers)
        self.neurons = {
            layer["name"]: Neuron.from_meta({**neuron.to_meta(), **layer.get("neuron", {})}) for layer in layers
        }
        self.weights, self.biases = LayerParameters(), LayerParameters()
        for layer in layers:
            shape = weight_shape(layer)
            if shape is not None:
                bound = 1 / math.sqrt(math.prod(shape[1:]))
                for store, size in ((self.weights, shape), (self.biases, shape[:1])):
                    store[layer["name"]] = nn.Parameter(torch.empty(size).uniform_(-bound, bound, generator=generator))

    @torch.no_grad()
    def normalise(self, inputs: torch.Tensor, timesteps: int, deviation: float) -> None:
        """Scales each layer's weights and bias until the standard deviation of its current is `deviation`.

        The deviation is taken over `inputs` (T or 1, N, C, H, W), layer by layer, each layer reading the scaled layers
        before it (LSUV, Mishkin and Matas 2016, which scales to 1). Without this the spikes of a deep network die out
        from layer to layer. A layer whose current does not vary keeps its weights.
        """
        values = {"input": inputs}
        for layer in self.layers:
            name = layer["name"]
            value = self.current(layer, [values[source] for source in layer["inputs"]])
            spread = float(value.std())
            if name in self.weights and spread > 0:
                for parameter in (self.weights[name], self.biases[name]):
                    parameter.mul_(deviation / spread)
                value = value * (deviation / spread)
            if value.shape[0] == 1 < timesteps:
                value = value.expand(timesteps, *value.shape[1:])
            values[name] = lif(value, self.neurons[name]) if layer.get("spiking", True) else value

    @torch.no_grad()
    def round_to_float16(self) -> None:
        """Rounds every weight and bias to the nearest float16 value, which is what an FP16 machine stores."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half().to(parameter.dtype))

    @property
    def reads_analog(self) -> bool:
        """Whether the first layer encodes an analog input (else it reads spikes)."""
        return bool(self.layers[0]["kind"] == "encode")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the network input: (C, H, W), or (F,) where a fully connected layer reads it flattened."""
        first = self.layers[0]
        return tuple(first["in_shape"]) if "in_shape" in first else (first["in_features"],)

    @property
    def classes(self) -> int:
        """Number of classes: the features, or channels, of the last layer."""
        last = self.layers[-1]
        return int(last.get("out_features") or last["out_shape"][0])

    def current(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Current x (T, N, ...) of one layer from the outputs of the layers that it reads, each (T, N, ...)."""
        kind, name = layer["kind"], layer["name"]
        if kind == "add":
            return sum(inputs[1:], inputs[0])
        source = inputs[0]
        if kind == "fc":
            return functional.linear(source.flatten(2), self.weights[name], self.biases[name])
        frames = source.flatten(0, 1)
        stride, padding = tuple(layer["stride"]), tuple(layer["padding"])
        if kind == "pool":
            frames = functional.avg_pool2d(frames, tuple(layer["kernel"]), stride, padding)
        else:
            frames = functional.conv2d(frames, self.weights[name], self.biases[name], stride, padding)
        return torch.unflatten(frames, 0, source.shape[:2])

    def forward(
        self, inputs: torch.Tensor, timesteps: int, records: dict[str, LayerRecord] | None = None
    ) -> torch.Tensor:
        """Output of the last layer, (T, N, classes), for inputs (T or 1, N, C, H, W).

        An input of one timestep is static: the layer that reads it sees the same values at every timestep.
        records: a LayerRecord per layer name, which forward and backward pass fill; None records nothing.
        """
        values = {"input": inputs}
        for layer in self.layers:
            name = layer["name"]
            value = self.current(layer, [values[source] for source in layer["inputs"]])
            if value.shape[0] == 1 < timesteps:
                value = value.expand(timesteps, *value.shape[1:])
            record = None if records is None else records[name]
            if layer.get("spiking", True):
                value = lif(value, self.neurons[name], record, self.gradient_dtype)
            elif value.requires_grad:
                value.register_hook(partial(self._current_grad, record))  # type: ignore[no-untyped-call]
            values[name] = value
        return values[self.layers[-1]["name"]]

    def _current_grad(self, record: LayerRecord | None, grad: torch.Tensor) -> torch.Tensor:
        """Rounds and records dL/dx of a layer that does not spike."""
        grad = rounded(grad, self.gradient_dtype)
        if record is not None:
            record_grad(record, grad, self.gradient_dtype)
        return grad
