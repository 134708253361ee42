"""The leaky integrate-and-fire (LIF) neuron over all timesteps, forward and backward (eq. 2.1-2.6), as one torch
function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.function import once_differentiable

from h2sim.errors import NetworkError
from h2sim.export.record import LayerRecord, half, pack_bits
from h2sim.kernels import lif as kernels

GRADIENT_DTYPES = ("float32", "float16", "float16-flush")
SMALLEST_NORMAL_FLOAT16 = 2.0**-14
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Neuron:
    """Parameters of a LIF layer, named as in a trace's `neuron` entry. Symbols are those of eq. 2.1-2.6.

    threshold: th_f. decay: alpha. window: (th_l, th_r). surrogate_scale: eta. detach_reset: leave the term -alpha*m[t]
    of eq. 2.4 out of the gradient, as some libraries do. fires_at: where m >= th_f, or with 'greater' where m > th_f.
    Raises NetworkError for numbers that are not finite in float32 and for th_l >= th_r.
    """

    threshold: float = 0.3
    decay: float = 0.25
    window: tuple[float, float] = (0.05, 0.55)
    surrogate_scale: float = 1.0
    detach_reset: bool = False
    fires_at: Literal["greater_equal", "greater"] = "greater_equal"

    def __post_init__(self) -> None:
        low, high = self.window
        numbers = (self.threshold, self.decay, low, high, self.surrogate_scale)
        if not all(abs(number) <= LARGEST_FLOAT32 for number in numbers):
            raise NetworkError(f"neuron: expected finite numbers of float32; got {list(numbers)}")
        if low >= high:
            raise NetworkError(f"neuron.window: expected low < high; got {[low, high]}")

    @classmethod
    def from_meta(cls, entry: dict[str, Any]) -> Neuron:
        """The neuron of a trace's `neuron` entry, a layer's own fields already merged in.

        Raises NetworkError unless the neuron resets to zero.
        """
        if entry.get("reset", "zero") != "zero":
            raise NetworkError(f"neuron.reset: the trainer knows only 'zero'; got {entry['reset']!r}")
        low, high = entry["window"]
        return cls(
            float(entry["threshold"]),
            float(entry["decay"]),
            (float(low), float(high)),
            float(entry.get("surrogate_scale", 1.0)),
            bool(entry.get("detach_reset", False)),
            entry.get("fires_at", "greater_equal"),
        )

    def to_meta(self) -> dict[str, Any]:
        """This neuron as a trace's `neuron` entry."""
        entry: dict[str, Any] = {
            "threshold": self.threshold,
            "decay": self.decay,
            "window": list(self.window),
            "surrogate_scale": self.surrogate_scale,
            "reset": "zero",
            "detach_reset": self.detach_reset,
        }
        return entry if self.fires_at == "greater_equal" else {**entry, "fires_at": self.fires_at}

    def fires(self, membrane: torch.Tensor) -> torch.Tensor:
        """Where the neuron fires: m >= th_f (eq. 2.3), or m > th_f where fires_at is 'greater'."""
        return membrane > self.threshold if self.fires_at == "greater" else membrane >= self.threshold

    def in_window(self, membrane: torch.Tensor) -> torch.Tensor:
        """The window mask ds~: th_l < m < th_r, which is where fire'(m) is eta and not 0 (eq. 2.6)."""
        low, high = self.window
        return (membrane > low) & (membrane < high)


def rounded(grad: torch.Tensor, dtype: str) -> torch.Tensor:
    """A gradient rounded to a number format of GRADIENT_DTYPES. float16-flush also turns subnormal numbers into 0."""
    if dtype == "float32":
        return grad
    held = grad.half().to(grad.dtype)
    return held.masked_fill_(held.abs() < SMALLEST_NORMAL_FLOAT16, 0) if dtype == "float16-flush" else held


def record_grad(record: LayerRecord, grad: torch.Tensor, dtype: str) -> None:
    """Keeps a gradient (T, N, ...) in a record: dm of a spiking layer, dL/dx of a layer that does not spike."""
    values = grad.detach().cpu().numpy()
    record.grad = pack_bits(values != 0)
    if record.values:
        record.grad_membrane = values.astype("float32") if dtype == "float32" else half(values)


def membranes(current: torch.Tensor, neuron: Neuron) -> tuple[torch.Tensor, torch.Tensor]:
    """(membrane potentials, spikes) of currents (T, N, ...) by eq. 2.1-2.3, in plain torch operations.

    Spikes are 0.0 or 1.0.
    """
    membrane, spikes = torch.empty_like(current), torch.empty_like(current)
    for t in range(current.shape[0]):
        membrane[t] = current[t]
        if t:
            membrane[t] += neuron.decay * membrane[t - 1] * (1 - spikes[t - 1])
        spikes[t] = neuron.fires(membrane[t])
    return membrane, spikes


def membrane_gradient(
    grad_spikes: torch.Tensor, membrane: torch.Tensor, spikes: torch.Tensor, neuron: Neuron, dtype: str = "float32"
) -> torch.Tensor:
    """dm (T, N, ...) from the spatial part of dL/ds by eq. 2.4-2.6, in plain torch operations.

    dtype: number format to which dm is rounded at every timestep (see rounded).
    """
    grad, last = torch.empty_like(membrane), membrane.shape[0] - 1
    surrogate = neuron.in_window(membrane).to(membrane.dtype) * neuron.surrogate_scale
    grad[last] = rounded(grad_spikes[last] * surrogate[last], dtype)
    for t in reversed(range(last)):
        leak = neuron.decay * grad[t + 1]
        grad_s = grad_spikes[t] if neuron.detach_reset else grad_spikes[t] - leak * membrane[t]
        grad[t] = rounded(leak * (1 - spikes[t]) + grad_s * surrogate[t], dtype)
    return grad


def has_kernel(values: torch.Tensor) -> bool:
    """Whether the compiled kernels can take these values: they take float32 on the CPU."""
    return values.device.type == "cpu" and values.dtype == torch.float32


def compiled_membranes(current: torch.Tensor, neuron: Neuron) -> tuple[torch.Tensor, torch.Tensor]:
    """What `membranes` gives, by the compiled kernel in one pass over memory."""
    current = current.contiguous()
    membrane, spikes = torch.empty_like(current), torch.empty_like(current)
    kernels.forward(
        _flat(current), _f32(neuron.decay), _f32(neuron.threshold), neuron.fires_at == "greater", _flat(membrane),
        _flat(spikes),
    )  # fmt: skip
    return membrane, spikes


def compiled_membrane_gradient(
    grad_spikes: torch.Tensor, membrane: torch.Tensor, spikes: torch.Tensor, neuron: Neuron
) -> torch.Tensor:
    """What `membrane_gradient` gives for float32, by the compiled kernel in one pass over memory."""
    grad, (low, high) = torch.empty_like(membrane), neuron.window
    kernels.backward(
        _flat(grad_spikes.contiguous()), _flat(membrane), _flat(spikes), _f32(neuron.decay), _f32(low), _f32(high),
        _f32(neuron.surrogate_scale), _f32(not neuron.detach_reset), _flat(grad),
    )  # fmt: skip
    return grad


def _flat(values: torch.Tensor) -> npt.NDArray[np.float32]:
    """The tensor's own memory as (T, neurons of all samples)."""
    return values.detach().numpy().reshape(values.shape[0], -1)


_f32 = np.float32


class _FusedLif(torch.autograd.Function):
    """Spikes of all timesteps from the currents of all timesteps; one node of the graph instead of 5 T."""

    @staticmethod
    def forward(
        ctx: Any, current: torch.Tensor, neuron: Neuron, record: LayerRecord | None, dtype: str
    ) -> torch.Tensor:
        run = compiled_membranes if has_kernel(current) else membranes
        membrane, spikes = run(current, neuron)
        ctx.save_for_backward(membrane, spikes)
        ctx.neuron, ctx.record, ctx.dtype = neuron, record, dtype
        if record is not None:
            record.spikes = pack_bits(neuron.fires(membrane).cpu().numpy())
            record.window = pack_bits(neuron.in_window(membrane).cpu().numpy())
            if record.values:
                record.membrane = half(membrane.cpu().numpy())
        return spikes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides ctx's name
        ctx: Any, grad_spikes: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        membrane, spikes = ctx.saved_tensors
        if has_kernel(membrane) and ctx.dtype == "float32":
            grad = compiled_membrane_gradient(grad_spikes, membrane, spikes, ctx.neuron)
        else:
            grad = membrane_gradient(grad_spikes, membrane, spikes, ctx.neuron, ctx.dtype)
        if ctx.record is not None:
            record_grad(ctx.record, grad, ctx.dtype)
        return grad, None, None, None


# torch leaves apply untyped
_fused_lif: Callable[[torch.Tensor, Neuron, LayerRecord | None, str], torch.Tensor] = _FusedLif.apply


def lif(
    current: torch.Tensor, neuron: Neuron, record: LayerRecord | None = None, gradient_dtype: str = "float32"
) -> torch.Tensor:
    """Output spikes (0.0 or 1.0) of a LIF layer; current x and result s are (T, N, ...).

    Forward (eq. 2.1-2.3):  m[t] = alpha*m[t-1]*(1 - s[t-1]) + x[t],  s[t] = m[t] >= th_f.
    Backward (eq. 2.4-2.6): ds[t] = dL/ds[t] - alpha*m[t]*dm[t+1],
                            dm[t] = alpha*(1 - s[t])*dm[t+1] + fire'(m[t])*ds[t],  dL/dx[t] = dm[t].
    gradient_dtype: number format to which dm is rounded at every timestep (see rounded). record: receives spikes,
    window and membrane (rounded to float16, where all of it fits) in this call, and grad (dm) in the backward pass.
    """
    return _fused_lif(current, neuron, record, gradient_dtype)
