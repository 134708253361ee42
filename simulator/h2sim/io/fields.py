"""Fields of a checked file by dotted path (`engines.backward.rows`): set in a copy, which is checked as a file is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from h2sim.errors import H2SimError, at
from h2sim.io.faults import describe, model_in, renamed_to
from h2sim.io.strict import Frozen
from h2sim.io.yamlfile import read_value

Model = TypeVar("Model", bound=Frozen)


class _NoSuchField(Exception):
    """A dotted path leads to no field; the text says what is nearest."""


def parse_setting(text: str) -> tuple[str, object]:
    """The path and the value of `engines.backward.rows=32`, as the command line takes it.

    The value is read as it would be in a file: `true`, `[4, 8]`, `800 MHz`. Raises H2SimError with one line.
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not (path and equals and value):
        raise H2SimError(at("--set", "setting", "FIELD=VALUE, such as engines.backward.rows=32", repr(text[:60])))
    return path, read_value(value, f"--set: {path}", H2SimError)


def with_fields(model: Model, changes: Mapping[str, object], where: str, error: type[H2SimError]) -> Model:
    """A checked copy of `model` in which each dotted path has its new value; the model itself stays.

    A value replaces the whole field: a mapping given for a mapping is not merged into it. A number in a path counts
    the entries of a list (`luts.0.read_pj`). All changes are made before anything is checked, so that fields which
    only fit together can change together. Raises `error` with a line per fault; `where` names the source.
    """
    data: object = model.model_dump()
    faults = []
    for path, value in changes.items():
        try:
            data = _changed(data, type(model), path.split("."), value)
        except _NoSuchField:
            faults.append(f"{where}: {path}: unknown field{nearest(type(model), path)}")
    if faults:
        raise error(*faults)
    try:
        return type(model).model_validate(data)
    except ValidationError as fault:
        raise error(*describe(fault, type(model), where)) from None


def value_at(model: BaseModel, path: str) -> Any:
    """The value of a field by its dotted path, plain data where it is a model itself. Raises KeyError for no field."""
    found: Any = model
    for part in path.split("."):
        if isinstance(found, BaseModel) and part in type(found).model_fields:
            found = getattr(found, part)
        elif isinstance(found, list | tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise KeyError(path)
    return found.model_dump() if isinstance(found, BaseModel) else found


def nearest(model: type[BaseModel], path: str) -> str:
    """What to say behind an unknown path: its new name, the nearest right path, or the names known beside it."""
    renamed = renamed_to(model, path)
    if renamed:
        return f"; it is now {renamed!r}"
    every = list(_paths(model))
    parent, dot, last = path.rpartition(".")
    beside = {known.removeprefix(parent + dot): known for known in every if known.rpartition(".")[0] == parent}
    near = [known for known in every if known.endswith(f".{path}")]
    near = near or [beside[name] for name in difflib.get_close_matches(last, list(beside), n=1)]
    near = near or ([] if beside else difflib.get_close_matches(path, every, n=1))
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(beside.values() or model.model_fields)}"


def _changed(old: object, holder: type[BaseModel] | None, path: list[str], value: object) -> object:
    """`old`, plain data that `holder` describes, with the value at `path` in it; nothing is changed in place."""
    if not path:
        return value
    head, *rest = path
    if isinstance(old, list | tuple):
        if not head.isdecimal() or int(head) >= len(old):
            raise _NoSuchField
        index, entries = int(head), list(old)
        return [*entries[:index], _changed(entries[index], holder, rest, value), *entries[index + 1 :]]
    fields = holder.model_fields if holder else {}
    if head not in fields or not isinstance(old, Mapping | None):
        raise _NoSuchField
    before: dict[str, Any] = dict(old or {})
    return {**before, head: _changed(before.get(head), model_in(fields[head].annotation), rest, value)}


def _paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every dotted path of a model, a holder before what it holds; entries of lists left out."""
    for name, field in model.model_fields.items():
        yield before + name
        inner = model_in(field.annotation)
        if inner:
            yield from _paths(inner, f"{before}{name}.")
