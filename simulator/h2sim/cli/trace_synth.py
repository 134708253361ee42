"""`h2sim trace synth`: traces of random masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import click

from h2sim.cli.names import NETWORK, TRACE
from h2sim.cli.outputs import check_outputs
from h2sim.cli.support import IntsType, find_network, progress, say
from h2sim.cli.types import ParamType
from h2sim.io.progress import Progress

if TYPE_CHECKING:
    from h2sim.arrays import Array
    from h2sim.trace import Structure

    Members = Iterator[tuple[str, Array]]

KINDS = ("spikes", "window", "grad")
Given = dict[str, float] | Literal["table-3.2"]  # share of zeros by kind of mask, or those that the source reports
Shape = dict[str, float] | Literal["measured"]  # the fields of a Structure by their short names, or measured ones


class SparsityType(ParamType[Given]):
    """0.75 for all masks, or spikes=0.9,window=0.8,grad=0.9, or table-3.2; with kept=0.5 also of gates."""

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
        if set(given) - {"kept"} != set(KINDS):
            self.fail(f"expected one number or spikes=..,window=..,grad=..; got {value!r}", param, ctx)
        return given


class LayerSparsityType(ParamType[tuple[str, dict[str, float]]]):
    """NAME=spikes=..,window=..,grad=.. or NAME=0.75, which is also what a gate does not keep."""

    name = "layer sparsity"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, float]]:
        layer, equals, rest = value.partition("=")
        if not layer or not equals:
            self.fail(f"expected NAME=0.75 or NAME=spikes=..,window=..,grad=..; got {value!r}", param, ctx)
        if rest == "table-3.2":
            self.fail(f"expected numbers for one layer; got {value!r}", param, ctx)
        given = cast(dict[str, float], SparsityType().convert(rest, param, ctx))
        return layer, given if "=" in rest else {**given, "kept": given["grad"]}


class CountsType(ParamType[tuple[int, float | None]]):
    """7, or most=7,zeros=0.6: the largest count, and the share of zeros."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, float | None]:
        try:
            if "=" not in value:
                return int(value), None
            given = dict(part.split("=", 1) for part in value.replace(" ", "").split(","))
            if set(given) == {"most", "zeros"}:
                return int(given["most"]), float(given["zeros"])
        except ValueError:
            pass
        self.fail(f"expected the largest count, or most=..,zeros=..; got {value!r}", param, ctx)


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


@click.command()
@click.argument("network", type=NETWORK, required=False)
@click.option("--sparsity", type=SparsityType(), help="Fraction of zeros: one number, per mask, or table-3.2.")
@click.option("--layer", "layers", type=LayerSparsityType(), multiple=True, help="Of one layer; repeatable.")
@click.option("--structure", type=StructureType(), help="Silent samples, dead channels, ... [default: none].")
@click.option(
    "--like", "like_file", type=TRACE, metavar="TRACE", help="Network, sizes and the mean of each mask from a trace."
)
@click.option(
    "--counts", type=CountsType(), help="An input of counts: K, or most=K,zeros=SHARE [default: zeros as of spikes]."
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
    counts: tuple[int, float | None] | None,
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
    cycles. --sparsity table-3.2 takes what the source reports of its networks. Gates (dropout) keep the share that
    their scale makes up for.

    \b
    Examples:
      h2sim trace synth cifar10 --sparsity table-3.2 -o cifar10.npz
      h2sim trace synth cifar10 --sparsity spikes=0.9,window=0.8,grad=0.9 --structure silent=0.5,cluster=3 -o c.npz
      h2sim trace synth 32C3-AP2-10FC --input-shape 1,28,28 --sparsity 0.75 --layer conv1=0.5 -o small.npz
      h2sim trace synth 32C3-AP2-10FC --input-shape 2,9,9 --sparsity 0.75 --counts most=7,zeros=0.9 -o counts.npz
      h2sim trace synth --like mnist-digits --structure measured -o twin.npz
    """
    from h2sim.trace import like, load_trace, write_trace

    check_outputs(output, reads=[name for name in (like_file, network) if name])
    if like_file:
        if network or sparsity or layers or timesteps or batch or input_shape or counts:
            raise click.UsageError("--like takes network, sizes and sparsities from its trace; give no others")
        meta, members = like(
            load_trace(like_file), seed, "measured" if structure == "measured" else _structure(structure)
        )
    else:
        meta, members = _synthesised(
            network, sparsity, layers, structure, timesteps, batch or 4, seed, input_shape, counts
        )
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
    counts: tuple[int, float | None] | None,
) -> tuple[dict[str, Any], Members]:
    from h2sim.trace import Sparsity, reported_sparsity, synthesise
    from h2sim.trace.synth import Counts

    if not network or not sparsity:
        raise click.UsageError("expected NETWORK and --sparsity, or --like TRACE")
    described = find_network(network, input_shape)
    every, own = (Sparsity(**sparsity), {}) if isinstance(sparsity, dict) else reported_sparsity(described)
    own |= {name: Sparsity(**given) for name, given in layers}
    steps = timesteps or described.timesteps
    drawn = Counts(counts[0], every.spikes if counts[1] is None else counts[1]) if counts else None
    return synthesise(described, steps, batch, every, seed, layers=own, structure=_structure(structure), counts=drawn)


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
