"""Finds out which neuron a module is: its own `h2sim_neuron`, or the adapter of the library that its class is from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export import norse, snntorch, spikingjelly
from h2sim.export.protocol import METHOD, NeuronSpec

Adapter = Callable[[nn.Module, str], NeuronSpec | str | None]

ADAPTERS: dict[str, Adapter] = {
    "spikingjelly": spikingjelly.neuron,
    "snntorch": snntorch.neuron,
    "norse": norse.neuron,
}


def neuron_of(module: nn.Module, path: str) -> NeuronSpec | str | None:
    """What neuron the module is, or a reason why it is one that no trace can hold, or None if it is no neuron.

    Asks the module's first class that a known library defines, so that a subclass counts as what it inherits from; the
    exporter checks the equation against the spikes. Raises ExportError for a wrong `h2sim_neuron`.
    """
    method = getattr(module, METHOD, None)
    if method is not None:
        spec = method()
        if not isinstance(spec, NeuronSpec):
            raise ExportError(at(path, METHOD, "a NeuronSpec", type(spec).__name__))
        return _finite(spec)
    for cls in type(module).__mro__:
        adapter = ADAPTERS.get(cls.__module__.partition(".")[0])
        if adapter:
            found = adapter(module, cls.__name__)
            return _finite(found) if isinstance(found, NeuronSpec) else found
    return None


def _finite(spec: NeuronSpec) -> NeuronSpec | str:
    for field in ("decay", "threshold", "gain"):
        if not math.isfinite(getattr(spec, field)):
            return f"{field} {getattr(spec, field)}, not a finite number"
    if spec.gain <= 0:
        return f"gain {spec.gain:g}, not above 0"
    return spec


def reset_states(model: nn.Module) -> None:
    """Puts every stateful module of the known libraries to where it starts, as before a new batch."""
    resets: tuple[Callable[[Any], None], ...] = (spikingjelly.reset, snntorch.reset)
    for module in model.modules():
        for reset in resets:
            reset(module)
