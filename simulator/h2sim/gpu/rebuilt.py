"""The network of a trace as a torch model that can be timed: its layers, neurons and, where it has them, weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from h2sim.errors import GpuTraceError, at
from h2sim.export.places import Place, Places
from h2sim.export.roles import Role
from h2sim.export.torchmaps import over_time, shaped
from h2sim.gpu.energy import Timing
from h2sim.gpu.own import Asked, timed_model
from h2sim.gpu.targets import Target
from h2sim.gpu.timed import Plan, Report, unreported
from h2sim.gpu.trace import GpuTrace
from h2sim.trace import Layer, Trace
from h2sim.trace.bits import unpack
from h2sim.train.lif import Neuron, lif
from h2sim.train.network import SpikingNetwork
from h2sim.train.objective import Objective

IMPLEMENTATION = "layer by layer, rebuilt from a trace"
LEAST_DEVIATION = 1e-3  # of a layer's current, where weights are drawn


class _Fires(nn.Module):
    """LIF neurons over all timesteps."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return lif(x, self.neuron)


class _Part(nn.Module):
    """One layer of the network, from what it reads, (T or 1, N, ...) each, to what it sends. product: its weights'."""

    def __init__(self, network: SpikingNetwork, layer: Layer, timesteps: int) -> None:
        super().__init__()
        self.layer, self.timesteps = layer, timesteps
        self.entry = next(entry for entry in network.layers if entry["name"] == layer.name)
        self.product = _product(network, layer) if layer.has_weights else None
        self.norm = network.norm(layer.name)
        self.neuron = _Fires(network.neurons[layer.name]) if layer.spiking else None
        self._network = (network,)  # in a tuple, so that its parameters are not this module's, too

    def forward(self, *reads: torch.Tensor) -> torch.Tensor:
        x = over_time(self._current(list(reads)), self.timesteps)
        x = x if self.norm is None else self.norm(x)
        x = x if self.neuron is None else self.neuron(x)
        return x.mean(0, keepdim=True) if self.layer.mean_over_time else x

    def _current(self, reads: list[torch.Tensor]) -> torch.Tensor:
        if self.product is None:
            (network,) = self._network
            return network.current(self.entry, [over_time(x, self.timesteps) for x in reads])
        if self.layer.kind == "fc":
            found: torch.Tensor = self.product(reads[0].flatten(2))
            return found
        frames: torch.Tensor = self.product(shaped(reads[0], self.layer.in_chw).flatten(0, 1))
        return torch.unflatten(frames, 0, reads[0].shape[:2])

    def places(self) -> Iterator[Place]:
        """Where marks are set: the layer as a whole, and each of its parts."""
        name, whole = self.layer.name, self.product is None and self.norm is None and self.neuron is None
        yield Place(name, self, Role("map") if whole else Role(None), (name,))
        if self.product is not None:
            yield Place(f"{name}.product", self.product, Role("linear" if self.layer.kind == "fc" else "conv"), (name,))
        if self.norm is not None:
            yield Place(f"{name}.norm", self.norm, Role("norm"), (name,))
        if self.neuron is not None:
            yield Place(f"{name}.neuron", self.neuron, Role("neuron"), (name,))


def _product(network: SpikingNetwork, layer: Layer) -> nn.Module:
    """A convolution or linear layer that has the network's own parameters."""
    weight, bias = network.weights[layer.name], network.biases.get(layer.name)
    made: nn.Conv2d | nn.Linear
    if layer.kind == "fc":
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    else:
        assert layer.kernel is not None
        assert layer.stride is not None
        assert layer.padding is not None
        channels = weight.shape[1] * layer.groups, weight.shape[0]
        made = nn.Conv2d(
            *channels, layer.kernel, layer.stride, layer.padding, groups=layer.groups, bias=bias is not None,
            device="meta",
        )  # fmt: skip
    made.weight = weight
    if bias is not None:
        made.bias = bias
    return made


class Rebuilt(nn.Module):
    """The network of a trace. inputs (T or 1, N, ...) to the last layer's output (T or 1, N, classes)."""

    def __init__(self, network: SpikingNetwork, timesteps: int) -> None:
        super().__init__()
        self.layers = network.checked.meta.layers
        self.parts = nn.ModuleList(_Part(network, layer, timesteps) for layer in self.layers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = {"input": inputs}
        for layer, part in zip(self.layers, self.parts, strict=True):
            values[layer.name] = part(*(values[source] for source in layer.inputs))
        return values[self.layers[-1].name]

    def places(self, timesteps: int, samples: int) -> Places:
        """Where marks are set."""
        parts = [place for part in self.parts if isinstance(part, _Part) for place in part.places()]
        return Places(tuple(parts), tuple(layer.name for layer in self.layers), timesteps, samples)


@dataclass(frozen=True)
class _Made:
    """A network, its batch, and what a reader must know of both."""

    model: Rebuilt
    inputs: torch.Tensor
    labels: torch.Tensor
    notes: tuple[str, ...]


def record_trace(
    trace: Trace,
    target: Target,
    plan: Plan,
    *,
    batch: int | None = None,
    seed: int = 0,
    command: str | None = None,
    report: Report = unreported,
    timing: Timing | None = None,
) -> GpuTrace:
    """Times training steps of a trace's network on a target, on the trace's own input.

    batch: how many samples, the trace's again and again; None: the trace's. seed: of labels, and of weights where the
    trace has none. Raises NetworkError for a network that h2sim does not train, GpuTraceError otherwise.
    """
    meta, made = trace.meta, _made(trace, batch or trace.meta.batch, seed)
    asked = Asked(
        network=meta.network,
        dataset=meta.dataset,
        implementation=IMPLEMENTATION,
        plan=plan,
        command=command,
        notes=made.notes,
    )
    places = made.model.places(meta.timesteps, made.inputs.shape[1])
    return timed_model(made.model, made.inputs, made.labels, _loss, target, asked, places, report, timing)


def _loss(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return Objective().value(output.flatten(2), labels)


def _made(trace: Trace, batch: int, seed: int) -> _Made:
    meta, generator = trace.meta, torch.Generator().manual_seed(seed)
    neuron = Neuron.from_meta(meta.neuron.model_dump(mode="json", exclude_none=True))
    entry = meta.input.model_dump(exclude_none=True) if meta.input else None
    network = SpikingNetwork([layer.entry() for layer in meta.layers], neuron, generator, input_entry=entry)
    inputs = _input_of(trace)[:, torch.arange(batch) % meta.batch]
    held = _take_weights(network, trace)
    if not held:
        network.normalise(inputs, meta.timesteps, max(neuron.threshold, LEAST_DEVIATION))
    labels = torch.randint(0, network.classes, (batch,), generator=generator)
    return _Made(Rebuilt(network, meta.timesteps), inputs, labels, tuple(_notes(trace, batch, held)))


def _notes(trace: Trace, batch: int, held: bool) -> Iterator[str]:
    again = "" if batch == trace.meta.batch else f", taken again and again up to {batch}"
    yield f"samples: the {trace.meta.batch} of the trace{again}; random labels"
    drawn = "drawn at random, for the trace has none, and scaled so that neurons spike"
    yield f"weights: {'the trace has them' if held else drawn}"
    layers = [layer for layer in trace.meta.layers if layer.spiking]
    if any(layer.neuron.steepest is None for layer in layers):
        yield "[A] a surrogate gradient that the trace does not name is a rectangle over its window"
    if any(layer.neuron.equation == "other" for layer in layers):
        yield "[A] neurons of another equation than eq. 2.1 are LIF neurons of the same threshold and decay"


def _input_of(trace: Trace) -> torch.Tensor:
    """The network input (T or 1, N, C, H, W)."""
    meta = trace.meta
    channels, height, width = meta.input_shape
    if meta.input_kind == "spikes":
        bits = unpack(trace.input_spikes(), channels * height * width)
        values = bits.reshape(*bits.shape[:2], channels, height, width)
    else:
        values = trace.input_counts() if meta.input_kind == "counts" else trace.input_analog()
    return torch.from_numpy(values.astype(np.float32))


def _take_weights(network: SpikingNetwork, trace: Trace) -> bool:
    """Gives the network the trace's weights, where it has those of all layers; whether it has."""
    weighted = [layer for layer in trace.meta.layers if layer.has_weights]
    if not all(trace.has(f"{layer.name}.weight") for layer in weighted):
        return False
    for layer in trace.meta.layers:
        norm = network.norm(layer.name)
        stores: dict[str, Any] = {
            "weight": network.weights.get(layer.name), "bias": network.biases.get(layer.name),
            "norm_weight": norm and norm.weight, "norm_bias": norm and norm.bias,
        }  # fmt: skip
        for member, parameter in stores.items():
            if parameter is not None and trace.has(f"{layer.name}.{member}"):
                values = torch.from_numpy(trace.array(f"{layer.name}.{member}").astype(np.float32))
                if values.shape != parameter.shape:
                    where = f"{layer.name}.{member}"
                    raise GpuTraceError(at(str(trace.path), where, f"{tuple(parameter.shape)}", tuple(values.shape)))
                with torch.no_grad():
                    parameter.copy_(values)
    return True
