"""GPU traces: time and energy of a training step on a GPU, by layer and phase.

They are recorded, imported or published. `record` times a model of one's own; it needs torch. All is imported when it
is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from h2sim.errors import GpuTraceError

if TYPE_CHECKING:
    from h2sim.gpu.files import load_gpu_trace, write_gpu_trace
    from h2sim.gpu.own import record
    from h2sim.gpu.timed import Plan
    from h2sim.gpu.trace import Conditions, Device, Energy, GpuTrace, Row, Step, Values, parse_gpu_trace

__all__ = [
    "Conditions",
    "Device",
    "Energy",
    "GpuTrace",
    "Plan",
    "Row",
    "Step",
    "Values",
    "load_gpu_trace",
    "parse_gpu_trace",
    "record",
    "write_gpu_trace",
]

_HOMES = {  # no module of this package has the name of a function
    **dict.fromkeys(
        ("Conditions", "Device", "Energy", "GpuTrace", "Row", "Step", "Values", "parse_gpu_trace"), "trace"
    ),
    "Plan": "timed",
    "load_gpu_trace": "files",
    "record": "own",
    "write_gpu_trace": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"h2sim.gpu.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("h2sim"):
            raise
        raise GpuTraceError(f"h2sim.gpu.{name}: needs {error.name}, which is not installed") from None
