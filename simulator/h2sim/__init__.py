"""h2sim: a cycle-accurate simulator of H2Learn, an accelerator that trains spiking neural networks by BPTT.

>>> import h2sim
>>> result = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"))
>>> result
Result(h2learn on mnist-small: 88,472 cycles a sub-batch, 0.000302 J)
>>> len(result.layer_table())
20
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from h2sim._version import __version__

if TYPE_CHECKING:
    from h2sim.arch import Arch, load_arch
    from h2sim.attacks.own import attack
    from h2sim.compare.stored import StoredResult, read_result
    from h2sim.energy import EnergyTable, load_energy_table
    from h2sim.errors import H2SimError
    from h2sim.facade import count, priced, simulate
    from h2sim.gpu.measuring import measure
    from h2sim.result import Result
    from h2sim.rivals.registry import load_machine
    from h2sim.sweeps.run import sweep
    from h2sim.trace import Trace, load_trace

_HOMES = {  # imported when asked for, so that what needs no simulation starts at once
    "Arch": "h2sim.arch",
    "EnergyTable": "h2sim.energy",
    "H2SimError": "h2sim.errors",
    "Result": "h2sim.result",
    "StoredResult": "h2sim.compare.stored",
    "Trace": "h2sim.trace",
    "attack": "h2sim.attacks.own",
    "count": "h2sim.facade",
    "load_arch": "h2sim.arch",
    "load_energy_table": "h2sim.energy",
    "load_machine": "h2sim.rivals.registry",
    "load_trace": "h2sim.trace",
    "measure": "h2sim.gpu.measuring",
    "priced": "h2sim.facade",
    "read_result": "h2sim.compare.stored",
    "simulate": "h2sim.facade",
    "sweep": "h2sim.sweeps.run",
}

__all__ = [
    "Arch",
    "EnergyTable",
    "H2SimError",
    "Result",
    "StoredResult",
    "Trace",
    "__version__",
    "attack",
    "count",
    "load_arch",
    "load_energy_table",
    "load_machine",
    "load_trace",
    "measure",
    "priced",
    "read_result",
    "simulate",
    "sweep",
]


_PACKAGES = ("certify", "fused")  # of functions that are asked for by h2sim.NAME.FUNCTION


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"h2sim.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'h2sim' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
