"""`h2sim trace`: workload traces."""

from __future__ import annotations

import click

from h2sim import library
from h2sim.cli.look import compare, diff, plot
from h2sim.cli.support import check_target, console

KINDS = ("spikes", "window", "grad")


@click.group()
def trace() -> None:
    """List, look at, check and synthesise traces.

    \b
    Examples:
      h2sim trace list
      h2sim trace info mnist-digits
      h2sim trace check my.npz
      h2sim trace synth cifar10 --sparsity spikes=0.9,window=0.8,grad=0.9 -o cifar10.npz
    """


@trace.command("list")
def list_() -> None:
    """Shipped traces, and networks that `trace synth` knows.

    \b
    Example:
      h2sim trace list
    """
    click.echo("traces:   " + ", ".join(library.names("trace")))
    click.echo("networks: " + ", ".join(library.names("network")))


@trace.command()
@click.argument("file")
def info(file: str) -> None:
    """Spike rate and sparsities of every layer, and where the trace came from.

    \b
    Example:
      h2sim trace info mnist-digits
    """
    from h2sim.report.text import trace_table
    from h2sim.trace import layer_table, load_trace

    opened = load_trace(file)
    trace_table(console(), opened, layer_table(opened))


@trace.command()
@click.argument("file")
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
    click.echo(f"{file}: ok: {len(opened.meta.layers)} layers, {values}")


class SparsityType(click.ParamType):
    """0.75 for all masks, or spikes=0.9,window=0.8,grad=0.9."""

    name = "sparsity"

    def convert(self, value, param, ctx):
        try:
            if "=" not in value:
                return dict.fromkeys(KINDS, float(value))
            given = {k.strip(): float(v) for k, v in (part.split("=", 1) for part in value.split(","))}
        except ValueError:
            given = {}
        if set(given) != set(KINDS):
            self.fail(f"expected one number or spikes=..,window=..,grad=..; got {value!r}", param, ctx)
        return given


class ShapeType(click.ParamType):
    """C,H,W."""

    name = "C,H,W"

    def convert(self, value, param, ctx):
        parts = value.split(",")
        if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
            self.fail(f"expected three positive integers C,H,W; got {value!r}", param, ctx)
        return tuple(int(p) for p in parts)


@trace.command()
@click.argument("network")
@click.option("--sparsity", type=SparsityType(), required=True, help="Fraction of zeros: one number, or per mask.")
@click.option("-o", "--output", metavar="FILE", required=True, help="The trace to write.")
@click.option("--timesteps", type=click.IntRange(1, 65536), default=10, show_default=True)
@click.option("--batch", type=click.IntRange(1, 65536), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--input-shape", type=ShapeType(), help="Of the network input; needed with a notation.")
def synth(network, sparsity, output, timesteps, batch, seed, input_shape) -> None:
    """Write a trace of synthetic masks (independent bits) for NETWORK, marked as synthetic.

    NETWORK is a shipped network, a network file, or the notation itself. Real masks are not independent bits: use
    this where no real trace is to be had, and say so.

    \b
    Examples:
      h2sim trace synth cifar10 --sparsity spikes=0.9,window=0.8,grad=0.9 -o cifar10.npz
      h2sim trace synth 32C3-AP2-10FC --input-shape 1,28,28 --sparsity 0.75 -o small.npz
    """
    from h2sim.trace import Sparsity, load_network, synthesise, write_trace

    check_target(output)
    meta, members = synthesise(load_network(network, input_shape), timesteps, batch, Sparsity(**sparsity), seed)
    write_trace(output, meta, members)
    click.echo(f"{output}: synthetic trace of {meta['network']}, seed {seed}")


for command in (plot, diff, compare):
    trace.add_command(command)
