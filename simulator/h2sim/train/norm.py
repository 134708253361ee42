"""Batch norm and its kin over all timesteps: by the statistics of the step, or by running ones for evaluation."""

from __future__ import annotations

import torch
from torch import nn

from h2sim.trace import Layer
from h2sim.trace.derived import AXES

MOMENTUM = 0.1  # share of a step's statistics in the running ones, as torch has it


class Normalisation(nn.Module):
    """What normalises the currents of one layer, or a map: its norms one after another, then a scale and an offset.

    weight, bias: (C,), trained; 1 and 0 at first. A norm whose statistics are over samples has running ones, of which
    mean.0 and variance.0 are the first norm's. Those are over all timesteps, also where each timestep has its own.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(torch.ones(layer.out_chw[0]))
        self.bias = nn.Parameter(torch.zeros(layer.out_chw[0]))
        for number, norm in enumerate(layer.norm):
            if "N" in norm.over:
                sizes = zip("CHW", layer.out_chw, strict=True)
                shape = (1, 1, *(1 if axis in norm.over else size for axis, size in sizes))
                self.register_buffer(f"mean{number}", torch.zeros(shape))
                self.register_buffer(f"variance{number}", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """y of x, both (T, N, C, H, W) or (T, N, F)."""
        y = x if x.dim() == 5 else x[..., None, None]
        for number, norm in enumerate(self.layer.norm):
            axes = tuple(AXES.index(axis) for axis in norm.over)
            running = "N" in norm.over
            if self.training or not running:
                variance, mean = torch.var_mean(y, axes, correction=0, keepdim=True)
                if running:
                    self.remember(number, mean, variance, y.numel() // mean.numel())
            else:
                mean, variance = getattr(self, f"mean{number}"), getattr(self, f"variance{number}")
            y = (y - mean) * torch.rsqrt(variance + norm.eps)
        y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.reshape(x.shape)

    @torch.no_grad()
    def remember(self, number: int, mean: torch.Tensor, variance: torch.Tensor, elements: int) -> None:
        """Moves the running statistics towards the step's; the variance without bias, as torch keeps it."""
        unbiased = variance * (elements / max(1, elements - 1))
        for name, value in ((f"mean{number}", mean), (f"variance{number}", unbiased)):
            running: torch.Tensor = getattr(self, name)
            running.lerp_(value.reshape(-1, *running.shape[1:]).mean(0, keepdim=True).to(running), MOMENTUM)
