"""What a layer makes of its inputs before its neuron fires, as an affine map: x = g (L s + b) + h.

L: weights, an average, or a sum; g, h: batch norm by its running statistics, where there is one. Intervals go forward
through it (S-IBP), rows of coefficients back (S-CROWN). Both are the trainer's own operations in other order.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from h2sim.errors import TrainingError, at
from h2sim.export.torchmaps import MAKERS, shaped
from h2sim.trace import Layer
from h2sim.train.network import SpikingNetwork, product

KINDS = ("encode", "conv", "fc", "pool", "add", "norm")
Interval = tuple[torch.Tensor, torch.Tensor]  # lower and upper bound


def check_network(network: SpikingNetwork) -> None:
    """Raises TrainingError, a line per layer and field, for what has no bounds here.

    The bounds ask for alpha >= 0 and th >= 0: with th < 0 the largest z of a neuron that may fire is 0, not th. Those
    of other resets than to zero are not in the source.
    """
    faults = [line for layer in network.described.values() for line in _faults(network, layer)]
    if faults:
        raise TrainingError(*faults)


def _faults(network: SpikingNetwork, layer: Layer) -> Iterator[str]:
    where, neuron = f"certify: layer {layer.name}", network.neurons[layer.name]
    if layer.kind not in KINDS:
        yield at(where, "kind", f"one of {', '.join(KINDS)}", layer.kind)
    if layer.kind == "pool" and layer.mode == "max":
        yield at(where, "mode", "average or sum", layer.mode)
    if layer.kind == "add" and layer.op != "sum":
        yield at(where, "op", "sum", layer.op)
    if any("N" not in norm.over for norm in layer.norm):
        yield at(where, "norm", "statistics over samples, which are fixed once trained", "statistics of each sample")
    if layer.spiking:
        if layer.name in network.thresholds:
            yield at(where, "neuron", "a threshold and a decay that are not trained", "trained ones")
        if neuron.reset != "zero":
            yield at(where, "neuron.reset", "zero", neuron.reset)
        for name, value in (("decay", neuron.decay), ("threshold", neuron.threshold)):
            if value < 0:
                yield at(where, f"neuron.{name}", "a number of 0 or more", f"{value:g}")


def interval(network: SpikingNetwork, layer: Layer, reads: list[Interval]) -> Interval:
    """Bounds of the layer's x, (T, N, ...) as the inputs' are (eq. 6.8, before the temporal part).

    Three passes of the weights: w on the lower bound, w+ and w- on what lies between the bounds (for spikes a mask).
    Where the bounds are equal the first pass alone counts: x is what the network computes, to the bit.
    """
    lower, upper = reads[0]
    if layer.has_weights:
        weight, bias = network.weights[layer.name], network.biases.get(layer.name)
        centre, gap = product(layer, lower, weight, bias), upper - lower
        x_lower = centre + product(layer, gap, weight.clamp_max(0), None)
        x_upper = centre + product(layer, gap, weight.clamp_min(0), None)
    else:
        make = MAKERS[layer.kind]
        x_lower, x_upper = (make(layer, [read[side] for read in reads]) for side in (0, 1))
    folded = folded_norm(network, layer, x_lower)
    if folded is None:
        return x_lower, x_upper
    scale, offset = folded
    first, second = x_lower * scale + offset, x_upper * scale + offset
    rises = scale >= 0
    return torch.where(rises, first, second), torch.where(rises, second, first)


def folded_norm(network: SpikingNetwork, layer: Layer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """g and h of a layer's norms by their running statistics, shaped to multiply x (T, N, ...); None without norm."""
    norm = network.norm(layer.name)
    if norm is None:
        return None
    scale: torch.Tensor = norm.weight[:, None, None]
    offset: torch.Tensor = norm.bias[:, None, None]
    for number in reversed(range(len(layer.norm))):  # y -> (y - mean) r, the last one first: g y + h -> g r y + h - ...
        mean, variance = getattr(norm, f"mean{number}")[0, 0], getattr(norm, f"variance{number}")[0, 0]
        scale = scale * torch.rsqrt(variance + layer.norm[number].eps)
        offset = offset - scale * mean
    shape = (1, 1, -1) if x.dim() == 3 else (1, 1, *scale.shape)
    return scale.reshape(shape), offset.reshape(shape)


def backward(
    network: SpikingNetwork, layer: Layer, rows: torch.Tensor, shapes: list[tuple[int, ...]]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Rows of coefficients of x, (T, N, R, ...), as rows of each input, and the constant that they leave, (N, R).

    shapes: of a sample of each input, at one timestep.
    """
    constant = rows.new_zeros(())
    folded = folded_norm(network, layer, rows[:, :, 0])
    if folded is not None:
        scale, offset = (part.unsqueeze(2) for part in folded)
        constant = constant + summed(rows * offset)
        rows = rows * scale
    bias = network.biases.get(layer.name)
    if bias is not None:
        constant = constant + summed(rows * (bias if layer.kind == "fc" else bias[:, None, None]))
    samples = rows.shape[:3]
    if layer.kind == "fc":
        return [(rows @ network.weights[layer.name]).reshape(*samples, *shapes[0])], constant
    if layer.has_weights:
        assert layer.stride is not None
        assert layer.padding is not None
        frames = rows.flatten(0, 2)
        made = torch.nn.grad.conv2d_input(
            (len(frames), *layer.in_chw), network.weights[layer.name], frames, layer.stride, layer.padding, 1,
            layer.groups,
        )  # fmt: skip
        return [made.reshape(*samples, *shapes[0])], constant
    if layer.kind == "pool":
        return [_of_pool(layer, rows).reshape(*samples, *shapes[0])], constant
    return [rows.reshape(*samples, *shape) for shape in shapes], constant


def _of_pool(layer: Layer, rows: torch.Tensor) -> torch.Tensor:
    """The transposed pool, by differentiating it: it is linear, so that any point will do."""
    frames = rows.flatten(1, 2)
    with torch.enable_grad():
        point = frames.new_zeros((*frames.shape[:2], *layer.in_chw)).requires_grad_()
        made = MAKERS["pool"](layer, [point])
        (found,) = torch.autograd.grad(made, point, shaped(frames, layer.out_chw), create_graph=rows.requires_grad)
    return torch.unflatten(found, 1, rows.shape[1:3])


def summed(rows: torch.Tensor) -> torch.Tensor:
    """Rows (T, N, R, ...) summed over timesteps and neurons: (N, R)."""
    return rows.flatten(3).sum((0, 3))
