"""What Loihi's cores do in each step, counted exactly from a trace's spikes; no price is put on it here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from h2sim.rivals.loihi.placement import LayerCores, Placement
from h2sim.rivals.loihi.schema import LoihiMachine
from h2sim.rivals.loihi.wiring import INPUT, Chw, Connection, Stage
from h2sim.trace import Trace

EVENTS = (
    "synaptic_operation_sparse",
    "synaptic_operation_dense",
    "neuron_inactive",
    "neuron_active",
    "spike_fired",
    "message_sent",
    "message_received",
    "hop_east_west",
    "hop_north_south",
)
IN_CORE = EVENTS[:-2]  # what keeps a core busy; hops are the mesh's


Place = tuple[int, slice]  # a sample and steps of it


@dataclass(frozen=True, kw_only=True)
class Events:
    """Counts int64 (N, steps, cores) by core and step; hops stand at the sender. flight_ns: float64 (N, steps), the
    longest route of a message sent in that step."""

    synaptic_operation_sparse: np.ndarray
    synaptic_operation_dense: np.ndarray
    neuron_inactive: np.ndarray
    neuron_active: np.ndarray
    spike_fired: np.ndarray
    message_sent: np.ndarray
    message_received: np.ndarray
    hop_east_west: np.ndarray
    hop_north_south: np.ndarray
    flight_ns: np.ndarray

    @classmethod
    def none(cls, samples: int, steps: int, cores: int) -> Events:
        """All counts 0."""
        counts = {name: np.zeros((samples, steps, cores), np.int64) for name in EVENTS}
        return cls(**counts, flight_ns=np.zeros((samples, steps)))


def count_events(machine: LoihiMachine, trace: Trace, stages: tuple[Stage, ...], placement: Placement) -> Events:
    """The events of every sample of a trace. A layer does its timestep k - depth in step k (one-step delay) [A].

    A core's step: the messages and synaptic operations of its layer's timestep, the update of each of its neurons,
    then a message to each core where a fired neuron has synapses. All neurons update in every step, also before and
    after their layer's timesteps [A]; which updates are active is the machine's rule, `active_updates`. The host's
    input spikes reach their cores as messages without hops [A].
    """
    meta = trace.meta
    depths = {INPUT: 0, **{stage.layer: stage.depth for stage in stages}}
    events = Events.none(meta.batch, meta.timesteps + max(depths.values()), placement.cores)
    mesh = _Mesh(machine, placement.cores)
    for stage in stages:
        cores = placement.of(stage.layer)
        came = [np.full((meta.timesteps, 1, stage.positions), int(stage.driven), np.int64)] * meta.batch
        for connection in stage.connections:
            outside = connection.source == INPUT
            packed = trace.input_spikes() if outside else trace.mask(connection.source, "spikes")
            link = _Link(connection, None if outside else placement.of(connection.source), cores, mesh)
            for n in range(meta.batch):
                spikes = _maps(packed[:, n], connection.source_shape)
                arrivals = connection.arrivals(spikes)
                came[n] = came[n] + arrivals
                here = (n, slice(stage.depth, stage.depth + meta.timesteps))
                kind = events.synaptic_operation_dense if connection.dense else events.synaptic_operation_sparse
                kind[(*here, cores.slice)] += _by_core(arrivals, cores)
                first = depths[connection.source]
                link.count(events, spikes, here, (n, slice(first, first + meta.timesteps)))
        _updates(events, machine, trace, stage, cores, came)
    return events


def _updates(
    events: Events, machine: LoihiMachine, trace: Trace, stage: Stage, cores: LayerCores, came: list[np.ndarray]
) -> None:
    """Neuron updates and fired spikes of a layer; came: per sample (T, C or 1, positions), what reached each neuron."""
    window = slice(stage.depth, stage.depth + trace.meta.timesteps)
    packed = trace.mask(stage.layer, "spikes") if stage.spiking else None
    biased = _biased(trace, stage)
    events.neuron_inactive[:, :, cores.slice] = [use.compartments for use in cores.uses]
    for n, reached in enumerate(came):
        fired = np.zeros((1, 1, 1), np.uint8) if packed is None else _maps(packed[:, n], stage.shape)
        if machine.keeps_state:
            steps = events.neuron_active.shape[1]
            active = _by_core(active_with_state(reached > 0, fired > 0, biased, stage.depth, steps), cores)
            events.neuron_active[n, :, cores.slice] = active
            events.neuron_inactive[n, :, cores.slice] -= active
        else:
            active = _by_core((reached > 0).astype(np.int64), cores)
            events.neuron_active[n, window, cores.slice] = active
            events.neuron_inactive[n, window, cores.slice] -= active
        if packed is not None:
            events.spike_fired[n, window, cores.slice] = _by_core(fired, cores)


def active_with_state(came: np.ndarray, fired: np.ndarray, biased: np.ndarray, depth: int, steps: int) -> np.ndarray:
    """int64 (steps, C, positions): 1 where a neuron's update is active by the rule 'state' (SANA-FE's).

    It is if a current came in, or the potential or the bias is not 0. came: bool (T, C or 1, positions); fired: bool
    (T, C, positions), or of one element where the layer never fires; biased: bool (C, 1). The potential is not 0 from
    the first current after a reset until the neuron fires: a leak alone does not bring it to 0, and currents do not
    cancel exactly [A]. depth: the step of the layer's timestep 0; the bias and the potential are there in all steps.
    """
    timesteps, _, positions = came.shape
    active = np.empty((steps, len(biased), positions), np.int64)
    charged = np.zeros((len(biased), positions), bool)
    for step in range(steps):
        t = step - depth
        inside = 0 <= t < timesteps
        driven = biased | (came[t] if inside else False)
        active[step] = driven | charged
        if inside:
            charged = (charged | driven) & ~fired[min(t, len(fired) - 1)]
    return active


def _biased(trace: Trace, stage: Stage) -> np.ndarray:
    """bool (C, 1): the channels whose bias is not 0; none where the trace holds no biases."""
    biased = np.zeros((stage.shape[0], 1), bool)
    for layer in stage.biased_by:
        if trace.has(f"{layer}.bias"):
            biased |= trace.values(layer, "bias").reshape(-1, 1) != 0
    return biased


def _maps(packed: np.ndarray, chw: Chw) -> np.ndarray:
    """uint8 (T, C, positions) of 0 and 1 from one sample's packed (T, bytes)."""
    bits = np.unpackbits(packed, axis=-1, count=math.prod(chw))
    return bits.reshape(len(packed), chw[0], -1)


def _by_core(counts: np.ndarray, cores: LayerCores) -> np.ndarray:
    """int64 (T, cores) sums of (T, C, positions), or of (T, 1, positions) that hold for every channel."""
    blocks = np.add.reduceat(counts, cores.position_edges[:-1], axis=2, dtype=np.int64)
    if counts.shape[1] == 1:
        per_core = blocks * np.diff(cores.channel_edges)[:, None]
    else:
        per_core = np.add.reduceat(blocks, cores.channel_edges[:-1], axis=1)
    return per_core.reshape(len(counts), cores.cores)


class _Mesh:
    """Where each core's tile lies, and what a route costs in time."""

    def __init__(self, machine: LoihiMachine, cores: int) -> None:
        places = np.array([machine.tile_of(core) for core in range(cores)], np.int64)
        self.column, self.row = places[:, 0], places[:, 1]
        self.east_west_ns = machine.prices.hop_east_west.time_ns
        self.north_south_ns = machine.prices.hop_north_south.time_ns

    def hops(self, sources: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
        """East-west and north-south hops from each source core to a target core."""
        return np.abs(self.column[sources] - self.column[target]), np.abs(self.row[sources] - self.row[target])


class _Link:
    """The spike messages of one connection: from each core that holds source neurons to each core of the layer."""

    def __init__(self, connection: Connection, source: LayerCores | None, target: LayerCores, mesh: _Mesh) -> None:
        self.source, self.target, self.mesh = source, target, mesh
        own = source.channel_edges if source else (0, connection.source_shape[0])
        other = target.channel_edges if connection.depthwise else ()
        self.cuts = sorted({*own, *other})  # channels of one piece stand on the same cores and feed the same group
        first = np.array(self.cuts[:-1])
        self.group_of_piece = np.searchsorted(own, first, side="right") - 1
        reached = np.searchsorted(target.channel_edges, first, side="right") - 1
        self.pieces = [
            np.flatnonzero(reached == group) if connection.depthwise else np.arange(len(first))
            for group in range(target.groups)
        ]
        edges = target.position_edges
        self.feeders = [connection.feeders(start, stop) for start, stop in pairwise(edges)]

    def count(self, events: Events, spikes: np.ndarray, arrive: Place, leave: Place) -> None:
        """Adds the messages of one sample's spikes (T, C, positions); arrive, leave: its row and steps of `events`."""
        pieces = np.add.reduceat(spikes, self.cuts[:-1], axis=1, dtype=np.int64)
        for block, feeds in enumerate(self.feeders):
            found = np.flatnonzero(feeds)
            if not found.size:
                continue
            low, high = int(found[0]), int(found[-1]) + 1
            messages = pieces[:, :, low:high] * feeds[low:high]
            if self.source is None:
                self._from_host(events, messages.sum(axis=2), block, arrive)
            else:
                self._between(events, *self._by_block(messages, low, high), block, arrive, leave)

    def _from_host(self, events: Events, messages: np.ndarray, block: int, arrive: Place) -> None:
        for group, pieces in enumerate(self.pieces):
            core = self.target.core(group, block)
            events.message_received[(*arrive, core)] += messages[:, pieces].sum(axis=1)

    def _by_block(self, messages: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """(T, pieces, blocks) of the source blocks that overlap positions low..high, and those blocks' numbers."""
        assert self.source is not None
        edges = np.clip(self.source.position_edges, low, high) - low
        blocks = np.flatnonzero(np.diff(edges))
        return np.add.reduceat(messages, edges[blocks], axis=2), blocks

    def _between(
        self, events: Events, messages: np.ndarray, blocks: np.ndarray, block: int, arrive: Place, leave: Place
    ) -> None:
        """Messages (T, pieces, source blocks) to every channel group of one target block."""
        assert self.source is not None
        senders = self.source.first_core + self.group_of_piece[:, None] * self.source.blocks + blocks
        for group, pieces in enumerate(self.pieces):
            core = self.target.core(group, block)
            counts = messages[:, pieces].reshape(len(messages), -1)
            sources = senders[pieces].reshape(-1)
            east_west, north_south = self.mesh.hops(sources, core)
            events.message_received[(*arrive, core)] += counts.sum(axis=1)
            for name, weight in (("message_sent", 1), ("hop_east_west", east_west), ("hop_north_south", north_south)):
                np.add.at(
                    getattr(events, name)[leave].T, sources, (counts * weight).T
                )  # a sender may stand there twice
            route_ns = east_west * self.mesh.east_west_ns + north_south * self.mesh.north_south_ns
            longest = np.where(counts > 0, route_ns, 0.0).max(axis=1, initial=0.0)
            np.maximum(events.flight_ns[leave], longest, out=events.flight_ns[leave])
