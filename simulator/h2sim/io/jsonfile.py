"""JSON as h2sim reads it: each key once in its object, and no number that JSON does not have."""

from __future__ import annotations

import json
from typing import NoReturn


def parse_json(text: str) -> object:
    """The data of a JSON text. Raises ValueError, whose text says what is wrong, and RecursionError."""
    data: object = json.loads(text, object_pairs_hook=each_key_once, parse_constant=_no_constant)
    return data


def each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object of these pairs. Raises ValueError where a key stands twice, for the last would win unseen."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:60]!r} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")
