"""S-CROWN: lower bounds of rows of the output, by lines through every neuron, backward (section 6.2, algorithm 7).

It takes the S-IBP bounds of every membrane and spike. Nothing says that it is tighter than S-IBP: see `bounds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from h2sim.certify.affine import Interval, backward, summed
from h2sim.certify.ibp import LayerBounds
from h2sim.train.lif import Neuron
from h2sim.train.network import SpikingNetwork, over_time


@dataclass(frozen=True)
class Lines:
    """d1 m + b1 below and above s, for every neuron and timestep, each (T', N, ...) (eq. 6.5)."""

    slope_lower: torch.Tensor
    constant_lower: torch.Tensor
    slope_upper: torch.Tensor
    constant_upper: torch.Tensor


Relaxation = Callable[[LayerBounds, Neuron], Lines]


def sloped(bounds: LayerBounds, neuron: Neuron) -> Lines:
    """The source's lines. A neuron that may fire has 0 and a slope, or a slope and 1, whichever side of th is wider.

    Its classes come from the spikes, never from m again: with 'm > th' m = th is a neuron that does not fire.
    """
    threshold, one, zero = neuron.threshold, bounds.membrane_lower.new_ones(()), bounds.membrane_lower.new_zeros(())
    above, below = bounds.membrane_upper - threshold, threshold - bounds.membrane_lower
    high = bounds.unstable & (above >= below)  # (m - th) / (m_upper - th) <= s <= 1
    low = bounds.unstable & (above < below)  # 0 <= s <= (m - m_lower) / (th - m_lower)
    up = torch.where(low, 1 / torch.where(low, below, one), zero)
    down = torch.where(high, 1 / torch.where(high, above, one), zero)
    return Lines(
        slope_lower=down,
        constant_lower=torch.where(bounds.always, one, -threshold * down),
        slope_upper=up,
        constant_upper=torch.where(bounds.always | high, one, -bounds.membrane_lower * up),
    )


def flat(bounds: LayerBounds, neuron: Neuron) -> Lines:
    """0 <= s <= 1 of a neuron that may fire. With these lines S-CROWN is S-IBP where the last layer spikes."""
    zero = torch.zeros_like(bounds.spike_lower)
    return Lines(zero, bounds.always.to(zero.dtype), zero, (~bounds.never).to(zero.dtype))


def margins(
    network: SpikingNetwork,
    layers: dict[str, LayerBounds],
    inputs: Interval,
    rows: torch.Tensor,
    relaxation: Relaxation = sloped,
) -> torch.Tensor:
    """Lower bounds (N, R) of rows (N, R, classes) times the output, the mean of what the last layer sends over T'.

    An upper bound is minus the lower bound of -rows. inputs: (T' or 1, N, ...), as `spread` took them.
    """
    described = list(network.described.values())
    last = layers[described[-1].name]
    timesteps = last.spike_lower.shape[0]
    sent = rows / timesteps
    if last.spike_lower.dim() == 5:  # the classes are channels
        sent = sent[..., None, None]
    pending = {described[-1].name: sent.expand(timesteps, *sent.shape)}
    constant = rows.new_zeros(())
    for layer in reversed(described):
        into = pending.pop(layer.name)
        if layer.spiking:
            into, left = _through_neuron(layers[layer.name], network.neurons[layer.name], into, relaxation)
            constant = constant + left
        shapes = [tuple(_value(layers, inputs, source).shape[2:]) for source in layer.inputs]
        given, left = backward(network, layer, into, shapes)
        constant = constant + left
        for source, coefficients in zip(layer.inputs, given, strict=True):
            before = pending.get(source)
            pending[source] = coefficients if before is None else before + coefficients
    return _at_the_box(pending["input"], inputs) + constant


def _value(layers: dict[str, LayerBounds], inputs: Interval, source: str) -> torch.Tensor:
    return inputs[0] if source == "input" else layers[source].spike_lower


def _through_neuron(
    bounds: LayerBounds, neuron: Neuron, sent: torch.Tensor, relaxation: Relaxation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients of the spikes, (T', N, R, ...), as coefficients of the currents, and the constant (N, R).

    t runs downwards: what step t + 1 asks of z = m (1 - s) of step t changes the coefficients of that s before its line
    is taken (eq. 6.7: where it may fire, (1 - s) m_lower <= z <= (1 - s) th; where it never fires z = m).
    """
    lines = relaxation(bounds, neuron)
    never, unstable = bounds.never.to(sent.dtype), bounds.unstable.to(sent.dtype)
    z_lower = bounds.membrane_lower * unstable
    found: list[torch.Tensor] = []
    constant = sent.new_zeros(())
    asked: torch.Tensor | None = None  # alpha Am of step t + 1
    for t in reversed(range(sent.shape[0])):
        on_spikes, on_membrane = sent[t], sent.new_zeros(())
        if asked is not None:
            on_membrane = asked * never[t].unsqueeze(1)
            kept = asked.clamp_min(0) * z_lower[t].unsqueeze(1)
            kept = kept + asked.clamp_max(0) * (neuron.threshold * unstable[t].unsqueeze(1))
            on_spikes = on_spikes - kept
            constant = constant + summed(kept.unsqueeze(0))
        up, down = on_spikes.clamp_max(0), on_spikes.clamp_min(0)  # a lower bound takes s from above where it subtracts
        on_membrane = on_membrane + up * lines.slope_upper[t].unsqueeze(1) + down * lines.slope_lower[t].unsqueeze(1)
        left = up * lines.constant_upper[t].unsqueeze(1) + down * lines.constant_lower[t].unsqueeze(1)
        constant = constant + summed(left.unsqueeze(0))
        found.append(on_membrane)
        asked = neuron.decay * on_membrane
    return torch.stack(found[::-1]), constant


def _at_the_box(rows: torch.Tensor, inputs: Interval) -> torch.Tensor:
    """The least of rows (T', N, R, ...) times an input between the bounds: (N, R). A static one is the same at all
    timesteps."""
    lower, upper = inputs
    if lower.shape[0] == 1 < rows.shape[0]:
        rows = rows.sum(0, keepdim=True)
    lower, upper = (over_time(side, rows.shape[0]).unsqueeze(2) for side in (lower, upper))
    return summed(rows * (upper + lower) / 2 - rows.abs() * (upper - lower) / 2)
