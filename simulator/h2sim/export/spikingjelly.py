"""SpikingJelly's neurons (activation_based, 2.0): IFNode, LIFNode, ParametricLIFNode and the Simple ones.

LIFNode: h = v + (x - (v - v_reset)) / tau with decay_input, else h = v - (v - v_reset) / tau + x. With u = v - v_reset
both are u' = (1 - 1/tau) u + g x, with g = 1/tau or 1. v starts at v_reset, so u starts at 0. With v_reset None the
reset subtracts the threshold. KLIFNode, CUBALIFNode and ComplementaryLIFNode have equations of their own. The
NonSpiking ones integrate without spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from h2sim.export.protocol import NeuronSpec, ReadOut

Membrane = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

CONTAINERS = ("ElementWiseRecurrentContainer", "LinearRecurrentContainer")
_STATES = {
    "Delay": "spikes of earlier timesteps, which the machine does not keep",
    "SynapseFilter": "a state of its own between layers, which the machine does not keep",
}
_NO_NODES = ("PSN", "MaskedPSN", "SlidingPSN", "FlexSN")


def _tau(module: Any) -> float:
    return float(module.tau)


def _learnt_tau(module: Any) -> float:
    return 1.0 / float(module.w.detach().sigmoid())


_TAU: dict[str, Callable[[Any], float] | None] = {
    "IFNode": None,
    "SimpleIFNode": None,
    "LIFNode": _tau,
    "SimpleLIFNode": _tau,
    "ParametricLIFNode": _learnt_tau,
}


def neuron(module: nn.Module, name: str) -> NeuronSpec | ReadOut | str | None:
    """The neuron or integrator that a class of this name is; a reason why no trace can hold it; None if it is none."""
    if name in CONTAINERS:
        return "recurrent connections, which the machine does not have"
    if name in _STATES:
        return _STATES[name]
    if name in _TAU:
        return _fault(module) or _spec(module, _TAU[name])
    if name in _OTHERS:
        return _fault(module) or _OTHERS[name](module)
    if name.startswith("NonSpiking"):
        return ReadOut()
    if name.endswith("Node") or name in _NO_NODES:
        return f"{name}, whose equation h2sim does not know"
    return None


def _fault(module: Any) -> str | None:
    if not getattr(module.surrogate_function, "spiking", True):
        return "a surrogate with spiking=False, whose outputs are not spikes"
    reset_to = _reset_to(module)
    starts_at = float(module._memories_rv.get("v", reset_to))
    if starts_at != reset_to:
        return f"a membrane potential that starts at {starts_at:g} and resets to {reset_to:g}"
    return None


def _reset_to(module: Any) -> float:
    return 0.0 if module.v_reset is None else float(module.v_reset)


def _spec(module: Any, tau_of: Callable[[Any], float] | None) -> NeuronSpec:
    tau = tau_of(module) if tau_of else None
    decay, gain = 1.0 - 1.0 / tau if tau else 1.0, 1.0 / tau if tau and module.decay_input else 1.0
    return _made(module, decay, gain=gain, zero=_reset_to(module))


def _made(
    module: Any, decay: float, gain: float = 1.0, zero: float = 0.0, membrane: Membrane | None = None
) -> NeuronSpec:
    """The neuron as a specification, with v - zero in place of v."""
    multi_step = module.step_mode == "m"
    return NeuronSpec(
        decay=decay,
        threshold=float(module.v_threshold) - zero,
        fire=module.surrogate_function,
        reset="subtract" if module.v_reset is None else "zero",
        gain=gain,
        detach_reset=bool(module.detach_reset),
        multi_step=multi_step,
        surrogate=surrogate_name(module.surrogate_function),
        membrane=membrane,
    )


def _after_reset(module: Any, v: torch.Tensor, s: torch.Tensor, threshold: torch.Tensor | float) -> torch.Tensor:
    return v - s * threshold if module.v_reset is None else s * module.v_reset + (1 - s) * v


def _klif(module: Any) -> NeuronSpec:
    """v = max(k h, 0), where h is LIFNode's. With scale_reset the reset acts on v / k."""
    k, tau, zero = module.k.detach().cpu(), float(module.tau), _reset_to(module)
    scale = k if module.scale_reset else torch.ones_like(k)

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v, out = torch.full_like(x[0], zero), []
        for x_now, s_now in zip(x, s, strict=True):
            charged = v + (x_now - (v - zero)) / tau if module.decay_input else v - (v - zero) / tau + x_now
            u = torch.relu(k * charged)
            out.append(u)
            v = _after_reset(module, u / scale, s_now, module.v_threshold / scale)
        return torch.stack(out)

    return _made(module, float(k / scale) * (1.0 - 1.0 / tau), membrane=membrane)


def _cuba(module: Any) -> NeuronSpec:
    """v = v_decay v + c, where c = c_decay c + x: the source's equation if there is no c_decay and v returns to 0."""
    zero = _reset_to(module)

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v, current, out = torch.full_like(x[0], zero), torch.zeros_like(x[0]), []
        for x_now, s_now in zip(x, s, strict=True):
            current = current * module.c_decay + x_now
            u = v * module.v_decay + current
            out.append(u)
            v = _after_reset(module, u, s_now, module.v_threshold)
        return torch.stack(out)

    is_lif = module.c_decay == 0 and zero == 0
    return _made(module, float(module.v_decay), membrane=None if is_lif else membrane)


def _complementary(module: Any) -> NeuronSpec | str:
    """v = v - v / tau + x. A spike takes the threshold and sigmoid(m) off it, where m = m sigmoid(v / tau) + s."""
    if not module.training:
        return "no surrogate gradient in evaluation mode"
    tau = float(module.tau)

    def membrane(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        v, m, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        for x_now, s_now in zip(x, s, strict=True):
            u = v - v / tau + x_now
            out.append(u)
            m = m * torch.sigmoid(u / tau) + s_now
            v = u - s_now * (module.v_threshold + torch.sigmoid(m))
        return torch.stack(out)

    return _made(module, 1.0 - 1.0 / tau, membrane=membrane)


_OTHERS: dict[str, Callable[[Any], NeuronSpec | str]] = {
    "KLIFNode": _klif,
    "CUBALIFNode": _cuba,
    "ComplementaryLIFNode": _complementary,
}


def surrogate_name(function: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """`ATan(alpha=2.0, spiking=True)`: the surrogate's class and its parameters."""
    return str(function) if isinstance(function, nn.Module) else getattr(function, "__name__", type(function).__name__)


def reset(module: Any) -> None:
    """Resets a stateful module of the library."""
    if hasattr(module, "_memories") and callable(getattr(module, "reset", None)):
        module.reset()
