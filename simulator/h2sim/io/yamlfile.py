"""Reads the YAML files that users write: one mapping, no code run, no key twice, numbers in decimal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from h2sim.errors import H2SimError
from h2sim.io import library


class _Loader(yaml.SafeLoader):
    """Plain YAML in which a mapping that names a key twice is an error, not its last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)

    def get_single_data(self) -> Any:
        """The one document of the text. Raises _OddNumber where a plain number is not in decimal."""
        node = self.get_single_node()
        if node is None:
            return None
        _check_numbers(node, (), set())
        return self.construct_document(node)


# 1e9 and 1.2e9, which YAML 1.1 takes for text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
_DECIMAL = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
    ),
}
_NUMBER = re.compile(r"[-+]?\.?[0-9]")


class _OddNumber(Exception):
    """A number whose YAML 1.1 reading surprises: 010 is 8, 1:30 is 90."""

    def __init__(self, line: int, path: tuple[str, ...], got: str) -> None:
        super().__init__(line, path, got)
        self.field, self.got = ".".join(path), got[:60]
        self.where = f"line {line}"

    def said(self, where: str) -> str:
        """The fault as one line; `where` is the file and line, or the option."""
        expected = "a plain decimal number, or text in quotes"
        place = f"{where}: {self.field}" if self.field else where
        return f"{place}: expected {expected}; got {self.got}"


def _check_numbers(node: yaml.Node, path: tuple[str, ...], seen: set[int]) -> None:
    """Walks each node once, however many aliases name it."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and node.tag in _DECIMAL and not _DECIMAL[node.tag].fullmatch(node.value):
        if not _NUMBER.match(node.value):  # `!!int x`: YAML's own error
            return
        raise _OddNumber(node.start_mark.line + 1, path, node.value)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _check_numbers(key, path, seen)
            _check_numbers(value, (*path, str(key.value)[:60]), seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _check_numbers(value, (*path, str(index)), seen)


def read_mapping(kind: library.Kind, name_or_path: str | Path, error: type[H2SimError]) -> tuple[dict[str, Any], Path]:
    """The fields of a YAML file, and its path. The file is a shipped one of a kind, by name, or any other, by path.

    Raises `error` with one line: no such file (it lists the shipped ones), unreadable, not YAML (it names the line), or
    not a mapping.
    """
    path = library.find(kind, str(name_or_path))
    if not path.exists():
        known = ", ".join(library.names(kind))
        raise error(f"{name_or_path}: no such {kind} file; shipped {kind} files: {known}")
    return read_file(path, error), path


def read_file(path: Path, error: type[H2SimError]) -> dict[str, Any]:
    """The fields of the YAML file at `path`. Raises `error` with one line as read_mapping does."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as fault:
        raise error(f"{path}: cannot be read: {fault.strerror}") from None
    except (UnicodeDecodeError, RecursionError):
        raise error(f"{path}: cannot be read: not UTF-8 text, or nested too deeply") from None
    except _OddNumber as fault:
        raise error(fault.said(f"{path}: {fault.where}")) from None
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise error(f"{path}: not valid YAML{line}: {getattr(fault, 'problem', None) or 'unreadable'}") from None
    except ValueError as fault:  # a scalar that is no date or number after all
        raise error(f"{path}: not valid YAML: {str(fault).splitlines()[0][:100]}") from None
    if not isinstance(data, dict):
        raise error(f"{path}: expected a mapping of fields; got {type(data).__name__}")
    return data


def read_value(text: str, where: str, error: type[H2SimError]) -> object:
    """One value as it would stand in a file: a number, `true`, `[4, 8]`, `{height: 4, width: 8}`, else the text."""
    try:
        return yaml.load(text, _Loader)
    except _OddNumber as fault:
        raise error(fault.said(where)) from None
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        said = getattr(fault, "problem", None) or "unreadable"
        raise error(f"{where}: expected a value as in a file; got {text[:60]!r}: {said}") from None
