"""Networks without data: the source's notation and YAML files, turned into a trace's list of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from h2sim.errors import NetworkError, TraceError, at
from h2sim.io import library
from h2sim.io.faults import describe
from h2sim.io.strict import Line, Strict
from h2sim.io.yamlfile import read_mapping
from h2sim.trace.model import FORMAT, Chw, Dim, Finite, TraceMeta
from h2sim.trace.parse import parse_meta, version_of

_CONV = re.compile(r"(?P<out>\d{1,5})C(?P<kernel>\d{1,5})(?:S(?P<stride>\d{1,5}))?(?P<encode>\(Encoding\))?")
_POOL = re.compile(r"AP(?P<kernel>\d{1,5})")
_FC = re.compile(r"(?P<out>\d{1,8})FC")
MOST_CLASSES = 1 << 20
_NOTATION = re.compile(r"\d+(C|FC)[0-9A-Za-z()\-]*")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network without data: its input, its timesteps, and its layers in execution order.

    input_shape: (C, H, W). layers: the entries that a trace of it has under `layers`.
    source: where it is published. neuron: the neuron's parameters that the source gives, named as a trace's `neuron`
    (threshold, decay, window, surrogate_scale); None where it gives none.
    """

    name: str
    input_shape: tuple[int, int, int]
    input_kind: Literal["spikes", "analog"]
    timesteps: int
    layers: tuple[dict[str, Any], ...]
    source: str = ""
    neuron: dict[str, Any] | None = None

    def __repr__(self) -> str:
        takes = f"{self.input_kind} {self.input_shape}, T={self.timesteps}"
        return f"Network({self.name!r}: {len(self.layers)} layers, {takes})"


class _Input(Strict):
    shape: Chw
    kind: Literal["spikes", "analog"]


class _NeuronFields(Strict):
    """The parameters that a source gives of its neuron, named as in a trace's `neuron` entry."""

    threshold: Finite | None = None
    decay: Finite | None = None
    window: tuple[Finite, Finite] | None = None
    surrogate_scale: Finite | None = None
    fires_at: Literal["greater_equal", "greater"] | None = None


class _File(Strict):
    """A network file. Its layers are a notation (`32C3-AP2-10FC`) or a list of a trace's layer entries."""

    name: Line
    source: str = ""
    input: _Input
    timesteps: Dim
    neuron: _NeuronFields | None = None
    layers: str | Annotated[list[dict[str, Any]], Field(min_length=1)]


def load_network(
    name_or_path: str, input_shape: tuple[int, int, int] | None = None, classes: int | None = None
) -> Network:
    """A shipped network by name, a network file, or the notation itself (`32C3-AP2-10FC`) with an input shape.

    For another data set, `input_shape` (C, H, W) replaces the input shape of a file and `classes` the number of
    features of the last layer. Raises NetworkError, which names the file or the part that is wrong.
    """
    network = _load(name_or_path, input_shape)
    return network if classes is None else replace(network, layers=_with_classes(network, classes))


def _with_classes(network: Network, classes: int) -> tuple[dict[str, Any], ...]:
    if type(classes) is not int or not 1 <= classes <= MOST_CLASSES:
        raise NetworkError(at(network.name, "classes", f"an integer from 1 to {MOST_CLASSES}", repr(classes)))
    last = network.layers[-1]
    if last["kind"] != "fc":
        raise NetworkError(at(network.name, "last layer", "kind 'fc', to give it other classes", repr(last["kind"])))
    return (*network.layers[:-1], {**last, "out_features": classes})


def _load(name_or_path: str, input_shape: tuple[int, int, int] | None) -> Network:
    path = _file(name_or_path)
    if path:
        return _from_file(path, input_shape)
    if not _NOTATION.fullmatch(name_or_path):
        known = ", ".join(library.names("network"))
        shown = name_or_path if len(name_or_path) <= 200 else f"{name_or_path[:200]}..."
        raise NetworkError(f"{shown}: no such network; shipped: {known}; or a notation such as 32C3-AP2-10FC")
    if input_shape is None:
        raise NetworkError(at(name_or_path, "input shape", "C,H,W beside a notation", "nothing"))
    layers = parse_notation(name_or_path, input_shape)
    kind: Literal["spikes", "analog"] = "analog" if layers[0]["kind"] == "encode" else "spikes"
    check_layers(layers, name_or_path)
    return Network(
        name=name_or_path, input_shape=_three(input_shape), input_kind=kind, timesteps=10, layers=tuple(layers)
    )


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    channels, height, width = shape
    return channels, height, width


def _file(name_or_path: str) -> Path | None:
    try:
        path = library.find("network", name_or_path)
        return path if path.is_file() else None
    except OSError:  # a long notation is no file name
        return None


def _from_file(path: Path, input_shape: tuple[int, int, int] | None) -> Network:
    data, _ = read_mapping("network", path, NetworkError)
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise NetworkError(*describe(error, _File, str(path))) from None
    shape, where = input_shape or file.input.shape, str(path)
    layers = parse_notation(file.layers, shape, where) if isinstance(file.layers, str) else file.layers
    meta = check_layers(layers, where)
    if meta.analog != (file.input.kind == "analog"):
        wanted = "analog (an encode layer reads it)" if meta.analog else "spikes (no encode layer reads it)"
        raise NetworkError(at(where, "input.kind", wanted, file.input.kind))
    flat = meta.input_shape[1:] == (1, 1)  # fc layers read the input flattened
    if math.prod(meta.input_shape) != math.prod(shape) if flat else meta.input_shape != tuple(shape):
        raise NetworkError(at(where, "input.shape", f"{list(meta.input_shape)} by the layers", list(shape)))
    neuron = file.neuron.model_dump(exclude_none=True) if file.neuron else None
    return Network(
        name=file.name,
        input_shape=_three(shape),
        input_kind=file.input.kind,
        timesteps=file.timesteps,
        layers=tuple(layers),
        source=file.source,
        neuron=neuron,
    )


def check_layers(layers: list[dict[str, Any]], where: str) -> TraceMeta:
    """Metadata of a trace that has these layers (one timestep, one sample, forward only), checked.

    Raises NetworkError with a line per fault; each names `where`.
    """
    meta = {
        "format": FORMAT,
        "version": version_of({"layers": layers}),
        "network": "",
        "dataset": "",
        "timesteps": 1,
        "batch": 1,
        "phases": ["forward"],
        "neuron": {"threshold": 1.0, "decay": 0.0, "window": [0.0, 1.0]},
        "source": {"kind": "synthetic"},
        "layers": layers,
    }
    try:
        return parse_meta(meta, where)
    except TraceError as error:
        raise NetworkError(*(line.replace(f"{where}: meta: ", f"{where}: ") for line in error.args)) from None


def parse_notation(notation: str, input_shape: tuple[int, int, int], where: str | None = None) -> list[dict[str, Any]]:
    """The layer entries of a notation such as `64C3S2(Encoding)-128C3-AP2-512FC-10FC`.

    64C3S2: convolution to 64 channels, kernel 3 x 3, padding 3 // 2, stride 2 (1 where S is left out); (Encoding): it
    reads an analog input; AP2: average pool of 2 x 2; 512FC: fully connected to 512 features. The first FC flattens
    (C, H, W). Layers are named conv1, conv2, ..., pool1, ..., fc1, ...

    input_shape: (C, H, W). Raises NetworkError, which names `where` (by default the notation) and the wrong part.
    """
    where = where or notation
    try:
        TypeAdapter(Chw).validate_python(input_shape)
    except ValidationError:
        wanted = "three positive integers C,H,W up to 65536"
        raise NetworkError(at(where, "input shape", wanted, repr(input_shape)[:60])) from None
    layers: list[dict[str, Any]] = []
    shape, counts, before = tuple(input_shape), {"conv": 0, "pool": 0, "fc": 0}, "input"
    for part in notation.split("-"):
        layer = _layer(where, part, shape, before, counts)
        layers.append(layer)
        before = layer["name"]
        shape = tuple(layer["out_shape"]) if "out_shape" in layer else (layer["out_features"], 1, 1)
        if min(shape) < 1:
            raise NetworkError(at(where, part, "at least one position left", list(shape)))
    return layers


def _layer(where: str, part: str, shape: tuple[int, ...], before: str, counts: dict[str, int]) -> dict[str, Any]:
    conv, pool, fc = _CONV.fullmatch(part), _POOL.fullmatch(part), _FC.fullmatch(part)
    family = "conv" if conv else "pool" if pool else "fc"
    counts[family] += 1
    head = {"name": f"{family}{counts[family]}", "inputs": [before]}
    if fc:
        return {**head, "kind": "fc", "in_features": math.prod(shape), "out_features": int(fc["out"])}
    if conv:
        kernel, stride = int(conv["kernel"]), int(conv["stride"] or 1)
        padding, channels, kind = kernel // 2, int(conv["out"]), "encode" if conv["encode"] else "conv"
    elif pool:
        kernel = stride = int(pool["kernel"])
        padding, channels, kind = 0, shape[0], "pool"
    else:
        wanted = "such as 64C3, 64C3S2, 64C3(Encoding), AP2 or 512FC"
        raise NetworkError(at(where, "layer", wanted, repr(part[:50])))
    if min(kernel, stride) < 1:
        raise NetworkError(at(where, part, "a kernel and stride of at least 1", f"{kernel} and {stride}"))
    if kind == "encode" and before != "input":
        raise NetworkError(at(where, part, "(Encoding) on the first layer only", f"it after {before}"))
    out = [(size + 2 * padding - kernel) // stride + 1 for size in shape[1:]]
    return {
        **head, "kind": kind, "in_shape": list(shape), "out_shape": [channels, *out], "kernel": [kernel] * 2,
        "stride": [stride] * 2, "padding": [padding] * 2,
    }  # fmt: skip
