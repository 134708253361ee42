"""What stands between recorded modules, operation by operation: pools, gates, sums, products, means.

A map is found in autograd's graph, so that a module, a function of torch and arithmetic on tensors are the same to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch

from h2sim.export.graph import operation, out_shape
from h2sim.export.layout import Extent

Shape = tuple[int, ...]


class Unknown(Exception):
    """An operation that no map is: what was got, and what would do instead."""

    def __init__(self, got: str, rewrite: str = "") -> None:
        super().__init__(got)
        self.got, self.rewrite = got, rewrite


@dataclass(eq=False)
class Map:
    """One map. kind: pool, gate, add, concat, upsample, relu, scale, mean (over time), not (1 - spikes) or sign.

    inputs: names of maps and modules, or INPUT; in_shape, out_shape: of one sample, (C, H, W) or (F,). entry: keys of a
    trace's layer. factor: of a gate or scale. implied: whether no module of the model stands for it. factors: the
    masks that a gate multiplies by, one a timestep or one for all. label: of a gate that rectifies, `relu`.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_shape: Shape
    out_shape: Shape
    entry: dict[str, Any]
    factor: Fraction = Fraction(1)
    implied: bool = True
    factors: list[torch.Tensor] = field(default_factory=list)
    label: str = ""


@dataclass(frozen=True)
class Made:
    """What an operation makes of its sources: the fields of a Map that do not depend on its name.

    constant: the mask of a gate; label: what a gate is called that is no dropout.
    """

    kind: str
    out_shape: Shape
    entry: Mapping[str, Any] = field(default_factory=dict)
    factor: Fraction = Fraction(1)
    constant: torch.Tensor | None = None
    in_shape: Shape | None = None
    label: str = ""


Reader = Callable[[Any, Shape, Extent], list[Made]]


def made_of(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    """The maps that an operation of one source is, one after the other; none for one that changes no value.

    sample: the shape of one sample of the source. Raises Unknown for an operation that no map is.
    """
    name = operation(node)
    if name not in _OPERATIONS:
        raise Unknown(f"the operation {name}", _HINTS.get(name, ""))
    return _OPERATIONS[name](node, sample, extent)


_HINTS = {
    "Sub": "no difference of activations: the machine adds",
    "Neg": "no negative factor of a map",
    "Bmm": "attention between spikes is planned and not yet there",
    "Softmax": "attention is planned and not yet there",
    "NativeBatchNorm": "call it as the module nn.BatchNorm2d",
    "NativeGroupNorm": "call it as the module nn.GroupNorm",
    "NativeLayerNorm": "call it as the module nn.LayerNorm",
    "UpsampleBilinear2D": "enlarge to the nearest: mode='nearest'",
    "UpsampleBicubic2D": "enlarge to the nearest: mode='nearest'",
    "ConstantPadNd": "pad in the convolution or the pool instead",
    "MaxPool3DWithIndices": "pool in two dimensions",
    "AvgPool3D": "pool in two dimensions",
}


def _pooled(node: Any, extra: Mapping[str, Any]) -> Made:
    """kernel, stride and padding of a pool's node, and what is not PyTorch's default."""
    before, after = tuple(node._saved_self.shape), out_shape(node)
    kernel = [int(n) for n in node._saved_kernel_size]
    stride = [int(n) for n in node._saved_stride] or list(kernel)
    padding = [int(n) for n in node._saved_padding]
    kernel, stride, padding = (each * 2 if len(each) == 1 else each for each in (kernel, stride, padding))
    entry: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, **extra}
    dilation = [int(n) for n in entry.get("dilation", (1, 1))]
    if node._saved_ceil_mode and _rounds(before[-2:], kernel, stride, padding, dilation):
        entry["ceil_mode"] = True
    return Made("pool", after[-3:], entry, in_shape=before[-3:])


def _rounds(size: Shape, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int]) -> bool:
    """Whether ceil_mode makes any window that would not be there without it."""
    rooms = zip(size, kernel, stride, padding, dilation, strict=True)
    return any((n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in rooms)


def _max_pool(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    dilation = [int(n) for n in node._saved_dilation]
    dilation = dilation * 2 if len(dilation) == 1 else dilation
    extra = {"mode": "max", **({"dilation": dilation} if dilation != [1, 1] else {})}
    return [_pooled(node, extra)]


def _avg_pool(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    extra: dict[str, Any] = {}
    if node._saved_divisor_override is not None:
        kernel = [int(n) for n in node._saved_kernel_size]
        kernel = kernel * 2 if len(kernel) == 1 else kernel
        if node._saved_divisor_override != math.prod(kernel):
            extra["divisor"] = int(node._saved_divisor_override)
    elif not node._saved_count_include_pad and any(node._saved_padding):
        extra["count_include_pad"] = False
    made = _pooled(node, extra)
    if made.entry.get("divisor") == 1:  # a sum
        entry = {key: value for key, value in made.entry.items() if key != "divisor"}
        return [Made("pool", made.out_shape, {**entry, "mode": "sum"}, in_shape=made.in_shape)]
    return [made]


def _adaptive(mode: str) -> Reader:
    extra = {"mode": mode} if mode != "average" else {}

    def read(node: Any, sample: Shape, extent: Extent) -> list[Made]:
        before, after = tuple(node._saved_self.shape)[-3:], out_shape(node)[-3:]
        return [Made("pool", after, {**_windows(before, after), **extra}, in_shape=before)]

    return read


def _windows(before: Shape, after: Shape) -> dict[str, Any]:
    """The entry of an adaptive pool: plain windows where the output divides the input."""
    if any(size % out for size, out in zip(before[1:], after[1:], strict=True)):
        return {"adaptive": True}
    kernel = [size // out for size, out in zip(before[1:], after[1:], strict=True)]
    return {"kernel": kernel, "stride": list(kernel), "padding": [0, 0]}


def _over_axes(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    """A mean or a sum over the positions, over time, or over both."""
    sums = operation(node) == "Sum"
    shape = [int(n) for n in node._saved_self_sym_sizes]
    given = [int(n) - (1 << 64) * (int(n) >> 63) for n in getattr(node, "_saved_dim", ())] or range(len(shape))
    axes = extent.axes(shape, sample)
    over = {axes[n % len(shape)] for n in given} if axes else {"?"}
    over = (over - {"HW"}) | {"H", "W"} if "HW" in over else over
    hint = "average over positions, or over time in front of the last weights"
    if not over <= {"T", "H", "W"} or len(over & {"H", "W"}) == 1:
        name = "sum" if sums else "mean"
        raise Unknown(f"a {name} over {', '.join(sorted(over))} of {tuple(shape)}", hint)
    found = []
    if "H" in over:
        after = (sample[0], 1, 1)
        found.append(Made("pool", after, {**_windows(sample, after), **({"mode": "sum"} if sums else {})}))
        sample = after
    if "T" in over:
        found.append(Made("mean", sample))
        found += [Made("scale", sample, factor=Fraction(extent.timesteps))] if sums and extent.timesteps > 1 else []
    return found


def _multiplied(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    """A product with what has no gradient: a constant, or a mask of 0 and one other number."""
    first = node.next_functions[0][0]
    constant = node._saved_other if first is not None else node._saved_self
    if operation(node) == "Div":
        if first is None:
            raise Unknown("a constant divided by activations", "no division by activations")
        return _scaled(1 / constant.detach().double(), constant.numel() == 1, sample, node)
    return _scaled(constant.detach(), constant.numel() == 1, sample, node)


def _scaled(constant: torch.Tensor, single: bool, sample: Shape, node: Any) -> list[Made]:
    hint = "scale by one number, or keep and drop (dropout)"
    some = constant[constant != 0]
    if not bool(torch.isfinite(constant).all()) or (some.numel() and bool((some != some.flatten()[0]).any())):
        raise Unknown(f"a product with values of shape {tuple(constant.shape)}", hint)
    number = float(some.flatten()[0]) if some.numel() else 0.0 if single else 1.0
    if number <= 0:
        raise Unknown(f"a product with {number:g}", "scale by a number above 0")
    if single:
        return [] if number == 1 else [Made("scale", sample, factor=fraction_of(number))]
    return [Made("gate", sample, factor=fraction_of(number), constant=(constant != 0).expand(out_shape(node)))]


def _native_dropout(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    kept = node._saved_result1
    return [Made("gate", sample, factor=fraction_of(1 / (1 - node._saved_p)), constant=kept.bool())]


def fraction_of(number: float) -> Fraction:
    """The simplest fraction that is the same float32 number, where there is a simple one."""
    simple = Fraction(number).limit_denominator(1000)
    return simple if abs(float(simple) - number) <= 1e-6 * number else Fraction(number)


def _upsampled(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    before, after = [int(n) for n in node._saved_self_sym_sizes][-2:], out_shape(node)[-3:]
    if any(big % small for big, small in zip(after[1:], before, strict=True)):
        raise Unknown(f"an enlargement of {tuple(before)} to {after[1:]}", "enlarge by whole factors")
    factor = [big // small for big, small in zip(after[1:], before, strict=True)]
    return [Made("upsample", after, {"factor": factor}, in_shape=(after[0], *before))]


def _relu(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    return [Made("relu", sample)]


def positive_of(node: Any, sample: Shape) -> Made:
    """max(x, 0) or |x| of x >= 0: x itself, but its gradient passes only where x is above 0."""
    above = (node._saved_result if operation(node) == "Relu" else node._saved_self) > 0
    return Made("gate", sample, constant=above, label="relu")


def _power(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    if float(node._saved_exponent) != 1:
        raise Unknown(f"the power {float(node._saved_exponent):g} of activations")
    return []


def _one_minus(node: Any, sample: Shape, extent: Extent) -> list[Made]:
    return [Made("not", sample)]


_OPERATIONS: dict[str, Reader] = {
    "MaxPool2DWithIndices": _max_pool,
    "AvgPool2D": _avg_pool,
    "AdaptiveAvgPool2D": _adaptive("average"),
    "AdaptiveMaxPool2D": _adaptive("max"),
    "Mean": _over_axes,
    "Sum": _over_axes,
    "Mul": _multiplied,
    "Div": _multiplied,
    "NativeDropout": _native_dropout,
    "UpsampleNearest2D": _upsampled,
    "UpsampleNearestExact2D": _upsampled,
    "Relu": _relu,
    "Pow": _power,
    "Rsub": _one_minus,
}
