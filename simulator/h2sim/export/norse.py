"""Norse's neurons (1.1): LIFBoxCell, IAFCell and IAF; LIFCell and LIF, whose synaptic current makes another equation.

LIFBoxCell: v' = v + k (x + v_leak - v) with k = dt * tau_mem_inv. With u = v - v_leak that is u' = (1 - k) u + k x. v
starts at v_leak. reset_value sets v to v_reset, reset_subtract subtracts v_th. IAF: v' = v + x, which starts at v_reset
and returns to it. A spike needs v > v_th, not >=. LI and its cells integrate without spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from h2sim.export.protocol import NeuronSpec, ReadOut

_FAMILY = ("SNNCell", "SNN")
_RECURRENT = ("SNNRecurrent", "SNNRecurrentCell", "CobaLIFCell", "LIFCorrelation")
_READ_OUTS = ("LI", "LICell", "LIBoxCell")


def neuron(module: Any, name: str) -> NeuronSpec | ReadOut | str | None:
    """The neuron or integrator that a Norse class of this name is; a reason why no trace can hold it; None if none."""
    if name in _READ_OUTS:
        return ReadOut()
    if name == "LILinearCell":
        return ReadOut(weight=module.input_weights)
    bases = {base.__name__ for base in type(module).__mro__}
    if bases & set(_RECURRENT):
        return "recurrent connections, which the machine does not have"
    if name not in _EQUATIONS:
        return f"{name}, whose equation h2sim does not know" if bases & set(_FAMILY) else None
    for field in module.p._fields:
        value = getattr(module.p, field)
        if isinstance(value, torch.Tensor) and value.numel() != 1:
            return f"{field} of {value.numel()} values, not one for the whole layer"
    if module.p.method in ("heaviside", "adjoint"):
        return f"method {module.p.method!r}, which has no surrogate that h2sim can ask"
    return _EQUATIONS[name](module)


def _number(value: Any) -> float:
    return float(torch.as_tensor(value).detach())


def _fire(p: Any) -> Any:
    from norse.torch.functional.threshold import threshold

    return lambda u: threshold(u, p.method, p.alpha)


def _name(p: Any) -> str:
    return f"{p.method}(alpha={_number(p.alpha):g})"


def _box(module: Any) -> NeuronSpec | str:
    p, k = module.p, _number(module.dt * module.p.tau_mem_inv)
    leak, subtracts = _number(p.v_leak), p.reset_method.__name__ == "reset_subtract"
    if p.reset_method.__name__ not in ("reset_value", "reset_subtract"):
        return f"reset method {p.reset_method.__name__}, which h2sim does not know"
    if leak != 0 if subtracts else _number(p.v_reset) != leak:
        wanted = "v_leak 0" if subtracts else "v_reset as v_leak"
        return f"v_leak {leak:g} and v_reset {_number(p.v_reset):g}: a trace has {wanted}"
    return NeuronSpec(
        decay=1.0 - k,
        threshold=_number(p.v_th) - leak,
        fire=_fire(p),
        reset="subtract" if subtracts else "zero",
        gain=k,
        surrogate=_name(p),
        fires_at="greater",
    )


def _iaf(module: Any, multi_step: bool = False) -> NeuronSpec:
    p = module.p
    return NeuronSpec(
        decay=1.0,
        threshold=_number(p.v_th) - _number(p.v_reset),
        fire=_fire(p),
        multi_step=multi_step,
        surrogate=_name(p),
        fires_at="greater",
    )


def _lif(module: Any, multi_step: bool = False) -> NeuronSpec:
    p, dt = module.p, module.dt
    mem, syn = _number(dt * p.tau_mem_inv), _number(dt * p.tau_syn_inv)
    leak, threshold, reset_to = _number(p.v_leak), _number(p.v_th), _number(p.v_reset)

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
        surrogate=_name(p),
        membrane=membrane,
        fires_at="greater",
    )


_EQUATIONS: dict[str, Callable[[Any], NeuronSpec | str]] = {
    "LIFBoxCell": _box,
    "IAFCell": _iaf,
    "IAF": lambda module: _iaf(module, multi_step=True),
    "LIFCell": _lif,
    "LIF": lambda module: _lif(module, multi_step=True),
}
