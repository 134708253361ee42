"""`h2sim arch`: machines."""

from __future__ import annotations

import json

import click

from h2sim.cli.support import console
from h2sim.io import library


@click.group()
def arch() -> None:
    """List, show and check machines (arch files).

    \b
    Examples:
      h2sim arch list
      h2sim arch show h2learn > mine.yaml
      h2sim arch check mine.yaml
      h2sim arch schema > arch.schema.json
    """


@arch.command("list")
def list_() -> None:
    """Shipped machines, a line each.

    \b
    Example:
      h2sim arch list
    """
    from h2sim.arch import load_arch
    from h2sim.report.text import arch_table

    arch_table(console(), [load_arch(name) for name in library.names("arch")])


@arch.command()
@click.argument("name")
def show(name: str) -> None:
    """Print an arch file as it stands, marks and comments included.

    \b
    Example:
      h2sim arch show h2learn > mine.yaml
    """
    from h2sim.arch import load_arch

    load_arch(name)
    click.echo(library.find("arch", name).read_text(encoding="utf-8"), nl=False)


@arch.command()
@click.argument("files", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check arch files; exit status 2 and every fault in a line if one is wrong.

    \b
    Example:
      h2sim arch check mine.yaml h2learn
    """
    from h2sim.arch import load_arch, peak_flops
    from h2sim.errors import ArchError

    faults = []
    for file in files:
        try:
            machine = load_arch(file)
            click.echo(f"{file}: ok: {machine.name}, peak {peak_flops(machine) / 1e12:.2f} TFLOPS")
        except ArchError as error:
            faults.append(str(error))
    if faults:
        raise ArchError("\n".join(faults))


@arch.command()
def schema() -> None:
    """Print the JSON schema of arch files.

    \b
    Example:
      h2sim arch schema > arch.schema.json
    """
    from h2sim.arch import Arch

    click.echo(json.dumps(Arch.model_json_schema(), indent=1))
