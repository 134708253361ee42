"""`h2sim trace`: workload traces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import click

from h2sim.cli.names import NETWORK, TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import Commands, IntsType, emit, find_network, progress, say, show, warn
from h2sim.cli.trace_upgrade import upgrade
from h2sim.cli.trace_views import compare, diff, plot
from h2sim.cli.types import ParamType
from h2sim.io import library
from h2sim.io.progress import Progress

if TYPE_CHECKING:
    from h2sim.arrays import Array
    from h2sim.trace import Structure

    Members = Iterator[tuple[str, Array]]

KINDS = ("spikes", "window", "grad")
Given = dict[str, float] | Literal["table-3.2"]  # share of zeros by kind of mask, or those that the source reports
Shape = dict[str, float] | Literal["measured"]  # the fields of a Structure by their short names, or measured ones


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


class SparsityType(ParamType[Given]):
    """0.75 for all masks, or spikes=0.9,window=0.8,grad=0.9, or table-3.2."""

    name = "sparsity"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Given:
        if value == "table-3.2":
            return "table-3.2"
        try:
            if "=" not in value:
                return dict.fromkeys(KINDS, float(value))
            given = {k.strip(): float(v) for k, v in (part.split("=", 1) for part in value.split(","))}
        except ValueError:
            given = {}
        if set(given) != set(KINDS):
            self.fail(f"expected one number or spikes=..,window=..,grad=..; got {value!r}", param, ctx)
        return given


class LayerSparsityType(ParamType[tuple[str, dict[str, float]]]):
    """NAME=spikes=..,window=..,grad=.. or NAME=0.75."""

    name = "layer sparsity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, float]]:
        layer, equals, rest = value.partition("=")
        if not layer or not equals:
            self.fail(f"expected NAME=0.75 or NAME=spikes=..,window=..,grad=..; got {value!r}", param, ctx)
        if rest == "table-3.2":
            self.fail(f"expected numbers for one layer; got {value!r}", param, ctx)
        return layer, cast(dict[str, float], SparsityType().convert(rest, param, ctx))


class StructureType(ParamType[Shape]):
    """silent=0.5,dead=0.2,cluster=3,shared=0.3,channels=0.1, or measured."""

    name = "structure"
    FIELDS: ClassVar[dict[str, Callable[[str], float]]] = {
        "silent": float,
        "dead": float,
        "cluster": int,
        "shared": float,
        "channels": float,
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        if value == "measured":
            return "measured"
        given = dict(part.partition("=")[::2] for part in value.split(","))
        try:
            return {name.strip(): self.FIELDS[name.strip()](text) for name, text in given.items()}
        except (KeyError, ValueError):
            self.fail(
                f"expected silent=..,dead=..,cluster=..,shared=..,channels=.. or measured; got {value!r}", param, ctx
            )


@trace.command()
@click.argument("network", type=NETWORK, required=False)
@click.option("--sparsity", type=SparsityType(), help="Fraction of zeros: one number, per mask, or table-3.2.")
@click.option("--layer", "layers", type=LayerSparsityType(), multiple=True, help="Of one layer; repeatable.")
@click.option("--structure", type=StructureType(), help="Silent samples, dead channels, ... [default: none].")
@click.option(
    "--like", "like_file", type=TRACE, metavar="TRACE", help="Network, sizes and the mean of each mask from a trace."
)
@click.option("-o", "--output", metavar="FILE", required=True, help="The trace to write.")
@click.option("--timesteps", type=click.IntRange(1, 65536), help="[default: the network's]")
@click.option("--batch", type=click.IntRange(1, 65536), help="[default: 4]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--input-shape", type=IntsType("C,H,W"), help="Of the network input; needed with a notation.")
def synth(
    network: str | None,
    sparsity: Given | None,
    layers: tuple[tuple[str, dict[str, float]], ...],
    structure: Shape | None,
    like_file: str | None,
    output: str,
    timesteps: int | None,
    batch: int | None,
    seed: int,
    input_shape: tuple[int, int, int] | None,
) -> None:
    """Write a trace of synthetic masks for NETWORK, or --like a real trace; it is marked as synthetic.

    NETWORK is a shipped network, a network file, or the notation itself. Real masks are not independent bits, the
    default: --structure adds silent=S (share of samples without gradient), dead=D (share of channels), cluster=K
    (positions), shared=R (share of the variance that all channels and timesteps have in common) and channels=V (share
    that is a channel's own), or, with --like, `measured`. `h2sim trace compare --twins both` shows what that makes of
    cycles. --sparsity table-3.2 takes what the source reports of its networks.

    \b
    Examples:
      h2sim trace synth cifar10 --sparsity table-3.2 -o cifar10.npz
      h2sim trace synth cifar10 --sparsity spikes=0.9,window=0.8,grad=0.9 --structure silent=0.5,cluster=3 -o c.npz
      h2sim trace synth 32C3-AP2-10FC --input-shape 1,28,28 --sparsity 0.75 --layer conv1=0.5 -o small.npz
      h2sim trace synth --like mnist-digits --structure measured -o twin.npz
    """
    from h2sim.trace import like, load_trace, write_trace

    check_outputs(output, reads=[name for name in (like_file, network) if name])
    if like_file:
        if network or sparsity or layers or timesteps or batch or input_shape:
            raise click.UsageError("--like takes network, sizes and sparsities from its trace; give no others")
        meta, members = like(
            load_trace(like_file), seed, "measured" if structure == "measured" else _structure(structure)
        )
    else:
        meta, members = _synthesised(network, sparsity, layers, structure, timesteps, batch or 4, seed, input_shape)
    with progress("drawing") as report:
        write_trace(output, meta, _reported(members, [layer["name"] for layer in meta["layers"]], report))
    say(f"{output}: synthetic trace of {meta['network']}, {meta['source']['method']}, seed {seed}")


def _synthesised(
    network: str | None,
    sparsity: Given | None,
    layers: tuple[tuple[str, dict[str, float]], ...],
    structure: Shape | None,
    timesteps: int | None,
    batch: int,
    seed: int,
    input_shape: tuple[int, int, int] | None,
) -> tuple[dict[str, Any], Members]:
    from h2sim.trace import Sparsity, reported_sparsity, synthesise

    if not network or not sparsity:
        raise click.UsageError("expected NETWORK and --sparsity, or --like TRACE")
    described = find_network(network, input_shape)
    every, own = (Sparsity(**sparsity), {}) if isinstance(sparsity, dict) else reported_sparsity(described)
    own |= {name: Sparsity(**given) for name, given in layers}
    steps = timesteps or described.timesteps
    return synthesise(described, steps, batch, every, seed, layers=own, structure=_structure(structure))


def _reported(members: Members, layers: Sequence[str], report: Progress) -> Members:
    """The same members; each is reported under its layer's name before it is handed on."""
    for name, array in members:
        layer = name.rpartition(".")[0]
        report(layer, layers.index(layer) + 1 if layer in layers else 0, len(layers))
        yield name, array


def _structure(given: Shape | None) -> Structure | None:
    """The structure that --structure spells out. Raises UsageError for `measured`, which needs --like."""
    from h2sim.trace import Structure

    if given is None:
        return None
    if not isinstance(given, dict):
        raise click.UsageError("--structure measured needs --like TRACE, to measure it in")
    long = {"silent": "silent_samples", "dead": "dead_channels", "cluster": "cluster_positions"}
    fields: dict[str, Any] = {long.get(name, name): value for name, value in given.items()}
    return Structure(**fields)


for command in (plot, diff, compare, upgrade):
    trace.add_command(command)
