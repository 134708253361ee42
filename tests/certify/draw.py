"""Random small networks of every layer kind that has bounds, and what they do, computed plainly for every input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from h2sim.train.lif import Neuron, membranes
from h2sim.train.network import SpikingNetwork, over_time

ALPHAS, THRESHOLDS = (0.0, 0.25, 0.8, 1.0), (0.0, 0.25, 1.0)


class Drawn:
    """A network in float64, bounds of its input (T', 1, ...) or, where it encodes pixels, (1, ...), and a label."""

    def __init__(self, seed: int, unstable: int = 8) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.layers, self.maps = rng, list[dict](), dict[str, tuple[int, int, int]]()
        self.analog = rng.random() < 0.25
        self.steps, self.dyadic = int(rng.integers(1, 5)), bool(rng.random() < 0.5)
        self.shape = (int(rng.integers(1, 3)), int(rng.integers(3, 6)), int(rng.integers(3, 6)))
        self.neuron = Neuron(
            float(rng.choice(THRESHOLDS)),
            float(rng.choice(ALPHAS)),
            window=(-1.0, 2.0),
            fires_at=str(rng.choice(["greater", "greater_equal"])),  # type: ignore[arg-type]
        )
        self._layers()
        generator = torch.Generator().manual_seed(seed)
        self.network = SpikingNetwork(self.layers, self.neuron, generator).double().eval()
        self._weights()
        self.lower, self.upper = self._input(unstable)
        self.labels = torch.tensor([int(rng.integers(self.network.classes))])

    def _layers(self) -> None:
        rng = self.rng
        if self.analog or rng.random() < 0.6:
            self._conv("input", self.shape, "encode" if self.analog else "conv")
            for _ in range(int(rng.integers(0, 3))):
                name = self.layers[-1]["name"]
                shape = self.maps[name]
                makers = [self._conv, self._pool, self._sum, self._norm]
                makers[int(rng.integers(len(makers)))](name, shape)
        for features in rng.integers(2, 5, int(rng.integers(0, 2))):
            self._fc(int(features))
        self._fc(int(rng.integers(2, 5)), last=True)

    def _add(self, kind: str, inputs: list[str], shape: tuple[int, int, int], **entry) -> None:
        name = f"{kind}{len(self.layers)}"
        self.layers.append({"name": name, "kind": kind, "inputs": inputs, **entry})
        self.maps[name] = shape

    def _conv(self, source: str, shape: tuple[int, int, int], kind: str = "conv") -> None:
        rng, stride = self.rng, int(self.rng.integers(1, 3))
        out = (int(rng.integers(1, 4)), *(-(-side // stride) for side in shape[1:]))
        more = {"norm": {"kind": "batch", "training": True}} if rng.random() < 0.3 else {}
        if kind == "conv" and rng.random() < 0.3:
            more["spiking"] = False
        self._add(kind, [source], out, in_shape=list(shape), out_shape=list(out), kernel=[3, 3],
                  stride=[stride, stride], padding=[1, 1], **more)  # fmt: skip

    def _pool(self, source: str, shape: tuple[int, int, int]) -> None:
        out = (shape[0], shape[1] // 2, shape[2] // 2)
        if min(out) < 1:
            return
        spiking = {} if self.rng.random() < 0.5 else {"spiking": False}
        self._add("pool", [source], out, in_shape=list(shape), out_shape=list(out), kernel=[2, 2], stride=[2, 2],
                  padding=[0, 0], **spiking)  # fmt: skip

    def _sum(self, source: str, shape: tuple[int, int, int]) -> None:
        alike = [name for name, other in self.maps.items() if other == shape]
        other = str(self.rng.choice(alike))
        if other == source:
            self._conv_like(source, shape)
            other, source = source, self.layers[-1]["name"]
        spiking = {} if self.rng.random() < 0.7 else {"spiking": False}
        self._add("add", [source, other], shape, in_shape=list(shape), out_shape=list(shape), **spiking)

    def _conv_like(self, source: str, shape: tuple[int, int, int]) -> None:
        self._add("conv", [source], shape, in_shape=list(shape), out_shape=list(shape), kernel=[3, 3], stride=[1, 1],
                  padding=[1, 1])  # fmt: skip

    def _norm(self, source: str, shape: tuple[int, int, int]) -> None:
        self._add("norm", [source], shape, in_shape=list(shape), out_shape=list(shape),
                  norm={"kind": "batch", "training": True})  # fmt: skip
        self._conv_like(self.layers[-1]["name"], shape)

    def _fc(self, features: int, last: bool = False) -> None:
        source = self.layers[-1]["name"] if self.layers else "input"
        size = math.prod(self.maps.get(source, self.shape))
        more = {"spiking": False} if self.rng.random() < 0.2 else {}
        self._add("fc", [source], (features, 1, 1), in_features=size, out_features=features, **more)

    def _weights(self) -> None:
        with torch.no_grad():
            for parameter in self.network.parameters():
                values = self.rng.normal(0, 0.6, parameter.shape)
                parameter.copy_(torch.from_numpy(np.round(values * 8) / 8 if self.dyadic else values))
            for buffer in self.network.buffers():
                buffer.copy_(torch.from_numpy(self.rng.uniform(0.2, 1.5, buffer.shape)))

    def _input(self, unstable: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = self.rng
        if self.analog:
            centre = rng.integers(0, 9, (1, *self.shape)) / 8
            reach = np.zeros(centre.size)
            reach[rng.permutation(centre.size)[:unstable]] = rng.integers(0, 5) / 16
            reach = reach.reshape(centre.shape)
            return torch.from_numpy((centre - reach).clip(0, 1)), torch.from_numpy((centre + reach).clip(0, 1))
        low = (rng.random((self.steps, 1, *self.shape)) < 0.4).astype(float)
        flat, high = low.reshape(-1), low.copy().reshape(-1)
        picked = rng.permutation(flat.size)[: int(rng.integers(0, unstable + 1))]
        flat[picked], high[picked] = 0.0, 1.0
        return torch.from_numpy(low), torch.from_numpy(high.reshape(low.shape))

    def corners(self) -> torch.Tensor:
        """All inputs at the corners of the set, (T' or 1, corners, ...)."""
        low, high = (each.unsqueeze(0) if self.analog else each for each in (self.lower, self.upper))
        free = torch.nonzero((low != high).reshape(-1)).reshape(-1)
        ways = torch.tensor(list(itertools.product([False, True], repeat=len(free))), dtype=torch.bool)
        chosen = low.reshape(1, -1).repeat(len(ways), 1)
        chosen[:, free] = torch.where(ways, high.reshape(-1)[free], low.reshape(-1)[free])
        return chosen.view(len(ways), *low.shape).squeeze(2).transpose(0, 1)

    def inside(self, samples: int) -> torch.Tensor:
        """Inputs of the set, drawn at random: between the corners where the input is analog."""
        low, high = (each.unsqueeze(0) if self.analog else each for each in (self.lower, self.upper))
        shares = torch.from_numpy(self.rng.random((low.shape[0], samples, *self.shape)))
        return low + (high - low) * (shares if self.analog else shares.round())


@torch.no_grad()
def plain(network: SpikingNetwork, inputs: torch.Tensor, timesteps: int):
    """{layer: (m, s)} of a network for inputs (T or 1, N, ...); s is None where a layer has no neurons."""
    values, found = {"input": inputs}, {}
    for layer in network.layers:
        described = network.described[layer["name"]]
        reads = [values[source] for source in described.inputs]
        if not described.has_weights:
            reads = [over_time(each, timesteps) for each in reads]
        current = over_time(network.current(layer, reads), timesteps)
        norm = network.norm(layer["name"])
        current = current if norm is None else norm(current)
        m, s = membranes(current, network.neurons[layer["name"]]) if described.spiking else (current, None)
        found[layer["name"]] = m, s
        values[layer["name"]] = m if s is None else s
    return found


def faults(drawn: Drawn, bounds, inputs: torch.Tensor, slack: float = 1e-9) -> list[str]:
    """What some of the inputs (T or 1, N, ...) do that the bounds deny."""
    wrong, found = [], plain(drawn.network, inputs, drawn.steps)
    for name, (m, s) in found.items():
        bound = bounds.layers[name]
        if bool((m < bound.m_lower - slack).any() | (m > bound.m_upper + slack).any()):
            wrong.append(f"{name}: membrane")
        if s is not None and bool((s < bound.s_lower).any() | (s > bound.s_upper).any()):
            wrong.append(f"{name}: spikes")
    m, s = found[drawn.network.layers[-1]["name"]]
    output = (m if s is None else s).flatten(2).mean(0)
    label = int(drawn.labels)
    margins = output[:, label : label + 1] - output[:, [c for c in range(output.shape[1]) if c != label]]
    for kind in ("ibp", "crown"):
        if bool((margins < getattr(bounds, kind) - slack).any()):
            wrong.append(f"margin {kind}: {float((margins - getattr(bounds, kind)).min())}")
    return wrong
