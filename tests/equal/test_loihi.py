"""Loihi's events: the fast counts against a plain loop over spikes and synapses, and some counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.errors import BaselineError
from h2sim.rivals.loihi.events import EVENTS, Events, active_with_state, count_events
from h2sim.rivals.loihi.placement import Placement, place
from h2sim.rivals.loihi.run import busy_time_ns, load_loihi, run_loihi
from h2sim.rivals.loihi.schema import LoihiMachine, parse_loihi
from h2sim.rivals.loihi.wiring import Connection, Stage, wire
from h2sim.trace import Sparsity, Trace, check_layers, load_network, load_trace, synthesise, write_trace


def small_machine(compartments: int = 1024, rule: str = "input", **flags: bool) -> LoihiMachine:
    """Loihi with small cores and two of them a tile, so that tiny networks spread over many tiles."""
    data = load_loihi().model_dump()
    data["update_rule"]["value"] = rule
    data["limits"]["compartments"]["value"] = compartments
    for name, value in {"cores_per_tile": 2, "cores_per_chip": 64, "mesh_rows": 4, "mesh_columns": 8}.items():
        data["limits"][name]["value"] = value
    for name, value in flags.items():
        data["mapping"][name]["value"] = value
    return parse_loihi(data, "small")


def targets(connection: Connection, source: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Target neurons (c, y, x) that a source neuron has a synapse to, found by trying each."""
    c, y, x = source
    found = []
    for ct, yt, xt in np.ndindex(connection.target_shape):
        dy = y - (yt * connection.stride[0] - connection.padding[0])
        dx = x - (xt * connection.stride[1] - connection.padding[1])
        inside = 0 <= dy < connection.kernel[0] and 0 <= dx < connection.kernel[1]
        if inside and (ct == c or not connection.depthwise):
            found.append((ct, yt, xt))
    return found


def core_of(placement: Placement, stage: Stage) -> dict[tuple[int, int, int], int]:
    """The core of each neuron (c, y, x) of a stage."""
    cores = placement.of(stage.layer)
    found = {}
    for c, y, x in np.ndindex(stage.shape):
        group = max(g for g in range(cores.groups) if cores.channel_edges[g] <= c)
        position = y * stage.shape[2] + x
        block = max(b for b in range(cores.blocks) if cores.position_edges[b] <= position)
        found[c, y, x] = cores.core(group, block)
    return found


def fired(trace: Trace, source: str, n: int, t: int, shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The neurons (c, y, x) of a layer or of the input that spike."""
    packed = trace.input_spikes() if source == "input" else trace.mask(source, "spikes")
    bits = np.unpackbits(packed[t, n], count=int(np.prod(shape))).reshape(shape)
    return [(int(c), int(y), int(x)) for c, y, x in np.argwhere(bits)]


def counted_by_loops(machine: LoihiMachine, trace: Trace, stages: tuple[Stage, ...], placement: Placement) -> Events:
    """Every event, spike by spike and synapse by synapse."""
    depth = {"input": 0, **{stage.layer: stage.depth for stage in stages}}
    home = {stage.layer: core_of(placement, stage) for stage in stages}
    steps = trace.meta.timesteps + max(depth.values())
    events = Events.none(trace.meta.batch, steps, placement.cores)
    charged: set[tuple[str, int, tuple[int, int, int]]] = set()  # neurons whose potential is not 0, by layer and sample
    for stage, n, step in ((stage, n, step) for stage in stages for n, step in np.ndindex(trace.meta.batch, steps)):
        t, reached = step - stage.depth, set()
        before, biased = (
            {neuron for layer, m, neuron in charged if (layer, m) == (stage.layer, n)},
            biases(trace, stage),
        )
        if 0 <= t < trace.meta.timesteps:
            reached = set(home[stage.layer]) if stage.driven else set()
            for connection in stage.connections:
                leave = t + depth[connection.source]
                reached |= deliver(events, machine, trace, connection, home, home[stage.layer], (n, t, step, leave))
            charged |= {
                (stage.layer, n, neuron) for neuron in home[stage.layer] if neuron in reached or biased[neuron[0]]
            }
            if stage.spiking:
                for neuron in fired(trace, stage.layer, n, t, stage.shape):
                    events.spike_fired[n, step, home[stage.layer][neuron]] += 1
                    charged.discard((stage.layer, n, neuron))
        for neuron, core in home[stage.layer].items():
            state = machine.keeps_state and (neuron in before or biased[neuron[0]])
            (events.neuron_active if neuron in reached or state else events.neuron_inactive)[n, step, core] += 1
    return events


def biases(trace: Trace, stage: Stage) -> list[bool]:
    """Whether each channel of a stage has a bias; the layers of RESIDUAL that `join` sums up have theirs together."""
    layers = {"join": ["main", "short"]}.get(stage.layer, [stage.layer])
    known = [trace.values(layer, "bias") for layer in layers if trace.has(f"{layer}.bias")]
    return [any(values[c] != 0 for values in known) for c in range(stage.shape[0])]


def deliver(events, machine, trace, connection, home, here, when) -> set[tuple[int, int, int]]:
    """Synaptic operations and messages of one connection in one timestep; the neurons that a spike reached."""
    n, t, step, leave = when
    operations = events.synaptic_operation_dense if connection.dense else events.synaptic_operation_sparse
    reached = set()
    for source in fired(trace, connection.source, n, t, connection.source_shape):
        hit = targets(connection, source)
        reached |= set(hit)
        for neuron in hit:
            operations[n, step, here[neuron]] += 1
        for core in {here[neuron] for neuron in hit}:
            events.message_received[n, step, core] += 1
            if connection.source != "input":
                send(events, machine, n, leave, home[connection.source][source], core)
    return reached


def send(events: Events, machine: LoihiMachine, n: int, step: int, sender: int, core: int) -> None:
    (x0, y0), (x1, y1) = machine.tile_of(sender), machine.tile_of(core)
    events.message_sent[n, step, sender] += 1
    events.hop_east_west[n, step, sender] += abs(x0 - x1)
    events.hop_north_south[n, step, sender] += abs(y0 - y1)
    flight = abs(x0 - x1) * machine.prices.hop_east_west.time_ns + abs(y0 - y1) * machine.prices.hop_north_south.time_ns
    events.flight_ns[n, step] = max(events.flight_ns[n, step], flight)


def conv(name, inputs, in_shape, out_shape, kernel=3, stride=1, padding=1, **more):
    return {
        "name": name, "kind": "conv", "inputs": inputs, "in_shape": in_shape, "out_shape": out_shape,
        "kernel": [kernel, kernel], "stride": [stride, stride], "padding": [padding, padding], **more,
    }  # fmt: skip


RESIDUAL = [
    {**conv("encode", ["input"], [1, 6, 7], [2, 6, 7]), "kind": "encode"},
    conv("down", ["encode"], [2, 6, 7], [3, 3, 4], stride=2),
    conv("main", ["down"], [3, 3, 4], [3, 3, 4], spiking=False),
    conv("short", ["encode"], [2, 6, 7], [3, 3, 4], kernel=1, stride=2, padding=0, spiking=False),
    {"name": "join", "kind": "add", "inputs": ["main", "short", "down"], "in_shape": [3, 3, 4], "out_shape": [3, 3, 4]},
    {"name": "out", "kind": "fc", "inputs": ["join"], "in_features": 36, "out_features": 5, "spiking": False},
]


def random_trace(
    folder: Path, layers, shape, rate: float, seed: int, timesteps: int = 3, batch: int = 2, biased=False
) -> Trace:
    from dataclasses import replace

    if isinstance(layers, str):
        network = load_network(layers, shape)
    else:
        check_layers(json.loads(json.dumps(layers)), "test")
        network = replace(load_network("2C3", shape), layers=tuple(layers))
    meta, members = synthesise(network, timesteps, batch, Sparsity(1 - rate, 0.5, 0.5), seed, phases=("forward",))
    write_trace(folder / "t.npz", meta, {**dict(members), **(some_biases(network.layers, seed) if biased else {})})
    return load_trace(folder / "t.npz")


def some_biases(layers, seed: int) -> dict[str, np.ndarray]:
    """A bias of 0 for about half of the channels of every layer with weights."""
    rng = np.random.default_rng(seed)
    found = check_layers(json.loads(json.dumps(list(layers))), "test").layers
    shapes = {layer.name: layer.weight_shape for layer in found}
    return {f"{name}.bias": rng.integers(0, 2, shape[0]).astype(np.float32) for name, shape in shapes.items() if shape}


NETWORKS = [
    ("3C3-AP2-4C3-5FC", (2, 5, 6)),
    ("4C3S2-3C1-AP2-4FC", (1, 7, 7)),
    ("2C5-6FC-3FC", (1, 6, 5)),
    (RESIDUAL, (1, 6, 7)),
]


@pytest.mark.parametrize("network", NETWORKS, ids=["pool", "strides", "fc", "residual"])
@settings(max_examples=10)
@given(
    rate=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    seed=st.integers(0, 1000),
    compartments=st.integers(1, 40),
    share=st.booleans(),
    population=st.booleans(),
    rule=st.sampled_from(["input", "state"]),
    biased=st.booleans(),
)
def test_fast_counts_equal_a_loop_over_spikes_and_synapses(
    tmp_path_factory, network, rate, seed, compartments, share, population, rule, biased
):
    machine = small_machine(compartments, rule, share_convolution_weights=share, population_axons=population)
    trace = random_trace(tmp_path_factory.mktemp("t"), *network, rate, seed, biased=biased)
    stages = wire(trace.meta, "t")
    placement = place(stages, machine, "t")
    fast = count_events(machine, trace, stages, placement)
    slow = counted_by_loops(machine, trace, stages, placement)
    for name in EVENTS:
        assert np.array_equal(getattr(fast, name), getattr(slow, name)), name
    assert fast.flight_ns == pytest.approx(slow.flight_ns)


def test_a_run_is_the_price_of_the_loops_counts(tmp_path):
    machine, trace = small_machine(7), random_trace(tmp_path, *NETWORKS[0], 0.3, 5)
    stages = wire(trace.meta, "t")
    placement = place(stages, machine, "t")
    slow = counted_by_loops(machine, trace, stages, placement)
    result = run_loihi(machine, trace)
    prices = machine.prices
    energy_pj = sum(getattr(slow, name).sum() * getattr(prices, name).energy_pj for name in EVENTS)
    assert result.energy_j == pytest.approx(energy_pj * 1e-12)
    step_ns = busy_time_ns(machine, slow).max(axis=2) + slow.flight_ns + machine.barrier.time_ns(placement.tiles)
    assert result.seconds_of_sample == pytest.approx(step_ns.sum(axis=1) * 1e-9)


def test_one_spike_counted_by_hand(tmp_path):
    """3x3 maps, 3x3 kernel: the only input spike, in a corner, reaches 4 of 9 positions in each of 2 channels."""
    trace = random_trace(tmp_path, "2C3-3FC", (1, 3, 3), 0.0, 0, timesteps=1, batch=1)
    meta = trace.meta.model_dump(mode="json", exclude_none=True)
    corner = np.packbits(np.eye(1, 9, dtype=bool)[None], axis=-1)
    members = {
        name: trace.mask(*name.split(".")) for name in ("conv1.spikes", "conv1.window", "fc1.spikes", "fc1.window")
    }
    write_trace(tmp_path / "one.npz", meta, {"input.spikes": corner, **members})
    result = run_loihi(small_machine(9), load_trace(tmp_path / "one.npz"))
    conv1, fc1 = result.layers
    assert (conv1.cores, conv1.synaptic_operations, conv1.neurons_active) == (2, 8, 8)
    assert conv1.neurons_inactive == 18 * 2 - 8  # two steps: its own timestep and the one of fc1
    assert (conv1.messages_received, conv1.messages_sent, conv1.spikes) == (2, 0, 0)
    assert (fc1.synaptic_operations, fc1.neurons_active, fc1.neurons_inactive) == (0, 0, 6)
    busiest_ns = [2.1 + 4 * 3.5 + 4 * 8.4 + 5 * 5.3, 9 * 5.3]  # then fc1's step, in which conv1's cores are the slowest
    barrier_ns = 113 + 352 / 31  # three cores: two tiles
    assert result.seconds == pytest.approx((sum(busiest_ns) + 2 * barrier_ns) * 1e-9)
    energy_pj = 8 * 23.6 + 8 * 81 + (28 + 6) * 52 + 2 * 1.7
    assert result.energy_j == pytest.approx(energy_pj * 1e-12)


def test_a_shortcut_waits_for_the_longest_path(tmp_path):
    stages = {stage.layer: stage for stage in wire(random_trace(tmp_path, RESIDUAL, (1, 6, 7), 0.2, 1).meta, "t")}
    assert {name: stage.depth for name, stage in stages.items()} == {"encode": 0, "down": 1, "join": 2, "out": 3}
    assert [c.source for c in stages["join"].connections] == ["down", "encode", "down"]
    assert stages["encode"].driven
    assert stages["encode"].connections == ()


def test_an_encode_layer_costs_active_updates_and_no_synapses(tmp_path):
    result = run_loihi(load_loihi(), random_trace(tmp_path, RESIDUAL, (1, 6, 7), 0.2, 1))
    encode = result.layers[0]
    assert (encode.synaptic_operations, encode.messages_received, encode.synapses) == (0, 0, 0)
    assert encode.neurons_active == 84 * 3 * 2  # every neuron, 3 timesteps, 2 samples
    assert any("injects it as bias" in line for line in result.assumptions)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    depthwise=st.booleans(),
)
def test_a_windows_synapses_are_those_found_by_trying_each(size, kernel, stride, padding, depthwise):
    out = [max(1, (s + 2 * padding - kernel) // stride + 1) for s in size]
    shape = (2, *size)
    connection = Connection(
        source="a",
        source_shape=shape,
        target_shape=(2, *out),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding, padding),
        depthwise=depthwise,
    )
    found = [target for source in np.ndindex(shape) for target in targets(connection, source)]
    assert connection.synapses == len(found)
    ones = connection.arrivals(np.ones((1, 2, size[0] * size[1]), np.uint8))
    assert np.array_equal(ones[0, 0], connection.fan_in)


def test_a_neuron_that_one_of_its_inputs_reaches_is_active(tmp_path):
    """An add layer's first input spikes once, its last never: that neuron is active, in both orders."""
    layers = [
        conv("a", ["input"], [1, 2, 2], [1, 2, 2], kernel=1, padding=0),
        conv("b", ["input"], [1, 2, 2], [1, 2, 2], kernel=1, padding=0),
    ]
    for order in (["a", "b"], ["b", "a"]):
        join = {"name": "join", "kind": "add", "inputs": order, "in_shape": [1, 2, 2], "out_shape": [1, 2, 2]}
        trace = random_trace(tmp_path, [*layers, join], (1, 2, 2), 0.0, 0, timesteps=1, batch=1)
        meta = trace.meta.model_dump(mode="json", exclude_none=True)
        names = [f"{name}.{kind}" for name in ("a", "b", "join") for kind in ("spikes", "window")]
        members = {name: trace.mask(*name.split(".")) for name in names}
        members["a.spikes"] = np.packbits(np.array([[[0, 0, 1, 0]]], np.uint8), axis=-1)
        write_trace(tmp_path / "one.npz", meta, {"input.spikes": trace.input_spikes(), **members})
        row = run_loihi(load_loihi(), load_trace(tmp_path / "one.npz")).layers[-1]
        assert (row.layer, row.neurons_active, row.synaptic_operations) == ("join", 1, 1)


def wired(folder, layers, shape=(1, 6, 7)):
    return wire(random_trace(folder, layers, shape, 0.2, 1).meta, "t")


def test_a_current_that_an_add_layer_shares_with_another_is_refused(tmp_path):
    meta = random_trace(tmp_path, RESIDUAL, (1, 6, 7), 0.2, 1).meta
    also = meta.layers[2].model_copy(update={"name": "also", "inputs": ("short",)})
    meta = meta.model_copy(update={"layers": (*meta.layers[:4], also, *meta.layers[4:])})
    with pytest.raises(BaselineError, match=r"^t: layer also: expected an input that spikes, .*; got 'short'$"):
        wire(meta, "t")


def test_a_layer_that_spikes_stands_on_cores_though_only_an_add_layer_reads_it(tmp_path):
    layers = [dict(layer) for layer in RESIDUAL]
    layers[2] = {k: v for k, v in layers[2].items() if k != "spiking"}  # main fires
    stages = {stage.layer: stage for stage in wired(tmp_path, layers)}
    assert {name: stage.depth for name, stage in stages.items()} == {
        "encode": 0, "down": 1, "main": 2, "join": 3, "out": 4
    }  # fmt: skip
    assert [c.source for c in stages["join"].connections] == ["main", "encode", "down"]


def test_an_fc_layer_whose_current_is_added_becomes_synapses(tmp_path):
    def fc(name, source, inputs, outputs, **more):
        sizes = {"in_features": inputs, "out_features": outputs}
        return {"name": name, "kind": "fc", "inputs": [source], **sizes, **more}

    join = {"name": "join", "kind": "add", "inputs": ["b", "a"], "in_shape": [6, 1, 1], "out_shape": [6, 1, 1]}
    layers = [fc("a", "input", 42, 6), fc("b", "a", 6, 6, spiking=False), join]
    stages = wired(tmp_path, layers)
    assert [stage.layer for stage in stages] == ["a", "join"]
    assert [(c.source, c.dense, c.depthwise) for c in stages[1].connections] == [("a", True, False), ("a", False, True)]
    assert stages[1].synapses == 36 + 6


def test_only_an_encode_layer_takes_the_analog_input(tmp_path):
    meta = random_trace(tmp_path, RESIDUAL, (1, 6, 7), 0.2, 1).meta
    assert meta.analog
    wrong = meta.layers[1].model_copy(update={"inputs": ("input",), "in_shape": (1, 6, 7)})
    meta = meta.model_copy(update={"layers": (meta.layers[0], wrong)})
    message = r"^t: layer down: expected spikes as its input; got the analog network input$"
    with pytest.raises(BaselineError, match=message):
        wire(meta, "t")


def test_a_potential_that_is_not_0_keeps_a_neuron_active_until_it_fires():
    """One neuron: a current at timestep 1 of 4, a spike at 2; then nothing. Two steps more before and after."""
    came, fired = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    came[1], fired[2] = True, True
    silent = np.zeros((1, 1), bool)
    assert active_with_state(came, fired, silent, 2, 8)[:, 0, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    never = np.zeros((1, 1, 1), bool)  # a read-out keeps its potential
    assert active_with_state(came, never, silent, 2, 8)[:, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert active_with_state(came, fired, ~silent, 2, 8).all()
