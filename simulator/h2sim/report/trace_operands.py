"""What the layers of a trace read and what the maps between them are, as tables and as plain data."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from h2sim.document import Column, Line, Part, Table, percent, significant, table
from h2sim.report.words import shape
from h2sim.trace.model import VERSION
from h2sim.trace.reads import Made, carried, made_of, read_by_weights

if TYPE_CHECKING:
    from h2sim.trace import Layer, Trace
    from h2sim.trace.operands import Operand

MOST_NAMED = 3
SIZES = (Column("K", right=True), Column("planes", right=True), Column("scale", right=True, key="scales"))


def operand_parts(trace: Trace) -> tuple[Part, ...]:
    """A line on an input of counts, then the tables of operands and maps; nothing for a trace of version 1."""
    if trace.meta.version == VERSION:
        return ()
    made, maps = made_of(trace.meta), [layer for layer in trace.meta.layers if layer.is_map]
    lines = (Line(_input_line(trace)),) if trace.has("input.counts") else ()
    return (*lines, _operands(trace, made), *((_maps(trace, maps, made),) if maps else ()))


def _operands(trace: Trace, made: dict[str, Made]) -> Table:
    rows = [
        (layer.name, layer.kind, read.name, _some(read.sources), read.operand.kind, *_sizes(read.operand))
        for layer, read in read_by_weights(trace.meta, made)
    ]
    left = [Column("layer"), Column("kind", drop=2), Column("reads"), Column("made of", prose=True, drop=1)]
    return table("Operands: what layers with weights read", [*left, "operand"], SIZES, rows, elsewhere="--json FILE")


def _maps(trace: Trace, maps: list[Layer], made: dict[str, Made]) -> Table:
    members = carried(trace)
    rows = [
        (
            layer.name, how(layer), " + ".join(_brief(layer.inputs)), ", ".join(members[layer.name]) or "-",
            made[layer.name].operand.kind, *_sizes(made[layer.name].operand),
        )
        for layer in maps
    ]  # fmt: skip
    left = [Column("map"), Column("makes", prose=True), Column("reads", prose=True), Column("members", drop=1)]
    return table("Maps: derived, never stored", [*left, "operand"], SIZES, rows, elsewhere="--json FILE")


def how(layer: Layer) -> str:
    """What a layer without weights makes of what it reads: 'average 3x3 /2', 'gate x 5/4', 'and'."""
    if layer.kind == "pool":
        return f"{layer.mode} {_window(layer)}"
    if layer.kind == "gate":
        return f"gate x {layer.scale}"
    if layer.kind == "upsample" and layer.factor:
        return f"upsample {shape(layer.factor)}"
    if layer.kind == "norm":
        return " and ".join(f"{norm.kind} norm{'' if norm.training else ', folded'}" for norm in layer.norm)
    return layer.op if layer.kind == "add" else layer.kind


def _window(layer: Layer) -> str:
    if layer.kernel is None or layer.stride is None:
        return f"to {shape(layer.out_chw[1:])}"
    stride = "" if layer.stride == layer.kernel else f" /{shape(layer.stride)}"
    dilation = f", dilated {shape(layer.dilation)}" if layer.dilation else ""
    return f"{shape(layer.kernel)}{stride}{dilation}{f', divisor {layer.divisor}' if layer.divisor else ''}"


def operand_dict(operand: Operand) -> dict[str, Any]:
    """An operand as JSON holds it; runs: [[numerator, denominator], channels] one after another."""
    if operand.kind == "analog":
        return {"operand": "analog", "most": None, "planes": None, "scales": None}
    runs = [[[scale.numerator, scale.denominator], count] for scale, count in operand.runs]
    return {"operand": operand.kind, "most": operand.most, "planes": operand.planes, "scales": runs}


def count_figures(trace: Trace) -> dict[str, Any]:
    """The largest count that may be, the mean and the share of zeros of an input of counts."""
    counts = trace.input_counts()
    zeros = 1 - np.count_nonzero(counts) / counts.size
    return {"most": trace.meta.input.most if trace.meta.input else None, "mean": float(counts.mean()), "zeros": zeros}


def _input_line(trace: Trace) -> str:
    figures = count_figures(trace)
    mean, zeros = significant(figures["mean"]), percent(figures["zeros"], 1)
    return f"input: counts of 0 to {figures['most']:,}, {mean} in the mean, {zeros} of them 0"


def _sizes(operand: Operand) -> tuple[str, str, str]:
    if operand.kind == "analog":
        return "-", "-", "-"
    scales: list[Fraction] = sorted({scale for scale, _ in operand.runs})
    shown = [str(scale) for scale in scales]
    if len(shown) > MOST_NAMED:
        shown = [f"{shown[0]} to {shown[-1]}"]
    return f"{operand.most:,}", str(operand.planes), ", ".join(shown)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(_brief(names))


def _brief(names: tuple[str, ...]) -> list[str]:
    """At most MOST_NAMED of the names, and how many more there are."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return [*names[:MOST_NAMED], *more]
