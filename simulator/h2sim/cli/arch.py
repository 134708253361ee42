"""`h2sim arch`: machines."""

from __future__ import annotations

import json

import click

from h2sim.cli.machines import find_machine, setting_option
from h2sim.cli.names import ARCH, MACHINE_KIND
from h2sim.cli.support import Commands, say
from h2sim.cli.support import show as show_document
from h2sim.errors import ArchError
from h2sim.io import library


@click.group(cls=Commands)
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
    from h2sim.arch import Arch
    from h2sim.report.machines import machines_document
    from h2sim.rivals.registry import load_machine

    machines = {name: load_machine(name) for name in library.names("arch")}
    own = [machine for machine in machines.values() if isinstance(machine, Arch)]
    rivals = [(name, machine.description) for name, machine in machines.items() if not isinstance(machine, Arch)]
    show_document(machines_document(own, rivals))


@arch.command()
@click.argument("name", type=ARCH)
def show(name: str) -> None:
    """Print an arch file as it stands, marks and comments included.

    \b
    Example:
      h2sim arch show h2learn > mine.yaml
    """
    find_machine(name)
    click.echo(library.find("arch", name).read_text(encoding="utf-8"), nl=False)


@arch.command()
@click.argument("files", type=ARCH, nargs=-1, required=True)
@setting_option
def check(files: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Check arch files; exit status 2 and every fault in a line if one is wrong.

    \b
    Examples:
      h2sim arch check mine.yaml h2learn
      h2sim arch check h2learn --set engines.backward.rows=32
    """
    from h2sim.arch import Arch, peak_flops

    faults: list[str] = []
    for file in files:
        try:
            machine = find_machine(file, settings)
            peak = f", peak {peak_flops(machine) / 1e12:.2f} TFLOPS" if isinstance(machine, Arch) else ""
            say(f"{file}: ok: {machine.name}{peak}")
        except ArchError as error:
            faults.extend(error.lines)
    if faults:
        raise ArchError(*faults)


@arch.command()
@click.option(
    "--machine",
    type=MACHINE_KIND,
    default="h2learn",
    show_default=True,
    metavar="KIND",
    help="h2learn, or a rival: spinalflow, loihi, sata, dense-array, prosperity, ptb, sato, loas.",
)
def schema(machine: str) -> None:
    """Print the JSON schema of arch files of one kind.

    \b
    Examples:
      h2sim arch schema > arch.schema.json
      h2sim arch schema --machine spinalflow
    """
    from h2sim.arch import Arch
    from h2sim.rivals.registry import H2LEARN, rival

    model = Arch if machine == H2LEARN else rival(machine).schema
    click.echo(json.dumps(model.model_json_schema(), indent=1))
