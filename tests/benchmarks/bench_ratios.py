"""What must be fast, in CPU time over that of something beside it: `pytest tests/benchmarks/bench_ratios.py -s`.

Both are timed in turn in one run, and the least of each counts, so that a busy machine disturbs the ratio little. CPU
time is that of all threads. Nothing is asserted of it; what is asserted is that both ways give the same. Not part of
the test run; the layer beside torch needs the extra train.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import yaml

import h2sim
from h2sim.arch import load_arch
from h2sim.energy.load import parts_folder
from h2sim.engines import backward
from h2sim.engines.pairs import PairsKey, count_pairs
from h2sim.io import library
from h2sim.kernels import backward as plain
from h2sim.trace import Sparsity, load_network, synthesise, write_trace
from tests.benchmarks.bench_speed import LAYER, SPARSITY, masks

ARCH = load_arch("h2learn")
PAIRS = PairsKey.of(ARCH.engines.backward, ARCH.tile, LAYER)


@pytest.fixture
def compare(request):
    """Times two calls in turn and prints their ratio: compare(what, ours, theirs)."""
    rounds = 1 if request.config.getoption("--benchmark-disable", False) else 7

    def timed(what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        ours(), theirs()
        spent = [[cpu_s(call) for call in (ours, theirs)] for _ in range(rounds)]
        mine, other = (min(column) for column in zip(*spent, strict=True))
        print(f"\n{what}: {1e3 * mine:.2f} / {1e3 * other:.2f} ms CPU = {mine / other:.3f}")

    return timed


def cpu_s(call: Callable[[], object]) -> float:
    """CPU seconds of a call, of this process's threads and of processes that it waits for."""

    def now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    before = now()
    call()
    return now() - before


def test_exact_count_over_torch_conv2d_of_the_layer(compare):
    torch = pytest.importorskip("torch")
    grad, window = masks(0), masks(1)
    x, w = torch.rand(40, 256, 56, 56), torch.rand(256, 256, 3, 3)
    with torch.no_grad():
        compare(
            "dual count of 4x10x256x56x56 / conv2d",
            lambda: count_pairs(PAIRS, LAYER, grad, window),
            lambda: torch.nn.functional.conv2d(x, w, padding=1),
        )


def test_exact_count_over_the_plain_kernel(compare, monkeypatch):
    grad, window = masks(0), masks(1)

    def plainly():
        with monkeypatch.context() as patch:
            patch.setattr("h2sim.engines.pairs.conv_cycles", plain.conv_cycles)
            return backward.conv(ARCH.engines.backward, ARCH.tile, LAYER, grad, window)

    def fast():
        return backward.conv(ARCH.engines.backward, ARCH.tile, LAYER, grad, window)

    assert np.array_equal(fast().iteration_cycles, plainly().iteration_cycles)
    compare("dual count of 4x10x256x56x56 / plain kernel", fast, plainly)


def test_one_more_simulation_over_the_first_of_a_trace(compare, tmp_path):
    meta, members = synthesise(load_network("cifar10"), 10, 4, Sparsity(0.85, SPARSITY, SPARSITY), seed=0)
    path = tmp_path / "cifar10.npz"
    write_trace(path, meta, members)
    trace = h2sim.load_trace(path)

    def first():
        return h2sim.simulate(ARCH, h2sim.load_trace(path))

    assert h2sim.simulate(ARCH, trace).activity == first().activity
    compare("one more simulate() of CIFAR10 / opened and simulated", lambda: h2sim.simulate(ARCH, trace), first)
    other = ARCH.with_({"engines.backward.rows": 32, "engines.forward.columns": 32})
    compare("another machine's simulate() / opened and simulated", lambda: h2sim.simulate(other, trace), first)


def test_loading_a_table_over_parsing_its_files(compare):
    files = library.find("energy table", "28nm"), parts_folder() / "sram-28nm-itrs-hp-300k.yaml"
    texts = [file.read_text() for file in files]
    compare(
        "load_energy_table / yaml.safe_load of its files",
        lambda: h2sim.load_energy_table("28nm"),
        lambda: [yaml.safe_load(text) for text in texts],
    )


def test_the_version_over_python_that_imports_numpy(compare):
    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    numpy = run("-c", "import numpy")
    compare("h2sim --version / python -c 'import numpy'", run("-m", "h2sim", "--version"), numpy)
    compare("h2sim --help / python -c 'import numpy'", run("-m", "h2sim", "--help"), numpy)


EXPORTED = ["table 3.4's CIFAR10 network", "MNISTNet", "CIFAR10Net", "spiking_resnet18"]


@pytest.mark.parametrize("name", EXPORTED)
def test_a_trace_without_values_over_a_training_step(compare, name):
    """One thread; batch 4, T = 10 for the first and 4 for SpikingJelly's own, with 128, 64 and 64 channels."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("spikingjelly")
    from h2sim import export
    from h2sim.train.session import prepare_process
    from tests.benchmarks import bench_train

    prepare_process()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, inputs = bench_train.spikingjelly_model(EXPORTED.index(name))

    def loss(output, wanted):
        return torch.nn.functional.cross_entropy(output.mean(0), wanted)

    targets = torch.arange(4)
    step = bench_train.plain_step(net, inputs, targets, loss)
    compare(f"export.trace of {name} / a step", lambda: export.trace(net, inputs, targets, loss, values=False), step)


def test_a_trace_without_values_over_a_training_step_of_a_loop_over_time(compare):
    """snnTorch's tutorial 6 with few channels, T = 25, batch 32: each operation is small, so that Python counts."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("snntorch")
    from h2sim import export
    from h2sim.train.session import prepare_process
    from tests.export import test_models_snntorch as tutorials

    prepare_process()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, inputs, targets = tutorials.ConvNet(num_steps=25), torch.rand(32, 1, 28, 28), torch.arange(32) % 3

    def step():
        net.zero_grad()
        tutorials.rate_loss(net(inputs), targets).backward()

    def traced():
        export.trace(net, inputs, targets, tutorials.rate_loss, values=False, window_threshold=0.2)

    compare("export.trace of snnTorch's tutorial 6 / a step", traced, step)
