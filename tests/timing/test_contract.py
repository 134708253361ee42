"""Timing: compute_cycles of the fast engines against the formulas of the result schema, written out again here."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest

from h2sim.arch import load_arch
from h2sim.engines import backward, forward, weight_update
from h2sim.shapes import ConvShape, FcShape, tiles_of

ARCH = load_arch("h2learn")
FE, WUE, BE = ARCH.engines.forward, ARCH.engines.weight_update, ARCH.engines.backward

SHAPES = [
    ConvShape(
        timesteps=10,
        batch=4,
        in_channels=256,
        in_height=56,
        in_width=56,
        out_channels=256,
        out_height=56,
        out_width=56,
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1),
    ),
    ConvShape(
        timesteps=10,
        batch=4,
        in_channels=3,
        in_height=32,
        in_width=32,
        out_channels=64,
        out_height=32,
        out_width=32,
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1),
    ),
    ConvShape(
        timesteps=7,
        batch=3,
        in_channels=65,
        in_height=15,
        in_width=13,
        out_channels=17,
        out_height=8,
        out_width=7,
        kernel=(3, 3),
        stride=(2, 2),
        padding=(1, 1),
    ),
    ConvShape(
        timesteps=11,
        batch=1,
        in_channels=20,
        in_height=9,
        in_width=9,
        out_channels=130,
        out_height=9,
        out_width=9,
        kernel=(5, 5),
        stride=(1, 1),
        padding=(2, 2),
    ),
    ConvShape(
        timesteps=4,
        batch=2,
        in_channels=70,
        in_height=7,
        in_width=7,
        out_channels=33,
        out_height=7,
        out_width=7,
        kernel=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
    ),
    ConvShape(
        timesteps=3,
        batch=2,
        in_channels=5,
        in_height=12,
        in_width=10,
        out_channels=6,
        out_height=5,
        out_width=4,
        kernel=(4, 4),
        stride=(2, 2),
        padding=(0, 0),
    ),
]


def c(a, b):
    return -(-a // b)


def tiles(shape):
    return [(t.height, t.width) for t in tiles_of(shape.out_height, shape.out_width, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_conv_cycles_follow_the_contract(shape):
    z, n, p_lanes = FE.sub_lut_size, FE.sub_luts, FE.parallelism
    v = int(log2(z))
    rows = c(shape.in_channels * c(shape.kernel[0], n) * c(shape.kernel[1], v), FE.rows)
    per_block = sum(z + c(shape.samples, p_lanes) * p * q for p, q in tiles(shape))
    assert forward.conv(FE, ARCH.tile, shape).compute_cycles == rows * c(shape.out_channels, FE.columns) * per_block


@pytest.mark.parametrize("shape", SHAPES)
def test_weight_update_conv_cycles_follow_the_contract(shape):
    z, n = WUE.sub_lut_size, WUE.sub_luts
    offsets = shape.in_channels * shape.kernel[0] * shape.kernel[1]
    per_map = sum(p * c(q, n * int(log2(z))) * (z + c(offsets, WUE.parallelism)) for p, q in tiles(shape))
    expected = shape.batch * c(shape.timesteps, WUE.rows) * c(shape.out_channels, WUE.columns) * per_map
    assert weight_update.conv(WUE, ARCH.tile, shape).compute_cycles == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_encode_cycles_follow_the_contract_forward_and_weight_gradient(shape):
    per_map = sum(c(p * q, 4) * shape.kernel[0] * shape.kernel[1] + 4 for p, q in tiles(shape))
    expected = shape.samples * c(shape.in_channels, 16) * c(shape.out_channels, 64) * per_map
    assert backward.encode_forward(BE, ARCH.tile, shape).compute_cycles == expected
    assert backward.encode_weight_gradient(BE, ARCH.tile, shape).compute_cycles == expected


@pytest.mark.parametrize("size", [(10, 4, 8192, 512), (10, 1, 100, 10), (3, 3, 1536, 17), (7, 2, 1537, 16)])
def test_fully_connected_cycles_follow_the_contract_on_all_engines(size):
    shape = FcShape(*size)
    group = FE.rows * FE.sub_luts * FE.sub_lut_size
    entries = [c(min(group, shape.in_features - g), FE.rows * FE.sub_luts) for g in range(0, shape.in_features, group)]
    expected = c(shape.out_features, 16) * sum(e * (1 + c(shape.samples, 4)) for e in entries)
    assert forward.fc(FE, shape, 0).compute_cycles == expected
    passes = shape.batch * c(shape.timesteps, 10)
    expected = passes * c(shape.out_features, 128) * (1 + c(shape.in_features, 4))
    assert weight_update.fc(WUE, shape, 0).compute_cycles == expected
    expected = c(shape.out_features, 16) * c(shape.in_features, 64) * c(shape.samples, 4)
    assert backward.fc(BE, shape).compute_cycles == expected


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("mode", ["dense", "input_only", "output_only", "dual"])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_backward_conv_cycles_follow_the_contract(shape, mode, density):
    rng = np.random.default_rng(1)
    grad = rng.random((shape.samples, shape.out_channels, shape.out_height, shape.out_width)) < density
    window = rng.random((shape.samples, shape.in_channels, shape.in_height, shape.in_width)) < density
    engine = BE.model_copy(update={"mode": mode})
    work = backward.conv(engine, ARCH.tile, shape, pack(grad), pack(window))
    grad = grad if mode in ("dual", "input_only") else np.ones_like(grad)
    window = window if mode in ("dual", "output_only") else np.ones_like(window)
    assert work.compute_cycles == slowest_pairs(shape, grad, window)


def pack(mask):
    return np.packbits(mask.reshape(len(mask), -1), axis=1)


def slowest_pairs(shape, grad, window):
    """The contract's sentence on a BE PE's pairs, with numpy: feeds by scattering outputs, dealing by slicing."""
    (kh, kw), (sh, sw), (ph, pw) = shape.kernel, shape.stride, shape.padding
    feeds = np.zeros((*grad.shape[:2], shape.in_height + 2 * ph + kh, shape.in_width + 2 * pw + kw), np.int64)
    for y in range(kh):
        for x in range(kw):
            feeds[:, :, y : y + sh * shape.out_height : sh, x : x + sw * shape.out_width : sw] += grad
    cost = np.maximum(1, feeds[:, :, ph : ph + shape.in_height, pw : pw + shape.in_width])
    total = 0
    for t in tiles_of(shape.in_height, shape.in_width, 8, 8):
        tile_cost = cost[:, :, t.y0 : t.y1, t.x0 : t.x1].reshape(*cost.shape[:2], -1)
        valid = window[:, :, t.y0 : t.y1, t.x0 : t.x1].reshape(*window.shape[:2], -1)
        for s in range(shape.samples):
            pairs = np.zeros((shape.out_channels, shape.in_channels), np.int64)
            for column in range(shape.in_channels):
                dealt = np.flatnonzero(valid[s, column])
                for pe in range(4):
                    pairs[:, column] = np.maximum(pairs[:, column], tile_cost[s][:, dealt[pe::4]].sum(axis=1))
            for r in range(0, shape.out_channels, 16):
                for k in range(0, shape.in_channels, 64):
                    total += 4 + int(pairs[r : r + 16, k : k + 64].max())
    return total
