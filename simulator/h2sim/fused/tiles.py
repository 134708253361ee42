"""The unit on GPUs by Triton. Under TRITON_INTERPRET=1 it runs on the CPU, slowly, as its tests do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from h2sim.fused import triton_kernels
from h2sim.fused.values import Means, Norm, as_places
from h2sim.neuron import Neuron

kernels: Any = triton_kernels
POSITIONS, CHANNELS = 128, 64  # of a tile: positions of one channel; or channels of two positions
MOST_STEPS_IN_REGISTERS = 16  # above it the kernel is one for all T, and membranes go through memory
# no multiply-add in one rounding: the recomputed spikes are the forward pass's, and plain torch's
HOW: dict[str, Any] = {"enable_fp_fusion": False}


class Tiles:
    """See values.Implementation."""

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        x = as_places(x.detach())
        programs, tile = _grid(x)
        parts = x.new_empty((programs[0], 3, x.shape[2]), dtype=torch.float32)
        with _on(x):
            kernels.moments[programs](x, parts, *_sizes(x), *x.stride(), **tile, **HOW)
        shift, squares, first = parts.double().unbind(1)
        positions = x.shape[1] * x.shape[3]
        left = torch.arange(programs[0], device=x.device) * tile["BP"]
        counts = (positions - left).clamp(max=tile["BP"]).double()[:, None]
        mean = (counts * shift).sum(0) / positions
        total = (squares + x.shape[0] * counts * (shift - mean).square()).sum(0)
        return torch.stack([mean + first[0], total])

    def spikes(self, x: torch.Tensor, norm: Norm | None, neuron: Neuron) -> torch.Tensor:
        s = torch.empty_like(x)
        x, out = as_places(x.detach()), as_places(s)
        programs, tile = _grid(x)
        now = _numbers(neuron)
        with _on(x):
            kernels.spikes[programs](
                x, out, _norm(norm, x), *_sizes(x), *x.stride(), *out.stride(), now["decay"], now["fires_from"],
                now["zeroed"], now["before"], now["after"], BN=norm is not None, **tile, **HOW,
            )  # fmt: skip
        return s

    def sums(self, x: torch.Tensor, grad: torch.Tensor, norm: Norm, neuron: Neuron) -> torch.Tensor:
        x, grad = as_places(x.detach()), as_places(grad)
        programs, _ = _grid(x)
        parts = x.new_empty((programs[0], 2, x.shape[2]), dtype=torch.float32)
        self._gradients(x, grad, norm, parts, parts, neuron, sums=True)
        return parts.sum(0, dtype=torch.float64).float()

    def backward(
        self, x: torch.Tensor, grad: torch.Tensor, norm: Norm | None, means: Means | None, neuron: Neuron
    ) -> None:
        places = as_places(grad)
        assert places.data_ptr() == grad.data_ptr()  # else what is written would be lost
        of = x.new_zeros((2, x.shape[2]), dtype=torch.float32)
        if means is not None:
            of = torch.stack([means.of_dy, means.of_xh])
        self._gradients(as_places(x.detach()), places, norm, of, of, neuron, sums=False)

    def _gradients(
        self,
        x: torch.Tensor,
        grad: torch.Tensor,
        norm: Norm | None,
        means: torch.Tensor,
        parts: torch.Tensor,
        neuron: Neuron,
        *,
        sums: bool,
    ) -> None:
        programs, tile = _grid(x)
        steps = x.shape[0] if x.shape[0] <= MOST_STEPS_IN_REGISTERS else 0
        membranes = means if steps else torch.empty_like(grad, dtype=torch.float32)
        if not steps and membranes.stride() != grad.stride():
            membranes = torch.empty_strided(grad.shape, grad.stride(), dtype=torch.float32, device=grad.device)
        with _on(x):
            kernels.gradients[programs](
                x, grad, membranes, _norm(norm, x), means, parts, *_sizes(x), *x.stride(), *grad.stride(),
                *_numbers(neuron).values(), BN=norm is not None, SUMS=sums, TRIANGLE=neuron.surrogate == "triangle",
                STEPS=steps, **tile, **HOW,
            )  # fmt: skip


def _on(x: torch.Tensor) -> AbstractContextManager[Any]:
    """A block on the GPU that holds x."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _grid(x: torch.Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Programs, and the tile of one, for x (T, N, C, places)."""
    _, samples, channels, places = x.shape
    wide, high = (POSITIONS, 1) if x.stride(3) == 1 and places > 1 else (POSITIONS // CHANNELS, CHANNELS)
    return (-(-samples * places // wide), -(-channels // high)), {"BC": high, "BP": wide}


def _sizes(x: torch.Tensor) -> tuple[int, int, int, int]:
    """The kernels' T, POSITIONS, C and HW."""
    steps, samples, channels, places = x.shape
    return steps, samples * places, channels, places


def _norm(norm: Norm | None, x: torch.Tensor) -> torch.Tensor:
    """The kernels' norm (4, C); any tensor where there is none."""
    if norm is None:
        return x
    return torch.stack([norm.mean, norm.scale, norm.beta, norm.inverse]).detach().float()


def _numbers(neuron: Neuron) -> dict[str, float]:
    """The kernels' numbers of a neuron, in the order of `gradients`."""
    threshold = np.float32(neuron.threshold)
    from_ = np.nextafter(threshold, np.float32(np.inf)) if neuron.fires_at == "greater" else threshold
    low, high = neuron.window
    return {
        "decay": neuron.decay,
        "fires_from": float(from_),
        "threshold": float(threshold),
        "low": low,
        "high": high,
        "eta": neuron.surrogate_scale,
        "attached": float(not neuron.detach_reset),
        "zeroed": float(neuron.reset == "zero"),
        "before": float(threshold) if neuron.reset == "subtract" else 0.0,
        "after": float(threshold) if neuron.reset == "subtract-after-leak" else 0.0,
    }
