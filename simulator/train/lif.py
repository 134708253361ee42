"""The leaky integrate-and-fire neuron over all timesteps, forward and backward (eq. 2.1-2.6), as one torch function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from h2sim.errors import NetworkError


@dataclass(frozen=True)
class Neuron:
    """Parameters of a LIF layer, named as in a trace's `neuron` entry.

    threshold is th_f, decay alpha, window (th_l, th_r), surrogate_scale eta; detach_reset leaves the
    -alpha*m[t] term of eq. 2.4 out of the gradient, as some libraries do.
    """

    threshold: float = 0.3
    decay: float = 0.25
    window: tuple[float, float] = (0.05, 0.55)
    surrogate_scale: float = 1.0
    detach_reset: bool = False

    @classmethod
    def from_meta(cls, entry: dict[str, Any]) -> Neuron:
        """The neuron of a trace's (merged) `neuron` entry; raises NetworkError unless it resets to zero."""
        if entry.get("reset", "zero") != "zero":
            raise NetworkError(f"neuron.reset: the trainer knows only 'zero'; got {entry['reset']!r}")
        low, high = entry["window"]
        return cls(
            float(entry["threshold"]),
            float(entry["decay"]),
            (float(low), float(high)),
            float(entry.get("surrogate_scale", 1.0)),
            bool(entry.get("detach_reset", False)),
        )

    def to_meta(self) -> dict[str, Any]:
        """This neuron as a trace's `neuron` entry."""
        return {
            "threshold": self.threshold,
            "decay": self.decay,
            "window": list(self.window),
            "surrogate_scale": self.surrogate_scale,
            "reset": "zero",
            "detach_reset": self.detach_reset,
        }

    def in_window(self, membrane: torch.Tensor) -> torch.Tensor:
        """ds~: where th_l < m < th_r, so where fire'(m) is eta and not 0 (eq. 2.6)."""
        low, high = self.window
        return (membrane > low) & (membrane < high)


@dataclass
class LayerRecord:
    """What one layer did in one recorded step; every tensor is (T, N, C, H, W) or (T, N, F).

    A layer that does not spike has only `grad`, which is then dL/dx of the current it passes on.
    """

    spikes: torch.Tensor | None = None
    membrane: torch.Tensor | None = None
    window: torch.Tensor | None = None
    grad: torch.Tensor | None = None


class _FusedLif(torch.autograd.Function):
    """Spikes of all timesteps from the currents of all timesteps; one node of the graph instead of 5 T."""

    @staticmethod
    def forward(ctx: Any, current: torch.Tensor, neuron: Neuron, record: LayerRecord | None) -> torch.Tensor:
        membrane, spikes = torch.empty_like(current), torch.empty_like(current)
        for t in range(current.shape[0]):
            membrane[t] = current[t]
            if t:
                membrane[t] += neuron.decay * membrane[t - 1] * (1 - spikes[t - 1])
            spikes[t] = membrane[t] >= neuron.threshold
        ctx.save_for_backward(membrane, spikes)
        ctx.neuron, ctx.record = neuron, record
        if record is not None:
            record.spikes, record.membrane = spikes.detach(), membrane
            record.window = neuron.in_window(membrane)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        membrane, spikes = ctx.saved_tensors
        neuron: Neuron = ctx.neuron
        grad = torch.empty_like(membrane)
        surrogate = neuron.in_window(membrane).to(membrane.dtype) * neuron.surrogate_scale
        for t in reversed(range(membrane.shape[0])):
            if t == membrane.shape[0] - 1:
                grad[t] = grad_spikes[t] * surrogate[t]
                continue
            leak = neuron.decay * grad[t + 1]
            grad_s = grad_spikes[t] if neuron.detach_reset else grad_spikes[t] - leak * membrane[t]
            grad[t] = leak * (1 - spikes[t]) + grad_s * surrogate[t]
        if ctx.record is not None:
            ctx.record.grad = grad
        return grad, None, None


def lif(current: torch.Tensor, neuron: Neuron, record: LayerRecord | None = None) -> torch.Tensor:
    """Output spikes (0.0 or 1.0) of a LIF layer; current and result are (T, N, ...).

    Forward: m[t] = alpha*m[t-1]*(1 - s[t-1]) + x[t], s[t] = m[t] >= th_f (eq. 2.1-2.3).
    Backward: ds[t] = dL/ds[t] - alpha*m[t]*dm[t+1], dm[t] = alpha*(1 - s[t])*dm[t+1] + fire'(m[t])*ds[t]
    (eq. 2.4-2.6); dL/dx[t] is dm[t]. `record` receives spikes, membrane and window now, and grad (dm)
    when the backward pass gets here.
    """
    return _FusedLif.apply(current, neuron, record)
