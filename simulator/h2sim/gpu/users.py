"""Finds a user's training step by name, `module:function` or `file.py:function`, and asks it for model and batch."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from h2sim.errors import GpuTraceError, at

NEEDED = ("model", "inputs", "targets", "loss")
MORE = ("forward", "optimizer", "timesteps", "network", "dataset", "window_threshold", "values", "about_device")
WANTED = "(model, inputs, targets, loss), or a dict of arguments of h2sim.measure"


def step_of(name: str) -> dict[str, Any]:
    """What the function of that name returns, as arguments of h2sim.measure by name.

    The function takes no arguments. A module is looked for in the current folder, too. Raises GpuTraceError, in a line,
    for whatever is wrong with it.
    """
    place, colon, function = name.rpartition(":")
    if not colon or not place or not function:
        raise GpuTraceError(at("measure", "step", "module:function, or file.py:function", repr(name)))
    with _here():
        found = getattr(_module(place), function, None)
        if not callable(found):
            got = "none" if found is None else "no function"
            raise GpuTraceError(at(place, "function", f"one called {function}", got))
        if _needs_arguments(found):
            got = f"{function}{inspect.signature(found)}"
            raise GpuTraceError(at(name, "function", "one without arguments", got))
        try:
            made = found()
        except Exception as error:
            raise _failed(name, error) from error
    return _arguments(name, made)


@contextmanager
def _here() -> Iterator[None]:
    """A block in which modules of the current folder are found, before any others."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def _module(place: str) -> ModuleType:
    if place.endswith(".py") and not Path(place).is_file():
        raise GpuTraceError(f"{place}: expected a file; got none")
    try:
        return _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise GpuTraceError(f"{place}: cannot be imported: there is no module {error.name}") from None
    except Exception as error:
        raise _failed(place, error) from error


def _from_file(path: Path) -> ModuleType:
    name = f"h2sim_step_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # of a name that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where classes of the file are looked for
    spec.loader.exec_module(module)
    return module


def _failed(name: str, error: Exception) -> GpuTraceError:
    told = " ".join(str(error).split())[:300]
    return GpuTraceError(f"{name}: expected code that runs; got {type(error).__name__}: {told}")


def _needs_arguments(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _arguments(name: str, made: Any) -> dict[str, Any]:
    if isinstance(made, tuple) and len(made) == len(NEEDED):
        return dict(zip(NEEDED, made, strict=True))
    if not isinstance(made, Mapping):
        got = f"{len(made)} things" if isinstance(made, tuple) else type(made).__name__
        raise GpuTraceError(at(name, "result", WANTED, got))
    missing = [key for key in NEEDED if key not in made]
    unknown = [str(key) for key in made if key not in (*NEEDED, *MORE)]
    if missing or unknown:
        got = f"no {', '.join(missing)}" if missing else f"{unknown[0]!r}"
        raise GpuTraceError(at(name, "result", f"the keys {', '.join(NEEDED)}, and of {', '.join(MORE)} some", got))
    return dict(made)
