"""The compiled data paths, of counts, groups and analog operands: the stepped engines' bits, sums in the same order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.reference import backward as ref_backward
from h2sim.reference import encode as ref_encode
from h2sim.reference import forward as ref_forward
from h2sim.reference import weight_update as ref_update
from h2sim.shapes import FcShape
from h2sim.verify import datapath
from tests.equal.test_engines import (
    DENSITIES,
    H2LEARN,
    SEEDS,
    TILES,
    arch_with,
    assert_same_bits,
    bits,
    engines,
    maps,
    values,
)
from tests.equal.test_groups import grouped, wide
from tests.equal.test_planes import counts

PROPERTY = settings(max_examples=30)
PLANES = st.integers(1, 10)


def drawn(rng, shape):
    return values(rng, shape.out_channels, shape.group.in_channels, *shape.kernel), values(rng, shape.out_channels)


@PROPERTY
@given(wide("forward"), TILES, grouped(), PLANES, SEEDS)
def test_forward(engine, tile, shape, planes, seed):
    rng = np.random.default_rng(seed)
    k, (weight, bias) = counts(rng, planes, *maps(shape)[0]), drawn(rng, shape)
    reference = ref_forward.forward_conv(engine, tile, shape, k, weight, bias, planes)
    ours = datapath.conv_current(arch_with(tile, forward=engine), shape, k, weight, bias, planes)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(engines("forward"), st.integers(1, 90), st.integers(1, 5), st.integers(1, 4), PLANES, SEEDS)
def test_forward_fc(engine, n_in, n_out, samples, planes, seed):
    rng, shape = np.random.default_rng(seed), FcShape(samples, 2, n_in, n_out)
    k, weight, bias = counts(rng, planes, samples, 2, n_in), values(rng, n_out, n_in), values(rng, n_out)
    reference = ref_forward.forward_fc(engine, shape, k, weight, bias, planes)
    ours = datapath.fc_current(arch_with(H2LEARN.tile, forward=engine), shape, k, weight, bias, planes)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(wide("weight_update"), TILES, grouped(), PLANES, SEEDS)
def test_weight_update(engine, tile, shape, planes, seed):
    rng = np.random.default_rng(seed)
    k, grad = counts(rng, planes, *maps(shape)[0]), values(rng, *maps(shape)[1])
    reference = ref_update.weight_update_conv(engine, tile, shape, k, grad, planes)
    ours = datapath.conv_weight_gradient(arch_with(tile, weight_update=engine), shape, k, grad, planes)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(engines("weight_update"), st.integers(1, 30), st.integers(1, 5), st.integers(1, 6), PLANES, SEEDS)
def test_weight_update_fc(engine, n_in, n_out, steps, planes, seed):
    rng, shape = np.random.default_rng(seed), FcShape(steps, 2, n_in, n_out)
    k, grad = counts(rng, planes, steps, 2, n_in), values(rng, steps, 2, n_out)
    reference = ref_update.weight_update_fc(engine, shape, k, grad, planes)
    ours = datapath.fc_weight_gradient(arch_with(H2LEARN.tile, weight_update=engine), shape, k, grad, planes)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(wide("backward"), TILES, grouped(), DENSITIES, SEEDS)
def test_backward(engine, tile, shape, density, seed):
    rng = np.random.default_rng(seed)
    window, mask = bits(rng, density, *maps(shape)[0]), bits(rng, density, *maps(shape)[1])
    grad, (weight, _) = values(rng, *mask.shape) * mask, drawn(rng, shape)
    reference = ref_backward.backward_conv(engine, tile, shape, mask, window, grad, weight)
    ours = datapath.conv_spatial(arch_with(tile, backward=engine), shape, grad, mask, window, weight)
    assert_same_bits(ours, reference.values)


@PROPERTY
@given(wide("backward"), TILES, grouped(), SEEDS)
def test_analog(engine, tile, shape, seed):
    rng, arch = np.random.default_rng(seed), arch_with(tile, backward=engine)
    analog, grad, (weight, bias) = values(rng, *maps(shape)[0]), values(rng, *maps(shape)[1]), drawn(rng, shape)
    reference = ref_encode.encode_forward(engine, tile, shape, analog, weight, bias)
    assert_same_bits(datapath.encode_current(arch, shape, analog, weight, bias), reference.values)
    reference = ref_encode.encode_weight_gradient(engine, tile, shape, analog, grad)
    assert_same_bits(datapath.encode_weight_gradient(arch, shape, analog, grad), reference.values)


@PROPERTY
@given(engines("backward"), st.integers(1, 20), st.integers(1, 7), st.integers(1, 9), SEEDS)
def test_analog_fc(engine, n_in, n_out, samples, seed):
    rng, shape = np.random.default_rng(seed), FcShape(samples, 2, n_in, n_out)
    arch = arch_with(H2LEARN.tile, backward=engine)
    analog, grad = values(rng, samples, 2, n_in), values(rng, samples, 2, n_out)
    weight, bias = values(rng, n_out, n_in), values(rng, n_out)
    reference = ref_encode.analog_fc_forward(engine, shape, analog, weight, bias)
    assert_same_bits(datapath.analog_fc_current(arch, shape, analog, weight, bias), reference.values)
    reference = ref_encode.analog_fc_weight_gradient(engine, shape, analog, grad)
    assert_same_bits(datapath.analog_fc_weight_gradient(arch, shape, analog, grad), reference.values)
