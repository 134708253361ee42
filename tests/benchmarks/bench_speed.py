"""Speed of the exact engines, beside torch's conv2d of the same layer on the same cores.

Not part of the test run: `pytest tests/benchmarks/bench_speed.py --benchmark-only`, with the extras bench and train.
"""

from __future__ import annotations

import numpy as np
import pytest

import h2sim
from h2sim.arch import load_arch
from h2sim.engines import backward
from h2sim.shapes import ConvShape
from h2sim.trace import Sparsity, load_network, synthesise, write_trace

ARCH = load_arch("h2learn")
LAYER = ConvShape(
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
)  # section 3.3.2
SPARSITY = 0.75


def masks(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.packbits(rng.random((40, 256 * 56 * 56), dtype=np.float32) >= SPARSITY, axis=1)


@pytest.mark.parametrize("mode", ["dual", "input_only", "output_only", "dense"])
def test_backward_engine_exact_count_of_the_256x56x56_layer(benchmark, mode):
    grad, window = masks(0), masks(1)
    engine = ARCH.engines.backward.model_copy(update={"mode": mode})
    work = benchmark.pedantic(backward.conv, (engine, ARCH.tile, LAYER, grad, window), rounds=7, warmup_rounds=1)
    benchmark.extra_info["simulated_cycles"] = work.compute_cycles
    benchmark.extra_info["pairs"] = work.useful_operations


def test_torch_conv2d_of_the_same_layer(benchmark):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    x, w = torch.rand(40, 256, 56, 56), torch.rand(256, 256, 3, 3)
    with torch.no_grad():
        benchmark.pedantic(torch.nn.functional.conv2d, (x, w), {"padding": 1}, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("network", ["cifar10", "imagenet"])
def test_a_whole_training_step_of_a_source_network(benchmark, tmp_path, network):
    meta, members = synthesise(load_network(network), 10, 4, Sparsity(0.85, SPARSITY, SPARSITY), seed=0)
    path = tmp_path / f"{network}.npz"
    write_trace(path, meta, members)
    trace = h2sim.load_trace(path)
    result = benchmark.pedantic(h2sim.simulate, (ARCH, trace), rounds=5, warmup_rounds=1)
    benchmark.extra_info["steady_cycles"] = result.activity.steady_cycles
