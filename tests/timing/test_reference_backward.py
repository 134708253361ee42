"""The reference Backward Engine, Soma and Grad: hand counts, an independent oracle, the contract's formulas."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import numpy as np
import pytest

from h2sim.activity import Actions
from h2sim.arch.schema import (
    MODES,
    BackwardEngine,
    TileSize,
)
from h2sim.reference import (
    average_pool,
    average_pool_transpose,
    backward_conv,
    backward_fc,
    encode_forward,
    encode_weight_gradient,
    forward_conv,
    grad,
    soma,
)
from h2sim.reference.neuron import Reset
from h2sim.shapes import ConvShape, FcShape
from tests.helpers.oracles import (
    SHAPES,
    backward_engine,
    bits,
    c,
    convolution,
    every_shape,
    forward_engine,
    maps,
    output_tiles,
    tile_size,
    transposed_convolution,
    values,
    weight_gradient,
)


def test_backward_conv_cycles_and_events_match_a_hand_count() -> None:
    # 1x4 map, 1x3 kernel, padding 1; gradient bits 1 1 0 0; position x is fed by outputs x+1, x, x-1 (taps 0, 1, 2)
    #   x = 0: outputs 1, 0 -> 2 pairs; x = 1: 2, 1, 0 -> 2 pairs; x = 2: 3, 2, 1 -> 1; x = 3: 3, 2 -> 0 (empty)
    # window 1 1 0 1: positions 0, 1, 3 dealt: PE 0 gets 0 and 3, PE 1 gets 1
    #   cycle  PE 0                PE 1
    #   1      x0 tap0 (output 1)  x1 tap1 (output 1)
    #   2      x0 tap1 (output 0)  x1 tap2 (output 0)
    #   3      x3 empty            done
    #   4-7    sync
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=1,
        in_height=1,
        in_width=4,
        out_channels=1,
        out_height=1,
        out_width=4,
        kernel=(1, 3),
        stride=(1, 1),
        padding=(0, 1),
    )
    mask = np.array([1, 1, 0, 0], np.uint8).reshape(1, 1, 1, 1, 4)
    window = np.array([1, 1, 0, 1], np.uint8).reshape(1, 1, 1, 1, 4)
    dm = np.array([2, 3, 0, 0], np.float32).reshape(1, 1, 1, 1, 4)
    weight = np.array([1, 10, 100], np.float32).reshape(1, 1, 1, 3)
    run = backward_conv(backward_engine(), tile_size(8, 8), shape, mask, window, dm, weight)
    assert run.iteration_cycles == [3 + 4]
    assert run.values.ravel().tolist() == [3 + 20, 30 + 200, 0, 0]
    assert run.pe_array == Actions(fp16_multiply=4, fp16_add=4, register_access=16, priority_encode=5)
    assert run.acc == Actions(fp16_add=3)


@pytest.mark.parametrize(
    ("mode", "cycles", "pairs", "encodes", "dealt"),
    [
        # positions 0..3 cost 2 2 1 1(empty) with the gradient mask, 2 3 3 2 without
        ("dense", 2 + 3, 10, 0, 4),  # PE 0: x0, x2; PE 1: x1, x3
        ("input_only", 2 + 1, 5, 6, 4),
        ("output_only", 2 + 2, 7, 7, 3),  # PE 0: x0, x3; PE 1: x1
        ("dual", 2 + 1, 4, 5, 3),
    ],
)
def test_each_mode_takes_the_masks_it_ignores_as_all_ones(
    mode: str, cycles: int, pairs: int, encodes: int, dealt: int
) -> None:
    shape = ConvShape(
        timesteps=1,
        batch=1,
        in_channels=1,
        in_height=1,
        in_width=4,
        out_channels=1,
        out_height=1,
        out_width=4,
        kernel=(1, 3),
        stride=(1, 1),
        padding=(0, 1),
    )
    mask = np.array([1, 1, 0, 0], np.uint8).reshape(1, 1, 1, 1, 4)
    window = np.array([1, 1, 0, 1], np.uint8).reshape(1, 1, 1, 1, 4)
    run = backward_conv(backward_engine(mode=mode, tile_sync_cycles=0), tile_size(8, 8), shape, mask, window)
    assert run.cycles == cycles
    assert run.pe_array == Actions(
        fp16_multiply=pairs, fp16_add=pairs, register_access=4 * pairs, priority_encode=encodes
    )
    assert run.acc == Actions(fp16_add=dealt)


def contract_backward(
    engine: BackwardEngine, tile: TileSize, shape: ConvShape, mask: np.ndarray, window: np.ndarray
) -> tuple[list[int], int, int]:
    """Cycles per iteration, pairs and empty tags: counts per position by pushing every output's bit down its taps."""
    mask = np.ones_like(mask) if engine.mode in ("dense", "output_only") else mask
    window = np.ones_like(window) if engine.mode in ("dense", "input_only") else window
    t, n, c_in, h, w = window.shape
    (kh, kw), (sh, sw), (ph, pw) = shape.kernel, shape.stride, shape.padding
    count = np.zeros((t, n, shape.out_channels, h + 2 * ph, w + 2 * pw), int)
    for y, x in product(range(shape.out_height), range(shape.out_width)):
        count[..., y * sh : y * sh + kh, x * sw : x * sw + kw] += mask[..., y, x][..., None, None]
    count = count[..., ph : ph + h, pw : pw + w]
    iterations, pairs, empty = [], 0, 0
    for c0, y0, x0, r0 in product(
        range(0, c_in, engine.columns),
        range(0, h, tile.height),
        range(0, w, tile.width),
        range(0, shape.out_channels, engine.rows),
    ):
        cycles = 0
        box = np.s_[..., y0 : y0 + tile.height, x0 : x0 + tile.width]
        for ti, ni in product(range(t), range(n)):
            worst = 0
            for ci in range(c0, min(c0 + engine.columns, c_in)):
                valid = window[ti, ni, ci][box].ravel().astype(bool)
                for r in range(r0, min(r0 + engine.rows, shape.out_channels)):
                    costs = count[ti, ni, r][box].ravel()[valid]
                    pairs, empty = pairs + int(costs.sum()), empty + int((costs == 0).sum())
                    held = np.maximum(costs, engine.empty_window_cycles)
                    worst = max(
                        [worst] + [int(held[pe :: engine.parallelism].sum()) for pe in range(engine.parallelism)]
                    )
            cycles += worst + engine.tile_sync_cycles
        iterations.append(cycles)
    return iterations, pairs, empty


@every_shape
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("density", "empty"), [(0.0, 1), (1.0, 1), (0.3, 1), (0.3, 0), (0.3, 3)])
def test_backward_conv_agrees_with_the_contract_and_the_oracle(
    shape: ConvShape, tile: TileSize, mode: str, density: float, empty: int
) -> None:
    rng = np.random.default_rng(5)
    engine = backward_engine(mode=mode, empty_window_cycles=empty, tile_sync_cycles=2, parallelism=3)
    in_map, out_map, kernels = maps(shape)
    mask, window = bits(rng, out_map, density), bits(rng, in_map, density)
    dm, weight = values(rng, out_map) * mask, values(rng, kernels)
    run = backward_conv(engine, tile, shape, mask, window, dm, weight)
    kept = window if mode in ("dual", "output_only") else np.ones_like(window)
    np.testing.assert_allclose(run.values, transposed_convolution(shape, dm, weight) * kept, rtol=1e-4, atol=1e-5)

    iterations, pairs, empty_tags = contract_backward(engine, tile, shape, mask, window)
    assert run.iteration_cycles == iterations
    assert run.cycles == sum(iterations)
    assert run.pe_array == Actions(
        fp16_multiply=pairs,
        fp16_add=pairs,
        register_access=4 * pairs,
        priority_encode=0 if mode == "dense" else pairs + empty_tags,
    )
    assert run.acc == Actions(fp16_add=int(kept.sum()) * shape.out_channels)


def test_backward_conv_without_values_counts_the_same() -> None:
    rng = np.random.default_rng(6)
    shape, tile = SHAPES["3x3"]
    in_map, out_map, kernels = maps(shape)
    mask, window = bits(rng, out_map), bits(rng, in_map)
    bare = backward_conv(backward_engine(), tile, shape, mask, window)
    full = backward_conv(
        backward_engine(), tile, shape, mask, window, values(rng, out_map) * mask, values(rng, kernels)
    )
    assert (bare.iteration_cycles, bare.pe_array, bare.acc) == (full.iteration_cycles, full.pe_array, full.acc)
    assert not bare.values.any()


def test_backward_fc_agrees_with_the_contract_and_the_oracle() -> None:
    rng = np.random.default_rng(7)
    dm, weight = values(rng, (3, 1, 5)), values(rng, (5, 7))
    run = backward_fc(backward_engine(), FcShape(3, 1, 7, 5), dm, weight)
    np.testing.assert_allclose(run.values, np.einsum("tno,oi->tni", dm, weight), rtol=1e-4, atol=1e-5)
    assert run.iteration_cycles == [c(3, 2)] * (c(7, 2) * c(5, 2))
    assert run.cycles == c(5, 2) * c(7, 2) * c(3, 2)
    assert run.pe_array == Actions(fp16_multiply=3 * 5 * 7, register_access=2 * 3 * 5 * 7)
    assert run.acc == Actions(fp16_add=3 * 5 * 7)


@every_shape
def test_the_encoding_layer_agrees_with_the_contract_and_the_oracle(shape: ConvShape, tile: TileSize) -> None:
    rng = np.random.default_rng(8)
    engine = backward_engine(tile_sync_cycles=3)
    in_map, out_map, kernels = maps(shape)
    analog, weight, bias, dm = (values(rng, size) for size in (in_map, kernels, kernels[:1], out_map))
    forward = encode_forward(engine, tile, shape, analog, weight, bias)
    update = encode_weight_gradient(engine, tile, shape, analog, dm)
    np.testing.assert_allclose(forward.values, convolution(shape, analog, weight, bias), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(update.values, weight_gradient(shape, analog, dm), rtol=1e-4, atol=1e-4)

    taps = shape.kernel[0] * shape.kernel[1]
    rows, columns, tiles = c(shape.in_channels, 2), c(shape.out_channels, 2), output_tiles(shape, tile)
    per_tile = [shape.samples * (c(p * q, 2) * taps + 3) for p, q in tiles]
    assert forward.iteration_cycles == update.iteration_cycles == [x for x in per_tile for _ in range(rows)] * columns
    assert forward.cycles == rows * columns * sum(per_tile)
    results = shape.samples * shape.out_height * shape.out_width * shape.in_channels * shape.out_channels
    macs = results * taps
    assert forward.pe_array == Actions(fp16_multiply=macs, fp16_add=macs, register_access=4 * macs)
    assert update.pe_array == forward.pe_array
    assert forward.acc == Actions(fp16_add=results)
    assert update.acc == Actions(fp16_add=shape.samples * len(tiles) * shape.in_channels * shape.out_channels * taps)


def test_the_encoding_layer_cycles_match_a_hand_count() -> None:
    # 1x3 map, 1x2 kernel, P = 2: positions (0, 1) for taps 0 and 1, position 2 for taps 0 and 1, 4 cycles of sync
    shape = ConvShape(
        timesteps=2,
        batch=1,
        in_channels=1,
        in_height=1,
        in_width=4,
        out_channels=1,
        out_height=1,
        out_width=3,
        kernel=(1, 2),
        stride=(1, 1),
        padding=(0, 0),
    )
    analog = np.arange(8, dtype=np.float32).reshape(2, 1, 1, 1, 4)
    weight = np.array([1, 10], np.float32).reshape(1, 1, 1, 2)
    run = encode_forward(backward_engine(), tile_size(8, 8), shape, analog, weight, None)
    assert run.iteration_cycles == [2 * (4 + 4)]
    assert run.values.ravel().tolist() == [10, 21, 32, 54, 65, 76]


def test_soma_fires_resets_and_masks_as_in_the_equations() -> None:
    x = np.array([0.5, 0.25, 1.0, 0.0], np.float32).reshape(4, 1, 1)
    results = {reset: soma(x, 0.5, 0.5, (0.125, 0.75), reset) for reset in get_args(Reset)}
    assert results["zero"][1].ravel().tolist() == [0.5, 0.25, 1.125, 0.0]
    assert results["subtract"][1].ravel().tolist() == [0.5, 0.25, 1.125, 0.3125]
    assert results["subtract-after-leak"][1].ravel().tolist() == [0.5, 0.0, 1.0, 0.0]
    assert results["none"][1].ravel().tolist() == [0.5, 0.5, 1.25, 0.625]
    spikes, _, window = results["zero"]
    assert spikes.ravel().tolist() == [1, 0, 1, 0]
    assert window.ravel().tolist() == [1, 1, 0, 0]
    assert spikes.dtype == window.dtype == np.uint8


def test_the_window_is_open_at_both_ends() -> None:
    x = np.array([0.25, 0.5, 0.75], np.float32).reshape(1, 1, 3)
    assert soma(x, 0.5, 0.0, (0.25, 0.75), "zero")[2].ravel().tolist() == [0, 1, 0]


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset", get_args(Reset))
@pytest.mark.parametrize("triangle", [False, True])
def test_grad_is_the_derivative_of_soma_with_the_surrogate(reset: Any, detach_reset: bool, triangle: bool) -> None:
    """Oracle: forward-mode differentiation, neuron by neuron and input by input."""
    rng = np.random.default_rng(9)
    steps, alpha, eta, threshold = 5, 0.5, 0.75, 0.4
    x, ds = rng.random((steps, 2, 6)).astype(np.float32), values(rng, (steps, 2, 6))
    s, m, window = soma(x, threshold, alpha, (0.0, 0.8) if triangle else (0.1, 0.9), reset)
    dm = grad(ds, m, s, window, alpha, eta, reset, detach_reset, threshold, triangle)
    fire = eta * np.maximum(0, 1 - np.abs(m / threshold - 1)) / threshold if triangle else eta * window
    for source in range(steps):
        slope, expected = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
        spike_slope = np.zeros(x.shape[1:])
        for t in range(source, steps):
            kept = slope * (1.0 - s[t - 1] if reset == "zero" else 1.0) if t > source else 0.0 * slope
            height = {"zero": m[t - 1], "none": 0.0}.get(reset, threshold) if t > source else 0.0
            dropped = 0.0 if detach_reset else spike_slope * height * (1 if reset == "subtract-after-leak" else alpha)
            slope = alpha * kept - dropped + (t == source)
            spike_slope = fire[t] * slope
            expected += ds[t] * spike_slope
        np.testing.assert_allclose(dm[source], expected, rtol=1e-4, atol=1e-5)


def test_grad_needs_no_membrane_outside_the_window() -> None:
    """Decompressed potentials (0 where Soma kept none) give the same: eq. 2.4 only counts inside the window."""
    rng = np.random.default_rng(10)
    x, ds = rng.random((4, 1, 20)).astype(np.float32), values(rng, (4, 1, 20))
    s, m, window = soma(x, 0.4, 0.5, (0.2, 0.6), "zero")
    full = grad(ds, m, s, window, 0.5, 1.0, "zero", False)
    np.testing.assert_array_equal(grad(ds, m * window, s, window, 0.5, 1.0, "zero", False), full)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 0)), ((2, 2), (3, 3), (0, 0))]
)
def test_pooling_and_its_transpose_are_adjoint(kernel: Any, stride: Any, padding: Any) -> None:
    rng = np.random.default_rng(11)
    spikes = bits(rng, (2, 1, 2, 5, 7))
    current = average_pool(spikes, kernel, stride, padding)
    assert current.shape == (
        2,
        1,
        2,
        (5 + 2 * padding[0] - kernel[0]) // stride[0] + 1,
        (7 - kernel[1]) // stride[1] + 1,
    )
    y0 = stride[0] - padding[0]
    first = spikes[..., y0 : y0 + kernel[0], : kernel[1]].astype(np.float64).mean(axis=(-2, -1))
    np.testing.assert_allclose(current[..., 1, 0], first)
    dm = values(rng, current.shape)
    below = average_pool_transpose(dm, kernel, stride, padding, (5, 7))
    np.testing.assert_allclose((below * spikes).sum(), (dm * current).sum(), rtol=1e-4)
    assert below.shape == spikes.shape


def test_wrong_inputs_are_refused_by_name() -> None:
    shape, tile = SHAPES["3x3"]
    in_map, out_map, kernels = maps(shape)
    spikes, weight, mask = np.zeros(in_map, np.uint8), np.zeros(kernels), np.zeros(out_map, np.uint8)
    with pytest.raises(ValueError, match=r"^spikes: expected shape \(3, 1, 4, 5, 5\); got \(3, 4, 5, 5\)$"):
        forward_conv(forward_engine(), tile, shape, spikes[:, 0], weight, None)
    with pytest.raises(ValueError, match=r"^spikes: expected only 0 and 1; got values from 2 to 2$"):
        forward_conv(forward_engine(), tile, shape, spikes + 2, weight, None)
    with pytest.raises(ValueError, match=r"^bias: expected shape \(3,\); got \(1,\)$"):
        forward_conv(forward_engine(), tile, shape, spikes, weight, np.zeros(1))
    with pytest.raises(ValueError, match=r"^grad, weight: expected both or neither; got one$"):
        backward_conv(backward_engine(), tile, shape, mask, spikes, weight=weight)
    with pytest.raises(ValueError, match=r"^reset: expected one of zero, subtract, .*, none; got 'hard'$"):
        soma(np.zeros((1, 1, 1)), 1.0, 0.5, (0.0, 1.0), "hard")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^threshold: expected a value for reset 'subtract' without detach_reset; got None$"
    ):
        grad(*[np.zeros((1, 1, 1))] * 4, 0.5, 1.0, "subtract", False)
    with pytest.raises(ValueError, match=r"^threshold: expected a value for a triangle; got None$"):
        grad(*[np.zeros((1, 1, 1))] * 4, 0.5, 1.0, "zero", False, triangle=True)
