"""The metadata of a trace as frozen types: neuron, layer, whole network. `parse.py` builds them from checked data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, PlainSerializer, model_validator

from h2sim.activity import Phase
from h2sim.errors import TraceError
from h2sim.io.faults import show
from h2sim.io.strict import Frozen, Line
from h2sim.shapes import ConvShape, FcShape

FORMAT, VERSION, NEWEST = "h2sim-trace", 1, 2  # VERSION: of a file that uses nothing of NEWEST
MOST_LAYERS = 4096
MOST_NEURONS = 1 << 28  # of one layer or of the network input
MOST_BITS = 1 << 36  # of one mask over all timesteps and samples
MOST_WEIGHTS = 1 << 36  # of one layer


def _layer_name(text: str) -> str:
    if not text or len(text) > 200 or "/" in text or "\\" in text or not text.isprintable():
        raise ValueError(f"expected 1 to 200 printable characters without '/' and '\\'; got {text[:50]!r}")
    if text in ("input", "meta"):
        raise ValueError(f"expected a name other than 'input' and 'meta', which the format uses; got {text!r}")
    return text


Name = Annotated[str, AfterValidator(_layer_name)]
Dim = Annotated[int, Field(strict=True, ge=1, le=65536)]
Chw = tuple[Dim, Dim, Dim]
Pair = tuple[Dim, Dim]
Padding = Annotated[int, Field(strict=True, ge=0, le=65536)]
Feature = Annotated[int, Field(strict=True, ge=1, le=MOST_NEURONS)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Kind = Literal["encode", "conv", "fc", "pool", "add", "gate", "concat", "upsample", "relu", "norm"]
KINDS_OF_2 = ("gate", "concat", "upsample", "relu", "norm")  # that only version 2 knows; none has a neuron

_SHAPES = ("in_shape", "out_shape")
_WINDOW_FIELDS = (*_SHAPES, "kernel", "stride", "padding")
_NEEDED_FIELDS: dict[str, tuple[str, ...]] = {
    "encode": _WINDOW_FIELDS,
    "conv": _WINDOW_FIELDS,
    "pool": _WINDOW_FIELDS,
    "fc": ("in_features", "out_features"),
    "add": _SHAPES,
    "gate": _SHAPES,
    "concat": _SHAPES,
    "upsample": (*_SHAPES, "factor"),
    "relu": _SHAPES,
    "norm": (*_SHAPES, "norm"),
}
# Keys of a layer that only version 2 knows, and the kinds that they are for
KEYS_OF_2: dict[str, tuple[str, ...]] = {
    "mode": ("pool",),
    "ceil_mode": ("pool",),
    "count_include_pad": ("pool",),
    "divisor": ("pool",),
    "dilation": ("pool",),
    "adaptive": ("pool",),
    "scale": ("gate",),
    "op": ("add",),
    "factor": ("upsample",),
    "groups": ("conv", "encode"),
    "norm": ("conv", "encode", "fc", "pool", "add", "norm"),
    "mean_over_time": ("fc",),
}
MOST_SCALE_BITS = 64  # of numerator and denominator of a gate's scale


class Surrogate(Frozen):
    """A surrogate gradient that is no rectangle.

    A triangle is fire'(m) = scale * max(0, 1 - |m / threshold - 1|) / threshold.
    """

    shape: Literal["triangle"]
    scale: Finite


def _known_surrogate(value: Any) -> Any:
    """What is no shape that this h2sim knows says as much as nothing: the values of dm are not checked."""
    known = isinstance(value, Surrogate) or (isinstance(value, Mapping) and value.get("shape") == "triangle")
    return value if known else None


class Neuron(Frozen):
    """Parameters of a LIF neuron (eq. 2.1-2.6).

    threshold: th_f; fires_at: the neuron fires where m >= threshold (eq. 2.3), with 'greater' where m > threshold, as
    some libraries and the authors' code have it; decay: what is left of m after a timestep; window: (low, high), the
    surrogate gradient is not 0 where low < m < high; surrogate_scale: eta, its value there, None for a surrogate of
    another shape; surrogate: that shape, where it is known; reset: what firing does to m (as h2sim.verify.neuron.soma
    says); detach_reset: the gradient does not pass through reset.
    equation: 'lif' is eq. 2.1. With 'other' the membrane follows another equation, such as one with a synaptic
    current: the masks still hold, but neither Soma's nor Grad's values can be checked.
    """

    threshold: Finite
    decay: Finite
    window: tuple[Finite, Finite]
    surrogate_scale: Finite | None = None
    surrogate: Annotated[Surrogate | None, BeforeValidator(_known_surrogate)] = None
    reset: Literal["zero", "subtract", "subtract-after-leak", "none"] = "zero"
    detach_reset: Flag = False
    equation: Literal["lif", "other"] = "lif"
    fires_at: Literal["greater_equal", "greater"] = "greater_equal"

    @model_validator(mode="after")
    def _ordered(self) -> Neuron:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: expected low < high; got {list(self.window)}")
        if self.surrogate and not (self.threshold > 0 and self.window == (0.0, 2 * self.threshold)):
            raise ValueError(
                f"surrogate: expected window [0, 2 threshold] and threshold above 0 for a triangle; got "
                f"{list(self.window)} and {self.threshold:g}"
            )
        return self

    @property
    def steepest(self) -> float | None:
        """The largest |fire'(m)|; None where the surrogate is not known."""
        if self.surrogate:
            return abs(self.surrogate.scale) / self.threshold
        return None if self.surrogate_scale is None else abs(self.surrogate_scale)


def _fraction(value: Any) -> Any:
    """A number, or [numerator, denominator], as the exact fraction."""
    given = list(value) if isinstance(value, list | tuple) else value
    if isinstance(value, list | tuple):
        if len(value) != 2 or not all(type(n) is int for n in value) or value[1] == 0:
            raise ValueError(f"expected a number, or integers [numerator, denominator]; got {show(given)}")
        value = Fraction(*value)
    elif type(value) in (int, float) and math.isfinite(value):
        value = Fraction(value)
    if not isinstance(value, Fraction) or value <= 0:
        raise ValueError(f"expected a number above 0, or two integers whose quotient is; got {show(given)}")
    if max(value.numerator, value.denominator).bit_length() > MOST_SCALE_BITS:
        raise ValueError(f"expected a quotient of integers of at most {MOST_SCALE_BITS} bits; got {show(str(value))}")
    return value


def _two_integers(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


class Norm(Frozen):
    """A normalisation between a layer's own output x, or a map, and what reads it.

    training: whether its statistics are those of this step; else it is a fixed scale and offset, which is folded into
    the weights. over: the axes of (T, N, C, H, W) that one statistic is taken over: batch norm's are T, N, H and W.
    """

    kind: Literal["batch", "layer"] = "batch"
    training: Flag = True
    over: tuple[Literal["T", "N", "C", "H", "W"], ...] = ("T", "N", "H", "W")
    eps: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 1e-5

    @model_validator(mode="after")
    def _each_once(self) -> Norm:
        if not self.over or len(set(self.over)) < len(self.over):
            raise ValueError(f"over: expected each axis once, and at least one; got {list(self.over)}")
        return self


def _several(value: Any) -> Any:
    """One normalisation stands for a list of one."""
    return (value,) if isinstance(value, dict | Norm) else value


class Layer(Frozen):
    """One layer of a network.

    kind: conv, encode (a convolution of the analog input) and pool have in_shape, out_shape, kernel, stride and
    padding; add has in_shape and out_shape; fc has in_features and out_features. Shapes are (C, H, W); kernel, stride
    and padding are (vertical, horizontal). inputs: names of the layers that it reads, or 'input'. spiking: False for
    a layer that passes its current on, or that makes one map out of others. bias: whether its weights come with a
    bias; None: the trace does not say. neuron: the network's parameters, where the layer has none of its own.

    Version 2 (KEYS_OF_2). Pool: mode; ceil_mode, count_include_pad, divisor and dilation as in PyTorch; adaptive:
    window i of O over H reads i H / O, rounded down, to (i + 1) H / O, rounded up. Gate (dropout in training): scale
    of what its member `kept` lets through. Add: op, the sum of its inputs, or of two binary ones a and b: a b, or
    a (1 - b). Upsample: factor, (vertical, horizontal), to the nearest. groups: of a convolution's channels. norm:
    what normalises the layer's output before its neuron; of kind norm, the map that it reads. mean_over_time: the
    last fc reads the mean over all timesteps.
    """

    name: Name
    kind: Kind
    inputs: tuple[str, ...]
    in_shape: Chw | None = None
    out_shape: Chw | None = None
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: tuple[Padding, Padding] | None = None
    in_features: Feature | None = None
    out_features: Feature | None = None
    spiking: Flag = True
    bias: Flag | None = None
    neuron: Neuron
    mode: Literal["average", "sum", "max"] = "average"
    ceil_mode: Flag = False
    count_include_pad: Flag = True
    divisor: Dim | None = None
    dilation: Pair | None = None
    adaptive: Flag = False
    scale: Annotated[InstanceOf[Fraction], BeforeValidator(_fraction), PlainSerializer(_two_integers)] = Fraction(1)
    op: Literal["sum", "and", "and_not"] = "sum"
    factor: Pair | None = None
    groups: Dim = 1
    norm: Annotated[tuple[Norm, ...], BeforeValidator(_several)] = ()
    mean_over_time: Flag = False

    @property
    def has_weights(self) -> bool:
        """Whether it is a convolution or fully connected."""
        return self.kind in ("conv", "encode", "fc")

    @property
    def is_map(self) -> bool:
        """Whether it only makes one map out of others: no weights and no neuron."""
        return not self.spiking and not self.has_weights

    @property
    def trained_norms(self) -> tuple[Norm, ...]:
        """The normalisations whose statistics are those of the step; the others are folded into the weights."""
        return tuple(norm for norm in self.norm if norm.training)

    def entry(self) -> dict[str, Any]:
        """The layer as plain data, as metadata have it: of what only version 2 knows no more than was given."""
        data = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in data.items() if key not in KEYS_OF_2 or key in self.model_fields_set}

    @property
    def out_chw(self) -> tuple[int, int, int]:
        """Output neurons as (C, H, W); (features, 1, 1) for fc."""
        return _chw(self.kind, self.out_features, self.out_shape)

    @property
    def in_chw(self) -> tuple[int, int, int]:
        """What it reads from each input as (C, H, W); (features, 1, 1) for fc."""
        return _chw(self.kind, self.in_features, self.in_shape)

    @property
    def neurons(self) -> int:
        """Output neurons of one sample and timestep."""
        return math.prod(self.out_chw)

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        """Shape of its weights as PyTorch has it, (C_out, C_in, kh, kw) or (F_out, F_in); None without weights."""
        if self.kind == "fc":
            return (self.out_chw[0], self.in_chw[0])
        if self.kind in ("conv", "encode") and self.kernel:
            return (self.out_chw[0], self.in_chw[0] // self.groups, *self.kernel)
        return None

    @property
    def parameters(self) -> int:
        """How many weights and biases it has; a bias of which the trace says nothing counts."""
        shape = self.weight_shape
        return math.prod(shape) + shape[0] * self.has_bias if shape else 0

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias, or may have one: the trace does not say that it has none."""
        return self.weight_shape is not None and self.bias is not False

    def __repr__(self) -> str:
        return f"Layer({self.name!r}: {self.kind} {self.in_chw} -> {self.out_chw})"

    __str__ = __repr__

    @model_validator(mode="before")
    @classmethod
    def _without_neuron(cls, data: Any) -> Any:
        """What only makes one map out of others has no neuron, whether or not the file says so."""
        if isinstance(data, dict) and data.get("kind") in KINDS_OF_2:
            return {"spiking": False, **data}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Layer:
        if self.kind in KINDS_OF_2 and self.spiking:
            raise ValueError(f"spiking: expected false for kind {self.kind!r}, which has no neuron; got true")
        needed = _SHAPES if self.adaptive else _NEEDED_FIELDS[self.kind]
        missing = [name for name in needed if getattr(self, name) in (None, ())]
        if missing:
            raise ValueError(f"{', '.join(missing)}: expected for kind {self.kind!r}; got nothing")
        if self.kind in ("conv", "encode") and (self.in_chw[0] % self.groups or self.out_chw[0] % self.groups):
            channels = f"{self.in_chw[0]} and {self.out_chw[0]} channels"
            raise ValueError(f"groups: expected a divisor of {channels}; got {self.groups}")
        for what, shape in (("output", self.out_chw), ("input", self.in_chw)):
            if math.prod(shape) > MOST_NEURONS:
                raise ValueError(f"{what} neurons: expected at most {MOST_NEURONS}; got {math.prod(shape)}")
        if math.prod(self.weight_shape or ()) > MOST_WEIGHTS:
            raise ValueError(f"weights: expected at most {MOST_WEIGHTS}; got {math.prod(self.weight_shape or ())}")
        return self


def _chw(kind: Kind, features: int | None, shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """(features, 1, 1) for fc, else the shape; `Layer._complete` has seen to it that what the kind needs is there."""
    if kind == "fc":
        assert features is not None
        return features, 1, 1
    assert shape is not None
    return shape


def _some_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"expected 1 to {MOST_LAYERS} layers; got {len(layers)}")
    return layers


class Input(Frozen):
    """What the network reads: spikes, analog values, or counts, which are integers from 0 to `most`."""

    kind: Literal["spikes", "analog", "counts"]
    most: Annotated[int, Field(strict=True, ge=2, le=65535)] | None = None

    @model_validator(mode="after")
    def _counted(self) -> Input:
        if (self.kind == "counts") != (self.most is not None):
            wanted = "the largest count" if self.kind == "counts" else f"nothing for {self.kind}"
            raise ValueError(f"most: expected {wanted}; got {'nothing' if self.most is None else self.most}")
        return self


class TraceMeta(Frozen):
    """The `meta` member of a trace: what was run, over how many timesteps and samples, and where it came from.

    timesteps: T; batch: N, samples of the sub-batch; phases: ('forward',), with 'backward', or all three of a training
    step; source: how the trace was made ('kind': training, inference or synthetic, and what that kind says of itself).
    input: what kind of network input there is (version 2); None: analog if an encode layer reads it, else spikes.
    input_gradient: the backward pass goes on to the network input, as crafting noise asks.
    """

    format: Literal["h2sim-trace"]
    version: Annotated[int, Field(strict=True)]
    network: Line
    dataset: Line
    timesteps: Dim
    batch: Dim
    phases: tuple[Phase, ...]
    neuron: Neuron
    source: dict[str, Any]
    input: Input | None = None
    input_gradient: Flag = False
    layers: Annotated[tuple[Layer, ...], AfterValidator(_some_layers)]

    def layer(self, name: str) -> Layer:
        """The layer of that name. Raises TraceError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise TraceError(f"layer {name!r}: no such layer; layers: {', '.join(layer.name for layer in self.layers)}")

    def conv_shape(self, layer: Layer) -> ConvShape:
        """Geometry of a conv, encode or pool layer over this sub-batch."""
        assert layer.kernel is not None
        assert layer.stride is not None
        assert layer.padding is not None
        samples = self.timesteps, self.batch
        return ConvShape.of(
            samples, layer.in_chw, layer.out_chw, layer.kernel, layer.stride, layer.padding, layer.groups
        )

    def fc_shape(self, layer: Layer) -> FcShape:
        """Geometry of an fc layer over this sub-batch."""
        return FcShape(self.timesteps, self.batch, layer.in_chw[0], layer.out_chw[0])

    @property
    def under_mean(self) -> frozenset[str]:
        """Maps between neurons and a mean over time: a gate among them has one mask for all timesteps of a sample."""
        layers, found = {layer.name: layer for layer in self.layers}, set()
        waiting = [name for layer in self.layers if layer.mean_over_time for name in layer.inputs]
        while waiting:
            name = waiting.pop()
            if name in layers and layers[name].is_map and name not in found:
                found.add(name)
                waiting += layers[name].inputs
        return frozenset(found)

    @property
    def norm_unsaid(self) -> bool:
        """Whether the recorded network had batch norm of which the layers say nothing, as in version 1."""
        return bool(self.source.get("batch_norm")) and not any(layer.norm for layer in self.layers)

    @property
    def analog(self) -> bool:
        """Whether the network input is analog."""
        return self.input_kind == "analog"

    @property
    def input_kind(self) -> Literal["spikes", "analog", "counts"]:
        """The kind of the network input; where nothing is said, it is analog if an encode layer reads it."""
        if self.input:
            return self.input.kind
        return "analog" if any(layer.kind == "encode" for layer in self.layers) else "spikes"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the network input; (features, 1, 1) if only fc layers read it."""
        readers = [layer for layer in self.layers if "input" in layer.inputs]
        shaped = [layer for layer in readers if layer.kind != "fc"]
        return (shaped or readers)[0].in_chw

    def __repr__(self) -> str:
        return f"TraceMeta({self.described})"

    __str__ = __repr__

    @property
    def described(self) -> str:
        """`mnist-small on mnist, T=10, batch 4, 7 layers`."""
        of = f"{self.network} on {self.dataset}" if self.dataset else self.network
        return f"{of}, T={self.timesteps}, batch {self.batch}, {len(self.layers)} layers"
