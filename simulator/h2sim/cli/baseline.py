"""`h2sim baseline`: the machines that H2Learn is compared with."""

from __future__ import annotations

import click

from h2sim.cli.support import console


@click.group()
def baseline() -> None:
    """List the baseline machines and published rows; run a machine on a trace.

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
    from h2sim.report.rivals import baselines_table, published_table
    from h2sim.rivals.registry import BASELINES

    baselines_table(console(), BASELINES)
    click.echo()
    published_table(console(), published_rows())


@baseline.command()
@click.argument("name")
@click.argument("trace")
@click.option("--energy-table", metavar="NAME|FILE", default="28nm", show_default=True, help="Prices of SpinalFlow.")
def run(name, trace, energy_table) -> None:
    """Run TRACE's forward pass on the machine NAME: time, events and energy per layer, and what is assumed.

    \b
    Examples:
      h2sim baseline run spinalflow mnist-digits
      h2sim baseline run loihi-sanafe my.npz
    """
    import h2sim
    from h2sim.report.rivals import show
    from h2sim.rivals.registry import run_baseline

    result = run_baseline(name, h2sim.load_trace(trace), h2sim.load_energy_table(energy_table))
    show(console(), result)
