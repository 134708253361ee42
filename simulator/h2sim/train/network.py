"""A torch module from a trace's layer list: plain and residual spiking networks."""

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
    """The layer's weight in PyTorch's layout, (C_out, C_in, kh, kw) or (F_out, F_in); None if it has none."""
    if layer["kind"] == "fc":
        return layer["out_features"], layer["in_features"]
    if layer["kind"] in ("encode", "conv"):
        return layer["out_shape"][0], layer["in_shape"][0], *layer["kernel"]
    return None


def check_read(layers: list[Layer]) -> None:
    """Raises NetworkError unless a trace may hold these layers and a later layer reads each but the last."""
    check_layers(layers, "network")
    read = {source for layer in layers for source in layer["inputs"]}
    for layer in layers[:-1]:
        if layer["name"] not in read:
            raise NetworkError(f"layer {layer['name']}: expected a later layer that reads it; got none")


class LayerParameters(nn.Module):
    """Parameters by layer name. torch takes no dots in a parameter's name, and a layer's has no '/'."""

    def __setitem__(self, layer: str, parameter: nn.Parameter) -> None:
        self.register_parameter(layer.replace(".", "/"), parameter)

    def __getitem__(self, layer: str) -> nn.Parameter:
        return self._parameters[layer.replace(".", "/")]  # type: ignore[return-value]

    def __contains__(self, layer: str) -> bool:
        return layer.replace(".", "/") in self._parameters


class SpikingNetwork(nn.Module):
    """Runs the `layers` of a trace's meta over all timesteps, layer by layer.

    A layer's current is a convolution, a product, an average pool or (kind add) the sum of its inputs;
    it then goes through LIF, unless the layer says `"spiking": false`. Weights and biases start uniform
    within 1 / sqrt(fan in), drawn from `generator`. Gradients of membranes and currents are rounded to
    `gradient_dtype`. Raises as check_read does.
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
        """Scale each layer's weights and bias until its current's standard deviation over `inputs` is `deviation`.

        Layer by layer, each on the scaled ones before it (LSUV, Mishkin and Matas 2016, with the threshold's scale in
        the place of 1): without it the spikes of a deep network die out on the way. A layer that meets no current
        keeps its weights. inputs are (T or 1, N, C, H, W).
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
        """Give every weight and bias the nearest float16 value, as the FP16 machine stores them."""
        for parameter in self.parameters():
            parameter.copy_(parameter.half().to(parameter.dtype))

    @property
    def reads_analog(self) -> bool:
        """Whether the first layer encodes an analog input, rather than reading spikes."""
        return bool(self.layers[0]["kind"] == "encode")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the network input, (F,) where a fully connected layer reads it flattened."""
        first = self.layers[0]
        return tuple(first["in_shape"]) if "in_shape" in first else (first["in_features"],)

    @property
    def classes(self) -> int:
        """Features of the last layer."""
        last = self.layers[-1]
        return int(last.get("out_features") or last["out_shape"][0])

    def current(self, layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        """x (T, N, ...) of one layer from what its inputs send, each (T, N, ...)."""
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
        """What the last layer sends on, (T, N, classes); inputs are (T or 1, N, C, H, W).

        An input of one timestep is a static one: the layer that reads it sees it at every timestep.
        `records`, if given, holds a LayerRecord per layer name, complete after the backward pass.
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
        """dL/dx of a layer that does not spike, as the machine holds it."""
        grad = rounded(grad, self.gradient_dtype)
        if record is not None:
            record_grad(record, grad, self.gradient_dtype)
        return grad
