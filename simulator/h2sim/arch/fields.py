"""Any field of a machine by its dotted path: what `--set` and sweeps change."""

from __future__ import annotations

from h2sim.arch.schema import Arch
from h2sim.io.fields import parse_setting

__all__ = ["parse_setting", "set_field"]


def set_field(arch: Arch, path: str, value: object) -> Arch:
    """The same machine with another value at a dotted path: `set_field(arch, "engines.backward.rows", 32)`.

    Raises ArchError with a line per fault.
    """
    return arch.with_({path: value})
