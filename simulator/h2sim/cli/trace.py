"""`h2sim trace`: workload traces."""

from __future__ import annotations

import json

import click

from h2sim.cli.names import TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import Commands, emit, say, show, warn
from h2sim.cli.trace_synth import synth
from h2sim.cli.trace_upgrade import upgrade
from h2sim.cli.trace_views import compare, diff, plot
from h2sim.io import library


@click.group(cls=Commands)
def trace() -> None:
    """List, look at, check, compare, synthesise and upgrade traces.

    \b
    Examples:
      h2sim trace list
      h2sim trace info mnist-digits
      h2sim trace check my.npz
      h2sim trace plot mnist-digits --layer conv2
      h2sim trace diff a.npz b.npz
      h2sim trace compare mnist-digits --twins both
      h2sim trace synth cifar10 --sparsity table-3.2 -o cifar10.npz
      h2sim trace upgrade old.npz new.npz
    """


@trace.command("list")
def list_() -> None:
    """Shipped traces, and networks that `trace synth` knows (`h2sim workload list` says more).

    \b
    Example:
      h2sim trace list
    """
    from h2sim.document import Document, Line

    traces, networks = library.names("trace"), library.names("network")
    lines = (Line(f"traces:   {', '.join(traces)}"), Line(f"networks: {', '.join(networks)}"))
    show(Document(f"{len(traces)} traces and {len(networks)} networks shipped.", lines))


@trace.command()
@click.argument("file", type=TRACE)
@click.option("--json", "json_file", metavar="FILE", help="Write all of it as JSON ('-': stdout).")
def info(file: str, json_file: str | None) -> None:
    """Spike rate and sparsities of every layer, and where the trace came from.

    Where layers read more than spikes (version 2): kind, largest count K, bit planes and scale of what each reads, and
    how the maps between are made.

    \b
    Examples:
      h2sim trace info mnist-digits
      h2sim trace info my.npz --json info.json
    """
    from h2sim.cautions import trace_cautions
    from h2sim.report.traces import trace_dict, trace_document
    from h2sim.trace import layer_table, load_trace

    check_outputs(json_file, reads=[file])
    opened = load_trace(file)
    rows = layer_table(opened)
    show(trace_document(opened, rows), err=json_file == "-")
    for caution in trace_cautions(opened):
        warn(caution)
    if json_file:
        emit(json_file, json.dumps(trace_dict(opened, rows), indent=1) + "\n")


@trace.command()
@click.argument("file", type=TRACE)
def check(file: str) -> None:
    """Read every member of a trace; exit status 2 and a line per fault if one is wrong.

    \b
    Example:
      h2sim trace check my.npz
    """
    from h2sim.trace import load_trace

    opened = load_trace(file)
    opened.check()
    values = "with values" if opened.has_values else "masks only"
    say(f"{file}: ok: {len(opened.meta.layers)} layers, {values}")


for command in (plot, diff, compare, synth, upgrade):
    trace.add_command(command)
