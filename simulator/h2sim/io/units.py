"""Numbers as people write them: whole floats where an integer is asked, `800 MHz` where a field's name says hertz."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Union, get_args, get_origin

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_FREQUENCIES = {f"{prefix}Hz": factor for prefix, factor in _DECIMAL.items()}
_BANDWIDTHS = {f"{prefix}B/s": factor for prefix, factor in {**_DECIMAL, **_BINARY}.items()}
_SIZES = {"B": 1, **{f"{prefix}B": factor for prefix, factor in _BINARY.items()}}  # KB is read both as 1000 and as 1024

# the end of a field's name, what it holds, the units that it may be written in and how many of its own each is
_UNITS: tuple[tuple[str, str, Mapping[str, int]], ...] = (
    ("bytes_per_s", "bytes per second", _BANDWIDTHS),
    ("bytes", "a size", _SIZES),
    ("hz", "a frequency", _FREQUENCIES),
)
_QUANTITY = re.compile(
    r"([-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?)\s*([^\s0-9].{0,19})"
)
MOST_EXACT = 1 << 53  # beyond, a float stands for several integers


def read_number(value: Any, name: str, annotation: Any) -> Any:
    """`value` as a field of that name and type takes it; anything that is no number in another spelling stays.

    A float without a fraction becomes the integer that an integer field asks for, text with a unit the number of the
    field's own units, exactly. Entries of tuples and lists likewise. Raises ValueError for a boolean, a unit of another
    kind, or a quantity that is not whole where an integer is asked.
    """
    if isinstance(value, list | tuple):
        inner = _entries(annotation, len(value))
        return [read_number(v, name, a) for v, a in zip(value, inner, strict=True)] if inner else value
    kinds = _leaves(annotation)
    if not kinds or not kinds <= {int, float}:
        return value
    whole = kinds == {int}
    if isinstance(value, bool):
        raise ValueError(f"expected a valid {'integer' if whole else 'number'}; got {value}")
    if isinstance(value, str):
        return _quantity(value, name, whole)
    fits = isinstance(value, float) and value.is_integer() and abs(value) <= MOST_EXACT
    return int(value) if whole and fits else value


def _quantity(text: str, name: str, whole: bool) -> Any:
    """The number that `800 MHz` is in the field's own unit; text that is no number with a unit stays as it is."""
    found = _QUANTITY.fullmatch(text.strip())
    what, units = next(((what, units) for end, what, units in _UNITS if _ends(name, end)), ("", {}))
    if not found or not units:
        return text
    if found[2] not in units:
        *most, last = units
        raise ValueError(f"expected {what} in {', '.join(most)} or {last}; got {text[:60]!r}")
    amount = Decimal(found[1]) * units[found[2]]
    if not whole:
        return float(amount)
    if amount != amount.to_integral_value():
        raise ValueError(f"expected a whole number of {next(iter(units))}; got {text[:60]!r}")
    return int(amount)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f"_{end}")


def _leaves(annotation: Any) -> set[Any]:
    """The types that a field's annotation allows beside None, through unions and Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _leaves(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return {leaf for inner in get_args(annotation) for leaf in _leaves(inner)} - {type(None)}
    return {annotation}


def _entries(annotation: Any, count: int) -> list[Any]:
    """The annotation of each of a list's `count` entries; nothing where the annotation is no such tuple or list."""
    kinds = [leaf for leaf in _leaves(annotation) if get_origin(leaf) in (tuple, list)]
    inner = list(get_args(kinds[0])) if len(kinds) == 1 else []
    if (len(inner) == 2 and inner[1] is Ellipsis) or (inner and get_origin(kinds[0]) is list):
        return [inner[0]] * count
    return inner if len(inner) == count else []
