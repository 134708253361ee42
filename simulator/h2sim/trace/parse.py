"""Metadata from plain data, checked whole: every fault of a file is reported at once, one line each."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from pydantic import ValidationError

from h2sim.activity import PHASES
from h2sim.errors import TraceError, at
from h2sim.io.faults import describe
from h2sim.trace.model import FORMAT, MOST_BITS, VERSION, Layer, Neuron, TraceMeta

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
    faults = [f"{where}: {fault}" for fault in (*_source_faults(meta), *_graph_faults(meta))]
    if faults:
        refuse(faults)
    return meta


def _version_faults(data: dict[str, Any], where: str) -> list[str]:
    """Another format or version is reported alone: its other fields mean something else."""
    if data.get("format") != FORMAT:
        return [at(where, "format", repr(FORMAT), _brief(data.get("format")))]
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        return [at(where, "version", f"{VERSION}, the only one this h2sim reads", _brief(version))]
    return []


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


def _graph_faults(meta: TraceMeta) -> list[str]:
    """Names, shapes that chain, binary inputs where an engine needs them."""
    faults: list[str] = []
    earlier: dict[str, Layer] = {}
    for layer in meta.layers:
        if layer.name in earlier:
            faults.append(f"layers: expected a name of its own for each layer; got {layer.name!r} twice")
        faults += [f"layers.{layer.name}: {fault}" for fault in _layer_faults(layer, earlier, meta)]
        earlier[layer.name] = layer
    readers = [layer for layer in meta.layers if "input" in layer.inputs]
    if not readers:
        return [*faults, "layers: expected one that reads 'input'; got none"]
    for layer in readers:
        found, wanted = layer.in_chw, meta.input_shape
        if math.prod(found) != math.prod(wanted) if layer.kind == "fc" else found != wanted:
            faults.append(
                f"layers.{layer.name}: reads 'input': expected {list(wanted)} as its other readers; got {list(found)}"
            )
    return faults


def _layer_faults(layer: Layer, earlier: dict[str, Layer], meta: TraceMeta) -> list[str]:
    unknown = [name for name in layer.inputs if name != "input" and name not in earlier]
    if unknown:
        return [f"inputs: expected earlier layers or 'input'; got {_brief(unknown)}"]
    if layer.kind == "add" and len(layer.inputs) < 2:
        return [f"inputs: expected two or more for kind 'add'; got {len(layer.inputs)}"]
    if layer.kind != "add" and len(layer.inputs) != 1:
        return [f"inputs: expected one for kind {layer.kind!r}; got {len(layer.inputs)}"]
    faults = _binary_faults(layer, earlier, meta)
    for name in layer.inputs:
        if name in earlier:
            faults += _chain_faults(layer, earlier[name])
    if layer.kind in ("conv", "encode", "pool"):
        faults += _window_faults(layer)
    if layer.kind == "add" and layer.in_shape != layer.out_shape:
        faults.append(f"out_shape: expected {list(layer.in_chw)} as in_shape; got {list(layer.out_chw)}")
    return faults


def _binary_faults(layer: Layer, earlier: dict[str, Layer], meta: TraceMeta) -> list[str]:
    """An encode layer reads the analog input and nothing else does; weights and pools read spikes.

    A pool may also average currents: a network that pools before it fires is a non-spiking conv and a pool.
    """
    if layer.kind == "encode" and "input" not in layer.inputs:
        return [f"inputs: expected 'input', the analog one, for kind 'encode'; got {list(layer.inputs)}"]
    if layer.kind != "encode" and "input" in layer.inputs and meta.analog:
        return [f"inputs: expected spikes for kind {layer.kind!r}; got 'input', analog as an encode layer reads it"]
    currents = [name for name in layer.inputs if name in earlier and not earlier[name].spiking]
    if currents and layer.kind in ("conv", "fc"):
        return [f"inputs: expected spikes for kind {layer.kind!r}; got currents, not binary, of {currents[0]!r}"]
    if layer.kind == "pool" and not layer.spiking:
        return ["spiking: expected true for kind 'pool': an average that goes on without LIF is not binary; got False"]
    return []


def _chain_faults(layer: Layer, before: Layer) -> list[str]:
    if layer.kind == "fc":
        if layer.in_features != before.neurons:
            return [f"in_features: expected {before.neurons}, the neurons of {before.name!r}; got {layer.in_features}"]
    elif layer.in_chw != before.out_chw:
        return [f"in_shape: expected {list(before.out_chw)}, the output of {before.name!r}; got {list(layer.in_chw)}"]
    return []


def _window_faults(layer: Layer) -> list[str]:
    """Output size by floor((H + 2p - k) / s) + 1; a pool keeps its channels."""
    assert layer.kernel is not None
    assert layer.stride is not None
    assert layer.padding is not None
    (channels, *size), (out_channels, *out) = layer.in_chw, layer.out_chw
    padded = [n + 2 * p for n, p in zip(size, layer.padding, strict=True)]
    if any(n < k for n, k in zip(padded, layer.kernel, strict=True)):
        return [f"kernel: expected at most the padded input, {padded}; got {list(layer.kernel)}"]
    fit = [(n - k) // s + 1 for n, k, s in zip(padded, layer.kernel, layer.stride, strict=True)]
    wanted = [channels if layer.kind == "pool" else out_channels, *fit]
    if [out_channels, *out] != wanted:
        return [f"out_shape: expected {wanted} by in_shape, kernel, stride and padding; got {[out_channels, *out]}"]
    return []
