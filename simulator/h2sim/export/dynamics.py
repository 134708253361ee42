"""Computes a neuron's membrane potential, window and surrogate height from what was recorded of it.

That checks the adapter that described the neuron: the recorded spikes must follow. All tensors are (T, N, ...) in the
trace's unit, m = v / gain (NeuronSpec.scale), in which the current x drives m with factor 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export.protocol import NeuronSpec

WIDE = 1e30  # a side of the window that has no end
_FAR = 1e6
_SAME = 1e-6  # relative: the same number but for rounding
_POINTS = 257  # of a round of the search for the window's ends
_GRADIENT = 1e-4  # of the largest gradient: rounding of T steps, far below what a missing path changes


@dataclass(frozen=True)
class Window:
    """Where the surrogate's derivative exceeds the window threshold.

    mask: bool, where m is in the window. interval: (low, high) around the neuron's threshold. exact: whether the window
    is just low < m < high. height: eta if the surrogate is a rectangle, else None. slope: ds/dv at every m.
    """

    mask: torch.Tensor
    interval: tuple[float, float]
    exact: bool
    height: float | None
    slope: torch.Tensor


def threshold_of(spec: NeuronSpec) -> float:
    """The threshold in the trace's unit, as float32."""
    return float(np.float32(spec.threshold / spec.scale))


def membrane_of(spec: NeuronSpec, x: torch.Tensor, s: torch.Tensor, eps: float, path: str) -> torch.Tensor:
    """m (T, N, ...) from the recorded currents x and the recorded spikes s.

    eps: rounding of the number format in which the model computed. Raises ExportError if any spike is not
    m >= threshold (or m > threshold, by spec.fires_at), but for rounding: then `spec` is not the neuron's equation.
    """
    m = spec.membrane(x, s) if spec.membrane else _lif(spec, x, s)
    threshold = threshold_of(spec)
    fired = m > threshold if spec.fires_at == "greater" else m >= threshold
    wrong = fired != (s != 0)
    if bool(wrong.any()):
        wrong &= (m - threshold).abs() > _slack(spec, x, m, eps)
    if bool(wrong.any()):
        got = f"{int(wrong.sum())} of {wrong.numel()} that differ: this is not the neuron's equation or initial state"
        raise ExportError(at(path, "spikes", f"those of {spec}", got))
    return m


def _lif(spec: NeuronSpec, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    threshold, out = threshold_of(spec), torch.empty_like(x)
    kept = torch.zeros_like(x[0])
    for t in range(len(x)):
        torch.add(x[t], kept, alpha=spec.decay, out=out[t])
        if t and spec.reset == "subtract-after-leak":
            out[t].sub_(s[t - 1], alpha=threshold)
        kept = _after_reset(spec, out[t], s[t], threshold)
    return out


def _after_reset(spec: NeuronSpec, m: torch.Tensor, s: torch.Tensor, threshold: float) -> torch.Tensor:
    if spec.reset == "zero":
        return torch.addcmul(m, m, s, value=-1)
    return torch.sub(m, s, alpha=threshold) if spec.reset == "subtract" else m


def _slack(spec: NeuronSpec, x: torch.Tensor, m: torch.Tensor, eps: float) -> torch.Tensor:
    """How far rounding can move m[t]: 16 eps of all that it is made of, plus decay times how far m[t-1] can be off."""
    unit, threshold = 16 * eps, abs(threshold_of(spec))
    carried, out = torch.zeros_like(m[0]), []
    for x_now, m_now in zip(x, m, strict=True):
        carried = abs(spec.decay) * carried + unit * (x_now.abs() + m_now.abs() + threshold)
        out.append(carried)
    return torch.stack(out)


def derivative(spec: NeuronSpec, m: torch.Tensor, path: str) -> torch.Tensor:
    """ds/dv at membrane m by the library's own surrogate. Raises ExportError if it has none."""
    with torch.enable_grad():
        u = (m - threshold_of(spec)).detach()
        u = (u if spec.scale == 1 else u * spec.scale).requires_grad_(True)
        spikes = spec.fire(u)
        if not spikes.requires_grad:
            raise ExportError(at(path, "surrogate", "a gradient", f"none from {spec.surrogate}"))
        (slope,) = torch.autograd.grad(spikes.sum(), u)
    return slope.detach()


class Windows:
    """Finds the windows |ds/dv| > least of neurons; the ends of one are those of all neurons like it."""

    def __init__(self, least: float) -> None:
        self.least = least
        self._ends: dict[Any, tuple[float, float]] = {}

    def of(self, spec: NeuronSpec, m: torch.Tensor, path: str) -> Window:
        """The window of a neuron at membrane m. Its ends are found to neighbouring float32 numbers.

        Raises ExportError if `least` is not below the surrogate's derivative at the threshold.
        """
        threshold, far = threshold_of(spec), max(_FAR, 4 * float(m.abs().max()))
        key = (_same_surrogate(spec.fire), threshold, spec.scale, m.dtype, far)
        if key not in self._ends:
            self._ends[key] = self._found(spec, m.dtype, far, path)
        low, high = self._ends[key]
        slope = derivative(spec, m, path)
        given = slope.abs() > self.least if self.least else slope != 0
        mask = _between(m, low, high)
        exact = torch.equal(given, mask)
        if not exact:
            room = _SAME * max(abs(threshold), abs(low) if low > -far else 0.0, abs(high) if high < far else 0.0, 1e-3)
            near = ((m - low).abs() <= room) | ((m - high).abs() <= room)
            exact = not bool(((given != mask) & ~near).any())
        height = _height(spec, slope, mask, (low, high), path) if exact else None
        return Window(mask if exact else given, (low, high), exact, height, slope)

    def _found(self, spec: NeuronSpec, dtype: torch.dtype, far: float, path: str) -> tuple[float, float]:
        def inside(points: torch.Tensor) -> torch.Tensor:
            return derivative(spec, points.to(dtype), path).abs() > self.least

        threshold = threshold_of(spec)
        if not bool(inside(torch.tensor([threshold]))[0]):
            peak = float(derivative(spec, torch.tensor([threshold]), path).abs())
            wanted = f"less than {peak:g}, the surrogate's derivative at the threshold"
            raise ExportError(at(path, "window_threshold", wanted, self.least))
        low, high = (_edge(inside, threshold, side * far) for side in (-1, 1))
        return low, high


def _between(m: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """low < m < high, where an end may be none."""
    if high >= WIDE:
        return torch.ones_like(m, dtype=torch.bool) if low <= -WIDE else m > low
    return m < high if low <= -WIDE else (m > low) & (m < high)


def _same_surrogate(fire: Any) -> Any:
    """What tells a surrogate from others: a module without weights by its class and the numbers that it holds."""
    if isinstance(fire, nn.Module) and not any(True for _ in (*fire.parameters(), *fire.buffers(), *fire.children())):
        held = {name: value for name, value in vars(fire).items() if isinstance(value, int | float | str | bool)}
        return type(fire), tuple(sorted(held.items()))
    return id(fire)


def _edge(inside: Callable[[torch.Tensor], torch.Tensor], start: float, far: float) -> float:
    """The first float32 number outside the window between `start` and `far`; WIDE, with far's sign, if none is."""
    first = max(abs(start), 1.0) * 2.0**-10
    steps = [first * 2.0**k for k in range(math.ceil(math.log2(abs(far) / first)) + 1)]
    points = torch.tensor([start, *(start + math.copysign(step, far) for step in steps)], dtype=torch.float32)
    while True:
        outside = ~inside(points)
        if not bool(outside.any()):
            return math.copysign(WIDE, far)
        first_bad = int(outside.int().argmax())
        good, bad = points[first_bad - 1], points[first_bad]
        if bool(torch.nextafter(good, bad) == bad):
            return float(bad)
        between = torch.linspace(float(good), float(bad), _POINTS, dtype=torch.float64).float()
        points = torch.unique(torch.cat([good[None], torch.nextafter(good, bad)[None], between, bad[None]]))
        points = points.flip(0) if far < 0 else points


def _height(
    spec: NeuronSpec, slope: torch.Tensor, mask: torch.Tensor, interval: tuple[float, float], path: str
) -> float | None:
    """eta in the trace's unit if the surrogate has one value inside the window and is 0 outside, else None.

    slope: ds/dv at every m; mask: where m is in the window.
    """
    low, high = interval
    if abs(low) >= WIDE or abs(high) >= WIDE:
        return None
    grid = derivative(spec, torch.linspace(low, high, 67, dtype=slope.dtype)[1:-1], path)
    if float(grid.max() - grid.min()) > _SAME * float(grid.abs().max()):
        return None
    edges = derivative(spec, torch.tensor([low, high], dtype=slope.dtype), path)
    if bool(edges.any()) or bool((slope.masked_fill(mask, 0)).any()):
        return None
    least = min(float(grid.min()), float(slope.masked_fill(~mask, float("inf")).min()))
    most = max(float(grid.max()), float(slope.masked_fill(~mask, -float("inf")).max()))
    return most * spec.scale if most - least <= _SAME * abs(most) else None


def follows_gradient(
    spec: NeuronSpec, m: torch.Tensor, s: torch.Tensor, ds: torch.Tensor, dm: torch.Tensor, slope: torch.Tensor
) -> bool:
    """Whether dm is what eq. 2.4 and 2.5 give from ds with the library's surrogate, whose derivative at m is slope.

    It is not if a loss reads the membrane itself.
    """
    if spec.membrane is not None:
        return False
    slope, threshold = slope * spec.scale, threshold_of(spec)
    later, worst = torch.zeros_like(m[0]), 0.0
    for t in reversed(range(m.shape[0])):
        carried = spec.decay * later
        back = torch.zeros_like(later)
        if not spec.detach_reset and spec.reset != "none":
            back = {"zero": -carried * m[t], "subtract": -carried * threshold}.get(spec.reset, -later * threshold)
        later = (carried * (1 - s[t]) if spec.reset == "zero" else carried) + (ds[t] + back) * slope[t]
        worst = max(worst, float((later - dm[t]).abs().max()))
    return worst <= _GRADIENT * max(float(dm.abs().max()), float(ds.abs().max()))
