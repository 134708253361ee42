"""SpinalFlow's array: hand-counted cycles and spikes, and the fast form equal to the stepped one."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.rivals.spinalflow import engine as fast
from h2sim.rivals.spinalflow import stepped
from h2sim.shapes import ConvShape
from h2sim.trace.bits import pack

ARRAY = fast.SpineArray(
    pes=2,
    filter_rows=100,
    spine_buffers=4,
    merge_fifos=2,
    position_cycles=1,
    step_cycles=0,
    spill_cycles=1,
    output_drain="overlapped",
    single_spike=True,
)
PROPERTY = settings(max_examples=100)


def spike_map(spikes, single):
    """The packed map of spikes (T, N, C, H, W)."""
    flat = spikes.reshape(*spikes.shape[:2], -1)
    return fast.SpikeMap(pack(flat), spikes.shape[2:], single)


def fc(steps, inputs, outputs):
    return ConvShape(
        timesteps=steps,
        batch=1,
        in_channels=inputs,
        in_height=1,
        in_width=1,
        out_channels=outputs,
        out_height=1,
        out_width=1,
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
    )


def one_neuron_per_row(*rows):
    """(T, 1, C, 1, 1) from one list per timestep."""
    return np.array(rows, np.uint8).reshape(len(rows), 1, -1, 1, 1)


def both(array, shape, spikes, weight, lif):
    """The stepped run and the fast form that is given the stepped run's output spikes."""
    if array.single_spike:
        spikes = np.cumsum(spikes, axis=0) * spikes == 1
    spikes = spikes.astype(np.uint8)
    run = stepped.conv(array, shape, spikes, weight, lif)
    outputs = spike_map(run.spikes, array.single_spike) if lif.fires else None
    return run, fast.conv(array, shape, spike_map(spikes, array.single_spike), outputs)


def test_a_position_takes_a_cycle_per_spike_and_one_to_change_over():
    spikes = one_neuron_per_row([1, 0, 1], [0, 1, 0])
    weight = np.array([[2, 1, 2], [0, 0, -1]], float).reshape(2, 3, 1, 1)
    run, work = both(ARRAY, fc(2, 3, 2), spikes, weight, stepped.Lif(0.5, 4))
    assert run.iteration_cycles == [4]  # 1 + 3 spikes
    assert run.spikes[:, 0, :, 0, 0].tolist() == [[1, 0], [0, 0]]  # 2 + 2 reaches 4; 0 - 1 never
    assert run.potentials[0, :, 0, 0].tolist() == [0.0, -0.5]
    # the PE that fired takes no third weight: 2 + 2 + 1 updates
    assert run.counts == stepped.Counts(
        sorted_spikes=3, comparisons=3 * 3, filter_rows=3, updates=5, output_spikes=1, potentials_moved=0
    )
    assert work.tail_cycles == run.tail_cycles == 1


def test_more_output_channels_than_pes_take_another_pass_over_all_spikes():
    spikes = one_neuron_per_row([1, 1, 1])
    run, work = both(ARRAY, fc(1, 3, 5), spikes, np.zeros((5, 3, 1, 1)), stepped.Lif(0.5, 1))
    assert run.iteration_cycles == work.iteration_cycles.ravel().tolist() == [4, 4, 4]
    assert work.events.updates == 3 * (2 + 2 + 1)


def test_more_weight_rows_than_the_buffer_holds_take_segments_with_partial_sums_between():
    array = replace(ARRAY, filter_rows=2)
    spikes = one_neuron_per_row([1, 1, 1], [0, 0, 1])
    weight = np.array([[1, 1, 1]], float).reshape(1, 3, 1, 1)
    run, work = both(array, fc(2, 3, 1), spikes, weight, stepped.Lif(0.5, 3))
    # 1 + 2 spikes + 2 steps out; 1 + 1 first spike + 2 steps in (the third neuron's second spike is no first one)
    assert run.iteration_cycles == work.iteration_cycles.ravel().tolist() == [5, 4]
    assert run.spikes.ravel().tolist() == [1, 0]
    assert run.counts.potentials_moved == 4


def test_output_spikes_hold_the_next_position_up_where_they_outnumber_its_inputs():
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=1,
        in_height=1,
        in_width=2,
        out_channels=4,
        out_height=1,
        out_width=2,
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
    )
    spikes = np.array([1, 0], np.uint8).reshape(1, 1, 1, 1, 2)
    array = replace(ARRAY, pes=4, position_cycles=0)
    weight = np.ones((4, 1, 1, 1))
    overlapped = both(array, shape, spikes, weight, stepped.Lif(0.5, 1))[1]
    assert overlapped.iteration_cycles.ravel().tolist() == [1 + 4]  # the second position has no spike but waits
    exposed = both(
        replace(array, output_drain="exposed", position_cycles=1), shape, spikes, weight, stepped.Lif(0.5, 1)
    )
    assert exposed[1].iteration_cycles.ravel().tolist() == [2 + 4 + 1]


@pytest.mark.parametrize(("single", "updates"), [(True, 1), (False, 2)])
def test_a_pool_neuron_that_has_sent_its_only_spike_takes_no_more(single, updates):
    array = replace(ARRAY, single_spike=single)
    shape = ConvShape(
        timesteps=2,
        batch=1,
        in_channels=1,
        in_height=1,
        in_width=2,
        out_channels=1,
        out_height=1,
        out_width=1,
        kernel=(1, 2),
        stride=(1, 2),
        padding=(0, 0),
    )
    spikes = np.array([[1, 0], [0, 1]], np.uint8).reshape(2, 1, 1, 1, 2)
    run = stepped.pool(array, shape, spikes, stepped.Lif(0.5, 1))
    work = fast.pool(array, shape, spike_map(spikes, single), spike_map(run.spikes, single))
    assert run.counts.updates == work.events.updates == updates
    assert work.iteration_cycles.ravel().tolist() == run.iteration_cycles == [1 + 2]
    assert run.counts.filter_rows == work.events.filter_rows == 0


def test_one_spike_per_neuron_drops_all_later_ones():
    packed = pack(np.array([[[0, 1, 0]], [[1, 1, 0]], [[1, 0, 0]]]))
    assert np.array_equal(fast.first_spikes(packed), pack(np.array([[[0, 1, 0]], [[1, 0, 0]], [[0, 0, 0]]])))


@pytest.mark.parametrize(("lists", "expected"), [(1, 15), (16, 15), (17, 18), (64, 18), (65, 21)])
def test_spikes_of_more_lists_than_buffers_pass_further_merges(lists, expected):
    array = replace(ARRAY, spine_buffers=16, merge_fifos=4)
    assert fast.comparisons_per_spike(array, lists) == expected


@pytest.mark.parametrize("single", [True, False])
def test_spike_times_are_those_of_the_lif_equations(single):
    rng = np.random.default_rng(1)
    shape = ConvShape(
        timesteps=5,
        batch=2,
        in_channels=3,
        in_height=5,
        in_width=4,
        out_channels=6,
        out_height=5,
        out_width=4,
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1),
    )
    spikes = (rng.random((5, 2, 3, 5, 4)) < 0.4).astype(np.uint8)
    weight = rng.integers(-3, 6, (6, 3, 3, 3)).astype(float)
    run, _ = both(replace(ARRAY, single_spike=single), shape, spikes, weight, stepped.Lif(0.5, 8))
    sent = np.cumsum(spikes, axis=0) * spikes == 1 if single else spikes
    around = np.pad(sent, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), axis=(3, 4))
    current = np.einsum("tnchwij,ocij->tnohw", windows, weight)
    potential, fired, expected = 0.0, np.zeros(current.shape[1:], bool), []
    for x in current:
        potential = 0.5 * potential + x
        fires = (potential >= 8) & ~(fired & single)
        potential, fired = np.where(fires, 0.0, potential), fired | fires
        expected.append(fires)
    assert np.array_equal(run.spikes, expected)
    assert 0 < run.spikes.sum() < run.spikes.size


@st.composite
def arrays(draw):
    return fast.SpineArray(
        pes=draw(st.integers(1, 4)),
        filter_rows=draw(st.sampled_from([2, 5, 1000])),
        spine_buffers=draw(st.integers(1, 5)),
        merge_fifos=draw(st.integers(1, 3)),
        position_cycles=draw(st.integers(0, 2)),
        step_cycles=draw(st.integers(0, 2)),
        spill_cycles=draw(st.integers(0, 2)),
        output_drain=draw(st.sampled_from(["overlapped", "exposed"])),
        single_spike=draw(st.booleans()),
    )


@st.composite
def shapes(draw, pool=False):
    """Small convolutions of any kernel, stride and padding."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 5)) for k, p in zip(kernel, padding, strict=True))
    out = tuple((i + 2 * p - k) // s + 1 for i, k, s, p in zip(size, kernel, stride, padding, strict=True))
    channels = draw(st.integers(1, 5))
    others = channels if pool else draw(st.integers(1, 6))
    samples = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    return ConvShape.of(samples, (channels, *size), (others, *out), kernel, stride, padding)


def same(run, work):
    assert work.iteration_cycles.ravel().tolist() == run.iteration_cycles
    assert work.tail_cycles == run.tail_cycles
    assert asdict(work.events) == asdict(run.counts)
    assert work.sorted_spikes.sum() == run.counts.sorted_spikes
    assert work.output_spikes.sum() == run.counts.output_spikes


@PROPERTY
@given(arrays(), shapes(), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 2**31), st.booleans())
def test_the_fast_form_counts_what_the_stepped_convolution_does(array, shape, density, seed, fires):
    rng = np.random.default_rng(seed)
    spikes = rng.random((shape.timesteps, shape.batch, shape.in_channels, shape.in_height, shape.in_width)) < density
    weight = rng.integers(-2, 5, (shape.out_channels, shape.in_channels, *shape.kernel)).astype(float)
    same(*both(array, shape, spikes.astype(np.uint8), weight, stepped.Lif(0.5, 4, fires)))


@PROPERTY
@given(arrays(), shapes(pool=True), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 2**31))
def test_the_fast_form_counts_what_the_stepped_pool_does(array, shape, density, seed):
    rng = np.random.default_rng(seed)
    size = (shape.timesteps, shape.batch, shape.in_channels, shape.in_height, shape.in_width)
    spikes = (rng.random(size) < density).astype(np.uint8)
    if array.single_spike:
        spikes = (np.cumsum(spikes, axis=0) * spikes == 1).astype(np.uint8)
    run = stepped.pool(array, shape, spikes, stepped.Lif(0.5, 1))
    maps = [spike_map(s, array.single_spike) for s in (spikes, run.spikes)]
    same(run, fast.pool(array, shape, *maps))
