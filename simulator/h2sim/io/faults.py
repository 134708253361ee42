"""Turns pydantic's errors into lines that a user can act on: file, field, expected, got, nearest right name."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def describe(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """One line per fault. `where` names the file that held the data; `model`, which checked it, knows the fields."""
    return [_line(fault, model, where) for fault in error.errors(include_url=False)]


def _line(fault: ErrorDetails, model: type[BaseModel], where: str) -> str:
    loc = fault["loc"]
    field = ".".join(str(part) for part in loc) or "top level"
    kind, got = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        return f"{where}: {field}: unknown field{_suggestion(model, loc)}"
    if kind == "missing":
        return f"{where}: {field}: missing field"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if kind == "value_error":
        shown = "" if "got" in message else f"; got {_show(got)}"
        return f"{where}: {field}: {message}{shown}"
    return f"{where}: {field}: expected {message}; got {_show(got)}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """`; did you mean 'rows'?` for a misspelt field, or the known fields of the model where it stood."""
    holder: Any = model
    for part in loc[:-1]:
        if isinstance(part, str):
            field = getattr(holder, "model_fields", {}).get(part)
            holder = _model_in(field.annotation) if field else None
    known = list(getattr(holder, "model_fields", {}))
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _model_in(annotation: Any) -> Any:
    """The model in a field's annotation, also within tuples, Annotated and unions; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
