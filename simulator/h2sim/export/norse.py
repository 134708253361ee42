"""Norse's neurons (1.1): LIFBoxCell, and LIFCell and LIF, whose synaptic current makes another equation.

LIFBoxCell: v' = v + k (x + v_leak - v) with k = dt * tau_mem_inv. With u = v - v_leak that is u' = (1 - k) u + k x. v
starts at v_leak. reset_value sets v to v_reset, reset_subtract subtracts v_th. A spike needs v > v_th, not >=.
"""

from __future__ import annotations

from typing import Any

import torch

from h2sim.export.protocol import NeuronSpec

_FAMILY = ("SNNCell", "SNN", "SNNRecurrent", "SNNRecurrentCell")


def neuron(module: Any, name: str) -> NeuronSpec | str | None:
    """The neuron that a Norse class of this name is; a reason why no trace can hold it; None if it is none."""
    bases = {base.__name__ for base in type(module).__mro__}
    if bases & {"SNNRecurrent", "SNNRecurrentCell"}:
        return "recurrent connections, which the machine does not have"
    if name not in ("LIFBoxCell", "LIFCell", "LIF"):
        return f"{name}, whose equation h2sim does not know" if bases & set(_FAMILY) else None
    for field in module.p._fields:
        value = getattr(module.p, field)
        if isinstance(value, torch.Tensor) and value.numel() != 1:
            return f"{field} of {value.numel()} values, not one for the whole layer"
    if module.p.method in ("heaviside", "adjoint"):
        return f"method {module.p.method!r}, which has no surrogate that h2sim can ask"
    return _box(module) if name == "LIFBoxCell" else _lif(module, name == "LIF")


def _fire(p: Any) -> Any:
    from norse.torch.functional.threshold import threshold

    return lambda u: threshold(u, p.method, p.alpha)


def _box(module: Any) -> NeuronSpec | str:
    p, k = module.p, float(module.dt * module.p.tau_mem_inv)
    leak, subtracts = float(p.v_leak), p.reset_method.__name__ == "reset_subtract"
    if p.reset_method.__name__ not in ("reset_value", "reset_subtract"):
        return f"reset method {p.reset_method.__name__}, which h2sim does not know"
    if leak != 0 if subtracts else float(p.v_reset) != leak:
        wanted = "v_leak 0" if subtracts else "v_reset as v_leak"
        return f"v_leak {leak:g} and v_reset {float(p.v_reset):g}: a trace has {wanted}"
    return NeuronSpec(
        decay=1.0 - k,
        threshold=float(p.v_th) - leak,
        fire=_fire(p),
        reset="subtract" if subtracts else "zero",
        gain=k,
        surrogate=f"{p.method}(alpha={float(p.alpha):g})",
        fires_at="greater",
    )


def _lif(module: Any, multi_step: bool) -> NeuronSpec:
    p, dt = module.p, module.dt
    mem, syn = float(dt * p.tau_mem_inv), float(dt * p.tau_syn_inv)
    leak, threshold, reset_to = float(p.v_leak), float(p.v_th), float(p.v_reset)

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v, current, out = torch.full_like(x[0], leak), torch.zeros_like(x[0]), []
        for x_now, s_now in zip(x, s, strict=True):
            current = current + x_now
            decayed = v + mem * (leak - v + current)
            current = current - syn * current
            v = (1 - s_now) * decayed + s_now * reset_to
            out.append(decayed)
        return torch.stack(out)

    return NeuronSpec(
        decay=1.0 - mem,
        threshold=threshold,
        fire=_fire(p),
        multi_step=multi_step,
        surrogate=f"{p.method}(alpha={float(p.alpha):g})",
        membrane=membrane,
        fires_at="greater",
    )
