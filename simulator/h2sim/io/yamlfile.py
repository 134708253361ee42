"""Reads the YAML files that users write: one mapping of fields, in which no code is run and no key may stand twice."""

from __future__ import annotations

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
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise error(f"{path}: not valid YAML{line}: {getattr(fault, 'problem', None) or 'unreadable'}") from None
    except ValueError as fault:  # a scalar that is no date or number after all
        raise error(f"{path}: not valid YAML: {str(fault).splitlines()[0][:100]}") from None
    if not isinstance(data, dict):
        raise error(f"{path}: expected a mapping of fields; got {type(data).__name__}")
    return data
