"""Networks without data: shipped ones, YAML files and the notation, with a trace's list of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from h2sim.errors import NetworkError, TraceError, at
from h2sim.io import library
from h2sim.io.faults import describe
from h2sim.io.strict import Line, Strict
from h2sim.io.yamlfile import read_mapping
from h2sim.trace.model import FORMAT, Chw, Dim, Finite, TraceMeta
from h2sim.trace.notation import is_notation, parse_notation
from h2sim.trace.parse import parse_meta, version_of

MOST_CLASSES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network without data: its input, its timesteps, and its layers in execution order.

    input_shape: (C, H, W). layers: the entries that a trace of it has under `layers`.
    source: where it is published. neuron: the neuron's parameters that the source gives, named as a trace's `neuron`
    (threshold, decay, window, surrogate_scale); None where it gives none. input_most: the largest count of an input of
    counts.
    """

    name: str
    input_shape: tuple[int, int, int]
    input_kind: Literal["spikes", "analog", "counts"]
    timesteps: int
    layers: tuple[dict[str, Any], ...]
    source: str = ""
    neuron: dict[str, Any] | None = None
    input_most: int | None = None

    @property
    def input_entry(self) -> dict[str, Any] | None:
        """What metadata of version 2 have under `input`; None where the layers say it: an encode layer reads it, or
        spikes go in."""
        return input_entry(list(self.layers), self.input_kind, self.input_most)

    def __repr__(self) -> str:
        takes = f"{self.input_kind} {self.input_shape}, T={self.timesteps}"
        return f"Network({self.name!r}: {len(self.layers)} layers, {takes})"


class _Input(Strict):
    shape: Chw
    kind: Literal["spikes", "analog", "counts"]
    most: Annotated[int, Field(strict=True, ge=2, le=65535)] | None = None


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

    >>> load_network("mnist-small").name
    'mnist-small'
    >>> len(load_network("32C3-AP2-10FC", (1, 28, 28)).layers)
    3
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
    if not is_notation(name_or_path):
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
    kinds = _readers(layers)
    if "encode" in kinds and file.input.kind != "analog":
        raise NetworkError(at(where, "input.kind", "analog (an encode layer reads it)", file.input.kind))
    if "conv" in kinds and file.input.kind == "analog":
        raise NetworkError(at(where, "input.kind", "spikes (no encode layer reads it)", "analog"))
    if (file.input.kind == "counts") != (file.input.most is not None):
        wanted = "the largest count" if file.input.kind == "counts" else f"nothing for {file.input.kind}"
        raise NetworkError(at(where, "input.most", wanted, "nothing" if file.input.most is None else file.input.most))
    meta = check_layers(layers, where, input_entry(layers, file.input.kind, file.input.most))
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
        input_most=file.input.most,
    )


def input_entry(layers: list[dict[str, Any]], kind: str, most: int | None) -> dict[str, Any] | None:
    """`input` of metadata, where layers alone do not say what goes in: counts, or analog values without encoding."""
    if kind == "counts":
        return {"kind": kind, "most": most}
    return {"kind": kind} if kind == "analog" and "encode" not in _readers(layers) else None


def _readers(layers: list[dict[str, Any]]) -> set[str]:
    """The kinds of the layers that read the network input; layers are not checked yet."""
    some = [layer for layer in layers if isinstance(layer, dict) and isinstance(layer.get("inputs"), list)]
    return {str(layer.get("kind")) for layer in some if "input" in layer["inputs"]}


def check_layers(layers: list[dict[str, Any]], where: str, entry: dict[str, Any] | None = None) -> TraceMeta:
    """Metadata of a trace that has these layers (one timestep, one sample, forward only), checked.

    entry: what metadata have under `input`, None where the layers say it (see Network.input_entry). Raises NetworkError
    with a line per fault; each names `where`.
    """
    given = {"layers": layers} if entry is None else {"input": entry, "layers": layers}
    meta = {
        "format": FORMAT,
        "version": version_of(given),
        "network": "",
        "dataset": "",
        "timesteps": 1,
        "batch": 1,
        "phases": ["forward"],
        "neuron": {"threshold": 1.0, "decay": 0.0, "window": [0.0, 1.0]},
        "source": {"kind": "synthetic"},
        **given,
    }
    try:
        return parse_meta(meta, where)
    except TraceError as error:
        raise NetworkError(*(line.replace(f"{where}: meta: ", f"{where}: ") for line in error.args)) from None
