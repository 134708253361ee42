"""snnTorch's neurons (1.0): Leaky, Lapicque and Synaptic, which differ in what a reset acts on, and Alpha.

A spike needs mem > threshold, not >=. Leaky with reset 'zero' or 'none' is the source's equation; with 'subtract' the
threshold goes off after the leak, a reset that a trace can say. Others are Lapicque with reset 'zero', a reset without
delay, a synaptic current (Synaptic, Alpha), and a beta or a threshold of several values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from h2sim.export.parameters import values
from h2sim.export.protocol import NeuronSpec, Reset

_FAMILY = ("SpikingNeuron", "LIF")
_RECURRENT = ("RLeaky", "RSynaptic", "SLSTM", "SConv2dLSTM")
_SHIFTED = "a neuron's membrane is given as v - threshold + T, where T is the largest threshold of its layer"
_DECAYS = "a neuron's decay is given as the largest of its layer"


def neuron(module: nn.Module, name: str) -> NeuronSpec | str | None:
    """The neuron that an snnTorch class of this name is; a reason why no trace can hold it; None if it is none."""
    if name in _RECURRENT:
        return "recurrent connections, which the machine does not have"
    if name not in _EQUATIONS:
        family = any(base.__name__ in _FAMILY for base in type(module).__mro__)
        return f"{name}, whose equation h2sim does not know" if family else None
    return _fault(module) or _spec(module, _EQUATIONS[name](module))


def _fault(module: Any) -> str | None:
    if module.graded_spikes_factor.numel() != 1 or float(module.graded_spikes_factor) != 1.0:
        return "a graded_spikes_factor other than 1, so outputs that are not spikes"
    if module.inhibition:
        return "inhibition between neurons, which the machine does not have"
    if module.surrogate_disable:
        return "no surrogate gradient (surrogate_disable)"
    if module.state_quant:
        return "a quantised state (state_quant)"
    return None


def _name(function: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """`atan` of the function `atan.<locals>.inner` that snntorch.surrogate.atan() returns."""
    return getattr(function, "__qualname__", type(function).__name__).split(".")[0]


@dataclass(frozen=True, kw_only=True)
class _Neuron:
    """u[t] = beta * mem[t-1] + gain * i[t], where i[t] = alpha * i[t-1] + x[t], and what a reset makes of it.

    beta, alpha, threshold: one number, or one per neuron. r[t] is 1 where mem[t-1] > threshold, and the reset takes
    r * threshold ('subtract') or r * u ('zero') off u to give v. before_input: it acts on mem[t-1] instead. delayed:
    mem is v, so that r[t] is the spike s[t-1]; else the reset acts at once, on v, by s - r.
    """

    beta: torch.Tensor
    threshold: torch.Tensor
    reset: Reset
    alpha: torch.Tensor | float = 0.0
    gain: float = 1.0
    delayed: bool = True
    before_input: bool = False

    @property
    def is_lif(self) -> bool:
        """Whether this is the source's equation (eq. 2.1)."""
        if self.beta.dim() or self.threshold.dim() or bool(torch.as_tensor(self.alpha).any()):
            return False
        if self.reset == "none":
            return True
        if self.reset == "subtract":
            return self.delayed and bool(self.threshold >= 0)
        return self.before_input if self.delayed else bool(self.threshold >= 0)

    @property
    def as_trace(self) -> Reset:
        """The reset in a trace's words."""
        after = self.reset == "subtract" and self.is_lif and bool(self.beta != 1)
        return "subtract-after-leak" if after else self.reset

    def membrane(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """v, (T, N, ...)."""
        mem, current, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        r = (mem > self.threshold).to(x.dtype)
        for x_now, s_now in zip(x, s, strict=True):
            current = self.alpha * current + x_now
            u = self.beta * (self._reset(mem, r) if self.before_input else mem) + self.gain * current
            v = u if self.before_input else self._reset(u, r)
            out.append(v)
            mem = v if self.delayed else self._reset(v, s_now - r)
            r = s_now if self.delayed else (mem > self.threshold).to(x.dtype)
        return torch.stack(out)

    def _reset(self, v: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        if self.reset == "none":
            return v
        return v - r * (self.threshold if self.reset == "subtract" else v)


@dataclass(frozen=True, kw_only=True)
class _Alpha:
    """v[t] = scale * (e[t] + i[t]), where e[t] = alpha * e[t-1] + x[t] and i[t] = beta * i[t-1] - x[t].

    After a spike 'zero' makes e, i and v 0 for a timestep; 'subtract' takes the threshold off e, makes i 0 and adds
    i[t-1] to v, which is what the library computes.
    """

    alpha: torch.Tensor
    beta: torch.Tensor
    threshold: torch.Tensor
    reset: Reset
    delayed: bool = True
    gain: float = 1.0
    is_lif: bool = False

    @property
    def as_trace(self) -> Reset:
        """The reset in a trace's words."""
        return self.reset

    def membrane(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """v, (T, N, ...)."""
        scale = self.alpha.log() / (self.beta.log() - self.alpha.log()) + 1
        raised, lowered, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        r = (raised > self.threshold).to(x.dtype)
        for x_now, s_now in zip(x, s, strict=True):
            before = lowered
            raised, lowered = self.alpha * raised + x_now, self.beta * lowered - x_now
            v = scale * (raised + lowered)
            if self.reset == "zero":
                raised, lowered, v = (part - r * part for part in (raised, lowered, v))
            elif self.reset == "subtract":
                raised, lowered, v = raised - r * self.threshold, lowered - r * lowered, v + r * before
            out.append(v)
            r = s_now
        return torch.stack(out)


def _leaky(module: Any) -> _Neuron:
    return _Neuron(
        beta=values(module.beta.clamp(0, 1)),
        threshold=values(module.threshold),
        reset=module.reset_mechanism,
        delayed=bool(module.reset_delay),
        before_input=module.reset_mechanism == "zero",
    )


def _lapicque(module: Any) -> _Neuron:
    r, c, dt = module.R, module.C, module.time_step
    return _Neuron(
        beta=values(1 - dt / (r * c)),
        threshold=values(module.threshold),
        reset=module.reset_mechanism,
        gain=float(r * (1 / (r * c)) * dt),
    )


def _synaptic(module: Any) -> _Neuron:
    return _Neuron(
        beta=values(module.beta.clamp(0, 1)),
        alpha=values(module.alpha.clamp(0, 1)),
        threshold=values(module.threshold),
        reset=module.reset_mechanism,
        delayed=bool(module.reset_delay),
    )


def _alpha(module: Any) -> _Alpha:
    return _Alpha(
        alpha=values(module.alpha.clamp(0, 1)),
        beta=values(module.beta.clamp(0, 1)),
        threshold=values(module.threshold),
        reset=module.reset_mechanism,
    )


_EQUATIONS: dict[str, Callable[[Any], _Neuron | _Alpha]] = {
    "Leaky": _leaky,
    "Lapicque": _lapicque,
    "Synaptic": _synaptic,
    "Alpha": _alpha,
}


def _spec(module: Any, equation: _Neuron | _Alpha) -> NeuronSpec:
    threshold, beta = equation.threshold, equation.beta
    highest = float(threshold.max())

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v = equation.membrane(x, s)
        return v - threshold + highest if threshold.dim() else v

    return NeuronSpec(
        decay=float(beta.max()),
        threshold=highest,
        fire=module.spike_grad,
        reset=equation.as_trace,
        gain=equation.gain,
        detach_reset=equation.delayed,
        surrogate=_name(module.spike_grad),
        membrane=None if equation.is_lif else membrane,
        fires_at="greater",
        notes=(*([_SHIFTED] if threshold.dim() else []), *([_DECAYS] if beta.dim() else [])),
    )


def reset(module: Any) -> None:
    """Puts a neuron's hidden state back to 0."""
    if callable(getattr(module, "reset_mem", None)):
        module.reset_mem()
