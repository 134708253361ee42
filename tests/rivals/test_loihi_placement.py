"""Placement on cores: every neuron once, no limit broken, looser limits never need more cores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.errors import BaselineError
from h2sim.rivals.loihi.placement import LIMITS, _group_counts, _Room, place
from h2sim.rivals.loihi.run import load_loihi
from h2sim.rivals.loihi.schema import LoihiMachine, parse_loihi
from h2sim.rivals.loihi.wiring import Connection, Stage, wire
from h2sim.shapes import ceil_div
from h2sim.trace import load_network, load_trace
from tests.helpers.traces import tiny_trace


def machine_with(share: bool = True, population: bool = True, **limits: int) -> LoihiMachine:
    data = load_loihi().model_dump()
    for name, value in limits.items():
        data["limits"][name]["value"] = value
    data["mapping"]["share_convolution_weights"]["value"] = share
    data["mapping"]["population_axons"]["value"] = population
    return parse_loihi(data, "small")


def conv_stage(channels: int, size: int, out: int, kernel: int) -> Stage:
    link = Connection(
        source="input",
        source_shape=(channels, size, size),
        target_shape=(out, size, size),
        kernel=(kernel, kernel),
        stride=(1, 1),
        padding=(kernel // 2,) * 2,
    )
    return Stage(
        layer="conv", kind="conv", shape=(out, size, size), depth=0, driven=False, spiking=True, connections=(link,)
    )


def fc_stage(features: int, out: int) -> Stage:
    link = Connection(
        source="input",
        source_shape=(features, 1, 1),
        target_shape=(out, 1, 1),
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
        dense=True,
    )
    return Stage(layer="fc", kind="fc", shape=(out, 1, 1), depth=0, driven=False, spiking=True, connections=(link,))


def tight(compartments, memory, axons_in, axons_out, share, population):
    return machine_with(
        share, population, compartments=compartments, synapse_memory_bits=memory, input_axons=axons_in,
        output_axons=axons_out,
    )  # fmt: skip


LIMIT_VALUES = {
    "compartments": st.integers(1, 64),
    "memory": st.integers(2000, 40_000),
    "axons_in": st.integers(60, 200),
    "share": st.booleans(),
    "population": st.booleans(),
}


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> tuple[Stage, ...]:
    return wire(load_trace(tiny_trace(tmp_path_factory.mktemp("t"))).meta, "t")


@settings(max_examples=60)
@given(**LIMIT_VALUES, axons_out=st.integers(16, 200))
def test_every_neuron_is_placed_once_and_no_limit_is_broken(
    stages, compartments, memory, axons_in, axons_out, share, population
):
    machine = tight(compartments, memory, axons_in, axons_out, share, population)
    try:
        placement = place(stages, machine, "t")
    except BaselineError:
        return
    taken = 0
    for stage, cores in zip(stages, placement.layers, strict=True):
        assert cores.first_core == taken
        taken += cores.cores
        seen = np.zeros((stage.shape[0], stage.positions), int)
        for group in range(cores.groups):
            for block in range(cores.blocks):
                channels = slice(*cores.channel_edges[group : group + 2])
                positions = slice(*cores.position_edges[block : block + 2])
                seen[channels, positions] += 1
                use = cores.uses[group * cores.blocks + block]
                assert use.compartments == seen[channels, positions].size > 0
                assert all(getattr(use, name) <= getattr(machine.limits, name).value for name in LIMITS)
        assert (seen == 1).all()
    assert placement.cores == taken


@settings(max_examples=60)
@given(
    **LIMIT_VALUES,
    more=st.tuples(st.integers(0, 30), st.integers(0, 20_000), st.integers(0, 100)),
    channels=st.integers(1, 6),
    out=st.integers(1, 24),
    size=st.integers(1, 9),
)
def test_looser_limits_never_need_more_cores(
    compartments, memory, axons_in, share, population, more, channels, out, size
):
    stage = conv_stage(channels, size, out, 3)
    limits = (compartments, memory, axons_in)
    looser = tuple(a + b for a, b in zip(limits, more, strict=True))
    try:
        before = place((stage,), tight(*limits, 1 << 20, share, population), "t").cores
    except BaselineError:
        return
    assert place((stage,), tight(*looser, 1 << 20, share, population), "t").cores <= before


def test_compartments_alone_fill_cores_to_the_last():
    placement = place((conv_stage(2, 8, 16, 3),), machine_with(), "t")
    assert (placement.cores, placement.chips, placement.tiles) == (1, 1, 1)
    placement = place((conv_stage(2, 8, 16, 3),), machine_with(compartments=64), "t")
    assert placement.cores == 16  # 4 positions x 16 channels each
    assert (placement.layers[0].groups, placement.layers[0].blocks, placement.tiles) == (1, 16, 4)


def test_synapse_memory_cuts_a_dense_layer():
    placement = place((fc_stage(1152, 512),), machine_with(), "t")
    assert placement.cores == 6  # 1152 x 9 bits a neuron: 101 neurons in 1,048,576 bits
    assert max(use.synapse_memory_bits for use in placement.layers[0].uses) == 86 * 1152 * 9


def test_shared_kernels_need_less_memory_than_stored_synapses():
    stage = conv_stage(16, 16, 16, 3)
    shared, stored = (place((stage,), machine_with(share=share), "t") for share in (True, False))
    assert shared.cores == 4
    assert shared.layers[0].uses[0].synapse_memory_bits == 16 * 16 * 9 * (9 + 10)
    assert stored.cores > shared.cores
    total = sum(use.synapse_memory_bits for use in stored.layers[0].uses)
    assert total == stage.synapses * (9 + 10)


def test_a_kernel_too_large_for_a_core_is_cut_into_channel_groups():
    placement = place((conv_stage(512, 4, 512, 3),), machine_with(), "t")
    cores = placement.layers[0]
    assert cores.groups > 1
    assert max(use.synapse_memory_bits for use in cores.uses) <= 1 << 20


def test_axons_are_counted_by_position_or_by_neuron():
    stage = conv_stage(3, 4, 2, 3)
    by_position, by_neuron = (place((stage,), machine_with(population=p), "t").layers[0].uses for p in (True, False))
    assert (by_position[0].input_axons, by_neuron[0].input_axons) == (16, 48)


def test_output_axons_count_the_cores_that_a_population_reaches():
    first = conv_stage(1, 4, 2, 1)
    link = Connection(
        source="conv", source_shape=(2, 4, 4), target_shape=(4, 4, 4), kernel=(1, 1), stride=(1, 1), padding=(0, 0)
    )
    second = Stage(layer="next", kind="conv", shape=(4, 4, 4), depth=1, driven=False, spiking=True, connections=(link,))
    placement = place((first, second), machine_with(compartments=32), "t")
    assert placement.of("next").cores == 2
    assert placement.of("conv").uses[0].output_axons == 16  # each position's population goes to one of the two cores
    separate = place((first, second), machine_with(population=False, compartments=32), "t")
    assert separate.of("conv").uses[0].output_axons == 32


@pytest.mark.parametrize(
    ("stage", "limits", "message"),
    [
        (fc_stage(8192, 512), {"population": False}, "layer fc: expected at most 4096 input axons for one neuron, as "
         "a core of loihi has; got 8192"),
        (fc_stage(120_000, 2), {"input_axons": 200_000}, "layer fc: expected at most 1048576 bits of synapse memory "
         "for one neuron, as a core of loihi has; got 1080000"),
        (conv_stage(1, 4, 1, 3), {"input_axons": 8}, "layer conv: expected at most 8 input axons for one neuron, as a "
         "core of loihi has; got 9"),
    ],
)  # fmt: skip
def test_a_neuron_that_exceeds_a_core_is_one_line(stage, limits, message):
    with pytest.raises(BaselineError, match=f"^some.npz: {re.escape(message)}$"):
        place((stage,), machine_with(**limits), "some.npz")


def test_too_many_edges_out_of_one_neuron_is_one_line():
    first = conv_stage(1, 1, 1, 1)
    link = Connection(
        source="conv",
        source_shape=(1, 1, 1),
        target_shape=(9, 1, 1),
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
        dense=True,
    )
    second = Stage(layer="fc", kind="fc", shape=(9, 1, 1), depth=1, driven=False, spiking=True, connections=(link,))
    with pytest.raises(BaselineError, match=r"^t: layer conv: expected at most 8 output axons for one neuron.* got 9$"):
        place((first, second), machine_with(compartments=1, output_axons=8), "t")


def test_the_network_of_table_3_7_needs_more_than_a_chip_only_at_large_inputs():
    from h2sim.trace import check_layers

    found = {}
    for size in (28, 34, 64):
        network = load_network("loihi", (2, size, size))
        meta = check_layers([dict(layer) for layer in network.layers], "n")
        found[size] = place(wire(meta, "n"), load_loihi(), "n")
    assert [found[size].chips for size in (28, 34, 64)] == [1, 1, 3]
    assert found[28].cores < found[34].cores < found[64].cores


def test_placement_works_on_a_file_of_the_format(tmp_path: Path):
    stages = wire(load_trace(tiny_trace(tmp_path)).meta, "t")
    assert [stage.layer for stage in stages] == [cores.layer for cores in place(stages, load_loihi(), "t").layers]


def depthwise_stage(channels: int, size: int, kernel: int = 1, source: str = "input", depth: int = 0) -> Stage:
    out = size // kernel
    link = Connection(
        source=source,
        source_shape=(channels, size, size),
        target_shape=(channels, out, out),
        kernel=(kernel, kernel),
        stride=(kernel, kernel),
        padding=(0, 0),
        depthwise=True,
    )
    return Stage(
        layer="pool",
        kind="pool",
        shape=(channels, out, out),
        depth=depth,
        driven=False,
        spiking=True,
        connections=(link,),
    )


@settings(max_examples=60)
@given(**LIMIT_VALUES, channels=st.integers(1, 4), out=st.integers(1, 12), size=st.integers(1, 6))
def test_the_cut_is_the_first_of_those_with_the_fewest_cores(
    compartments, memory, axons_in, share, population, channels, out, size
):
    stage = conv_stage(channels, size, out, 3)
    machine = tight(compartments, memory, axons_in, 1 << 20, share, population)
    room = _Room(stage, machine, np.zeros(stage.positions, np.int64))
    tried = []
    for groups in _group_counts(out, compartments):
        blocks = room._runs(ceil_div(out, groups))
        if blocks:
            tried.append((groups * (len(blocks) - 1), groups))
    if not tried:
        with pytest.raises(BaselineError, match=r"^t: layer conv: expected at most \d+ .* for one neuron"):
            place((stage,), machine, "t")
        return
    cores = place((stage,), machine, "t").layers[0]
    assert (cores.cores, cores.groups) == min(tried)


def test_channel_groups_differ_by_one_channel_at_most():
    # 3 compartments, one position: 10 channels in 4 groups
    cores = place((conv_stage(1, 1, 10, 1),), machine_with(compartments=3), "t").layers[0]
    assert cores.channel_edges == (0, 2, 5, 7, 10)


@pytest.mark.parametrize(
    ("neurons", "chips", "tiles"), [(4, 1, 1), (5, 1, 2), (128, 1, 32), (129, 2, 32), (256, 2, 32), (257, 3, 32)]
)
def test_chips_and_tiles_are_filled_in_order(neurons, chips, tiles):
    placement = place((fc_stage(1, neurons),), machine_with(compartments=1), "t")
    assert (placement.cores, placement.chips, placement.tiles) == (neurons, chips, tiles)


def test_a_pool_stores_one_kernel_however_many_channels_share_it():
    stage = depthwise_stage(6, 4, kernel=2)
    shared, stored = (place((stage,), machine_with(share=share), "t").layers[0].uses for share in (True, False))
    assert [use.synapse_memory_bits for use in shared] == [4 * (9 + 10)]
    assert [use.synapse_memory_bits for use in stored] == [4 * 4 * 6 * (9 + 10)]


def test_a_cores_channels_of_a_pool_need_axons_of_their_own_channels_alone():
    stage = depthwise_stage(6, 4, kernel=2)
    by_neuron = place((stage,), machine_with(population=False, compartments=8), "t").layers[0]
    assert (by_neuron.groups, by_neuron.blocks) == (3, 1)  # 2 channels x 4 positions each
    assert [use.input_axons for use in by_neuron.uses] == [2 * 16] * 3


def test_a_neuron_that_feeds_its_own_channel_reaches_one_group_where_it_has_its_own_axon():
    # 4 channels of 2x2 on cores of 2 neurons: 2 groups x 4 positions, in both layers
    both = (conv_stage(1, 2, 4, 1), depthwise_stage(4, 2, source="conv", depth=1))
    single, population = (
        place(both, machine_with(population=p, compartments=2), "t").of("conv") for p in (False, True)
    )
    assert (single.groups, single.blocks) == (2, 4)
    assert {use.output_axons for use in single.uses} == {2}  # a neuron to its channel's core
    assert {use.output_axons for use in population.uses} == {2}  # a population to both groups' cores


def test_synapses_are_those_of_every_target_channel_from_every_source_channel():
    # 4x4, 3x3 taps, padding 1: (2 + 3 + 3 + 2)^2 taps inside
    assert conv_stage(3, 4, 5, 3).synapses == 100 * 3 * 5
    assert fc_stage(7, 3).synapses == 21
    assert depthwise_stage(6, 4, kernel=2).synapses == 6 * 16
