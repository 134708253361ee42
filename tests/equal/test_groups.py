"""Groups of channels, side by side on an array's diagonal: the fast forms equal the stepped ones, and the sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.engines import backward, forward, weight_update
from h2sim.reference import backward as ref_backward
from h2sim.reference import encode as ref_encode
from h2sim.reference import forward as ref_forward
from h2sim.reference import weight_update as ref_update
from tests.equal.test_engines import DENSITIES, SEEDS, TILES, assert_same_work, bits, conv_shapes, engines, maps, pack
from tests.equal.test_planes import counts, wholes

PROPERTY = settings(max_examples=40)


@st.composite
def grouped(draw):
    """Convolutions of 1 to 5 groups of 1 or 2 channels each."""
    shape, groups = draw(conv_shapes(2)), draw(st.integers(1, 5))
    channels = {"in_channels": groups * shape.in_channels, "out_channels": groups * shape.out_channels}
    return replace(shape, groups=groups, **channels)


def wide(name):
    """Engines on which several groups often fit."""
    sizes = st.tuples(st.integers(1, 9), st.integers(1, 8))
    return st.builds(lambda engine, size: engine.model_copy(update=dict(rows=size[0], columns=size[1])),
                     engines(name), sizes)  # fmt: skip


def windows_of(shape, maps_in):
    """What each output reads, (T, N, C_in, H_out, W_out, kh, kw)."""
    (ph, pw), (sh, sw) = shape.padding, shape.stride
    padded = np.pad(maps_in, ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, shape.kernel, axis=(3, 4))[:, :, :, ::sh, ::sw]
    return windows[:, :, :, : shape.out_height, : shape.out_width]


def by_group(shape, array, channels, axis):
    """The parts of an array along its channels."""
    return np.split(array, np.arange(1, shape.groups) * (channels // shape.groups), axis=axis)


def convolved(shape, maps_in, weight):
    parts = zip(by_group(shape, windows_of(shape, maps_in), shape.in_channels, 2),
                by_group(shape, weight, shape.out_channels, 0), strict=True)  # fmt: skip
    return np.concatenate([np.einsum("tnchwyx,ocyx->tnohw", x, w) for x, w in parts], axis=2)


def weight_gradient(shape, maps_in, grad):
    parts = zip(by_group(shape, windows_of(shape, maps_in), shape.in_channels, 2),
                by_group(shape, grad, shape.out_channels, 2), strict=True)  # fmt: skip
    return np.concatenate([np.einsum("tnchwyx,tnohw->ocyx", x, g) for x, g in parts], axis=0)


def kernels(rng, shape):
    return wholes(rng, shape.out_channels, shape.group.in_channels, *shape.kernel)


@PROPERTY
@given(wide("forward"), TILES, grouped(), st.integers(1, 3), SEEDS)
def test_forward(engine, tile, shape, planes, seed):
    rng = np.random.default_rng(seed)
    k, weight = counts(rng, planes, *maps(shape)[0]), kernels(rng, shape)
    reference = ref_forward.forward_conv(engine, tile, shape, k, weight, None, planes)
    assert_same_work(forward.conv(engine, tile, shape, planes), reference)
    np.testing.assert_array_equal(reference.values, convolved(shape, k, weight))


@PROPERTY
@given(wide("weight_update"), TILES, grouped(), st.integers(1, 3), SEEDS)
def test_weight_update(engine, tile, shape, planes, seed):
    rng = np.random.default_rng(seed)
    k, grad = counts(rng, planes, *maps(shape)[0]), wholes(rng, *maps(shape)[1])
    reference = ref_update.weight_update_conv(engine, tile, shape, k, grad, planes)
    assert_same_work(weight_update.conv(engine, tile, shape, planes), reference)
    np.testing.assert_array_equal(reference.values, weight_gradient(shape, k, grad))


@settings(max_examples=80)
@given(wide("backward"), TILES, grouped(), DENSITIES, DENSITIES, SEEDS)
def test_backward(engine, tile, shape, grad_density, window_density, seed):
    rng = np.random.default_rng(seed)
    window, mask = bits(rng, window_density, *maps(shape)[0]), bits(rng, grad_density, *maps(shape)[1])
    grad, weight = wholes(rng, *mask.shape) * mask, kernels(rng, shape)
    reference = ref_backward.backward_conv(engine, tile, shape, mask, window, grad, weight)
    assert_same_work(backward.conv(engine, tile, shape, pack(mask), pack(window)), reference)
    # by the transpose: <dL/ds, s> = <dm, w * s> for every s that the window lets through
    s = wholes(rng, *maps(shape)[0]) * (window if engine.mode in ("dual", "output_only") else 1)
    assert (reference.values * s).sum() == (grad * convolved(shape, s, weight)).sum()


@PROPERTY
@given(wide("backward"), TILES, grouped(), SEEDS)
def test_analog(engine, tile, shape, seed):
    rng = np.random.default_rng(seed)
    analog, grad, weight = wholes(rng, *maps(shape)[0]), wholes(rng, *maps(shape)[1]), kernels(rng, shape)
    reference = ref_encode.encode_forward(engine, tile, shape, analog, weight, None)
    assert_same_work(backward.encode_forward(engine, tile, shape), reference)
    np.testing.assert_array_equal(reference.values, convolved(shape, analog, weight))
    reference = ref_encode.encode_weight_gradient(engine, tile, shape, analog, grad)
    assert_same_work(backward.encode_weight_gradient(engine, tile, shape), reference)
    np.testing.assert_array_equal(reference.values, weight_gradient(shape, analog, grad))


def test_passes_take_as_many_groups_as_fit_and_then_what_is_left():
    """5 groups of 2 rows and 3 columns on 5 rows and 100 columns: two passes of two, one of one."""
    shape = grouped_shape(5, 2, 3)
    assert shape.passes((2, 5), (3, 100)) == [
        (range(4), range(6)), (range(4, 8), range(6, 12)), (range(8, 10), range(12, 15))
    ]  # fmt: skip
    assert [len(ins) for ins, _ in shape.passes((2, 1), (3, 1))] == [2] * 5
    assert shape.passes((0, 0), (3, 100)) == [(range(10), range(15))]


def grouped_shape(groups, ins, outs):
    from h2sim.shapes import ConvShape

    return ConvShape.of((1, 1), (groups * ins, 3, 3), (groups * outs, 3, 3), (3, 3), (1, 1), (1, 1), groups)
