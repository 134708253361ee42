"""The leaky integrate-and-fire (LIF) neuron (eq. 2.1-2.6): its parameters, and its equations in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from h2sim.errors import NetworkError

Reset = Literal["zero", "subtract", "subtract-after-leak", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)
GRADIENT_DTYPES = ("float32", "float16", "float16-flush")
SMALLEST_NORMAL_FLOAT16 = 2.0**-14
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Neuron:
    """Parameters of a LIF layer, named as in a trace's `neuron` entry. Symbols are those of eq. 2.1-2.6.

    threshold: th_f. decay: alpha; 1 makes it an IF neuron. window: (th_l, th_r). surrogate_scale: eta. detach_reset:
    leave what passes through the reset, the term -alpha*m[t] of eq. 2.4, out of the gradient, as some libraries do.
    fires_at: where m >= th_f, or with 'greater' where m > th_f. reset after a spike: 'zero' forgets m (eq. 2.2),
    'subtract' takes th_f off it and then lets it leak, 'subtract-after-leak' lets it leak first, 'none' keeps it.
    surrogate: fire' is a rectangle (eq. 2.6), or a triangle, eta * max(0, 1 - |m/th_f - 1|) / th_f; its window is
    (0, 2 th_f), whatever `window` says. Raises NetworkError for numbers that are not finite in float32, for
    th_l >= th_r, and for a triangle at a threshold that is not above 0.
    """

    threshold: float = 0.3
    decay: float = 0.25
    window: tuple[float, float] = (0.05, 0.55)
    surrogate_scale: float = 1.0
    detach_reset: bool = False
    fires_at: Literal["greater_equal", "greater"] = "greater_equal"
    reset: Reset = "zero"
    surrogate: Literal["rectangle", "triangle"] = "rectangle"

    def __post_init__(self) -> None:
        if self.surrogate == "triangle":
            if not self.threshold > 0:
                raise NetworkError(f"neuron.threshold: expected a number above 0 for a triangle; got {self.threshold}")
            object.__setattr__(self, "window", (0.0, 2 * self.threshold))
        low, high = self.window
        numbers = (self.threshold, self.decay, low, high, self.surrogate_scale)
        if not all(abs(number) <= LARGEST_FLOAT32 for number in numbers):
            raise NetworkError(f"neuron: expected finite numbers of float32; got {list(numbers)}")
        if low >= high:
            raise NetworkError(f"neuron.window: expected low < high; got {[low, high]}")
        if self.reset not in RESETS:
            raise NetworkError(f"neuron.reset: expected one of {', '.join(RESETS)}; got {self.reset!r}")

    @classmethod
    def from_meta(cls, entry: dict[str, Any]) -> Neuron:
        """The neuron of a trace's `neuron` entry, a layer's own fields already merged in."""
        low, high = entry["window"]
        shape = entry.get("surrogate")
        return cls(
            float(entry["threshold"]),
            float(entry["decay"]),
            (float(low), float(high)),
            float(shape["scale"] if shape else entry.get("surrogate_scale", 1.0)),
            bool(entry.get("detach_reset", False)),
            entry.get("fires_at", "greater_equal"),
            entry.get("reset", "zero"),
            "triangle" if shape else "rectangle",
        )

    def to_meta(self) -> dict[str, Any]:
        """This neuron as a trace's `neuron` entry."""
        triangle = self.surrogate == "triangle"
        shape = {"surrogate": {"shape": "triangle", "scale": self.surrogate_scale}}
        entry: dict[str, Any] = {
            "threshold": self.threshold,
            "decay": self.decay,
            "window": list(self.window),
            **(shape if triangle else {"surrogate_scale": self.surrogate_scale}),
            "reset": self.reset,
            "detach_reset": self.detach_reset,
        }
        return entry if self.fires_at == "greater_equal" else {**entry, "fires_at": self.fires_at}

    def at(self, threshold: float, decay: float) -> Neuron:
        """The same neuron with another threshold and decay."""
        return replace(self, threshold=threshold, decay=decay)

    def fires(self, membrane: torch.Tensor) -> torch.Tensor:
        """Where the neuron fires: m >= th_f (eq. 2.3), or m > th_f where fires_at is 'greater'."""
        return membrane > self.threshold if self.fires_at == "greater" else membrane >= self.threshold

    def in_window(self, membrane: torch.Tensor) -> torch.Tensor:
        """The window mask ds~: th_l < m < th_r, which is where fire'(m) is not 0 (eq. 2.6)."""
        low, high = self.window
        return (membrane > low) & (membrane < high)

    def slope(self, membrane: torch.Tensor) -> torch.Tensor:
        """fire'(m) (eq. 2.6), ds/dm by the surrogate."""
        if self.surrogate == "rectangle":
            return self.in_window(membrane).to(membrane.dtype) * self.surrogate_scale
        height = (1 - (membrane / self.threshold - 1).abs()).clamp_min(0)
        return self.surrogate_scale * height / self.threshold

    def kept(self, membrane: torch.Tensor, spikes: torch.Tensor) -> torch.Tensor:
        """What a reset before the leak leaves of m."""
        if self.reset == "zero":
            return membrane * (1 - spikes)
        return membrane - self.threshold * spikes if self.reset == "subtract" else membrane

    def drop(self, later: torch.Tensor, membrane: torch.Tensor) -> torch.Tensor:
        """What dm[t+1] loses of dL/ds[t] through the reset: -dm[t+1] * dm[t+1]/ds[t]; 0 where it is detached."""
        if self.detach_reset or self.reset == "none":
            return torch.zeros_like(later)
        if self.reset == "subtract-after-leak":
            return self.threshold * later
        return self.decay * later * (membrane if self.reset == "zero" else self.threshold)


class _Fire(torch.autograd.Function):
    """See fire."""

    @staticmethod
    def forward(ctx: Any, membrane: torch.Tensor, neuron: Neuron) -> torch.Tensor:
        ctx.save_for_backward(membrane)
        ctx.neuron = neuron
        return neuron.fires(membrane).to(membrane.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        (membrane,) = ctx.saved_tensors
        return grad * ctx.neuron.slope(membrane), None


# torch leaves apply untyped
_fire: Callable[[torch.Tensor, Neuron], torch.Tensor] = _Fire.apply


def fire(membrane: torch.Tensor, neuron: Neuron) -> torch.Tensor:
    """Spikes 0.0 or 1.0 of membranes alone (eq. 2.3), without what a neuron keeps; backwards fire'(m) (eq. 2.6)."""
    return _fire(membrane, neuron)


def rounded(grad: torch.Tensor, dtype: str) -> torch.Tensor:
    """A gradient rounded to a number format of GRADIENT_DTYPES. float16-flush also turns subnormal numbers into 0."""
    if dtype == "float32":
        return grad
    held = grad.half().to(grad.dtype)
    return held.masked_fill_(held.abs() < SMALLEST_NORMAL_FLOAT16, 0) if dtype == "float16-flush" else held


def membranes(current: torch.Tensor, neuron: Neuron) -> tuple[torch.Tensor, torch.Tensor]:
    """(membrane potentials, spikes) of currents (T, N, ...) by eq. 2.1-2.3, in plain torch operations.

    Spikes are 0.0 or 1.0.
    """
    membrane, spikes = torch.empty_like(current), torch.empty_like(current)
    for t in range(current.shape[0]):
        membrane[t] = current[t]
        if t:
            membrane[t] += neuron.decay * neuron.kept(membrane[t - 1], spikes[t - 1])
            if neuron.reset == "subtract-after-leak":
                membrane[t] -= neuron.threshold * spikes[t - 1]
        spikes[t] = neuron.fires(membrane[t])
    return membrane, spikes


def membrane_gradient(
    grad_spikes: torch.Tensor, membrane: torch.Tensor, spikes: torch.Tensor, neuron: Neuron, dtype: str = "float32"
) -> torch.Tensor:
    """dm (T, N, ...) from the spatial part of dL/ds by eq. 2.4-2.6, in plain torch operations.

    dtype: number format to which dm is rounded at every timestep (see rounded).
    """
    grad, last = torch.empty_like(membrane), membrane.shape[0] - 1
    slope = neuron.slope(membrane)
    grad[last] = rounded(grad_spikes[last] * slope[last], dtype)
    for t in reversed(range(last)):
        leak = neuron.decay * grad[t + 1]
        passed = leak * (1 - spikes[t]) if neuron.reset == "zero" else leak
        grad_s = grad_spikes[t] - neuron.drop(grad[t + 1], membrane[t])
        grad[t] = rounded(passed + grad_s * slope[t], dtype)
    return grad
