"""The networks and recipes of the committed traces."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from h2sim.train.bptt import Recipe
from h2sim.train.lif import Neuron
from h2sim.train.network import Layer


def output_shape(layer: Layer) -> tuple[int, ...]:
    """(C, H, W) or (F,) of what the layer sends on, for one timestep and sample."""
    return (layer["out_features"],) if layer["kind"] == "fc" else tuple(layer["out_shape"])


@dataclass(frozen=True)
class Preset:
    """One committed trace: what is trained, how, and where its file goes (relative to the checkout)."""

    network: str
    file: str
    image_size: int
    layers: list[Layer]
    recipe: Recipe
    neuron: Neuron = field(default_factory=Neuron)


def conv(name: str, source: Layer | tuple[int, int, int], channels: int, kernel: int, **extra: Any) -> Layer:
    """A kernel x kernel convolution with "same" padding; extra: kind, stride, spiking.

    `source` is the layer it reads, or the (C, H, W) of the network input.
    """
    stride = extra.pop("stride", 1)
    shape = source if isinstance(source, tuple) else output_shape(source)
    pad = kernel // 2
    out = [channels, *((n + 2 * pad - kernel) // stride + 1 for n in shape[1:])]
    return {
        "name": name,
        "kind": extra.pop("kind", "conv"),
        "inputs": ["input" if isinstance(source, tuple) else source["name"]],
        "in_shape": list(shape),
        "out_shape": out,
        "kernel": [kernel, kernel],
        "stride": [stride, stride],
        "padding": [pad, pad],
        **extra,
    }


def pool(name: str, source: Layer, **extra: Any) -> Layer:
    """AP2: a 2 x 2 average pool of stride 2, then LIF."""
    channels, height, width = output_shape(source)
    return {
        "name": name,
        "kind": "pool",
        "inputs": [source["name"]],
        "in_shape": [channels, height, width],
        "out_shape": [channels, height // 2, width // 2],
        "kernel": [2, 2],
        "stride": [2, 2],
        "padding": [0, 0],
        **extra,
    }


def add(name: str, *sources: Layer) -> Layer:
    """The residual sum of what the sources send, then LIF."""
    shape = list(output_shape(sources[0]))
    inputs = [source["name"] for source in sources]
    return {"name": name, "kind": "add", "inputs": inputs, "in_shape": shape, "out_shape": shape}


def fc(name: str, source: Layer, features: int, **extra: Any) -> Layer:
    """A fully connected layer over the flattened source."""
    return {
        "name": name,
        "kind": "fc",
        "inputs": [source["name"]],
        "in_features": math.prod(output_shape(source)),
        "out_features": features,
        **extra,
    }


def mnist_small() -> list[Layer]:
    """32C3-AP2-64C3-AP2-128C3-AP2-512FC-10FC on 1 x 28 x 28 spikes (the network of table 3.7)."""
    conv1 = conv("conv1", (1, 28, 28), 32, 3)
    pool1 = pool("pool1", conv1)
    conv2 = conv("conv2", pool1, 64, 3)
    pool2 = pool("pool2", conv2)
    conv3 = conv("conv3", pool2, 128, 3)
    pool3 = pool("pool3", conv3)
    fc1 = fc("fc1", pool3, 512)
    return [conv1, pool1, conv2, pool2, conv3, pool3, fc1, fc("fc2", fc1, 10, spiking=False)]


def encode_residual() -> list[Layer]:
    """A small residual network with every layer kind: encoding, stride 2, a 5 x 5 kernel, add, pool, fc."""
    encode = conv("encode", (1, 14, 14), 6, 3, kind="encode")
    down = conv("down", encode, 12, 3, stride=2)
    block1 = conv("block1", down, 12, 3)
    block2 = conv("block2", block1, 12, 5, spiking=False)
    join = add("join", block2, down)
    pool1 = pool("pool1", join)
    fc1 = fc("fc1", pool1, 40)
    return [encode, down, block1, block2, join, pool1, fc1, fc("fc2", fc1, 10, spiking=False)]


def presets() -> dict[str, Preset]:
    """The committed traces by name."""
    return {
        "mnist-digits": Preset(
            "mnist-small", "workloads/traces/mnist-digits.npz", 28, mnist_small(), Recipe(epochs=4, shift_pixels=2)
        ),
        "encode-residual": Preset(
            "encode-residual",
            "tests/data/encode-residual.npz",
            14,
            encode_residual(),
            Recipe(epochs=4, batch=16, learning_rate=2e-3, timesteps=8),
        ),
    }
