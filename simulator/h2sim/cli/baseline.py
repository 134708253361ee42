"""`h2sim baseline`: rivals and published systems; running one is `h2sim run NAME TRACE` too."""

from __future__ import annotations

import click

from h2sim.cli.names import RIVAL, TABLE, TRACE
from h2sim.cli.support import Commands, show


@click.group(cls=Commands)
def baseline() -> None:
    """List the rival machines and published rows; run a rival on a trace (as `h2sim run NAME TRACE` does).

    \b
    Examples:
      h2sim baseline list
      h2sim baseline run loihi mnist-digits
    """


@baseline.command("list")
def list_() -> None:
    """Machines that run on traces, and systems as published, a line each.

    \b
    Example:
      h2sim baseline list
    """
    from h2sim.compare.published import published_rows
    from h2sim.document import Document
    from h2sim.report.rivals import machines_table, published_table
    from h2sim.rivals.registry import BASELINES, load_baseline

    machines, rows = [(name, load_baseline(name).description) for name in BASELINES], published_rows()
    verdict = f"{len(machines)} machines run on traces; {len(rows)} systems stand as published."
    show(Document(verdict, (machines_table(machines), published_table(rows))))


@baseline.command()
@click.argument("name", type=RIVAL)
@click.argument("trace", type=TRACE)
@click.option(
    "--energy-table", type=TABLE, metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of SpinalFlow."
)
def run(name: str, trace: str, energy_table: str) -> None:
    """Run TRACE's forward pass on the machine NAME: time, events and energy per layer, and what is assumed.

    \b
    Examples:
      h2sim baseline run spinalflow mnist-digits
      h2sim baseline run loihi-sanafe my.npz
    """
    import h2sim
    from h2sim.rivals.registry import run_baseline

    show(run_baseline(name, h2sim.load_trace(trace), h2sim.load_energy_table(energy_table)).document())
