"""Metadata from plain data, checked whole: every fault of a file is reported at once, one line each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from h2sim.activity import PHASES
from h2sim.errors import TraceError, at, printable
from h2sim.io.faults import describe
from h2sim.trace.chains import graph_faults
from h2sim.trace.model import FORMAT, KEYS_OF_2, KINDS_OF_2, MOST_BITS, NEWEST, VERSION, Layer, Neuron, TraceMeta
from h2sim.trace.operands import operand_faults

KINDS = "'encode', 'conv', 'fc', 'pool' or 'add'"  # of the first version
_ANY_NEURON = {"threshold": 1.0, "decay": 0.0, "window": [0.0, 1.0]}


def refuse(faults: list[str]) -> NoReturn:
    """Raises a TraceError with one line per fault."""
    raise TraceError(*faults)


def parse_meta(data: object, where: str) -> TraceMeta:
    """Checked metadata from plain data.

    Raises TraceError with one line per fault: `where: meta: field: expected ...; got ...`.
    """
    where = f"{where}: meta"
    if not isinstance(data, dict):
        raise TraceError(f"{where}: expected a JSON object; got {type(data).__name__}")
    faults = _version_faults(data, where)
    if faults:
        refuse(faults)
    try:
        meta = TraceMeta.model_validate(_with_neurons(data))
    except ValidationError as error:
        refuse(describe(error, TraceMeta, where))
    faults = [f"{where}: {fault}" for fault in (*_source_faults(meta), *graph_faults(meta))]
    faults = faults or [f"{where}: {fault}" for fault in operand_faults(meta)]
    if faults:
        refuse(faults)
    return meta


def _version_faults(data: dict[str, Any], where: str) -> list[str]:
    """Another format or version is reported alone: its other fields mean something else."""
    if data.get("format") != FORMAT:
        return [at(where, "format", repr(FORMAT), _brief(data.get("format")))]
    version = data.get("version")
    if type(version) is not int or version not in (VERSION, NEWEST):
        return [at(where, "version", f"{VERSION} or {NEWEST}, which this h2sim reads", _brief(version))]
    return _of_newest(data, where) if version == VERSION else _unknown_keys(data, where)


def version_of(data: Mapping[str, Any]) -> int:
    """The version of the format that metadata need: the first, unless they use anything that only the newest has."""
    silent = {"input"} if "input" in data else set()
    for _, layer in _layers(data):
        kind = layer.get("kind")
        reads = silent.intersection(map(str, layer.get("inputs") or ()))
        if kind in KINDS_OF_2 or KEYS_OF_2.keys() & layer or (reads and kind in ("conv", "fc")):
            return NEWEST
        if layer.get("spiking", True) is False:
            silent.add(str(layer.get("name")))
            if kind == "pool":
                return NEWEST
    return NEWEST if "input" in data else VERSION


def _of_newest(data: Mapping[str, Any], where: str) -> list[str]:
    """What a file of the first version uses that only the newest has: without it, it would mean something else.

    A key at its default, as a dump of the metadata has it, says no more than the first version means.
    """
    wanted = f"a file of version {NEWEST}, which knows it"
    faults = [at(where, "input", wanted, VERSION)] if data.get("input") is not None else []
    for number, (name, layer) in enumerate(_layers(data)):
        kind = layer.get("kind")
        if kind in KINDS_OF_2:
            faults.append(at(where, f"layers.{number}.kind", KINDS, repr(kind)))
        else:
            faults += [
                at(where, f"layers.{name}.{key}", wanted, VERSION)
                for key in layer
                if key in KEYS_OF_2 and layer[key] not in _silent(key)
            ]
    return faults


def _silent(key: str) -> tuple[Any, ...]:
    """The default of a layer's field, and as JSON has it."""
    return Layer.model_fields[key].default, {"scale": [1, 1], "norm": []}.get(key)


def _unknown_keys(data: Mapping[str, Any], where: str) -> list[str]:
    faults = []
    for name, layer in _layers(data):
        faults += [at(where, f"layers.{name}.{key}", f"a field of version {NEWEST}", "none of that name")
                   for key in layer if key not in Layer.model_fields]  # fmt: skip
        faults += [at(where, f"layers.{name}.{key}", f"a layer of kind {' or '.join(kinds)}", _brief(layer.get("kind")))
                   for key, kinds in KEYS_OF_2.items() if key in layer and layer.get("kind") not in kinds]  # fmt: skip
    return faults


def _layers(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The layers that are mappings, each with the name by which it is told, its number where it has none."""
    layers = data.get("layers")
    for number, layer in enumerate(layers if isinstance(layers, list) else ()):
        if isinstance(layer, dict):
            name = layer.get("name")
            yield (printable(name)[:200] if isinstance(name, str) else str(number)), layer


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _with_neurons(data: dict[str, Any]) -> dict[str, Any]:
    """The same data with the network's neuron parameters filled in where a layer does not override them.

    Wrong shared parameters are left out here, so that they are reported once and not by every layer.
    """
    shared: Any = data.get("neuron")
    layers = data.get("layers")
    if not isinstance(layers, list):
        return data
    try:
        Neuron.model_validate(shared)
    except ValidationError:
        shared = _ANY_NEURON
    filled = []
    for layer in layers:
        own = layer.get("neuron", {}) if isinstance(layer, dict) else None
        filled.append({**layer, "neuron": {**shared, **own}} if isinstance(own, dict) else layer)
    return {**data, "layers": filled}


def _source_faults(meta: TraceMeta) -> list[str]:
    faults = []
    kind = meta.source.get("kind")
    if kind not in ("training", "inference", "synthetic"):
        faults.append(f"source.kind: expected 'training', 'inference' or 'synthetic'; got {_brief(kind)}")
    if meta.phases not in (PHASES[:1], PHASES[:2], PHASES):
        faults.append(
            f"phases: expected 'forward', then 'backward' if wanted, then 'weight_update'; got {list(meta.phases)}"
        )
    neurons = max(max(layer.neurons, math.prod(layer.in_chw)) for layer in meta.layers)
    bits = meta.timesteps * meta.batch * neurons
    if bits > MOST_BITS:
        faults.append(f"timesteps x batch x neurons: expected at most {MOST_BITS} bits a mask; got {bits}")
    return faults
