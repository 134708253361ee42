"""Turns pydantic's errors into lines that a user can act on: file, field, expected, got, nearest right name."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MOST_SHOWN = 60
_SHORT = reprlib.Repr()  # mappings and lists that hold themselves many times over stay short
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 4 * MOST_SHOWN
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 12


def describe(
    error: ValidationError, model: type[BaseModel], where: str, lines: Mapping[tuple[str, ...], int] | None = None
) -> list[str]:
    """One line per fault. `where` names the file that held the data; `model`, which checked it, knows the fields.

    lines: where in the file each value stands (h2sim.io.yamlfile.lines_of); then a fault says its line too.
    """
    return [_line(fault, model, on_line(where, lines or {}, fault["loc"])) for fault in faults_of(error, model)]


def on_line(where: str, lines: Mapping[tuple[str, ...], int], path: Sequence[int | str]) -> str:
    """`where` with the line of the value at a path, or of the nearest value around it."""
    keys = tuple(map(str, path))
    found = (lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines)
    line = next(found, None)
    return where if line is None else f"{where}: line {line}"


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[ErrorDetails]:
    """What pydantic found; a field that stands there under its old name is not called missing as well."""
    faults = error.errors(include_url=False)
    new = {renamed_to(model, _path(fault)) for fault in faults if fault["type"] == "extra_forbidden"}
    return [fault for fault in faults if not (fault["type"] == "missing" and _unnumbered(_path(fault)) in new)]


def renamed_to(model: type[BaseModel], path: str) -> str | None:
    """The path that a field of an earlier version has now; None if `path` names no such field.

    A model's RENAMED leaves the numbers of list entries out: `luts.read` answers for `luts.3.read`.
    """
    renamed: Mapping[str, str] = getattr(model, "RENAMED", {})
    return renamed.get(_unnumbered(path))


def _unnumbered(path: str) -> str:
    return ".".join(part for part in path.split(".") if not part.isdecimal())


def _path(fault: ErrorDetails) -> str:
    return ".".join(str(part) for part in fault["loc"]) or "top level"


def _line(fault: ErrorDetails, model: type[BaseModel], where: str) -> str:
    loc = fault["loc"]
    field = _path(fault)
    kind, got = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        renamed = renamed_to(model, field)
        if renamed:
            return f"{where}: {field}: unknown field; it is now {renamed!r}"
        return f"{where}: {field}: unknown field{_suggestion(model, loc)}"
    if kind == "missing":
        return f"{where}: {field}: missing field"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        shown = "" if "got" in message else f"; got {show(got)}"
        return f"{where}: {field}: {message}{shown}"
    return f"{where}: {field}: expected {message}; got {show(got)}"


def show(value: Any) -> str:
    """A value for an error line: at most 60 characters, and no more than that is ever made of a huge one."""
    try:
        text = repr(value[:MOST_SHOWN]) if isinstance(value, str) else _SHORT.repr(value)
    except ValueError:  # an integer of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


def _suggestion(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """`; did you mean 'rows'?` for a misspelt field, or the known fields of the model where it stood."""
    holder: Any = model
    for part in loc[:-1]:
        if isinstance(part, str):
            field = getattr(holder, "model_fields", {}).get(part)
            holder = model_in(field.annotation) if field else holder  # else it is the key of a mapping of models
    known = list(getattr(holder, "model_fields", {}))
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in a field's annotation, also within tuples, Annotated and unions; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (model_in(inner) for inner in get_args(annotation))
    return next((model for model in found if model), None)
