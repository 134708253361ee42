"""What a layer with weights reads: kinds of maps, their scales and largest counts, by structure alone.

A map is a layer's spikes or current, the network input, or what pools, gates and sums make of those. Its values are
s * k, with s an exact fraction above 0 for each channel and k an integer from 0 to K; of kind 'spikes' K is 1, of
'counts' it is more, and 'analog' are values in FP16. No kind follows from a sample's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from h2sim.errors import TraceError
from h2sim.trace.model import Layer, TraceMeta
from h2sim.trace.windows import common_scale, sums_of

Kind = Literal["spikes", "counts", "analog"]
MOST_COUNT = (1 << 53) - 1  # what float64 holds exactly
ONE = Fraction(1)


@dataclass(frozen=True)
class Operand:
    """A map's kind, its scale s for each channel, and its largest count K (of analog maps neither has a meaning)."""

    kind: Kind
    scales: tuple[Fraction, ...]
    most: int = 1

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
    scales = (ONE,) * meta.input_shape[0]
    return Operand(meta.input_kind, scales, (meta.input.most if meta.input else None) or 1)


def _analog(layer: Layer) -> Operand:
    return Operand("analog", (ONE,) * layer.out_chw[0])


def _of_layer(layer: Layer, found: Mapping[str, Operand]) -> Operand:
    """Raises ValueError for a map that no machine here makes."""
    if layer.spiking:
        return Operand("spikes", (ONE,) * layer.out_chw[0])
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
    return replace(reads[0], scales=tuple(s * layer.scale for s in reads[0].scales))


def _concat(layer: Layer, reads: list[Operand]) -> Operand:
    return _counted([s for o in reads for s in o.scales], max(o.most for o in reads))


def _pool(layer: Layer, reads: list[Operand]) -> Operand:
    """K = K_in * the most that a sum holds, and s = s_in / D; the largest of spikes is a spike."""
    (before,) = reads
    if layer.mode == "max":
        return before
    sums = sums_of(layer)
    return _counted([s / sums.divisor for s in before.scales], before.most * sums.most)


def _sum(layer: Layer, reads: list[Operand]) -> Operand:
    """By channel s = the largest fraction of which all s_i are whole multiples, and K = the sum of K_i * s_i / s."""
    scales = [common_scale(list(each)) for each in zip(*(o.scales for o in reads), strict=True)]
    most = max(int(sum(o.most * o.scales[c] / s for o in reads)) for c, s in enumerate(scales))
    return _counted(scales, most)


def _counted(scales: list[Fraction], most: int) -> Operand:
    return Operand("spikes" if most == 1 else "counts", tuple(scales), most)


def _product(layer: Layer, a: Operand, b: Operand) -> Operand:
    """a b, or a (1 - b), of two maps of spikes; a channel of one is repeated."""
    if a.kind != "spikes" or b.kind != "spikes":
        got = f"{a.kind} and {b.kind}"
        raise ValueError(f"inputs: expected two maps of spikes for op {layer.op!r}; got {got}")
    if layer.op == "and_not" and any(s != 1 for s in b.scales):
        raise ValueError(f"inputs: expected spikes of 0 and 1 as b of op 'and_not'; got a scale of {max(b.scales)}")
    channels = layer.out_chw[0]
    of_a, of_b = (o.scales if len(o.scales) == channels else o.scales * channels for o in (a, b))
    pairs = zip(of_a, of_b, strict=True)
    return Operand("spikes", tuple(x * y if layer.op == "and" else x for x, y in pairs))
