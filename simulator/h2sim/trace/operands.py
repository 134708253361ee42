"""What a layer with weights reads: kinds of maps, their scales and largest counts, by structure alone.

A map is a layer's spikes or current, the network input, or what pools, gates and sums make of those. Its values are
s * k, with s an exact fraction above 0 for each channel and k an integer from 0 to K; of kind 'spikes' K is 1, of
'counts' it is more, and 'analog' are values in FP16. No kind follows from a sample's data.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Literal

from h2sim.errors import TraceError
from h2sim.trace.model import Layer, TraceMeta
from h2sim.trace.windows import common_scale, sums_of

Kind = Literal["spikes", "counts", "analog"]
MOST_COUNT = (1 << 53) - 1  # what float64 holds exactly
ONE = Fraction(1)
Runs = tuple[tuple[Fraction, int], ...]


@dataclass(frozen=True)
class Operand:
    """A map's kind, its scale s for each channel, and its largest count K (of analog maps neither has a meaning).

    runs: (s, how many channels have it one after another), for a network that is only named may have millions.
    """

    kind: Kind
    runs: Runs
    most: int = 1

    @property
    def scales(self) -> tuple[Fraction, ...]:
        """s of every channel."""
        return tuple(scale for scale, count in self.runs for _ in range(count))

    @property
    def planes(self) -> int:
        """B, the bits of K: how many binary planes hold it. 0 for an analog map."""
        return 0 if self.kind == "analog" else self.most.bit_length()


def operands_of(meta: TraceMeta) -> dict[str, Operand]:
    """The operand that each layer, and 'input', gives to what reads it.

    Raises TraceError, a line per fault, for maps of which there is none: a product of anything but spikes, a count that
    no integer here holds.
    """
    found = {"input": _of_input(meta)}
    faults: list[str] = []
    for layer in meta.layers:
        try:
            found[layer.name] = _of_layer(layer, found)
        except ValueError as error:
            faults.append(f"layers.{layer.name}: {error}")
            found[layer.name] = _analog(layer)
    if faults:
        raise TraceError(*faults)
    return found


def operand_faults(meta: TraceMeta) -> tuple[str, ...]:
    """Why there is no machine for the maps of a network; empty where there is one."""
    try:
        operands_of(meta)
    except TraceError as error:
        return error.lines
    return ()


def _of_input(meta: TraceMeta) -> Operand:
    runs = ((ONE, meta.input_shape[0]),)
    return Operand(meta.input_kind, runs, (meta.input.most if meta.input else None) or 1)


def _analog(layer: Layer) -> Operand:
    return Operand("analog", ((ONE, layer.out_chw[0]),))


def _of_layer(layer: Layer, found: Mapping[str, Operand]) -> Operand:
    """Raises ValueError for a map that no machine here makes."""
    if layer.spiking:
        return Operand("spikes", ((ONE, layer.out_chw[0]),))
    reads = [found[name] for name in layer.inputs]
    if layer.op != "sum":
        return _product(layer, *reads)
    if layer.has_weights or layer.kind in ("relu", "norm") or any(o.kind == "analog" for o in reads):
        return _analog(layer)
    made = {"add": _sum, "concat": _concat, "pool": _pool, "gate": _gate, "upsample": _same}[layer.kind](layer, reads)
    if made.most > MOST_COUNT:
        raise ValueError(f"counts: expected at most {MOST_COUNT}; got up to {made.most}")
    return made


def _same(layer: Layer, reads: list[Operand]) -> Operand:
    return reads[0]


def _gate(layer: Layer, reads: list[Operand]) -> Operand:
    return replace(reads[0], runs=_merged((s * layer.scale, n) for s, n in reads[0].runs))


def _concat(layer: Layer, reads: list[Operand]) -> Operand:
    return _counted((run for o in reads for run in o.runs), max(o.most for o in reads))


def _pool(layer: Layer, reads: list[Operand]) -> Operand:
    """K = K_in * the most that a sum holds, and s = s_in / D; the largest of spikes is a spike."""
    (before,) = reads
    if layer.mode == "max":
        return before
    sums = sums_of(layer)
    return _counted(((s / sums.divisor, n) for s, n in before.runs), before.most * sums.most)


def _sum(layer: Layer, reads: list[Operand]) -> Operand:
    """By channel s = the largest fraction of which all s_i are whole multiples, and K = the sum of K_i * s_i / s."""
    together = _together([o.runs for o in reads])
    made = [(common_scale(list(scales)), n) for scales, n in together]
    counts = (
        sum(o.most * own / s for o, own in zip(reads, scales, strict=True))
        for (scales, _), (s, _) in zip(together, made, strict=True)
    )
    return _counted(made, max(map(int, counts)))


def _counted(runs: Iterable[tuple[Fraction, int]], most: int) -> Operand:
    return Operand("spikes" if most == 1 else "counts", _merged(runs), most)


def _merged(runs: Iterable[tuple[Fraction, int]]) -> Runs:
    merged: list[tuple[Fraction, int]] = []
    for scale, count in runs:
        if merged and merged[-1][0] == scale:
            count += merged.pop()[1]
        merged.append((scale, count))
    return tuple(merged)


def _together(of: Sequence[Runs]) -> list[tuple[tuple[Fraction, ...], int]]:
    """Runs of several maps of as many channels, cut such that each piece has one scale in every map."""
    ends = [list(accumulate(n for _, n in runs)) for runs in of]
    cuts = sorted({end for own in ends for end in own})
    return [
        (tuple(runs[bisect_left(own, cut)][0] for runs, own in zip(of, ends, strict=True)), cut - before)
        for before, cut in zip([0, *cuts], cuts, strict=False)
    ]


def _product(layer: Layer, a: Operand, b: Operand) -> Operand:
    """a b, or a (1 - b), of two maps of spikes; a channel of one is repeated."""
    if a.kind != "spikes" or b.kind != "spikes":
        got = f"{a.kind} and {b.kind}"
        raise ValueError(f"inputs: expected two maps of spikes for op {layer.op!r}; got {got}")
    if layer.op == "and_not" and any(s != 1 for s, _ in b.runs):
        most = max(s for s, _ in b.runs)
        raise ValueError(f"inputs: expected spikes of 0 and 1 as b of op 'and_not'; got a scale of {most}")
    channels = layer.out_chw[0]
    both = [o.runs if sum(n for _, n in o.runs) == channels else ((o.runs[0][0], channels),) for o in (a, b)]
    return Operand("spikes", _merged((x * y if layer.op == "and" else x, n) for (x, y), n in _together(both)))
