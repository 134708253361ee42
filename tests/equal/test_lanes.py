"""Properties: the Backward Engine's vector kernel equals the plain one, integer by integer, and stays in its arrays."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from h2sim.kernels import backward as plain
from h2sim.kernels import backward_lanes, lanes

SEEDS = st.integers(0, 2**31)
DENSITIES = st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0])
CHANNELS = st.sampled_from([1, 2, 7, 8, 9, 63, 64, 65, 130, 300])  # around words, vectors and four vectors
compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT=1: nothing is compiled")


def packed(rng, density, samples, neurons):
    return np.packbits(rng.random((samples, neurons)) < density, axis=1)


def most_cycles(geometry, tile, parallelism, empty_cycles):
    """The most cycles that one PE can spend on one tile."""
    _, _, kh, kw, sh, sw, _, _ = geometry
    feeds = max(empty_cycles, -(-kh // sh) * -(-kw // sw))
    return feeds * -(-tile[0] * tile[1] // parallelism)


@st.composite
def counts_to_make(draw):
    """Arguments of conv_cycles, without the kind: odd maps, wide kernels, large tiles, empty masks, many channels."""
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 19)) for k, p in zip(kernel, padding, strict=True))
    out = tuple((i + 2 * p - k) // s + 1 for i, k, s, p in zip(size, kernel, stride, padding, strict=True))
    channels = draw(st.tuples(CHANNELS, st.integers(1, 9)))
    tile = draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    groups = draw(st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 9)))
    samples, empty_cycles = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(SEEDS))
    grad = packed(rng, draw(DENSITIES), samples, channels[0] * out[0] * out[1])
    window = packed(rng, draw(DENSITIES), samples, channels[1] * size[0] * size[1])
    return grad, window, channels, size, (*out, *kernel, *stride, *padding), tile, groups, empty_cycles


def check(arguments):
    """Every kind of counter that is wide enough gives what the plain kernel gives with 64 bits."""
    *_, geometry, tile, groups, empty_cycles = arguments
    expected = plain.conv_cycles(*arguments, np.empty(0, np.int64))
    for kind in (np.uint8, np.uint16, np.int64):
        if most_cycles(geometry, tile, groups[2], empty_cycles) <= np.iinfo(kind).max:
            found = backward_lanes.conv_cycles(*arguments, np.empty(0, kind))
            assert np.array_equal(found[0], expected[0])
            assert np.array_equal(found[1], expected[1])


@settings(max_examples=150)
@given(counts_to_make())
def test_lanes_count_as_the_plain_kernel_does(arguments):
    check(arguments)


def test_lanes_hold_the_most_that_they_are_made_for():
    """255 cycles in 8 bits, 65,535 in 16: every mask bit set, so that the sums are the largest there can be."""
    rng = np.random.default_rng(0)
    for kernel, tile, kind in ((1, (15, 17), np.uint8), (15, (17, 17), np.uint16)):
        size, padding = (17, 17), (kernel - 1) // 2
        full = packed(rng, 2.0, 1, 65 * 17 * 17)
        arguments = (full, full, (65, 65), size, (*size, kernel, kernel, 1, 1, padding, padding), tile, (7, 9, 1), 1)
        assert most_cycles(arguments[4], tile, 1, 1) <= np.iinfo(kind).max
        found = backward_lanes.conv_cycles(*arguments, np.empty(0, kind))
        expected = plain.conv_cycles(*arguments, np.empty(0, np.int64))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        assert found[0].max() > np.iinfo(kind).max // 2


@compiled_only
def test_what_no_lane_can_hold_is_counted_by_the_plain_kernel():
    byte, pair, wide = np.empty(0, np.uint8), np.empty(0, np.uint16), np.empty(0, np.int64)
    small, large = (8, 8, 3, 3, 1, 1, 1, 1), (8, 8, 17, 17, 1, 1, 8, 8)
    assert backward_lanes.fits_lanes(small, 1, byte)
    assert backward_lanes.fits_lanes(small, 255, pair)
    assert not backward_lanes.fits_lanes(small, 256, pair)
    assert not backward_lanes.fits_lanes(large, 1, pair)  # a position feeds up to 289 outputs
    assert not backward_lanes.fits_lanes(small, 1, wide)


@compiled_only
@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 11), st.sampled_from([np.uint8, np.uint16]), SEEDS)
def test_sums_in_registers_are_plain_sums(parallelism, rounds, vectors, kind, seed):
    rng = np.random.default_rng(seed)
    width = vectors * lanes.VECTOR_BYTES // np.dtype(kind).itemsize
    rows = rng.integers(0, np.iinfo(kind).max // rounds, (20, width), kind)
    offsets = rng.integers(0, len(rows), parallelism * rounds) * rows.strides[0]
    largest = rng.integers(0, np.iinfo(kind).max, width, kind)
    expected = largest.copy()
    lanes.take_sums(rows, offsets, parallelism, rounds, largest)
    lanes.plain_sums(rows, offsets, parallelism, rounds, expected)
    assert np.array_equal(largest, expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3), st.integers(0, 3), SEEDS)
@example(40, 19, 0, 0, 0)  # three rows make 57 bits, and 8 more do not fit
@settings(max_examples=60)
def test_a_tile_has_room_for_its_words(height, width, above, left, seed):
    """The rows of a tile never fall into more words than most_words says, and no bit is lost or doubled."""
    if numba.config.DISABLE_JIT:
        return
    rng = np.random.default_rng(seed)
    image = rng.random((height + above, width + left)) < 0.5
    row = lanes.with_spare(np.packbits(image.ravel()))
    most = lanes.most_words(height * width)
    words, starts = np.zeros(most, np.uint64), np.zeros(most, np.uint64)
    tile = (above, above + height, left, left + width)
    n_words = lanes.tile_words(row, 0, image.shape[1], tile, words, starts)
    assert n_words <= most
    offsets = np.zeros(height * width, np.int64)
    n = lanes.set_offsets(words, starts, n_words, 1, offsets)
    assert offsets[:n].tolist() == np.flatnonzero(image[above:, left:].ravel()[::-1]).tolist()


@compiled_only
@pytest.mark.parametrize("setting", [{"NUMBA_BOUNDSCHECK": "1"}, {"NUMBA_CPU_NAME": "generic"}], ids=str)
def test_lanes_stay_within_their_arrays_and_need_no_new_processor(setting, tmp_path):
    """numba then checks every index, those of the rows that are added included; or it compiles for any processor."""
    script = """if True:
        from hypothesis import given, settings
        from h2sim.kernels import lanes
        from tests.equal import test_lanes as tests
        settings(max_examples=40, deadline=None, database=None)(given(tests.counts_to_make())(tests.check))()
        print("checked" if lanes.CHECKED else "unchecked")
    """
    env = {**os.environ, **setting, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["checked" if "NUMBA_BOUNDSCHECK" in setting else "unchecked"]
