"""Machines on the command line: a name or a file, with fields set by dotted path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from h2sim.errors import ArchError

if TYPE_CHECKING:
    from h2sim.arch import Arch
    from h2sim.rivals.machine import RivalMachine

setting_option = click.option(
    "--set",
    "settings",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Change a field of the arch file by its dotted path, e.g. engines.backward.rows=32; repeatable.",
)


def find_machine(name_or_path: str, settings: tuple[str, ...] = ()) -> Arch | RivalMachine:
    """The machine of an arch file, of whatever kind, with its fields changed."""
    from h2sim.io.fields import parse_setting, with_fields
    from h2sim.rivals.registry import load_machine

    machine = load_machine(name_or_path)
    if not settings:
        return machine
    return with_fields(machine, dict(map(parse_setting, settings)), name_or_path, ArchError)


def find_changed(arch: Arch, setting: str) -> Arch:
    """A machine with one field changed: `engines.backward.rows=32`. Raises ArchError."""
    from h2sim.io.fields import parse_setting, with_fields

    path, value = parse_setting(setting)
    return with_fields(arch, {path: value}, arch.name, ArchError)


def find_h2learn(name_or_path: str, settings: tuple[str, ...] = ()) -> Arch:
    """The same, for commands that only an H2Learn can serve. Raises ArchError for a rival."""
    from h2sim.arch import load_arch
    from h2sim.io.fields import parse_setting, with_fields

    arch = load_arch(name_or_path)
    return with_fields(arch, dict(map(parse_setting, settings)), name_or_path, ArchError) if settings else arch
