"""The leaky integrate-and-fire (LIF) neuron over all timesteps, forward and backward (eq. 2.1-2.6), as one torch
function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd.function import once_differentiable

from h2sim.errors import NetworkError
from h2sim.export.record import LayerRecord, half, pack_bits
from h2sim.kernels import lif as kernels

Reset = Literal["zero", "subtract", "subtract-after-leak", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)
Left = Callable[[torch.Tensor, torch.Tensor], None] | None
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
