"""Batch and layer norm in float64: y of x, dL/dx of dL/dy, each with the tolerance of a float32 computation.

y = g xhat + b with xhat = (x - mean) / sqrt(variance + eps), the statistics over the norm's axes of the sub-batch;
dL/dx = (g dy - mean(g dy) - xhat mean(g dy xhat)) / sqrt(variance + eps).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.arrays import Float64s, Floats
from h2sim.trace.derived import AXES
from h2sim.trace.model import Norm
from h2sim.verify.tolerance import UNIT, Checked

ROUNDINGS = 64  # [A] of a float32 element on its way through a norm, beside those of its sums


@dataclass(frozen=True)
class Normal:
    """A norm of x (T, N, C, H, W): xhat, its tolerance, sqrt(variance + eps), g, and the axes of its statistics."""

    hat: Float64s
    slack: Float64s
    spread: Float64s
    scale: Float64s
    axes: tuple[int, ...]

    @classmethod
    def of(cls, norm: Norm, x: Checked, weight: Floats | None) -> Normal:
        """weight: g by channel, (C,); None: 1."""
        axes = tuple(AXES.index(axis) for axis in norm.over)
        values, slack = x[0].astype(np.float64), x[1]
        mean = values.mean(axis=axes, keepdims=True)
        spread = np.sqrt(values.var(axis=axes, keepdims=True) + norm.eps)
        hat = (values - mean) / spread
        moved = slack + slack.mean(axis=axes, keepdims=True)  # the element and the mean
        stretched = np.abs(hat) * (np.abs(hat) * slack).mean(axis=axes, keepdims=True)
        rounding = ROUNDINGS * UNIT * (np.abs(values) + np.abs(mean) + spread * np.abs(hat))
        return cls(hat, (moved + stretched + rounding) / spread, spread, _by_channel(weight, 1.0), axes)

    def forward(self, bias: Floats | None) -> Checked:
        """y, and its tolerance. bias: b by channel, (C,); None: 0."""
        shift = _by_channel(bias, 0.0)
        y = self.scale * self.hat + shift
        slack = np.abs(self.scale) * self.slack + ROUNDINGS * UNIT * (np.abs(y) + np.abs(shift))
        return y.astype(np.float32), slack

    def backward(self, dy: Checked) -> Checked:
        """dL/dx, and its tolerance."""
        values, slack = self.scale * dy[0].astype(np.float64), np.abs(self.scale) * dy[1]

        def mean(of: Float64s) -> Float64s:
            found: Float64s = of.mean(axis=self.axes, keepdims=True)
            return found

        along = mean(values * self.hat)
        dx = (values - mean(values) - self.hat * along) / self.spread
        hat = np.abs(self.hat)
        size = np.abs(values) + mean(np.abs(values)) + hat * mean(np.abs(values) * hat)
        by_hat = self.slack * np.abs(along) + hat * mean(np.abs(values) * self.slack)
        error = slack + mean(slack) + hat * mean(slack * hat) + by_hat
        return dx.astype(np.float32), (error + ROUNDINGS * UNIT * size) / self.spread


def _by_channel(values: Floats | None, otherwise: float) -> Float64s:
    """(C, 1, 1), or the number that stands for all channels."""
    if values is None:
        return np.full((1, 1, 1), otherwise)
    return values.astype(np.float64).reshape(-1, 1, 1)
