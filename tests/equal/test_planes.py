"""Counts and analog operands: the fast forms equal the stepped ones, and both the sum of w * k."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.engines import backward, forward, weight_update
from h2sim.reference import encode as ref_encode
from h2sim.reference import forward as ref_forward
from h2sim.reference import weight_update as ref_update
from h2sim.shapes import FcShape
from tests.equal.test_engines import SEEDS, TILES, assert_same_work, conv_shapes, engines, maps

PROPERTY = settings(max_examples=30)
PLANES = st.integers(1, 4)


def counts(rng, planes, *shape):
    """Integers of so many bits, half of them 0."""
    return rng.integers(0, 1 << planes, shape) * rng.integers(0, 2, shape)


def wholes(rng, *shape):
    """Small integers as float32, whose sums are exact in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def set_bits(k):
    return int(np.bitwise_count(k).sum())


def convolved(shape, k, weight):
    """w * k, (T, N, C_out, H, W): the sum over channels and the kernel, without an engine."""
    (ph, pw), (sh, sw) = shape.padding, shape.stride
    padded = np.pad(k, ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape.kernel, axis=(3, 4))[:, :, :, ::sh, ::sw]
    return np.einsum("tnchwyx,ocyx->tnohw", windows[:, :, :, : shape.out_height, : shape.out_width], weight)


@PROPERTY
@given(engines("forward"), TILES, conv_shapes(3), PLANES, SEEDS)
def test_forward_conv(engine, tile, shape, planes, seed):
    rng = np.random.default_rng(seed)
    k, weight = counts(rng, planes, *maps(shape)[0]), wholes(rng, shape.out_channels, shape.in_channels, *shape.kernel)
    reference = ref_forward.forward_conv(engine, tile, shape, k, weight, None, planes)
    assert_same_work(forward.conv(engine, tile, shape, planes), reference)
    np.testing.assert_array_equal(reference.values, convolved(shape, k, weight))


@PROPERTY
@given(engines("forward"), st.integers(1, 60), st.integers(1, 7), st.integers(1, 5), PLANES, SEEDS)
def test_forward_fc(engine, n_in, n_out, samples, planes, seed):
    rng, shape = np.random.default_rng(seed), FcShape(samples, 2, n_in, n_out)
    k, weight = counts(rng, planes, samples, 2, n_in), wholes(rng, n_out, n_in)
    reference = ref_forward.forward_fc(engine, shape, k, weight, None, planes)
    assert_same_work(forward.fc(engine, shape, set_bits(k), planes), reference)
    np.testing.assert_array_equal(reference.values, k @ weight.T)


@PROPERTY
@given(engines("weight_update"), TILES, conv_shapes(3), PLANES, SEEDS)
def test_weight_update_conv(engine, tile, shape, planes, seed):
    rng = np.random.default_rng(seed)
    k, grad = counts(rng, planes, *maps(shape)[0]), wholes(rng, *maps(shape)[1])
    reference = ref_update.weight_update_conv(engine, tile, shape, k, grad, planes)
    assert_same_work(weight_update.conv(engine, tile, shape, planes), reference)
    (ph, pw), (sh, sw) = shape.padding, shape.stride
    padded = np.pad(k, ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape.kernel, axis=(3, 4))[:, :, :, ::sh, ::sw]
    windows = windows[:, :, :, : shape.out_height, : shape.out_width]
    np.testing.assert_array_equal(reference.values, np.einsum("tnchwyx,tnohw->ocyx", windows, grad))


@PROPERTY
@given(engines("weight_update"), st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), PLANES, SEEDS)
def test_weight_update_fc(engine, n_in, n_out, samples, planes, seed):
    rng, shape = np.random.default_rng(seed), FcShape(samples, 2, n_in, n_out)
    k, grad = counts(rng, planes, samples, 2, n_in), wholes(rng, samples, 2, n_out)
    reference = ref_update.weight_update_fc(engine, shape, k, grad, planes)
    assert_same_work(weight_update.fc(engine, shape, set_bits(k), planes), reference)
    np.testing.assert_array_equal(reference.values, np.einsum("tni,tno->oi", k, grad))


@PROPERTY
@given(engines("backward"), st.integers(1, 20), st.integers(1, 7), st.integers(1, 9), SEEDS)
def test_analog_fc(engine, n_in, n_out, samples, seed):
    rng, shape = np.random.default_rng(seed), FcShape(samples, 2, n_in, n_out)
    analog, weight, grad = wholes(rng, samples, 2, n_in), wholes(rng, n_out, n_in), wholes(rng, samples, 2, n_out)
    reference = ref_encode.analog_fc_forward(engine, shape, analog, weight, None)
    assert_same_work(backward.analog_fc_forward(engine, shape), reference)
    np.testing.assert_array_equal(reference.values, analog @ weight.T)
    reference = ref_encode.analog_fc_weight_gradient(engine, shape, analog, grad)
    assert_same_work(backward.analog_fc_weight_gradient(engine, shape), reference)
    np.testing.assert_array_equal(reference.values, np.einsum("tni,tno->oi", analog, grad))
