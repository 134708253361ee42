"""Turns pydantic's findings into lines a user can act on: file, field, expected, got, nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def describe(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """One line per fault found in data that `where` holds; `model` knows the right field names."""
    return [_line(fault, model, where) for fault in error.errors(include_url=False)]


def renamed_to(model: type[BaseModel], path: str) -> str | None:
    """The name that a field of an earlier version has now, by dotted path; None if the path names no such field."""
    renamed: Mapping[str, str] = getattr(model, "RENAMED", {})
    return renamed.get(path)


def _line(fault: ErrorDetails, model: type[BaseModel], where: str) -> str:
    loc = fault["loc"]
    field = ".".join(str(part) for part in loc) or "top level"
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
        shown = "" if "got" in message else f"; got {_show(got)}"
        return f"{where}: {field}: {message}{shown}"
    return f"{where}: {field}: expected {message}; got {_show(got)}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _suggestion(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The nearest right name beside a misspelt one, looked up in the model that holds it."""
    holder: Any = model
    for part in loc[:-1]:
        if isinstance(part, str):
            field = getattr(holder, "model_fields", {}).get(part)
            holder = model_in(field.annotation) if field else None
    known = list(getattr(holder, "model_fields", {}))
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's annotation holds, through tuples, Annotated and unions; None if it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (model_in(inner) for inner in get_args(annotation))
    return next((model for model in found if model), None)
