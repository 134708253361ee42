"""S-IBP: intervals of every membrane and spike, forward through layers and timesteps (section 6.2, algorithm 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from h2sim.certify.affine import Interval, interval
from h2sim.train.lif import Neuron
from h2sim.train.network import SpikingNetwork, over_time


@dataclass(frozen=True)
class LayerBounds:
    """Bounds of one layer over all timesteps, each (T', N, ...).

    membrane: m, before the reset. spike: what its readers read: 0.0 or 1.0. A layer without neuron has no m: all four
    are bounds of what it passes on.
    """

    membrane_lower: torch.Tensor
    membrane_upper: torch.Tensor
    spike_lower: torch.Tensor
    spike_upper: torch.Tensor

    @property
    def never(self) -> torch.Tensor:
        """Where the neuron does not fire, whatever the input: by its spikes, for m may lie on the threshold."""
        return self.spike_upper == 0

    @property
    def always(self) -> torch.Tensor:
        """Where it fires, whatever the input."""
        return self.spike_lower == 1

    @property
    def unstable(self) -> torch.Tensor:
        """Where it may fire or not."""
        return ~(self.never | self.always)


class _Fire(torch.autograd.Function):
    """s of m by the neuron's rule; backward by its surrogate."""

    @staticmethod
    def forward(ctx: Any, membrane: torch.Tensor, neuron: Neuron) -> torch.Tensor:
        ctx.save_for_backward(membrane)
        ctx.neuron = neuron
        return neuron.fires(membrane).to(membrane.dtype)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as torch documents it
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        (membrane,) = ctx.saved_tensors
        return grad * ctx.neuron.slope(membrane), None


fire: Callable[[torch.Tensor, Neuron], torch.Tensor] = _Fire.apply


def spread(network: SpikingNetwork, inputs: Interval, timesteps: int) -> dict[str, LayerBounds]:
    """Bounds of every layer for every input between two, (T' or 1, N, ...); one timestep is a static input.

    Batch norm is in its inference form. Gradients flow to the parameters, through `fire` by the neuron's surrogate.
    """
    values, found = {"input": inputs}, {}
    for name, layer in network.described.items():
        reads = [values[source] for source in layer.inputs]
        if not layer.has_weights:
            reads = [(over_time(lower, timesteps), over_time(upper, timesteps)) for lower, upper in reads]
        lower, upper = (over_time(side, timesteps) for side in interval(network, layer, reads))
        found[name] = _fired(lower, upper, network.neurons[name]) if layer.spiking else LayerBounds(*2 * (lower, upper))
        values[name] = found[name].spike_lower, found[name].spike_upper
    return found


def _fired(lower: torch.Tensor, upper: torch.Tensor, neuron: Neuron) -> LayerBounds:
    """The neuron's bounds (eq. 6.4, 6.6) from those of its current."""
    steps: list[tuple[torch.Tensor, ...]] = []
    zero = lower.new_zeros(())
    for t in range(lower.shape[0]):
        m_lower, m_upper = lower[t], upper[t]
        if t:
            before = LayerBounds(*steps[-1])
            never, always = before.never, before.always
            # z: m where it does not fire, 0 where it fires, from min(0, m) to th where it may
            z_upper = torch.where(never, before.membrane_upper, neuron.threshold * (~always).to(lower.dtype))
            z_lower = torch.where(
                never, before.membrane_lower, torch.where(always, zero, before.membrane_lower.clamp_max(0))
            )
            m_lower, m_upper = m_lower + neuron.decay * z_lower, m_upper + neuron.decay * z_upper
        steps.append((m_lower, m_upper, fire(m_lower, neuron), fire(m_upper, neuron)))
    return LayerBounds(*(torch.stack(part) for part in zip(*steps, strict=True)))


def margins(last: LayerBounds, rows: torch.Tensor) -> torch.Tensor:
    """Lower bounds (N, R) of rows (N, R, classes) times the output, the mean of what the last layer sends over T'."""
    lower, upper = (side.mean(0).flatten(1).unsqueeze(1) for side in (last.spike_lower, last.spike_upper))
    return (rows.clamp_min(0) * lower + rows.clamp_max(0) * upper).sum(2)
