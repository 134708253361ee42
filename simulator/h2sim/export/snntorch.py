"""snnTorch's neurons (1.0): Leaky, and Synaptic, whose synaptic current makes another equation.

Leaky with reset 'zero': mem[t] = beta * mem[t-1] * (1 - r) + x[t], where r = mem[t-1] > threshold, which is s[t-1].
With reset 'subtract': mem[t] = beta * mem[t-1] + x[t] - threshold * r. That subtracts after the leak and is another
equation than the source's alpha * (m - th * s). r is always detached. A spike needs mem > threshold, not >=.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from h2sim.export.protocol import NeuronSpec

_FAMILY = ("SpikingNeuron", "LIF")


def neuron(module: nn.Module, name: str) -> NeuronSpec | str | None:
    """The neuron that an snnTorch class of this name is; a reason why no trace can hold it; None if it is none."""
    if name in ("RLeaky", "RSynaptic", "SLSTM", "SConv2dLSTM"):
        return "recurrent connections, which the machine does not have"
    if name not in ("Leaky", "Synaptic"):
        family = any(base.__name__ in _FAMILY for base in type(module).__mro__)
        return f"{name}, whose equation h2sim does not know" if family else None
    fault = _fault(module)
    if fault:
        return fault
    return _leaky(module) if name == "Leaky" else _synaptic(module)


def _fault(module: Any) -> str | None:
    for field in ("beta", "alpha", "threshold"):
        value = getattr(module, field, None)
        if isinstance(value, torch.Tensor) and value.numel() != 1:
            return f"{field} of {value.numel()} values, not one for the whole layer"
    if module.graded_spikes_factor.numel() != 1 or float(module.graded_spikes_factor) != 1.0:
        return "a graded_spikes_factor other than 1, so outputs that are not spikes"
    if module.inhibition:
        return "inhibition between neurons, which the machine does not have"
    if module.surrogate_disable:
        return "no surrogate gradient (surrogate_disable)"
    if module.state_quant:
        return "a quantised state (state_quant)"
    return None


def _scalar(value: torch.Tensor) -> float:
    return float(value.detach().reshape(()))


def _name(function: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """`atan` of the function `atan.<locals>.inner` that snntorch.surrogate.atan() returns."""
    return getattr(function, "__qualname__", type(function).__name__).split(".")[0]


def _leaky(module: Any) -> NeuronSpec:
    beta, threshold, reset = _scalar(module.beta.clamp(0, 1)), _scalar(module.threshold), module.reset_mechanism
    delayed = module.reset_delay

    def subtracting(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return _subtracting(x, s, beta, threshold, delayed)

    return NeuronSpec(
        decay=beta,
        threshold=threshold,
        fire=module.spike_grad,
        reset=reset,
        detach_reset=bool(delayed),
        surrogate=_name(module.spike_grad),
        membrane=subtracting if reset == "subtract" else None,
        fires_at="greater",
    )


def _subtracting(x: torch.Tensor, s: torch.Tensor, beta: float, threshold: float, delayed: bool) -> torch.Tensor:
    """v, (T, N, ...), with reset 'subtract'.

    delayed: the threshold is subtracted at the timestep after a spike, after the leak. Otherwise it is subtracted at
    once, and again at the next timestep for as long as what is left stays above it.
    """
    mem, again, out = torch.zeros_like(x[0]), torch.zeros_like(s[0]), []
    for x_now, s_now in zip(x, s, strict=True):
        v = beta * mem + x_now - again * threshold
        out.append(v)
        mem = v if delayed else v - (s_now - again) * threshold
        again = s_now if delayed else (mem > threshold).to(x.dtype)
    return torch.stack(out)


def _synaptic(module: Any) -> NeuronSpec | str:
    if not module.reset_delay or module.reset_mechanism == "zero":
        return "Synaptic with reset 'zero' or reset_delay=False, whose equation h2sim does not know"
    alpha, beta = _scalar(module.alpha.clamp(0, 1)), _scalar(module.beta.clamp(0, 1))
    threshold, subtracts = _scalar(module.threshold), module.reset_mechanism == "subtract"

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        current, v, before, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), torch.zeros_like(s[0]), []
        for x_now, s_now in zip(x, s, strict=True):
            current = alpha * current + x_now
            v = beta * v + current - (threshold * before if subtracts else 0.0)
            before = s_now
            out.append(v)
        return torch.stack(out)

    return NeuronSpec(
        decay=beta,
        threshold=threshold,
        fire=module.spike_grad,
        reset=module.reset_mechanism,
        detach_reset=True,
        surrogate=_name(module.spike_grad),
        membrane=membrane,
        fires_at="greater",
    )


def reset(module: Any) -> None:
    """Puts a neuron's hidden state back to 0."""
    if callable(getattr(module, "reset_mem", None)):
        module.reset_mem()
