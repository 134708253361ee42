"""A trace's network as neurons and synapses: which spiking layers stand on cores, and what feeds each.

Cores pass spikes, no currents. So a convolution (or fc layer) that does not spike and feeds an `add` layer becomes
synapses of the add layer's neurons; an add layer's spiking inputs are one synapse for each neuron; average pooling is a
spiking layer with its own synapses; an encode layer's current is injected by the host as bias [A].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from h2sim.errors import BaselineError, at
from h2sim.io.kept import cached_property
from h2sim.rivals.operands import unknown_operand
from h2sim.trace import Layer, TraceMeta

Chw = tuple[int, int, int]
INPUT = "input"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Synapses from one map (C, H, W) of neurons to another: a window over positions.

    depthwise: channel c feeds channel c only (pooling, identity), else every channel feeds every channel. dense: an fc
    layer, whose window is the whole source map.
    """

    source: str
    source_shape: Chw
    target_shape: Chw
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    depthwise: bool = False
    dense: bool = False

    @cached_property
    def rows(self) -> np.ndarray:
        """float64 (H_target, H_source), 1 where a source row lies in a target row's window."""
        return self._reach(0)

    @cached_property
    def columns(self) -> np.ndarray:
        """float64 (W_target, W_source), as rows."""
        return self._reach(1)

    def _reach(self, axis: int) -> np.ndarray:
        first = np.arange(self.target_shape[axis + 1])[:, None] * self.stride[axis] - self.padding[axis]
        place = np.arange(self.source_shape[axis + 1])[None, :]
        return ((place >= first) & (place < first + self.kernel[axis])).astype(np.float64)

    @cached_property
    def fan_in(self) -> np.ndarray:
        """int64 (positions,): synapses of one target neuron at each position; padding has none."""
        taps = np.outer(self.rows.sum(1), self.columns.sum(1)).astype(np.int64).reshape(-1)
        return taps if self.depthwise else taps * self.source_shape[0]

    @property
    def synapses(self) -> int:
        """All synapses of the connection."""
        return int(self.fan_in.sum()) * self.target_shape[0]

    def feeders(self, start: int, stop: int) -> np.ndarray:
        """bool (source positions,): those that feed a target position start <= p < stop, in raster order."""
        _, height, width = self.target_shape
        chosen = np.zeros(height * width)
        chosen[start:stop] = 1
        fed: np.ndarray = (self.rows.T @ chosen.reshape(height, width) @ self.columns).reshape(-1) > 0
        return fed

    def arrivals(self, spikes: np.ndarray) -> np.ndarray:
        """Synaptic operations of each target neuron from spikes uint8 (T, C, positions).

        int64 (T, C, positions) if depthwise, else (T, 1, positions): all target channels see the same number.
        """
        timesteps, channels, _ = spikes.shape
        maps = spikes if self.depthwise else spikes.sum(axis=1, keepdims=True, dtype=np.int64)
        maps = maps.reshape(timesteps, -1, *self.source_shape[1:]).astype(np.float64)
        sums: np.ndarray = self.rows @ maps @ self.columns.T
        return sums.astype(np.int64).reshape(timesteps, channels if self.depthwise else 1, -1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One layer of neurons on cores. depth: steps after the network input in which it does timestep 0 (one-step delay).

    driven: the host injects its current, so that every neuron is active in each of its timesteps; spiking: false for a
    read-out, which fires nothing; biased_by: the layers whose biases its neurons have.
    """

    layer: str
    kind: str
    shape: Chw
    depth: int
    driven: bool
    spiking: bool
    connections: tuple[Connection, ...]
    biased_by: tuple[str, ...] = ()

    @property
    def positions(self) -> int:
        return self.shape[1] * self.shape[2]

    @property
    def neurons(self) -> int:
        return self.shape[0] * self.positions

    @property
    def synapses(self) -> int:
        return sum(connection.synapses for connection in self.connections)


def wire(meta: TraceMeta, where: str) -> tuple[Stage, ...]:
    """The layers of a trace's network as stages, in execution order.

    Raises BaselineError, one line, for a current that goes on without spikes to anything but an add layer, and for what
    only version 2 of the format has.
    """
    for layer in meta.layers:
        if why := unknown_operand(meta, layer):
            raise BaselineError(at(where, f"layer {layer.name}", "neurons and weights", why))
    folded = _folded(meta)
    stages: dict[str, Stage] = {}
    for layer in meta.layers:
        if layer.name in folded:
            continue
        sources = [folded.get(name, layer) for name in layer.inputs]
        driven = any(source.kind == "encode" for source in sources)
        pairs = zip(layer.inputs, sources, strict=True)
        connections = tuple(_connect(meta, layer, name, by, where) for name, by in pairs if by.kind != "encode")
        before = [stages[c.source].depth + 1 for c in connections if c.source != INPUT]
        stages[layer.name] = Stage(
            layer=layer.name,
            kind=layer.kind,
            shape=layer.out_chw,
            depth=max(before, default=0),
            driven=driven,
            spiking=layer.spiking,
            connections=connections,
            biased_by=tuple(by.name for by in dict.fromkeys(sources) if by.weight_shape is not None),
        )
    return tuple(stages.values())


def _folded(meta: TraceMeta) -> dict[str, Layer]:
    """Layers that do not spike and whose weights become synapses of the add layers that read them."""
    readers: dict[str, list[str]] = {}
    for layer in meta.layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer.kind)
    return {
        layer.name: layer
        for layer in meta.layers
        if not layer.spiking and layer.kind in ("conv", "fc", "encode") and set(readers.get(layer.name, [])) == {"add"}
    }


def _connect(meta: TraceMeta, layer: Layer, name: str, by: Layer, where: str) -> Connection:
    """The synapses through `by` (the layer itself, or a folded one before it) that end at `layer`."""
    source = name if by is layer else by.inputs[0]
    if source == INPUT:
        if meta.analog:
            raise BaselineError(at(where, f"layer {layer.name}", "spikes as its input", "the analog network input"))
        shape = meta.input_shape
    else:
        feeder = meta.layer(source)
        if not feeder.spiking:
            raise BaselineError(
                at(where, f"layer {layer.name}", "an input that spikes, for cores pass no currents", f"{source!r}")
            )
        shape = feeder.out_chw
    if by.kind == "add":
        return Connection(
            source=source,
            source_shape=shape,
            target_shape=layer.out_chw,
            kernel=(1, 1),
            stride=(1, 1),
            padding=(0, 0),
            depthwise=True,
        )
    if by.kind == "fc":
        whole = (shape[1], shape[2])
        return Connection(
            source=source,
            source_shape=shape,
            target_shape=layer.out_chw,
            kernel=whole,
            stride=whole,
            padding=(0, 0),
            dense=True,
        )
    assert by.kernel is not None
    assert by.stride is not None
    assert by.padding is not None
    return Connection(
        source=source,
        source_shape=shape,
        target_shape=layer.out_chw,
        kernel=by.kernel,
        stride=by.stride,
        padding=by.padding,
        depthwise=by.kind == "pool",
    )
