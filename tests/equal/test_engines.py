"""Properties: the fast engines and data paths equal the stepped reference, integer by integer and bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.arch import load_arch
from h2sim.arch.schema import TileSize
from h2sim.engines import backward, forward, weight_update
from h2sim.reference import backward as ref_backward
from h2sim.reference import encode as ref_encode
from h2sim.reference import forward as ref_forward
from h2sim.reference import neuron as ref_neuron
from h2sim.reference import weight_update as ref_update
from h2sim.shapes import ConvShape, FcShape
from h2sim.trace import Neuron
from h2sim.trace.model import Surrogate
from h2sim.verify import datapath
from h2sim.verify import neuron as fast_neuron

H2LEARN = load_arch("h2learn")
DENSITIES = st.sampled_from([0.0, 0.02, 0.2, 0.5, 0.9, 1.0])
SEEDS = st.integers(0, 2**31)
PROPERTY = settings(max_examples=40)
LANES = {"forward": ["batch_time", "samples"], "weight_update": ["offsets", "channels"]}


@st.composite
def conv_shapes(draw, most_channels=5):
    """Small convolutions: any kernel, stride, padding; odd maps; dead edges."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True))
    out = tuple((i + 2 * p - k) // s + 1 for i, k, s, p in zip(size, kernel, stride, padding, strict=True))
    channels = draw(st.tuples(st.integers(1, most_channels), st.integers(1, most_channels)))
    steps, batch = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    return ConvShape.of((steps, batch), (channels[0], *size), (channels[1], *out), kernel, stride, padding)


@st.composite
def engines(draw, name, **fixed):
    """An engine of any small size; `fixed` fields overrule."""
    base = getattr(H2LEARN.engines, name)
    rows, columns, parallelism = draw(st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)))
    sizes = {"rows": rows, "columns": columns, "parallelism": parallelism}
    if name == "backward":
        extra = {
            "mode": draw(st.sampled_from(["dense", "input_only", "output_only", "dual"])),
            "empty_window_cycles": draw(st.integers(0, 3)),
            "tile_sync_cycles": draw(st.integers(0, 5)),
        }
    else:
        extra = {
            "sub_luts": draw(st.integers(1, 4)),
            "sub_lut_size": draw(st.sampled_from([2, 4, 8, 16])),
            "lut": draw(st.booleans()),
            "lut_double_buffered": draw(st.booleans()),
            "lanes": draw(st.sampled_from(LANES[name])),
        }
    return base.model_copy(update=sizes | extra | fixed)


TILES = st.builds(TileSize, height=st.integers(1, 8), width=st.integers(1, 8))


def arch_with(tile, **changed):
    every = H2LEARN.engines.model_copy(update=changed)
    return H2LEARN.model_copy(update={"engines": every, "tile": tile})


def bits(rng, density, *shape):
    return (rng.random(shape) < density).astype(np.uint8)


def values(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def maps(shape):
    return (
        (shape.timesteps, shape.batch, shape.in_channels, shape.in_height, shape.in_width),
        (shape.timesteps, shape.batch, shape.out_channels, shape.out_height, shape.out_width),
    )


def pack(mask):
    return np.packbits(mask.reshape(mask.shape[0] * mask.shape[1], -1), axis=1)


def assert_same_work(fast, reference):
    assert fast.iteration_cycles.ravel().tolist() == reference.iteration_cycles
    assert fast.compute_cycles == reference.cycles
    assert fast.pe_array == reference.pe_array
    assert fast.acc == reference.acc
    assert fast.neuron_cycles == reference.neuron_cycles
    assert fast.useful_operations <= fast.peak_operations


def assert_same_bits(fast, reference):
    assert fast.shape == reference.shape
    assert np.array_equal(fast, reference)  # exactly: the same sums in the same order


@PROPERTY
@given(engines("forward"), TILES, conv_shapes(), DENSITIES, SEEDS)
def test_forward_conv(engine, tile, shape, density, seed):
    rng = np.random.default_rng(seed)
    spikes = bits(rng, density, *maps(shape)[0])
    weight, bias = values(rng, shape.out_channels, shape.in_channels, *shape.kernel), values(rng, shape.out_channels)
    reference = ref_forward.forward_conv(engine, tile, shape, spikes, weight, bias)
    assert_same_work(forward.conv(engine, tile, shape), reference)
    ours = datapath.conv_current(arch_with(tile, forward=engine), shape, spikes, weight, bias)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(
    engines("forward"), st.integers(1, 90), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), DENSITIES, SEEDS
)
def test_forward_fc(engine, n_in, n_out, steps, batch, density, seed):
    rng, shape = np.random.default_rng(seed), FcShape(steps, batch, n_in, n_out)
    spikes, weight, bias = bits(rng, density, steps, batch, n_in), values(rng, n_out, n_in), values(rng, n_out)
    reference = ref_forward.forward_fc(engine, shape, spikes, weight, bias)
    assert_same_work(forward.fc(engine, shape, int(spikes.sum())), reference)
    ours = datapath.fc_current(arch_with(H2LEARN.tile, forward=engine), shape, spikes, weight, bias)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(engines("weight_update"), TILES, conv_shapes(), DENSITIES, SEEDS)
def test_weight_update_conv(engine, tile, shape, density, seed):
    rng = np.random.default_rng(seed)
    spikes, grad = bits(rng, density, *maps(shape)[0]), values(rng, *maps(shape)[1])
    reference = ref_update.weight_update_conv(engine, tile, shape, spikes, grad)
    assert_same_work(weight_update.conv(engine, tile, shape), reference)
    ours = datapath.conv_weight_gradient(arch_with(tile, weight_update=engine), shape, spikes, grad)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(engines("weight_update"), st.integers(1, 30), st.integers(1, 9), st.integers(1, 9), DENSITIES, SEEDS)
def test_weight_update_fc(engine, n_in, n_out, steps, density, seed):
    rng, shape = np.random.default_rng(seed), FcShape(steps, 2, n_in, n_out)
    spikes, grad = bits(rng, density, steps, 2, n_in), values(rng, steps, 2, n_out)
    reference = ref_update.weight_update_fc(engine, shape, spikes, grad)
    assert_same_work(weight_update.fc(engine, shape, int(spikes.sum())), reference)
    ours = datapath.fc_weight_gradient(arch_with(H2LEARN.tile, weight_update=engine), shape, spikes, grad)
    assert_same_bits(ours, reference.values)


@settings(max_examples=120)
@given(engines("backward"), TILES, conv_shapes(), DENSITIES, DENSITIES, SEEDS)
def test_backward_conv(engine, tile, shape, grad_density, window_density, seed):
    rng = np.random.default_rng(seed)
    window, mask = bits(rng, window_density, *maps(shape)[0]), bits(rng, grad_density, *maps(shape)[1])
    grad, weight = values(rng, *mask.shape) * mask, values(rng, shape.out_channels, shape.in_channels, *shape.kernel)
    reference = ref_backward.backward_conv(engine, tile, shape, mask, window, grad, weight)
    assert_same_work(backward.conv(engine, tile, shape, pack(mask), pack(window)), reference)
    ours = datapath.conv_spatial(arch_with(tile, backward=engine), shape, grad, mask, window, weight)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(engines("backward"), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), SEEDS)
def test_backward_fc(engine, n_in, n_out, samples, seed):
    rng, shape = np.random.default_rng(seed), FcShape(samples, 1, n_in, n_out)
    grad, weight = values(rng, samples, 1, n_out), values(rng, n_out, n_in)
    reference = ref_backward.backward_fc(engine, shape, grad, weight)
    assert_same_work(backward.fc(engine, shape), reference)
    ours = datapath.fc_spatial(arch_with(H2LEARN.tile, backward=engine), shape, grad, weight)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(engines("backward"), TILES, conv_shapes(4), SEEDS)
def test_encode_forward_and_weight_gradient(engine, tile, shape, seed):
    rng, arch = np.random.default_rng(seed), arch_with(tile, backward=engine)
    analog, grad = values(rng, *maps(shape)[0]), values(rng, *maps(shape)[1])
    weight, bias = values(rng, shape.out_channels, shape.in_channels, *shape.kernel), values(rng, shape.out_channels)
    reference = ref_encode.encode_forward(engine, tile, shape, analog, weight, bias)
    assert_same_work(backward.encode_forward(engine, tile, shape), reference)
    assert_same_bits(datapath.encode_current(arch, shape, analog, weight, bias), reference.values)
    reference = ref_encode.encode_weight_gradient(engine, tile, shape, analog, grad)
    assert_same_work(backward.encode_weight_gradient(engine, tile, shape), reference)
    assert_same_bits(datapath.encode_weight_gradient(arch, shape, analog, grad), reference.values)


@pytest.mark.parametrize("reset", ["zero", "subtract", "subtract-after-leak", "none"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("fires_at", ["greater_equal", "greater"])
@pytest.mark.parametrize("triangle", [False, True])
def test_soma_and_grad(reset, detach, fires_at, triangle):
    rng = np.random.default_rng(3)
    window_of, shape = ((0.0, 0.6), Surrogate(shape="triangle", scale=0.7)) if triangle else ((0.05, 0.55), None)
    neuron = Neuron(
        threshold=0.3, decay=0.25, window=window_of, surrogate_scale=0.7, surrogate=shape, reset=reset,
        detach_reset=detach, fires_at=fires_at,
    )  # fmt: skip
    x, ds = values(rng, 6, 2, 3, 4, 4), values(rng, 6, 2, 3, 4, 4)
    x[0].flat[:9] = np.float32(0.3)  # at the threshold exactly, where the two rules differ
    spikes, membrane, window = fast_neuron.soma(x, neuron)
    assert spikes[0].ravel()[:9].tolist() == [fires_at == "greater_equal"] * 9
    theirs = ref_neuron.soma(x, 0.3, 0.25, window_of, reset, fires_at)
    assert all(np.array_equal(a, b) for a, b in zip((spikes, membrane, window), theirs, strict=True))
    dm = fast_neuron.grad(ds, membrane, spikes, window, neuron)
    expected = ref_neuron.grad(ds, membrane, spikes, window, 0.25, 0.7, reset, detach, 0.3, triangle)
    np.testing.assert_allclose(dm, expected, rtol=1e-6, atol=1e-7)
    assert spikes.any()
    assert not spikes.all()
