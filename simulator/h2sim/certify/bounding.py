"""S-IBP (forwards) and S-CROWN (backwards) on a network of the trainer: what holds for every input between two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from h2sim.certify import fire
from h2sim.certify.affine import Affine
from h2sim.certify.fire import LayerBounds
from h2sim.errors import NetworkError, at
from h2sim.train.lif import Neuron
from h2sim.train.network import SpikingNetwork, over_time


@dataclass(frozen=True)
class Bounds:
    """Bounds of a network between two inputs.

    layers: of every layer by name, in order. ibp, crown: lower bounds of the margins, (N, classes - 1): how far the
    mean over T' of the label's output lies above that of each other class, in the order of the classes.
    """

    layers: Mapping[str, LayerBounds]
    ibp: torch.Tensor
    crown: torch.Tensor

    @property
    def certificate(self) -> torch.Tensor:
        """The larger of both bounds of each margin: either one holds, and neither is tighter in general."""
        return torch.maximum(self.ibp, self.crown)

    @property
    def robust(self) -> torch.Tensor:
        """Which samples no input between the two changes, (N,): all margins above 0. A tie is no proof."""
        return (self.certificate > 0).all(1)


def bounds(
    network: SpikingNetwork,
    lower: torch.Tensor,
    upper: torch.Tensor,
    labels: torch.Tensor,
    *,
    timesteps: int | None = None,
) -> Bounds:
    """Bounds of the network for every input x with lower <= x <= upper, and of its margins for labels (N,).

    lower, upper: spikes (T', N, ...), of which those that differ may be either; or, for a network that encodes pixels,
    (N, ...), the same at every timestep, of which there are `timesteps` [default: 1]; or (T', N, ...). Norms and
    dropout are those of evaluation. Computed in the number format of the weights; gradients flow to the parameters.
    They are bounds of real numbers: where the sums of a neuron come to lie on its threshold, the order in which they
    are rounded decides whether it fires, and these sums have another order than the network's.
    Raises NetworkError for a layer or a neuron without bounds, and for inputs that do not fit.
    """
    lower, upper, steps = _inputs(network, lower, upper, timesteps)
    _check_labels(labels, lower.shape[1], network.classes)
    labels = labels.long()
    last = network.described[network.layers[-1]["name"]]
    if last.neurons != network.classes:
        raise NetworkError(at(last.name, "outputs", f"one a class, {network.classes}", list(last.out_chw)))
    was_training = network.training
    network.eval()
    try:
        affine = {layer["name"]: Affine(network, layer, steps) for layer in network.layers}
        neurons = {name: _neuron(network, name) for name, each in affine.items() if each.described.spiking}
        found = _forwards(network, affine, neurons, (lower, upper))
        ibp = _ibp(found[network.layers[-1]["name"]], labels)
        crown = _crown(network, affine, neurons, found, (lower, upper), labels)
    finally:
        network.train(was_training)
    return Bounds(found, ibp, crown)


def _inputs(
    network: SpikingNetwork, lower: torch.Tensor, upper: torch.Tensor, timesteps: int | None
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The bounds as (T' or 1, N, ...), and T'."""
    where = "bounds"
    if lower.shape != upper.shape:
        raise NetworkError(at(where, "shape", f"that of lower, {list(lower.shape)}", list(upper.shape)))
    ways = (2, 3, 4, 5)
    if lower.dim() not in ways or lower.numel() == 0:
        raise NetworkError(at(where, "shape", "(T', N, ...) or (N, ...), C x H x W or features", list(lower.shape)))
    if network.most_count is not None:
        raise NetworkError(at(where, "input", "spikes or pixels", "counts"))
    still = lower.dim() in (2, 4)
    size, reads = tuple(lower.shape[1 if still else 2 :]), network.input_shape
    if (math.prod(size),) != reads if len(reads) == 1 else size != reads:
        raise NetworkError(at(where, "shape", f"{list(reads)} of each sample, the network's input", list(size)))
    if still and not network.reads_analog:
        raise NetworkError(at(where, "shape", "spikes (T', N, ...)", list(lower.shape)))
    dtype = next(network.parameters()).dtype
    lower, upper = lower.to(dtype), upper.to(dtype)
    if not bool(torch.isfinite(lower).all() & torch.isfinite(upper).all()) or not bool((lower <= upper).all()):
        raise NetworkError(at(where, "values", "finite numbers, lower <= upper", "others"))
    if not network.reads_analog and not bool(((lower == 0) | (lower == 1)).all() & ((upper == 0) | (upper == 1)).all()):
        raise NetworkError(at(where, "values", "spikes, 0 or 1", "others"))
    steps = (timesteps or 1) if still else lower.shape[0]
    if timesteps is not None and (timesteps < 1 or steps != timesteps):
        raise NetworkError(at(where, "timesteps", f"{lower.shape[0]}, those of the bounds", timesteps))
    if still:
        lower, upper = lower.unsqueeze(0), upper.unsqueeze(0)
    return lower, upper, steps


def _check_labels(labels: torch.Tensor, samples: int, classes: int) -> None:
    if labels.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise NetworkError(at("bounds", "labels", "integers", labels.dtype))
    if labels.shape != (samples,):
        raise NetworkError(at("bounds", "labels", f"shape {[samples]}", list(labels.shape)))
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise NetworkError(at("bounds", "labels", f"numbers from 0 to {classes - 1}", "others"))


def _neuron(network: SpikingNetwork, layer: str) -> Neuron:
    """The neuron of a layer with its threshold and decay as they are now."""
    neuron, threshold, decay = network.neurons[layer], network.thresholds.get(layer), network.decays.get(layer)
    if threshold is not None and decay is not None:
        neuron = neuron.at(float(threshold.detach()), float(decay.detach()))
    fire.check_neuron(layer, neuron)
    return neuron


def _forwards(
    network: SpikingNetwork,
    affine: Mapping[str, Affine],
    neurons: Mapping[str, Neuron],
    inputs: tuple[torch.Tensor, torch.Tensor],
) -> dict[str, LayerBounds]:
    """S-IBP (algorithm 6)."""
    values, found = {"input": inputs}, dict[str, LayerBounds]()
    for layer in network.layers:
        name = layer["name"]
        each = affine[name]
        reads = [values[source] for source in each.described.inputs]
        if not each.described.has_weights:
            reads = [(over_time(low, each.timesteps), over_time(high, each.timesteps)) for low, high in reads]
        low, high = each.interval(reads)
        found[name] = fire.fired(low, high, neurons[name]) if name in neurons else LayerBounds(low, high)
        values[name] = found[name].sent
    return found


def _ibp(last: LayerBounds, labels: torch.Tensor) -> torch.Tensor:
    low, high = (each.flatten(2).mean(0) for each in last.sent)
    return _others(low.gather(1, labels[:, None]) - high, labels)


def _others(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, classes) without the label's column: (N, classes - 1)."""
    classes = values.shape[1]
    columns = torch.arange(classes - 1).expand(len(labels), -1)
    return values.gather(1, columns + (columns >= labels[:, None]).long())


def _crown(
    network: SpikingNetwork,
    affine: Mapping[str, Affine],
    neurons: Mapping[str, Neuron],
    found: Mapping[str, LayerBounds],
    inputs: tuple[torch.Tensor, torch.Tensor],
    labels: torch.Tensor,
) -> torch.Tensor:
    """S-CROWN (algorithm 7): rows of lower bounds, from the margins back to the input by all readers of a map."""
    last, sent = network.layers[-1]["name"], {"input": inputs, **{name: each.sent for name, each in found.items()}}
    low, _ = found[last].sent
    rows = {last: _margins(labels, network.classes, low)}
    constants = low.new_zeros((network.classes - 1, len(labels)))
    for layer in reversed(network.layers):
        name = layer["name"]
        if name not in rows:
            continue  # nobody reads it
        over = rows.pop(name)
        if name in neurons:
            over, added = fire.backwards(over, found[name], neurons[name])
            constants = constants + added
        each = affine[name]
        shapes = [tuple(sent[source][0].shape) for source in each.described.inputs]
        parts, added = each.backwards(over, shapes)
        constants = constants + added
        for source, part in zip(each.described.inputs, parts, strict=True):
            rows[source] = rows[source] + part if source in rows else part
    low, high = inputs
    over = rows["input"]
    centre, reach = ((high + low) / 2).unsqueeze(1), ((high - low) / 2).unsqueeze(1)
    return (constants + (over * centre - over.abs() * reach).flatten(3).sum((0, 3))).T


def _margins(labels: torch.Tensor, classes: int, like: torch.Tensor) -> torch.Tensor:
    """C / T' at every timestep: rows (T', classes - 1, N, ...) of the label's output minus each other's."""
    one = torch.eye(classes, dtype=like.dtype)
    others = torch.stack([torch.cat([one[:y], one[y + 1 :]]) for y in range(classes)])  # (label, row, class)
    rows = (one[labels].unsqueeze(1) - others[labels]).transpose(0, 1) / like.shape[0]
    return rows.reshape(1, *rows.shape[:2], *like.shape[2:]).expand(like.shape[0], -1, -1, *like.shape[2:])
