"""Changes of bytes, of text and of plain data, all drawn from one numpy Generator: the same seed, the same mutants."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import yaml

Rng = np.random.Generator
T = TypeVar("T")

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 255, 65536, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 10**400,
    0.0, -0.0, 0.5, 1.5, -2.5, 5e-324, 1e-30, 1e15, 1e308, math.nan, math.inf, -math.inf,
    "", " ", "x", "1", "1e3", "nan", "true", "null", "input", "forward", "dual", "conv", "800 MHz", "4 KiB",
    "x" * 300, "\x1b[31m", "\u202e", "a\nb", "\ud800", "$x^$", "=1+1", "../../x", "/dev/zero", "\u00e9\u4e2d",
    [], [[]], [0], [1, 1], [-1, 2], [0, 0, 0], [None], {}, {"a": 1}, {"": []},
)  # fmt: skip
YAML_TOKENS = (
    "0x1F", "010", "1:30", "1_000", "1e400", ".nan", "-.inf", "~", "yes", "2001-01-01", "!!binary aGk=", "!!set {a, b}",
    "!!python/object:os.system x", "!!int x", "&a [*a]", "*a", "&a 1", "<<: *a", "? [1] : 2", "[", "{", "'", '"', "|",
    ">-", "%TAG", "---", "...", "\t", "#", ": ", "- ", "9" * 400, '"\\ud800"', "'" + "x" * 300 + "'", "-1", "0", "2.5",
)  # fmt: skip
JSON_TOKENS = (
    "NaN", "-Infinity", "1e999", "-0", "01", "9" * 400, "{", "}", "[", "]", ",", ":", '"', '"\\ud800"', '"\\u0000"',
    "null", "true", "0", "-1", "1.5", '"x"', "[" * 3000, "//", "\ufeff", '{"a":1,"a":2}',
)  # fmt: skip


def pick(rng: Rng, items: Sequence[T]) -> T:
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def _span(rng: Rng, length: int, most: int = 64) -> tuple[int, int]:
    start = int(rng.integers(length + 1))
    return start, min(length, start + 1 + int(rng.integers(most)))


def _flip(rng: Rng, data: bytearray) -> None:
    for _ in range(1 + int(rng.integers(4))):
        if data:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def _overwrite(rng: Rng, data: bytearray) -> None:
    start, stop = _span(rng, len(data), 8)
    data[start:stop] = rng.integers(0, 256, stop - start, np.uint8).tobytes()


def _edge(rng: Rng, data: bytearray) -> None:
    """A number at the edge of its range, of 1 to 8 bytes, in either byte order."""
    width = pick(rng, (1, 2, 4, 8))
    value = pick(rng, EDGES) & ((1 << 8 * width) - 1)
    start = int(rng.integers(len(data) + 1))
    data[start : start + width] = value.to_bytes(width, pick(rng, ("little", "big")))


def _cut(rng: Rng, data: bytearray) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def _drop(rng: Rng, data: bytearray) -> None:
    start, stop = _span(rng, len(data))
    del data[start:stop]


def _double(rng: Rng, data: bytearray) -> None:
    start, stop = _span(rng, len(data))
    data[start:start] = data[start:stop] * (1 + int(rng.integers(3)))


def _insert(rng: Rng, data: bytearray) -> None:
    start = int(rng.integers(len(data) + 1))
    data[start:start] = rng.integers(0, 256, 1 + int(rng.integers(16)), np.uint8).tobytes()


def _move(rng: Rng, data: bytearray) -> None:
    start, stop = _span(rng, len(data))
    to = int(rng.integers(len(data) + 1))
    data[to : to + stop - start] = data[start:stop]


BYTE_CHANGES: tuple[Callable[[Rng, bytearray], None], ...] = (
    _flip, _flip, _overwrite, _edge, _edge, _cut, _drop, _double, _insert, _move,
)  # fmt: skip


def change_bytes(rng: Rng, data: bytes) -> bytes:
    """Other bytes: one to three changes, of bits, of numbers, or of pieces cut, doubled, put in or moved."""
    changed = bytearray(data)
    for _ in range(1 + int(rng.integers(3))):
        pick(rng, BYTE_CHANGES)(rng, changed)
    return bytes(changed)


def change_text(rng: Rng, text: str, tokens: Sequence[str]) -> str:
    """Another text: lines doubled, dropped or swapped, a word replaced by a token, an indent changed."""
    lines = text.splitlines(keepends=True) or [""]
    at = int(rng.integers(len(lines)))
    way = int(rng.integers(6))
    if way == 0:
        lines.insert(at, lines[at])
    elif way == 1:
        del lines[at]
    elif way == 2:
        other = int(rng.integers(len(lines)))
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 3:
        lines[at] = pick(rng, ("", " ", "  ", "\t")) + lines[at].lstrip()
    else:
        words = lines[at].split(" ")
        words[int(rng.integers(len(words)))] = pick(rng, tokens) + ("\n" if rng.random() < 0.2 else "")
        lines[at] = " ".join(words)
    return "".join(lines)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of plain data, depth first."""
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            stack.append(holder[key])
    return found


def _near(rng: Rng, value: Any) -> Any:
    """A value like this one: a number beside it, another type of the same, or a nasty one."""
    if isinstance(value, bool) or rng.random() < 0.4 or not isinstance(value, int | float | str):
        return copy.deepcopy(pick(rng, NASTY))
    if isinstance(value, str):
        return pick(rng, (value + "x", value[:-1], value.upper(), value * 2, [value], 1))
    near = (value + 1, value - 1, value * 2, value // 2, -value, float(value), str(value), value * 1000, [value], 0)
    return pick(rng, near)


def _set(rng: Rng, holder: Any, key: Any) -> None:
    holder[key] = _near(rng, holder[key])


def _delete(_: Rng, holder: Any, key: Any) -> None:
    del holder[key]


def _rename(rng: Rng, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[pick(rng, ("", "x", f"{key}x", str(key).upper(), "name", "\n"))] = holder.pop(key)
    else:
        holder.insert(key, copy.deepcopy(holder[key]))


def _swap(rng: Rng, holder: Any, key: Any) -> None:
    other = pick(rng, list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


TREE_CHANGES: tuple[Callable[[Rng, Any, Any], None], ...] = (_set, _set, _set, _set, _delete, _rename, _swap)


def change_tree(rng: Rng, tree: Any) -> Any:
    """Other plain data: one or two values set, taken out, renamed, doubled, swapped, or replaced by another part."""
    changed = copy.deepcopy(tree)
    for _ in range(1 + int(rng.random() < 0.3)):
        found = places(changed)
        if not found:
            return copy.deepcopy(pick(rng, NASTY))
        holder, key = pick(rng, found)
        if rng.random() < 0.1:
            source, name = pick(rng, found)
            holder[key] = copy.deepcopy(source[name])
        else:
            pick(rng, TREE_CHANGES)(rng, holder, key)
    return changed


def to_json(tree: Any) -> bytes:
    """JSON of any plain data, with NaN and lone surrogates as Python writes them."""
    return json.dumps(tree, indent=1).encode("utf-8", "surrogatepass")


def to_yaml(tree: Any) -> bytes:
    """YAML of any plain data."""
    try:
        text: str = yaml.dump(tree, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, width=100)
    except UnicodeEncodeError:  # half of a surrogate pair, which libyaml cannot write
        text = yaml.dump(tree, Dumper=yaml.SafeDumper, sort_keys=False, width=100)
    return text.encode("utf-8", "surrogatepass")


def from_yaml(text: str | bytes) -> Any:
    """The data of a YAML text that is known to be whole."""
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def change_json(rng: Rng, data: bytes) -> bytes:
    """A mutant of a JSON file."""
    way = rng.random()
    if way < 0.65:
        return to_json(change_tree(rng, json.loads(data)))
    if way < 0.85:
        return change_text(rng, data.decode(), JSON_TOKENS).encode("utf-8", "surrogatepass")
    return change_bytes(rng, data)


def change_yaml(rng: Rng, data: bytes) -> bytes:
    """A mutant of a YAML file."""
    way = rng.random()
    if way < 0.6:
        return to_yaml(change_tree(rng, from_yaml(data)))
    if way < 0.85:
        return change_text(rng, data.decode(), YAML_TOKENS).encode("utf-8", "surrogatepass")
    return change_bytes(rng, data)
