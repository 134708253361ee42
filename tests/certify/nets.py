"""Random small networks of every layer kind that has bounds, and boxes around random inputs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from h2sim.train.lif import Neuron
from h2sim.train.network import SpikingNetwork
from tests.helpers.tiny import window

SHAPE, CLASSES = (2, 4, 4), 3
BATCH_NORM = {"norm": {"kind": "batch"}}


def fc(name: str, source: str, size: int, out: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "fc", "inputs": [source], "in_features": size, "out_features": out, **more}


def added(name: str, sources: list[str], shape: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "add", "inputs": sources, "in_shape": [*shape], "out_shape": [*shape], **more}


def families() -> dict[str, list[dict[str, Any]]]:
    """Layers by what they are for; all read SHAPE and have CLASSES outputs."""
    conv = window("conv", "conv", "input", SHAPE, 3, 3, 2)
    return {
        "fc": [fc("one", "input", 32, 5), fc("two", "one", 5, 4), fc("out", "two", 4, CLASSES)],
        "shallow": [fc("out", "input", 32, CLASSES)],
        "conv": [conv, fc("out", "conv", 12, CLASSES)],
        "groups": [window("conv", "conv", "input", SHAPE, 4, 3, 2, groups=2), fc("out", "conv", 16, CLASSES)],
        "pool": [window("pool", "pool", "input", SHAPE, 2, 2, 2, neuron={"threshold": 0.25}),
                 fc("out", "pool", 8, CLASSES)],
        "pool passed on": [conv, window("pool", "pool", "conv", (3, 2, 2), 3, 2, 2, spiking=False),
                           fc("out", "pool", 3, CLASSES)],
        "sum": [conv, window("pool", "pool", "conv", (3, 2, 2), 3, 2, 2, spiking=False, mode="sum"),
                fc("out", "pool", 3, CLASSES)],
        "add": [conv, window("block", "conv", "conv", (3, 2, 2), 3, 3, spiking=False),
                added("join", ["block", "conv"], (3, 2, 2)), fc("out", "join", 12, CLASSES)],
        "twice": [fc("one", "input", 32, 4), added("join", ["one", "one"], (4, 1, 1), spiking=False),
                  fc("out", "join", 4, CLASSES)],
        "norm": [{**conv, **BATCH_NORM}, fc("out", "conv", 12, CLASSES, **BATCH_NORM)],
        "norm of maps": [
            conv,
            {"name": "norm", "kind": "norm", "inputs": ["conv"], "in_shape": [3, 2, 2], "out_shape": [3, 2, 2],
             **BATCH_NORM},
            window("pool", "pool", "norm", (3, 2, 2), 3, 2, 2, **BATCH_NORM),
            fc("out", "pool", 3, CLASSES)],
        "encode": [window("encode", "encode", "input", SHAPE, 3, 3, 2), fc("out", "encode", 12, CLASSES)],
        "read as current": [conv, fc("out", "conv", 12, CLASSES, spiking=False)],
    }  # fmt: skip


@dataclass
class Drawn:
    """A network in float64 and a box around one input of it: lower and upper (T, 1, ...), or (1, 1, ...) analog."""

    family: str
    network: SpikingNetwork
    lower: torch.Tensor
    upper: torch.Tensor
    timesteps: int
    label: int

    @property
    def static(self) -> bool:
        return self.lower.shape[0] == 1 < self.timesteps

    def __repr__(self) -> str:
        return f"{self.family}, T' {self.timesteps}, {next(iter(self.network.neurons.values()))}"


@torch.no_grad()
def draw(seed: int, most_open: int = 8) -> Drawn:
    """A random network; half of them dyadic, so that membranes come to lie on thresholds exactly."""
    rng = np.random.default_rng(seed)
    made = families()
    family = str(rng.choice(list(made)))
    dyadic = bool(rng.random() < 0.5)
    alpha = float(rng.choice([0, 0.25, 1] if dyadic else [0, 0.25, 0.8, 1]))
    neuron = Neuron(float(rng.choice([0, 0.25, 1])), alpha, (-0.25, 0.75),
                    fires_at=str(rng.choice(["greater", "greater_equal"])))  # fmt: skip
    layers = [{**layer, "bias": bool(rng.random() < 0.7)} if layer["kind"] in ("fc", "conv", "encode") else layer
              for layer in made[family]]  # fmt: skip
    network = SpikingNetwork(layers, neuron, torch.Generator().manual_seed(seed)).double().eval()
    for parameter in (*network.weights.parameters(), *network.biases.parameters()):
        values = rng.normal(0.05, 0.6, tuple(parameter.shape))
        values = np.round(values * 4) / 4 if dyadic else values
        parameter.copy_(torch.tensor(values))
    for norm in network.norms.values():
        for name, value in norm.state_dict().items():
            drawn = rng.uniform(0.5, 2, tuple(value.shape)) if "variance" in name else rng.normal(size=value.shape)
            value.copy_(torch.tensor(drawn))
    timesteps = int(rng.integers(1, 5))
    analog = network.reads_analog
    steps = 1 if analog else timesteps
    values = rng.random((steps, 1, *SHAPE)) if analog else (rng.random((steps, 1, *SHAPE)) < 0.4)
    lower = torch.tensor(values, dtype=torch.float64)
    upper = lower.clone()
    places = rng.permutation(lower.numel())[: int(rng.integers(1, most_open + 1))]
    if analog:
        lower.view(-1)[places] = (lower.view(-1)[places] - 0.3).clamp_min(0)
        upper.view(-1)[places] = (upper.view(-1)[places] + 0.3).clamp_max(1)
    else:
        lower.view(-1)[places], upper.view(-1)[places] = 0.0, 1.0
    return Drawn(family, network, lower, upper, timesteps, int(rng.integers(CLASSES)))
