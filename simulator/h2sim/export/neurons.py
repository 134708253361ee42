"""Finds out which neuron a module is: its own `h2sim_neuron`, or the adapter of the library that its class is from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from h2sim.errors import ExportError, at
from h2sim.export import norse, sinabs, snntorch, spikingjelly
from h2sim.export.protocol import METHOD, NeuronSpec, ReadOut

Adapter = Callable[[nn.Module, str], NeuronSpec | ReadOut | str | None]

ADAPTERS: dict[str, Adapter] = {
    "spikingjelly": spikingjelly.neuron,
    "snntorch": snntorch.neuron,
    "norse": norse.neuron,
    "sinabs": sinabs.neuron,
}


def neuron_of(module: nn.Module, path: str) -> NeuronSpec | ReadOut | str | None:
    """The neuron or integrator that a module is; a reason why no trace can hold it; or None if it is neither.

    A module's own `h2sim_neuron` comes first. Else the first of its classes that a known library defines decides, so
    that a subclass counts as what it inherits from; the exporter checks the equation against the recorded spikes.
    Raises ExportError for an `h2sim_neuron` that returns something else.
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
    """Resets every stateful module of the known libraries, as before a new batch."""
    resets: tuple[Callable[[Any], None], ...] = (spikingjelly.reset, snntorch.reset, sinabs.reset)
    for module in model.modules():
        for reset in resets:
            reset(module)
