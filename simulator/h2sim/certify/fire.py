"""Neurons between bounds: which spikes are certain, and the lines that S-CROWN puts around fire and reset."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from h2sim.errors import NetworkError, at
from h2sim.train.lif import Neuron, fire


def check_neuron(layer: str, neuron: Neuron) -> None:
    """Raises NetworkError for a neuron that the bounds do not hold for: another reset, alpha < 0, th < 0."""
    if neuron.reset != "zero":
        raise NetworkError(at(layer, "neuron.reset", "'zero', which the bounds are for", repr(neuron.reset)))
    for name in ("decay", "threshold"):
        if not getattr(neuron, name) >= 0:
            raise NetworkError(at(layer, f"neuron.{name}", "a number from 0", getattr(neuron, name)))


@dataclass(frozen=True)
class LayerBounds:
    """Bounds of a layer's membranes m and spikes s, each (T', N, ...); of a layer without neurons m is its map, and s
    is None."""

    m_lower: torch.Tensor
    m_upper: torch.Tensor
    s_lower: torch.Tensor | None = None
    s_upper: torch.Tensor | None = None

    @property
    def sent(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds of what the layer gives to its readers."""
        if self.s_lower is None or self.s_upper is None:
            return self.m_lower, self.m_upper
        return self.s_lower, self.s_upper

    @property
    def never(self) -> torch.Tensor:
        """Where no spike is possible, by the stored spikes."""
        assert self.s_upper is not None
        return self.s_upper == 0

    @property
    def always(self) -> torch.Tensor:
        """Where a spike is certain."""
        assert self.s_lower is not None
        return self.s_lower == 1


def fired(low: torch.Tensor, high: torch.Tensor, neuron: Neuron) -> LayerBounds:
    """S-IBP through time (eq. 6.4 and 6.6) of bounds of the current, (T, N, ...)."""
    kept_low, kept_high = torch.zeros_like(low[0]), torch.zeros_like(high[0])
    rows = list[tuple[torch.Tensor, ...]]()
    for t in range(low.shape[0]):
        m_low, m_high = neuron.decay * kept_low + low[t], neuron.decay * kept_high + high[t]
        s_low, s_high = fire(m_low, neuron), fire(m_high, neuron)
        rows.append((m_low, m_high, s_low, s_high))
        never, unsure = s_high == 0, (s_high == 1) & (s_low == 0)
        zero = torch.zeros_like(m_low)
        kept_low = torch.where(never, m_low, torch.where(unsure, m_low.clamp(max=0), zero))
        kept_high = torch.where(never, m_high, torch.where(unsure, torch.full_like(zero, neuron.threshold), zero))
    return LayerBounds(*(torch.stack(each) for each in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Lines:
    """Slopes and intercepts of the lines below and above fire, (N, ...) (eq. 6.5)."""

    slope_low: torch.Tensor
    slope_high: torch.Tensor
    at_low: torch.Tensor
    at_high: torch.Tensor


def lines(bound: LayerBounds, t: int, neuron: Neuron) -> Lines:
    """The lines around fire at timestep t.

    Never: 0. Always: 1. Else, where m_u - th < th - m_l: 0 <= s <= (m - m_l) / (th - m_l); where not:
    (m - th) / (m_u - th) <= s <= 1. No quotient is taken outside of its own case.
    """
    low, high, th = bound.m_lower[t], bound.m_upper[t], neuron.threshold
    always = bound.always[t]
    unsure = ~bound.never[t] & ~always
    upper = unsure & (high - th < th - low)
    lower = unsure & ~upper
    one, zero = torch.ones_like(low), torch.zeros_like(low)
    slope_high = torch.where(upper, 1 / torch.where(upper, th - low, one), zero)
    slope_low = torch.where(lower, 1 / torch.where(lower, high - th, one), zero)
    at_high = torch.where(upper, -low * slope_high, torch.where(always | lower, one, zero))
    at_low = torch.where(lower, -th * slope_low, torch.where(always, one, zero))
    return Lines(slope_low, slope_high, at_low, at_high)


def backwards(rows: torch.Tensor, bound: LayerBounds, neuron: Neuron) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows over the current (T, R, N, ...), constants (R, N)) of rows over a layer's spikes (algorithm 7).

    rows: of a lower bound, (T, R, N, ...). Time runs downwards: what the reset of t takes from the spikes of t - 1 is
    there before those are replaced by their lines (eq. 6.7: never m; always 0; else (1 - s) m_l to (1 - s) th).
    """
    steps = rows.shape[0]
    constants = rows.new_zeros(rows.shape[1:3])
    found: list[torch.Tensor] = []
    spikes, later = rows[steps - 1], torch.zeros_like(rows[0])
    for t in reversed(range(steps)):
        around = lines(bound, t, neuron)
        plus, minus = spikes.clamp(min=0), spikes.clamp(max=0)
        membrane = later + minus * around.slope_high + plus * around.slope_low
        constants = constants + (minus * around.at_high + plus * around.at_low).flatten(2).sum(2)
        found.append(membrane)
        if t:
            through = neuron.decay * membrane
            never = bound.never[t - 1]
            unsure = ~never & ~bound.always[t - 1]
            zero = torch.zeros_like(through)
            held = torch.where(
                unsure,
                through.clamp(min=0) * bound.m_lower[t - 1] + through.clamp(max=0) * neuron.threshold,
                zero,
            )
            later = torch.where(never, through, zero)
            spikes = rows[t - 1] - held
            constants = constants + held.flatten(2).sum(2)
    return torch.stack(found[::-1]), constants
