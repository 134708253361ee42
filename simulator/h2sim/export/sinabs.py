"""Sinabs' neurons (3.1): LIF and IAF, which read (N, T, ...), and their Squeeze forms, which read (N * T, ...).

v' = alpha v + (1 - alpha) x, or alpha v + x without norm_input, where alpha = exp(-1 / tau_mem); IAF has alpha 1. A
spike needs v >= spike_threshold. MembraneSubtract takes the threshold off v; MembraneReset sets v to 0, and its spike
is detached. A synaptic current (tau_syn), a least membrane potential (min_v_mem), another value to subtract or to reset
to, and a tau_mem of several values make another equation. ExpLeak integrates without spikes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from h2sim.export.parameters import values
from h2sim.export.protocol import NeuronSpec, ReadOut, Reset

_KNOWN = ("LIF", "IAF", "ExpLeak", "LIFSqueeze", "IAFSqueeze", "ExpLeakSqueeze")
_RECURRENT = ("LIFRecurrent", "IAFRecurrent", "ALIFRecurrent")
_RESETS: dict[str, Reset] = {"MembraneSubtract": "subtract", "MembraneReset": "zero"}


def neuron(module: Any, name: str) -> NeuronSpec | ReadOut | str | None:
    """The neuron or integrator that a sinabs class of this name is; a reason why no trace can hold it; None if none."""
    bases = {base.__name__ for base in type(module).__mro__}
    if "StatefulLayer" not in bases:
        return None
    if bases & set(_RECURRENT):
        return "recurrent connections, which the machine does not have"
    if name not in _KNOWN:
        return f"{name}, whose equation h2sim does not know"
    if module.spike_fn is None:
        return ReadOut()
    return _fault(module) or _spec(module)


def _fault(module: Any) -> str | None:
    if values(module.spike_threshold).dim():
        return f"spike_threshold of {module.spike_threshold.numel()} values, each with a surrogate of its own"
    states = getattr(module.spike_fn, "required_states", None)
    if states != ["v_mem"]:
        return f"spikes that depend on {states}, not on v_mem alone"
    if type(module.reset_fn).__name__ not in _RESETS:
        return f"reset function {type(module.reset_fn).__name__}, which h2sim does not know"
    return None


def _spec(module: Any) -> NeuronSpec:
    threshold, alpha = values(module.spike_threshold), values(module.alpha_mem_calculated)
    reset = _RESETS[type(module.reset_fn).__name__]

    def fire(u: torch.Tensor) -> torch.Tensor:
        spikes: torch.Tensor = module.spike_fn.apply(u + threshold, threshold, module.surrogate_grad_fn)
        return spikes

    lif = not alpha.dim() and module.alpha_syn_calculated is None and module.min_v_mem is None and _is_plain(module)
    return NeuronSpec(
        decay=float(alpha.max()),
        threshold=float(threshold),
        fire=fire,
        reset=reset,
        gain=float(1 - alpha) if lif and module.norm_input else 1.0,
        detach_reset=reset == "zero",
        multi_step=True,
        time_axis=1,
        flat_timesteps=_size(module, "num_timesteps"),
        flat_samples=_size(module, "batch_size"),
        surrogate=_name(module.surrogate_grad_fn),
        membrane=None if lif else _membrane(module),
    )


def _is_plain(module: Any) -> bool:
    """Whether a reset takes the threshold off, or sets v to 0."""
    if _RESETS[type(module.reset_fn).__name__] == "zero":
        return bool(module.reset_fn.reset_value == 0)
    taken = module.reset_fn.subtract_value
    return taken is None or bool((torch.as_tensor(taken).cpu() == values(module.spike_threshold)).all())


def _membrane(module: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The function that gives v, (T, N, ...), by the module's own reset function."""
    threshold, alpha = values(module.spike_threshold), values(module.alpha_mem_calculated)
    synaptic, least = module.alpha_syn_calculated, module.min_v_mem
    synaptic = None if synaptic is None else values(synaptic)
    least = None if least is None else values(least)
    gain = 1 - alpha if module.norm_input else 1.0

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v, current, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        for x_now, s_now in zip(x, s, strict=True):
            current = x_now if synaptic is None else synaptic * (current + x_now)
            v = alpha * v + gain * current
            out.append(v)
            v = module.reset_fn(s_now, {"v_mem": v}, threshold)["v_mem"]
            v = v if least is None else torch.relu(v - least) + least
        return torch.stack(out)

    return membrane


def _size(module: Any, field: str) -> int | None:
    """The samples or timesteps of a Squeeze layer; None for one that does not know them, and for another layer."""
    size = int(getattr(module, field, -1))
    return size if size > 0 else None


def _name(function: Any) -> str:
    """`SingleExponential(grad_width=0.5, grad_scale=1.0)`: the surrogate and its parameters."""
    return (
        repr(function) if dataclasses.is_dataclass(function) else getattr(function, "__name__", type(function).__name__)
    )


def reset(module: Any) -> None:
    """Puts a neuron's state back to 0."""
    if hasattr(module, "is_state_initialised") and callable(getattr(module, "reset_states", None)):
        module.reset_states()
