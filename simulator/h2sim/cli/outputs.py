"""Where a command's results go, checked before it works: no two into one, none over what it reads, no devices."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from h2sim.cli.support import check_target
from h2sim.errors import OutputError, at

STDOUT = "-"
OUTPUTS = {"json_file", "csv_file", "html_file", "plots", "plot_format", "plot_width", "timeline", "output", "markdown"}
PICTURES = (".png", ".svg", ".pdf")


def check_outputs(*targets: str | None, folder: str | None = None, reads: Iterable[str | Path] = ()) -> None:
    """Raises OutputError now where a result could not be written later; None is an output that nobody asked for.

    targets: files, '-' for standard output; folder: for pictures; reads: files that the command reads.
    """
    from h2sim.report.folder import check_folder

    inputs = {os.path.realpath(path) for path in reads if os.path.isfile(path)}
    seen: set[str] = set()
    for target in targets:
        if target is not None:
            place = _place(target)
            if place in seen:
                raise OutputError(f"{target}: cannot be written: expected one output there; got two")
            if place in inputs:
                raise OutputError(f"{target}: cannot be written: it is read by the same command")
            seen.add(place)
    if folder is not None:
        check_name(folder)
        check_folder(folder)
        pictures = os.path.realpath(folder)
        within = (place for place in seen if os.path.dirname(place) == pictures and place.endswith(PICTURES))
        if pictures in seen or any(within):
            raise OutputError(f"{folder}: cannot be written: expected one output there; got two")


def command_line(ctx: click.Context) -> str:
    """What was typed, options in the order of their declaration, without the names of output files and folders.

    Two runs that differ only in where they write are the same run.
    """
    names = ["h2sim", *ctx.command_path.split()[1:]]
    return shlex.join([*names, *_typed(ctx)])


def _typed(ctx: click.Context) -> Iterator[str]:
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            yield from map(str, value if isinstance(value, tuple) else [value])
        elif parameter.name not in OUTPUTS and value != parameter.get_default(ctx) and value:
            option = parameter.opts[-1]
            for each in value if isinstance(value, tuple) else [value]:
                yield from [option] if each is True else [option, str(each)]


def _place(target: str) -> str:
    """The file behind the name, so that two names of one are found out."""
    check_name(target)
    check_target(target)
    if target == STDOUT:
        return STDOUT
    if target.endswith(("/", os.sep, f"{os.sep}.")):
        raise OutputError(f"{target}: cannot be written: is the name of a folder")
    return os.path.realpath(target)


def check_name(target: str) -> None:
    """Raises OutputError for a name of no letters, which would be the folder in which the command runs."""
    if not target or "\0" in target:
        raise OutputError(at("output", "name", "a file's, a folder's, or '-'", repr(target)))
