"""Traces of other people's models: `trace` records a step of a torch model, `load_nir` reads a NIR graph's structure.

`trace`, `Export` and `NeuronSpec` need torch (and the model's own library), `load_nir` needs nir. Each is imported when
it is asked for, so that neither library is needed for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2sim.errors import ExportError

if TYPE_CHECKING:
    from h2sim.export.capture import Export, trace
    from h2sim.export.nir import load_nir
    from h2sim.export.protocol import NeuronSpec

__all__ = ["Export", "NeuronSpec", "load_nir", "trace"]

_HOMES = {"Export": "capture", "trace": "capture", "NeuronSpec": "protocol", "load_nir": "nir"}


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
