"""A trace of version 1 as version 2: the same network, the same members, what was silent said."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

from h2sim.arrays import Array
from h2sim.errors import TraceError, at
from h2sim.trace.members import known_members
from h2sim.trace.model import FORMAT, NEWEST, VERSION
from h2sim.trace.parse import parse_meta
from h2sim.trace.read import Trace


def upgraded(trace: Trace) -> tuple[dict[str, Any], Iterator[tuple[str, Array]]]:
    """Metadata and members of version 2 that mean what `trace`, of version 1, means.

    The kind of the network input, which version 1 leaves to its encode layers, is said. Masks and values stay as they
    are: without a normalisation the gradient dL/dx of version 2 is the dm of version 1, and what `source` says of batch
    norm goes along. Raises TraceError for a trace of another version.
    """
    meta = trace.meta
    if meta.version != VERSION:
        raise TraceError(at(str(trace.path), "version", f"{VERSION}, to be written as {NEWEST}", meta.version))
    neuron = meta.neuron.model_dump(mode="json")
    layers = [layer.entry() for layer in meta.layers]
    data = {
        "format": FORMAT,
        "version": NEWEST,
        "network": meta.network,
        "dataset": meta.dataset,
        "timesteps": meta.timesteps,
        "batch": meta.batch,
        "phases": list(meta.phases),
        "neuron": neuron,
        "source": meta.source,
        "input": {"kind": meta.input_kind},
        "layers": [{key: each for key, each in entry.items() if (key, each) != ("neuron", neuron)} for entry in layers],
    }
    return data, ((name, trace.array(name)) for name in _kept(trace, data))


def left_out(trace: Trace, data: dict[str, Any]) -> list[str]:
    """Arrays of a trace's file that its upgraded form, with metadata `data`, is without: version 1 knows none of them.

    Or it is the gradient of a sum without neuron, which version 2 derives.
    """
    with zipfile.ZipFile(trace.path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    return sorted(names.difference(_kept(trace, data), ["meta"]))


def _kept(trace: Trace, data: dict[str, Any]) -> list[str]:
    known = {name for name, _ in known_members(parse_meta(data, str(trace.path)))}
    return [name for name in trace.members if name in known]
