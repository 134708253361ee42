"""SpikingJelly's neurons (activation_based, 2.0): IFNode, LIFNode, ParametricLIFNode and the Simple ones.

LIFNode: h = v + (x - (v - v_reset)) / tau with decay_input, else h = v - (v - v_reset) / tau + x. With u = v - v_reset
both are u' = (1 - 1/tau) u + g x, with g = 1/tau or 1. v starts at v_reset, so u starts at 0. With v_reset None the
reset subtracts the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from h2sim.export.protocol import NeuronSpec

CONTAINERS = ("ElementWiseRecurrentContainer", "LinearRecurrentContainer")


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


def neuron(module: nn.Module, name: str) -> NeuronSpec | str | None:
    """The neuron that a SpikingJelly class of this name is; a reason why no trace can hold it; None if it is none."""
    if name in CONTAINERS:
        return "recurrent connections, which the machine does not have"
    if name in _TAU:
        return _spec(module, _TAU[name])
    if name.endswith("Node") and not name.startswith("NonSpiking"):
        return f"{name}, whose equation h2sim does not know"
    return None


def _spec(module: Any, tau_of: Callable[[Any], float] | None) -> NeuronSpec | str:
    if not getattr(module.surrogate_function, "spiking", True):
        return "a surrogate with spiking=False, whose outputs are not spikes"
    tau = tau_of(module) if tau_of else None
    hard = module.v_reset is not None
    reset_to = float(module.v_reset) if hard else 0.0
    starts_at = float(module._memories_rv.get("v", reset_to))
    if starts_at != reset_to:
        return f"a membrane potential that starts at {starts_at:g} and resets to {reset_to:g}"
    return NeuronSpec(
        decay=1.0 - 1.0 / tau if tau else 1.0,
        threshold=float(module.v_threshold) - reset_to,
        fire=module.surrogate_function,
        reset="zero" if hard else "subtract",
        gain=1.0 / tau if tau and module.decay_input else 1.0,
        detach_reset=bool(module.detach_reset),
        multi_step=module.step_mode == "m",
        surrogate=surrogate_name(module.surrogate_function),
    )


def surrogate_name(function: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """`ATan(alpha=2.0, spiking=True)`: the surrogate's class and its parameters."""
    return str(function) if isinstance(function, nn.Module) else getattr(function, "__name__", type(function).__name__)


def reset(module: Any) -> None:
    """Resets a stateful module of the library."""
    if hasattr(module, "_memories") and callable(getattr(module, "reset", None)):
        module.reset()
