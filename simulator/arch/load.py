"""Reads arch files: YAML in, a checked Arch out, every fault of the file reported at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from h2sim import library
from h2sim.arch.schema import Arch
from h2sim.errors import ArchError
from h2sim.faults import describe


def load_arch(name_or_path: str | Path) -> Arch:
    """The machine that a shipped arch (`h2learn`) or an arch file describes.

    Raises ArchError: one line per fault, `file: field: expected ...; got ...`.
    """
    path = library.find("arch", str(name_or_path))
    return parse_arch(_read_yaml(path, str(name_or_path)), str(path))


def parse_arch(data: object, where: str) -> Arch:
    """A checked Arch from plain data; `where` names the source in error lines."""
    if not isinstance(data, dict):
        raise ArchError(f"{where}: expected a mapping of fields; got {type(data).__name__}")
    try:
        return Arch.model_validate(data)
    except ValidationError as error:
        raise ArchError("\n".join(describe(error, Arch, where))) from None


def arch_sha256(arch: Arch) -> str:
    """Hash of the machine as simulated (defaults and overrides included), not of the file's spelling."""
    text = json.dumps(arch.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def with_mode(arch: Arch, mode: str) -> Arch:
    """The same machine with another Backward Engine mode (dense, input_only, output_only, dual)."""
    data = arch.model_dump()
    data["engines"]["backward"]["mode"] = mode
    return parse_arch(data, arch.name)


def _read_yaml(path: Path, asked: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(library.names("arch"))
        raise ArchError(f"{asked}: no such arch file; shipped arch files: {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ArchError(f"{path}: cannot be read: {reason}") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ArchError(f"{path}: not valid YAML{line}: {getattr(error, 'problem', None) or 'unreadable'}") from None
