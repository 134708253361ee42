"""The metadata of a trace: the network, its neurons, where the masks came from. Checked whole, all faults at once."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from h2sim.errors import TraceError
from h2sim.faults import describe
from h2sim.shapes import ConvShape, FcShape

FORMAT, VERSION = "h2sim-trace", 1
MOST_NEURONS = 1 << 28
MOST_BITS = 1 << 36

Dim = Annotated[int, Field(strict=True, ge=1, le=65536)]
Chw = tuple[Dim, Dim, Dim]
Pair = tuple[Dim, Dim]
Padding = Annotated[int, Field(strict=True, ge=0, le=65536)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Kind = Literal["encode", "conv", "fc", "pool", "add"]
Phase = Literal["forward", "backward", "weight_update"]
Feature = Annotated[int, Field(strict=True, ge=1, le=MOST_NEURONS)]


class _Frozen(BaseModel):
    """Unknown keys are allowed: later writers add some, and a version-1 reader ignores them."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Neuron(_Frozen):
    """LIF parameters (eq. 2.1-2.6); surrogate_scale is eta, None for a surrogate of another shape."""

    threshold: Finite
    decay: Finite
    window: tuple[Finite, Finite]
    surrogate_scale: Finite | None = None
    reset: Literal["zero", "subtract", "none"] = "zero"
    detach_reset: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Neuron:
        if self.window[0] >= self.window[1]:
            raise ValueError(f"window: expected low < high; got {list(self.window)}")
        return self


class Layer(_Frozen):
    """One layer; conv, encode and pool carry shapes, fc features, add shapes. Layers stand in execution order."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/\\\x00-\x1f]+$")]
    kind: Kind
    inputs: tuple[str, ...]
    in_shape: Chw | None = None
    out_shape: Chw | None = None
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: tuple[Padding, Padding] | None = None
    in_features: Feature | None = None
    out_features: Feature | None = None
    spiking: bool = True
    neuron: Neuron

    @property
    def out_chw(self) -> tuple[int, int, int]:
        """Output neurons as (C, H, W); (features, 1, 1) for fc."""
        return (self.out_features, 1, 1) if self.kind == "fc" else self.out_shape  # type: ignore[return-value]

    @property
    def neurons(self) -> int:
        """Output neurons of one sample and timestep."""
        return math.prod(self.out_chw)

    @model_validator(mode="after")
    def _complete(self) -> Layer:
        needed = {
            "fc": ("in_features", "out_features"),
            "add": ("in_shape", "out_shape"),
        }.get(self.kind, ("in_shape", "out_shape", "kernel", "stride", "padding"))
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)}: expected for kind {self.kind!r}; got nothing")
        if self.neurons > MOST_NEURONS:
            raise ValueError(f"expected at most {MOST_NEURONS} neurons; got {self.neurons}")
        return self


class TraceMeta(_Frozen):
    """The `meta` member."""

    format: Literal["h2sim-trace"]
    version: Annotated[int, Field(strict=True, ge=1, le=1)]
    network: str
    dataset: str
    timesteps: Dim
    batch: Dim
    phases: tuple[Phase, ...]
    neuron: Neuron
    source: dict[str, Any]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]

    def layer(self, name: str) -> Layer:
        """The layer of that name; KeyError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def conv_shape(self, layer: Layer) -> ConvShape:
        """Geometry of a conv, encode or pool layer over this sub-batch."""
        assert layer.in_shape and layer.out_shape and layer.kernel and layer.stride and layer.padding is not None
        return ConvShape(
            self.timesteps, self.batch, *layer.in_shape, *layer.out_shape, layer.kernel, layer.stride, layer.padding
        )

    def fc_shape(self, layer: Layer) -> FcShape:
        """Geometry of an fc layer over this sub-batch."""
        assert layer.in_features and layer.out_features
        return FcShape(self.timesteps, self.batch, layer.in_features, layer.out_features)

    @property
    def analog(self) -> bool:
        """Whether the network input is analog (an encode layer reads it)."""
        return any(layer.kind == "encode" for layer in self.layers)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the network input; (features, 1, 1) under an fc layer."""
        for layer in self.layers:
            if "input" in layer.inputs:
                return layer.in_shape if layer.in_shape else (layer.in_features, 1, 1)  # type: ignore[return-value]
        raise TraceError("meta: layers: expected one that reads 'input'; got none")


def parse_meta(data: object, where: str) -> TraceMeta:
    """Checked metadata; every fault is one line `where: meta.field: expected ...; got ...` of a TraceError."""
    if not isinstance(data, dict):
        raise TraceError(f"{where}: meta: expected a JSON object; got {type(data).__name__}")
    data = _with_neurons(data)
    try:
        meta = TraceMeta.model_validate(data)
    except ValidationError as error:
        raise TraceError("\n".join(describe(error, TraceMeta, f"{where}: meta"))) from None
    faults = _source_faults(meta) + _graph_faults(meta)
    if faults:
        raise TraceError("\n".join(f"{where}: meta: {fault}" for fault in faults))
    return meta


def _with_neurons(data: dict[str, Any]) -> dict[str, Any]:
    """The same data with the network's neuron parameters filled in where a layer does not override them."""
    shared, layers = data.get("neuron"), data.get("layers")
    if not isinstance(shared, dict) or not isinstance(layers, list):
        return data
    filled = []
    for layer in layers:
        own = layer.get("neuron", {}) if isinstance(layer, dict) else None
        filled.append({**layer, "neuron": {**shared, **own}} if isinstance(own, dict) else layer)
    return {**data, "layers": filled}


def _source_faults(meta: TraceMeta) -> list[str]:
    faults = []
    kind = meta.source.get("kind")
    if kind not in ("training", "inference", "synthetic"):
        faults.append(f"source.kind: expected 'training', 'inference' or 'synthetic'; got {kind!r}")
    phases = meta.phases
    if "forward" not in phases or len(set(phases)) != len(phases):
        faults.append(f"phases: expected distinct phases with 'forward' among them; got {list(phases)}")
    if "weight_update" in phases and "backward" not in phases:
        faults.append(f"phases: expected 'backward' with 'weight_update'; got {list(phases)}")
    bits = meta.timesteps * meta.batch * max(layer.neurons for layer in meta.layers)
    if bits > MOST_BITS:
        faults.append(f"timesteps x batch x neurons: expected at most {MOST_BITS}; got {bits}")
    return faults


def _graph_faults(meta: TraceMeta) -> list[str]:
    """Names, shapes that chain, binary inputs where an engine needs them."""
    faults: list[str] = []
    earlier: dict[str, Layer] = {}
    inputs: set[tuple[int, ...]] = set()
    for layer in meta.layers:
        if layer.name in earlier or layer.name in ("input", "meta"):
            faults.append(f"layers.{layer.name}: expected a name of its own; got one that is taken")
        faults += [f"layers.{layer.name}: {fault}" for fault in _layer_faults(layer, earlier, meta)]
        if "input" in layer.inputs:
            inputs.add((layer.in_features,) if layer.kind == "fc" else layer.in_shape)  # type: ignore[arg-type]
        earlier[layer.name] = layer
    if not inputs:
        faults.append("layers: expected one that reads 'input'; got none")
    if len(inputs) > 1:
        faults.append(f"layers: expected all readers of 'input' to agree on its shape; got {sorted(map(str, inputs))}")
    return faults


def _layer_faults(layer: Layer, earlier: dict[str, Layer], meta: TraceMeta) -> list[str]:
    unknown = [name for name in layer.inputs if name != "input" and name not in earlier]
    if unknown:
        return [f"inputs: expected earlier layers or 'input'; got {unknown}"]
    wanted = "two or more" if layer.kind == "add" else "one"
    if (len(layer.inputs) < 2) if layer.kind == "add" else (len(layer.inputs) != 1):
        return [f"inputs: expected {wanted}; got {len(layer.inputs)}"]
    faults = _input_kind_faults(layer, earlier, meta)
    for name in layer.inputs:
        if name in earlier:
            faults += _chain_faults(layer, earlier[name])
    if layer.kind in ("conv", "encode", "pool"):
        faults += _output_faults(layer)
    if layer.kind == "add" and layer.in_shape != layer.out_shape:
        faults.append(f"out_shape: expected {list(layer.in_shape or ())}; got {list(layer.out_shape or ())}")
    return faults


def _input_kind_faults(layer: Layer, earlier: dict[str, Layer], meta: TraceMeta) -> list[str]:
    if (layer.kind == "encode") != ("input" in layer.inputs and meta.analog):
        expected = "the analog 'input'" if layer.kind == "encode" else "spikes"
        got = list(layer.inputs) if layer.kind == "encode" else "the analog network input"
        return [f"inputs: kind {layer.kind!r} reads {expected}; got {got}"]
    analog = [name for name in layer.inputs if name in earlier and not earlier[name].spiking]
    if analog and layer.kind in ("conv", "fc"):
        return [f"inputs: kind {layer.kind!r} reads spikes; got {analog}, which do not spike (currents are not binary)"]
    if layer.kind == "pool" and not layer.spiking:
        return ["spiking: expected true: averaged spikes that go on without LIF are not binary; got false"]
    return []


def _chain_faults(layer: Layer, before: Layer) -> list[str]:
    if layer.kind == "fc":
        if layer.in_features != before.neurons:
            return [f"in_features: expected {before.neurons}, the neurons of {before.name!r}; got {layer.in_features}"]
    elif tuple(layer.in_shape or ()) != before.out_chw:
        return [f"in_shape: expected {list(before.out_chw)}, the output of {before.name!r}; got {list(layer.in_shape or ())}"]
    return []


def _output_faults(layer: Layer) -> list[str]:
    (channels, *size), (out_channels, *out) = layer.in_shape, layer.out_shape  # type: ignore[misc]
    expected = [
        (i + 2 * p - k) // s + 1
        for i, k, s, p in zip(size, layer.kernel, layer.stride, layer.padding, strict=True)  # type: ignore[arg-type]
    ]
    if out != expected or min(expected) < 1:
        return [f"out_shape: expected {[out_channels, *expected]} by kernel, stride and padding; got {[out_channels, *out]}"]
    if layer.kind == "pool" and out_channels != channels:
        return [f"out_shape: expected {channels} channels, as many as in_shape; got {out_channels}"]
    return []
