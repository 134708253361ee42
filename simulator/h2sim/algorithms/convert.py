"""From a network without spikes to a spiking one of the same weights: a threshold for each layer.

By balancing (DIET-SNN): layer by layer, in the spiking network without leak, v = the largest over timesteps of a
percentile of the current, the layers before it already having their thresholds. By activations (neuroevolution, section
2): v_n = p_n / p_(n-1), p_n the percentile of layer n's relu in the network without spikes, p of the input 1, so that a
spike stands for p_n. Both are then multiplied by a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from h2sim.datasets import Dataset
from h2sim.errors import TrainingError, at
from h2sim.train.batches import Coding, coded_batch, held_out
from h2sim.train.lif import Neuron
from h2sim.train.network import Layer, SpikingNetwork, over_time

if TYPE_CHECKING:
    from h2sim.train.trainer import Trainer

PART = 100  # samples that are classified at once
LEAST = 1e-6  # of a threshold; a layer whose currents are all 0 or below has none


@dataclass(frozen=True)
class Balancing:
    """percentile: from 0 to 100. timesteps: for which the network runs as thresholds are sought."""

    percentile: float = 99.7
    timesteps: int = 100


def percentile(values: torch.Tensor, share: float) -> float:
    """The k-th smallest of n values, k = 1 + round(share / 100 * (n - 1)): an element, without interpolation."""
    flat = values.detach().reshape(-1)
    k = 1 + round(share / 100 * (flat.numel() - 1))
    return float(flat.kthvalue(k).values)


@torch.no_grad()
def balanced(network: SpikingNetwork, inputs: torch.Tensor, how: Balancing, neuron: Neuron) -> dict[str, float]:
    """Thresholds by balancing, of the layers that fire, in order: {layer: v}.

    network: the spiking one, with the weights; inputs: (1 or T, N, C, H, W); neuron: what its layers are, but for their
    thresholds. Raises TrainingError where a layer's percentile is not above 0.
    """
    found: dict[str, float] = {}
    network.eval()
    steps = how.timesteps

    def at_step(name: str, t: int) -> torch.Tensor:
        value = values[name]
        return value[t : t + 1] if value.shape[0] > 1 else value

    values: dict[str, torch.Tensor] = {"input": inputs.to(torch.float32)}
    last_read = {source: layer["name"] for layer in network.layers for source in layer["inputs"]}
    for number, layer in enumerate(network.layers):
        before = network.layers[number - 1]["name"] if number else None
        values = {source: value for source, value in values.items() if last_read[source] != before}
        name, described = layer["name"], network.described[layer["name"]]
        still = all(values[source].shape[0] == 1 for source in described.inputs)

        def current(t: int, layer: Layer = layer, sources: Sequence[str] = described.inputs) -> torch.Tensor:
            x = network.current(layer, [_float(at_step(source, t)) for source in sources])
            return x[0]

        if not described.spiking:
            values[name] = torch.stack([current(t) for t in range(1 if still else steps)])
            continue
        largest = max(percentile(current(t), how.percentile) for t in range(1 if still else steps))
        if largest < LEAST:
            wanted = f"a {how.percentile:g} percentile of its current above 0"
            raise TrainingError(at("conversion", name, wanted, f"{largest:g}"))
        found[name] = largest
        values[name] = _fired(current, steps, still, neuron.at(largest, neuron.decay))
    network.train()
    return found


def _float(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.float32) if value.dtype == torch.uint8 else value


def _fired(current: Callable[[int], torch.Tensor], steps: int, still: bool, neuron: Neuron) -> torch.Tensor:
    """The spikes of a layer over all timesteps, uint8 (T, N, ...), one timestep of currents in memory at a time."""
    x = current(0)
    membrane, spikes, made = torch.zeros_like(x), torch.zeros_like(x), []
    for t in range(steps):
        x = x if still or not t else current(t)
        kept = neuron.decay * neuron.kept(membrane, spikes)
        membrane = x + kept if neuron.reset != "subtract-after-leak" else x + kept - neuron.threshold * spikes
        spikes = neuron.fires(membrane).to(x.dtype)
        made.append(spikes.to(torch.uint8))
    return torch.stack(made)


@torch.no_grad()
def of_activations(
    ann: SpikingNetwork, spiking: SpikingNetwork, inputs: torch.Tensor, share: float
) -> dict[str, float]:
    """Thresholds by activations, {layer: v}. ann: the trained network without spikes, whose relus are `<layer>.relu`.

    Raises TrainingError where a layer's percentile is not above 0, or where a layer reads several of unequal size.
    """
    ann.eval()
    values, sizes, found = {"input": inputs.to(torch.float32)}, {"input": 1.0}, {}
    for layer in ann.layers:
        described = ann.described[layer["name"]]
        values[layer["name"]] = ann.current(layer, [over_time(values[source], 1) for source in described.inputs])
    ann.train()
    for layer in spiking.layers:
        name, described = layer["name"], spiking.described[layer["name"]]
        below = {sizes[source] for source in described.inputs}
        if len(below) > 1:
            raise TrainingError(
                at("conversion", name, "inputs whose spikes stand for the same", "several: balance them")
            )
        sizes[name] = below.pop()
        if described.spiking:
            size = percentile(values[f"{name}.relu"], share)
            if size < LEAST:
                raise TrainingError(at("conversion", name, f"a {share:g} percentile of its relu above 0", f"{size:g}"))
            found[name], sizes[name] = size / sizes[name], size
    return found


@torch.no_grad()
def take(
    network: SpikingNetwork, weights: Mapping[str, torch.Tensor], thresholds: Mapping[str, float], scale: float
) -> None:
    """Gives a spiking network with trained neurons the weights of one without spikes, and thresholds times `scale`.

    Raises TrainingError where a layer has no weights there.
    """
    own = network.weights.state_dict()
    for name, value in own.items():
        given = weights.get(f"weights.{name}")
        if given is None or given.shape != value.shape:
            got = "none" if given is None else f"shape {list(given.shape)}"
            raise TrainingError(at("conversion", name, f"weights of shape {list(value.shape)}", got))
        network.weights[name.replace("/", ".")].copy_(given)
    for name, threshold in thresholds.items():
        network.thresholds[name].fill_(threshold * scale)
        network.decays[name].fill_(network.neurons[name].decay)


@torch.no_grad()
def accuracy_over_time(
    network: SpikingNetwork, dataset: Dataset, coding: Coding, samples: int | None = None, seed: int = 1
) -> list[float]:
    """Share of the held-out samples that are right by the output summed up to t, for t = 1 .. coding.timesteps.

    samples: so many only, spread over them. seed: of the random spikes that images are coded as.
    """
    count = 0
    right = torch.zeros(coding.timesteps, dtype=torch.int64)
    network.eval()
    for batch in held_out(dataset, coding, samples, seed, PART):
        scores = over_time(network(batch.inputs, coding.timesteps), coding.timesteps).cumsum(0)
        right += (scores.argmax(2) == batch.labels).sum(1)
        count += len(batch.labels)
    network.train()
    return [int(n) / count for n in right]


@dataclass(frozen=True)
class Conversion:
    """A converted network. thresholds: of each layer that fires, not scaled; accuracies: {scale: of t = 1 .. T};
    ann_accuracy: of the network without spikes, on the same samples."""

    thresholds: Mapping[str, float]
    accuracies: Mapping[float, Sequence[float]]
    ann_accuracy: float


def convert(
    spiking: Trainer,
    ann: Trainer,
    how: Balancing | float,
    scales: Sequence[float],
    images: int,
    timesteps: int,
    samples: int | None = None,
) -> Conversion:
    """Gives the network of `spiking` the weights of `ann` and thresholds, and tries every scale; the last one stays.

    how: balancing, or the percentile of activations. images: training samples that thresholds are sought with.
    timesteps: of the accuracies. samples: held-out samples that they are taken of (None: all). Raises TrainingError as
    `balanced`, `of_activations` and `take` do.
    """
    data = spiking.dataset
    rows = np.random.default_rng(spiking.settings.seed).permutation(len(data.train))[:images]
    coding = replace(spiking.coding, timesteps=timesteps, shift_pixels=0)
    generator = torch.Generator().manual_seed(spiking.settings.seed)
    weights = ann.network.state_dict()
    take(spiking.network, weights, {}, 1.0)
    if isinstance(how, Balancing):
        steps = replace(coding, timesteps=how.timesteps)
        inputs = coded_batch(data, data.train, rows, steps, generator, shift=False).inputs
        thresholds = balanced(spiking.network, inputs, how, spiking.settings.neuron)
    else:
        inputs = coded_batch(data, data.train, rows, replace(coding, timesteps=1), generator, shift=False).inputs
        thresholds = of_activations(ann.network, spiking.network, inputs, how)
    accuracies = {}
    for scale in scales:
        take(spiking.network, weights, thresholds, scale)
        accuracies[scale] = accuracy_over_time(spiking.network, data, coding, samples)
    return Conversion(thresholds, accuracies, ann.accuracy(samples))
