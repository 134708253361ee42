"""Bounds and checks of a YAML document's nodes, before values are made of them.

A document is refused for too many values, too deep a nesting, aliases that hold themselves or multiply, keys that are
no text, tags that are not plain, and numbers whose reading would surprise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

MOST_VALUES = 200_000  # keys and values; 4096 layers written out are 140,000
MOST_DEPTH = 64
TOO_DEEP = f"nested deeper than {MOST_DEPTH} levels"
MOST_REPEATED = 100_000  # keys and values that aliases add to a value
OVERGROWN = "!overgrown"
MOST_KEY = 200
MOST_SHOWN = 60
_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null")}
_READ_AS = {"bool": "a truth value", "null": "nothing", "int": "a number", "float": "a number", "merge": "a merge"}
_NUMBER = re.compile(r"[-+]?\.?[0-9]")
_DECIMAL = {
    f"{_TAG}int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)"),
    f"{_TAG}float": re.compile(
        r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
    ),
}
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadNode(ValueError):
    """A node that cannot be taken; `problem` names line and field, what was expected and what was got."""

    def __init__(self, node: yaml.Node, path: tuple[str, ...], expected: str, got: str) -> None:
        self.problem = f"line {node.start_mark.line + 1}: {_field(path)}expected {expected}; got {got}"
        super().__init__(self.problem)


class OddNumber(Exception):
    """A number whose YAML 1.1 reading surprises: 010 is 8, 1:30 is 90."""

    def __init__(self, line: int, path: tuple[str, ...], got: str) -> None:
        super().__init__(line, path, got)
        self.field, self.got = _field(path), got[:MOST_SHOWN]
        self.where = f"line {line}"

    def said(self, where: str) -> str:
        """The fault as one line; `where` is the file and line, or the option."""
        return f"{where}: {self.field}expected a plain decimal number, or text in quotes; got {self.got}"


class Composer:
    """Composes nodes as YAML does, but no more than MOST_VALUES and no deeper than MOST_DEPTH."""

    _values = 0
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Raises YAMLError, which says which bound it is over."""
        parser: Any = self
        self._values += 1
        if self._values > MOST_VALUES or self._depth > MOST_DEPTH:
            bound = f"more than {MOST_VALUES} values" if self._values > MOST_VALUES else TOO_DEEP
            raise ComposerError(None, None, bound, parser.peek_event().start_mark)
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[misc]
        self._depth -= 1
        return node


def check_nodes(root: yaml.Node) -> None:
    """Raises OddNumber, BadNode or YAMLError for the first node that cannot be taken. Looks at each node once."""
    _Checker().measure(root, ())


class Overgrown:
    """Stands where aliases would come to too many values. No field takes it, so that the error names the field."""

    def __repr__(self) -> str:
        return f"aliases of more than {MOST_REPEATED} values"


@dataclass(frozen=True)
class _Size:
    """Of a node: values, itself among them, those of them that aliases repeat, and levels."""

    values: int = 1
    repeated: int = 0
    levels: int = 1


class _Checker:
    """Checks and measures each node once. One whose aliases come to too many values is tagged OVERGROWN."""

    def __init__(self) -> None:
        self._known: dict[int, _Size | None] = {}  # None: is being measured

    def measure(self, node: yaml.Node, path: tuple[str, ...]) -> _Size:
        """The size of a node; where an alias repeats it, all its values are repeated ones."""
        if id(node) in self._known:
            found = self._known[id(node)]
            if found is None:
                raise ComposerError(None, None, "an alias that holds itself", node.start_mark)
            return _Size(found.values, found.values, found.levels)
        self._known[id(node)] = None
        found = self._known[id(node)] = self._measured(node, path)
        return found

    def _measured(self, node: yaml.Node, path: tuple[str, ...]) -> _Size:
        inside = [self.measure(value, where) for where, value in _values(node, path)]
        repeated = sum(size.repeated for size in inside)
        levels = 1 + max((size.levels for size in inside), default=0)
        if levels > MOST_DEPTH:
            raise ComposerError(None, None, TOO_DEEP, node.start_mark)
        if repeated <= MOST_REPEATED:
            return _Size(1 + sum(size.values for size in inside), repeated, levels)
        if not path:
            what = f"aliases that come to more than {MOST_REPEATED} values"
            raise ComposerError(None, None, what, node.start_mark)
        node.tag = OVERGROWN
        return _Size()


def _values(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """What a node holds, with the path of each. Raises for the node's own tag, its keys and its scalar."""
    if isinstance(node, yaml.MappingNode):
        _check_tag(node, {f"{_TAG}map"}, path)
        yield from _fields(node, path)
    elif isinstance(node, yaml.SequenceNode):
        _check_tag(node, {f"{_TAG}seq"}, path)
        yield from (((*path, str(index)), value) for index, value in enumerate(node.value))
    else:
        _check_scalar(node, path)


def _fields(node: yaml.MappingNode, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    seen: set[str] = set()
    for key, value in node.value:
        name = _key(key, path)
        if name in seen:
            raise ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
        seen.add(name)
        yield (*path, name), value


def _key(node: yaml.Node, path: tuple[str, ...]) -> str:
    """The text of a key. Raises BadNode for one that is no text, and OddNumber for an odd number as such."""
    expected = f"a key of text, at most {MOST_KEY} printable characters, in quotes where YAML reads it otherwise"
    if not isinstance(node, yaml.ScalarNode):
        raise BadNode(node, path, expected, "a list or a mapping as a key")
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    if kind in ("int", "float"):
        _check_scalar(node, path)
    if kind != "str":
        raise BadNode(node, path, expected, f"{_shown(text)}, {_READ_AS.get(kind, 'something else')}")
    if len(text) > MOST_KEY or not text.isprintable():
        raise BadNode(node, path, expected, _shown(text))
    return text


def _check_tag(node: yaml.Node, plain: set[str], path: tuple[str, ...]) -> None:
    """Values are numbers, text, truth values, nothing, lists and mappings; no other tag, written or implied."""
    if node.tag in plain:
        return
    if node.tag == f"{_TAG}timestamp":
        raise BadNode(node, path, "a number, or text in quotes", f"a date, {_shown(str(node.value))}")
    if node.tag in (f"{_TAG}merge", f"{_TAG}value"):
        raise BadNode(node, path, "text in quotes", _shown(str(node.value)))
    problem = f"{_field(path)}a tag that is not read: {_shown(node.tag.replace(_TAG, '!!', 1))}"
    raise ConstructorError(None, None, problem, node.start_mark)


def _check_scalar(node: yaml.Node, path: tuple[str, ...]) -> None:
    _check_tag(node, _SCALARS, path)
    text = str(node.value)
    if _SURROGATE.search(text):
        raise BadNode(node, path, "text in Unicode", _shown(text))
    if node.tag == f"{_TAG}bool" and text.lower() not in yaml.SafeLoader.bool_values:
        raise BadNode(node, path, "true or false", _shown(text))
    if node.tag in _DECIMAL and not text.strip("+-_ "):  # YAML's own reading of it fails
        raise BadNode(node, path, "a number", _shown(text))
    if node.tag not in _DECIMAL or (not _NUMBER.match(text) and not text.lstrip("+-").startswith(".")):
        return  # `!!int x` is YAML's own error
    if not _DECIMAL[node.tag].fullmatch(text):
        raise OddNumber(node.start_mark.line + 1, path, text)
    if not _fits(node.tag, text):
        raise BadNode(node, path, "a number that a double can hold", _shown(text))


def _fits(tag: str, text: str) -> bool:
    """False for an integer beyond every double, and for a fraction that becomes 0; 1e400 is infinite, as .inf is."""
    value = float(text.lower().lstrip("+").replace(".inf", "inf").replace(".nan", "nan"))
    if tag == f"{_TAG}int":
        return math.isfinite(value)
    return value != 0 or not re.split("[eE]", text)[0].strip("+-.0")


def _field(path: tuple[str, ...]) -> str:
    return f"{'.'.join(path)[: 4 * MOST_SHOWN]}: " if path else ""


def _shown(text: str) -> str:
    shown = repr(text[:MOST_SHOWN])
    return shown if len(text) <= MOST_SHOWN else f"{shown}..."
