"""A torch module from a trace's layer list: plain and residual spiking networks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from h2sim.errors import NetworkError
from h2sim.trace import parse_meta
from h2sim.train.lif import LayerRecord, Neuron, lif

Layer = dict[str, Any]


def weight_shape(layer: Layer) -> tuple[int, ...] | None:
    """The layer's weight in PyTorch's layout, (C_out, C_in, kh, kw) or (F_out, F_in); None if it has none."""
    if layer["kind"] == "fc":
        return layer["out_features"], layer["in_features"]
    if layer["kind"] in ("encode", "conv"):
        return layer["out_shape"][0], layer["in_shape"][0], *layer["kernel"]
    return None


def check_layers(layers: list[Layer], neuron: Neuron) -> None:
    """Raises TraceError unless a trace may hold these layers, NetworkError if no later layer reads one."""
    parse_meta(
        {
            "format": "h2sim-trace",
            "version": 1,
            "network": "",
            "dataset": "",
            "timesteps": 1,
            "batch": 1,
            "phases": ["forward"],
            "neuron": neuron.to_meta(),
            "source": {"kind": "training"},
            "layers": layers,
        },
        "network",
    )
    read = {source for layer in layers for source in layer["inputs"]}
    for layer in layers[:-1]:
        if layer["name"] not in read:
            raise NetworkError(f"layer {layer['name']}: expected a later layer that reads it; got none")


class SpikingNetwork(nn.Module):
    """Runs the `layers` of a trace's meta over all timesteps, layer by layer.

    A layer's current is a convolution, a product, an average pool or (kind add) the sum of its inputs;
    it then goes through LIF, unless the layer says `"spiking": false`. Weights and biases start uniform
    within 1 / sqrt(fan in), drawn from `generator`. Raises as check_layers does.
    """

    def __init__(self, layers: list[Layer], neuron: Neuron, generator: torch.Generator) -> None:
        super().__init__()
        self.layers, self.neuron = layers, neuron
        check_layers(layers, neuron)
        self.neurons = {
            layer["name"]: Neuron.from_meta({**neuron.to_meta(), **layer.get("neuron", {})}) for layer in layers
        }
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        for layer in layers:
            shape = weight_shape(layer)
            if shape is not None:
                bound = 1 / math.sqrt(math.prod(shape[1:]))
                for store, size in ((self.weights, shape), (self.biases, shape[:1])):
                    store[layer["name"]] = nn.Parameter(torch.empty(size).uniform_(-bound, bound, generator=generator))

    @property
    def reads_analog(self) -> bool:
        """Whether the first layer encodes an analog input, rather than reading spikes."""
        return self.layers[0]["kind"] == "encode"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the network input."""
        return tuple(self.layers[0]["in_shape"])

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
        return frames.unflatten(0, source.shape[:2])

    def forward(
        self, inputs: torch.Tensor, timesteps: int, records: dict[str, LayerRecord] | None = None
    ) -> torch.Tensor:
        """What the last layer sends on, (T, N, classes); inputs are (T or 1, N, C, H, W).

        An input of one timestep is a static one: the layer that reads it sees it at every timestep.
        `records`, if given, receives a LayerRecord per layer name, complete after the backward pass.
        """
        values = {"input": inputs}
        for layer in self.layers:
            name = layer["name"]
            value = self.current(layer, [values[source] for source in layer["inputs"]])
            if value.shape[0] == 1 < timesteps:
                value = value.expand(timesteps, *value.shape[1:])
            record = None if records is None else records.setdefault(name, LayerRecord())
            if layer.get("spiking", True):
                value = lif(value, self.neurons[name], record)
            elif record is not None and value.requires_grad:
                value.register_hook(lambda grad, record=record: setattr(record, "grad", grad.detach()))
            values[name] = value
        return value
