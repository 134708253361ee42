"""The leaky integrate-and-fire (LIF) neuron over all timesteps, forward and backward (eq. 2.1-2.6), as one torch
function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.function import once_differentiable

from h2sim.export.record import LayerRecord, half, pack_bits
from h2sim.kernels import lif as kernels
from h2sim.neuron import GRADIENT_DTYPES as GRADIENT_DTYPES
from h2sim.neuron import RESETS as RESETS
from h2sim.neuron import Neuron as Neuron
from h2sim.neuron import Reset as Reset
from h2sim.neuron import fire as fire
from h2sim.neuron import membrane_gradient as membrane_gradient
from h2sim.neuron import membranes as membranes
from h2sim.neuron import rounded as rounded

Left = Callable[[torch.Tensor, torch.Tensor], None] | None


def record_grad(record: LayerRecord, grad: torch.Tensor, dtype: str) -> None:
    """Keeps a gradient (T, N, ...) in a record: dm of a spiking layer, dL/dx of a layer that does not spike."""
    values = grad.detach().cpu().numpy()
    record.grad = pack_bits(values != 0)
    if record.values:
        record.grad_membrane = values.astype("float32") if dtype == "float32" else half(values)


def parameter_gradients(
    grad_spikes: torch.Tensor, membrane: torch.Tensor, spikes: torch.Tensor, grad: torch.Tensor, neuron: Neuron
) -> tuple[torch.Tensor, torch.Tensor]:
    """(dL/d threshold, dL/d decay), scalars, of a layer whose neurons share both; grad: dm, all (T, N, ...).

    dL/dth = sum of (dL/ds - drop) * ds/dth, and of -dm[t+1] * s[t] (times alpha for reset 'subtract') for what a soft
    reset takes off; ds/dth is -fire'(m), for a triangle -fire'(m) * m/th. dL/d alpha = sum of dm[t+1] * r[t], r what
    the reset leaves of m. Sums are taken in float64.
    """
    later = torch.cat([grad[1:], torch.zeros_like(grad[:1])])
    by_threshold = -neuron.slope(membrane)
    if neuron.surrogate == "triangle":
        by_threshold = by_threshold * membrane / neuron.threshold
    each = (grad_spikes - neuron.drop(later, membrane)) * by_threshold
    if neuron.reset in ("subtract", "subtract-after-leak"):
        each = each - (neuron.decay if neuron.reset == "subtract" else 1) * later * spikes
    of_decay = later * neuron.kept(membrane, spikes)
    return each.sum(dtype=torch.float64).to(grad.dtype), of_decay.sum(dtype=torch.float64).to(grad.dtype)


def has_kernel(values: torch.Tensor) -> bool:
    """Whether the compiled kernels can take these values: they take float32 on the CPU."""
    return values.device.type == "cpu" and values.dtype == torch.float32


def compiled_membranes(current: torch.Tensor, neuron: Neuron) -> tuple[torch.Tensor, torch.Tensor]:
    """What `membranes` gives, by the compiled kernel in one pass over memory."""
    current = current.contiguous()
    membrane, spikes = torch.empty_like(current), torch.empty_like(current)
    kernels.forward(
        _flat(current), _f32(neuron.decay), _f32(neuron.threshold), neuron.fires_at == "greater", *_reset(neuron),
        _flat(membrane), _flat(spikes),
    )  # fmt: skip
    return membrane, spikes


def compiled_membrane_gradient(
    grad_spikes: torch.Tensor, membrane: torch.Tensor, spikes: torch.Tensor, neuron: Neuron
) -> torch.Tensor:
    """What `membrane_gradient` gives for float32, by the compiled kernel in one pass over memory."""
    grad, (low, high) = torch.empty_like(membrane), neuron.window
    kernels.backward(
        _flat(grad_spikes.contiguous()), _flat(membrane), _flat(spikes), _f32(neuron.decay), _f32(neuron.threshold),
        _f32(low), _f32(high), _f32(neuron.surrogate_scale), neuron.surrogate == "triangle",
        _f32(not neuron.detach_reset), *_reset(neuron), _flat(grad),
    )  # fmt: skip
    return grad


def _reset(neuron: Neuron) -> tuple[np.float32, np.float32, np.float32]:
    """The kernels' zeroed, before and after."""
    return _f32(neuron.reset == "zero"), _f32(neuron.reset == "subtract"), _f32(neuron.reset == "subtract-after-leak")


def _flat(values: torch.Tensor) -> npt.NDArray[np.float32]:
    """The tensor's own memory as (T, neurons of all samples)."""
    return values.detach().numpy().reshape(values.shape[0], -1)


_f32 = np.float32


class _FusedLif(torch.autograd.Function):
    """Spikes of all timesteps from the currents of all timesteps; one node of the graph instead of 5 T.

    threshold, decay: tensors that are to have a gradient; their values are the neuron's.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: torch.Tensor,
        threshold: torch.Tensor | None,
        decay: torch.Tensor | None,
        neuron: Neuron,
        record: LayerRecord | None,
        dtype: str,
        left: Left,
    ) -> torch.Tensor:
        run = compiled_membranes if has_kernel(current) else membranes
        membrane, spikes = run(current, neuron)
        if left is not None:
            left(membrane[-1], spikes[-1])
        ctx.save_for_backward(membrane, spikes)
        ctx.neuron, ctx.record, ctx.dtype = neuron, record, dtype
        if record is not None:
            record.spikes = pack_bits(neuron.fires(membrane).cpu().numpy())
            record.window = pack_bits(neuron.in_window(membrane).cpu().numpy())
            if record.values:
                record.membrane = half(membrane.cpu().numpy())
            if threshold is not None or decay is not None:
                record.neuron = neuron.to_meta()
        return spikes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad_spikes: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        membrane, spikes = ctx.saved_tensors
        if has_kernel(membrane) and ctx.dtype == "float32":
            grad = compiled_membrane_gradient(grad_spikes, membrane, spikes, ctx.neuron)
        else:
            grad = membrane_gradient(grad_spikes, membrane, spikes, ctx.neuron, ctx.dtype)
        if ctx.record is not None:
            record_grad(ctx.record, grad, ctx.dtype)
        _, wants_threshold, wants_decay, *_ = ctx.needs_input_grad
        of_threshold = of_decay = None
        if wants_threshold or wants_decay:
            of_threshold, of_decay = parameter_gradients(grad_spikes, membrane, spikes, grad, ctx.neuron)
        return (
            grad, of_threshold if wants_threshold else None, of_decay if wants_decay else None, *[None] * 4,
        )  # fmt: skip


# torch leaves apply untyped
_fused_lif: Callable[
    [torch.Tensor, torch.Tensor | None, torch.Tensor | None, Neuron, LayerRecord | None, str, Left], torch.Tensor
] = _FusedLif.apply


def lif(
    current: torch.Tensor,
    neuron: Neuron,
    record: LayerRecord | None = None,
    gradient_dtype: str = "float32",
    *,
    threshold: torch.Tensor | None = None,
    decay: torch.Tensor | None = None,
    left: Left = None,
) -> torch.Tensor:
    """Output spikes (0.0 or 1.0) of a LIF layer; current x and result s are (T, N, ...).

    Forward (eq. 2.1-2.3):  m[t] = alpha*m[t-1]*(1 - s[t-1]) + x[t],  s[t] = m[t] >= th_f.
    Backward (eq. 2.4-2.6): ds[t] = dL/ds[t] - alpha*m[t]*dm[t+1],
                            dm[t] = alpha*(1 - s[t])*dm[t+1] + fire'(m[t])*ds[t],  dL/dx[t] = dm[t].
    Other resets and surrogates: see Neuron. threshold, decay: scalars that get a gradient; the neuron then has their
    values, whatever its own. gradient_dtype: number format to which dm is rounded at every timestep (see rounded).
    record: receives spikes, window and membrane (rounded to float16, where all of it fits) in this call, and the neuron
    where it is trained, and grad (dm) in the backward pass. left: called with m and s of the last timestep, (N, ...).
    """
    if threshold is not None or decay is not None:
        neuron = neuron.at(_value(threshold, neuron.threshold), _value(decay, neuron.decay))
    return _fused_lif(current, threshold, decay, neuron, record, gradient_dtype, left)


def continued(
    current: torch.Tensor,
    neuron: Neuron,
    membrane: torch.Tensor,
    spikes: torch.Tensor,
    threshold: torch.Tensor | None = None,
    decay: torch.Tensor | None = None,
) -> torch.Tensor:
    """The currents (T, N, ...) with what m and s (N, ...) of the timestep before leave in the first one's membrane.

    m and s get no gradient; threshold and decay, where they are trained, do.
    """
    alpha, th = neuron.decay if decay is None else decay, neuron.threshold if threshold is None else threshold
    held = membrane * (1 - spikes) if neuron.reset == "zero" else membrane
    first = current[:1] + alpha * (held - th * spikes if neuron.reset == "subtract" else held)
    if neuron.reset == "subtract-after-leak":
        first = first - th * spikes
    return torch.cat([first, current[1:]])


def _value(trained: torch.Tensor | None, own: float) -> float:
    return own if trained is None else float(trained.detach())
