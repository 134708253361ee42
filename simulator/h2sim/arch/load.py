"""Reads arch files: from YAML to a checked Arch. All faults of a file are reported at once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from h2sim.arch.schema import MOST_PLANES, NORMALISATION, Arch
from h2sim.errors import ArchError, at
from h2sim.io.faults import describe
from h2sim.io.yamlfile import read_mapping


def load_arch(name_or_path: str | Path) -> Arch:
    """The machine that an arch file describes, given by its path or, for a shipped one, by its name (`h2learn`).

    Raises ArchError with one line per fault: `file: field: expected ...; got ...`.

    >>> import h2sim
    >>> h2sim.load_arch("h2learn")
    Arch('h2learn': 800 MHz, forward 64x16x4, weight_update 10x128x4, backward 16x64x4, 128 GB/s)
    >>> h2sim.load_arch("h2learn").engines.backward.rows
    16
    """
    data, path = read_mapping("arch", name_or_path, ArchError)
    return parse_arch(data, str(path))


def parse_arch(data: object, where: str) -> Arch:
    """A checked Arch from plain data. Raises ArchError with one line per fault, each of which names `where`."""
    if isinstance(data, dict) and data.get("machine", "h2learn") != "h2learn":
        raise ArchError(at(where, "machine", "h2learn (h2sim.load_machine reads rivals too)", repr(data["machine"])))
    try:
        return Arch.model_validate(data)
    except ValidationError as error:
        raise ArchError(*describe(error, Arch, where)) from None


def arch_sha256(arch: Arch) -> str:
    """SHA-256 of the machine as simulated, with defaults and overrides; how its file is written does not matter.

    The file's version, `machine` (always h2learn) and the interconnect do not count: nothing that one chip does depends
    on it, and results of several chips state it. A field that joined the format later counts where it is not at its
    default, so that a machine keeps the hash that it had.
    """
    data = arch.model_dump(mode="json", exclude={"interconnect", "machine", "version"})
    for part, field, default in (
        (data, "normalisation", NORMALISATION),
        (data["engines"]["forward"], "most_planes", MOST_PLANES),
    ):
        if part[field] == default.model_dump(mode="json"):
            del part[field]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def with_mode(arch: Arch, mode: str) -> Arch:
    """The same machine with its Backward Engine in another mode. Raises ArchError unless it is one of MODES."""
    return arch.with_({"engines.backward.mode": mode})
