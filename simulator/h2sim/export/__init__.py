"""Traces of other people's models: `trace` records a step of a torch model, `load_nir` reads a NIR graph's structure.

`check` tells every obstacle to a trace of a model at once. `load_nir` needs nir, all else torch (and the model's own
library). Each is imported when it is asked for, so that neither library is needed for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2sim.errors import ExportError

if TYPE_CHECKING:
    from h2sim.export.batches import Exports
    from h2sim.export.capture import Export, trace
    from h2sim.export.nir import load_nir
    from h2sim.export.protocol import NeuronSpec, ReadOut
    from h2sim.export.report import Report, check

__all__ = ["Export", "Exports", "NeuronSpec", "ReadOut", "Report", "check", "load_nir", "trace"]

_HOMES = {
    "Export": "capture",
    "Exports": "batches",
    "NeuronSpec": "protocol",
    "ReadOut": "protocol",
    "Report": "report",
    "check": "report",
    "load_nir": "nir",
    "trace": "capture",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"h2sim.export.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("h2sim"):
            raise
        raise ExportError(f"h2sim.export.{name}: needs {error.name}, which is not installed") from None
