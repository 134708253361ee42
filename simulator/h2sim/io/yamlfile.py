"""Reads the YAML files that users write: one mapping, no code run, no key twice, numbers in decimal.

What is read is bounded before anything is made of it: bytes, values, depth, and how many values the aliases come to
when each is written out, because whatever works on the data or shows it meets them that many times.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from h2sim.errors import H2SimError
from h2sim.io import library
from h2sim.io.reading import MOST_YAML_BYTES, read_text
from h2sim.io.yamlnodes import OVERGROWN, BadNode, Composer, OddNumber, Overgrown, check_nodes

MOST_TEXTS, MOST_TEXT = 64, 1 << 18  # that are remembered, and characters of one


class _Loader(Composer, yaml.SafeLoader):
    """Plain YAML, composed within bounds and checked whole before any value is made."""

    def get_single_data(self) -> Any:
        """The one document of the text. Raises YAMLError, OddNumber or BadNode."""
        node = self.get_single_node()
        if node is None:
            return None
        check_nodes(node)
        return self.construct_document(node)


# 1e9 and 1.2e9, which YAML 1.1 takes for text
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
_Loader.add_constructor(OVERGROWN, lambda loader, node: Overgrown())


def read_mapping(kind: library.Kind, name_or_path: str | Path, error: type[H2SimError]) -> tuple[dict[str, Any], Path]:
    """The fields of a YAML file, and its path. The file is a shipped one of a kind, by name, or any other, by path.

    Raises `error` with one line: no such file (it lists the shipped ones), unreadable, not YAML (it names the line), or
    not a mapping.
    """
    try:
        path = library.find(kind, str(name_or_path))
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        raise error(library.unknown(kind, str(name_or_path))) from None
    except OSError as fault:
        raise error(f"{str(name_or_path)[:200]}: cannot be read: {fault.strerror}") from None
    return read_file(path, error), path


def read_file(path: Path, error: type[H2SimError]) -> dict[str, Any]:
    """The fields of the YAML file at `path`. Raises `error` with one line as read_mapping does."""
    try:
        data = _loaded(read_text(path, MOST_YAML_BYTES))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as fault:
        raise error(f"{path}: cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path}: cannot be read: not UTF-8 text") from None
    except OddNumber as fault:
        raise error(fault.said(f"{path}: {fault.where}")) from None
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise error(f"{path}: not valid YAML{line}: {_problem(fault)}") from None
    except (ValueError, OverflowError) as fault:  # a scalar that is no number after all, a code point that is none
        raise error(f"{path}: not valid YAML: {_problem(fault)}") from None
    if not isinstance(data, dict):
        raise error(f"{path}: expected a mapping of fields; got {type(data).__name__}")
    return data


def lines_of(path: Path) -> dict[tuple[str, ...], int]:
    """The line, from 1 on, on which each value of a YAML file stands, by its keys and list indices from the top.

    For messages about a file that was read: what cannot be read any more has no lines.
    """
    try:
        root = yaml.compose(read_text(path, MOST_YAML_BYTES), _Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(_placed(root, ()))


def _placed(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            yield from _placed(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), value.start_mark.line + 1
            yield from _placed(value, (*path, str(index)))


def _loaded(text: str) -> Any:
    """What the text says, each time anew. A text that was read before is not parsed again: that takes most of the time.

    Only the text counts, so that an edited file is another one. Raises what YAML and the checks of its nodes raise.
    """
    plain = _in_bytes(text) if len(text) <= MOST_TEXT else None
    return yaml.load(text, _Loader) if plain is None else marshal.loads(plain)


@lru_cache(maxsize=MOST_TEXTS)
def _in_bytes(text: str) -> bytes | None:
    """What the text says, as bytes; None where it holds what is no plain value (Overgrown)."""
    data = yaml.load(text, _Loader)
    try:
        return marshal.dumps(data, 2)  # version 2 writes aliases out
    except ValueError:
        return None


def read_value(text: str, where: str, error: type[H2SimError]) -> object:
    """One value as it would stand in a file: a number, `true`, `[4, 8]`, `{height: 4, width: 8}`, else the text."""
    try:
        return yaml.load(text, _Loader)
    except OddNumber as fault:
        raise error(fault.said(where)) from None
    except (yaml.YAMLError, ValueError, OverflowError) as fault:
        raise error(f"{where}: expected a value as in a file; got {text[:60]!r}: {_problem(fault)}") from None


def _problem(fault: Exception) -> str:
    """What is wrong, in one short line."""
    if isinstance(fault, BadNode):
        return fault.problem
    if isinstance(fault, yaml.reader.ReaderError):
        return "a character that YAML does not allow"
    lines = str(getattr(fault, "problem", None) or fault).splitlines() or ["unreadable"]
    return lines[0][:100]
