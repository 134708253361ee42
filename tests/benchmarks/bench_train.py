"""What training steps cost, what recording them adds, and what the process settings of h2sim.train save; one thread.

Not part of the test run: `pytest tests/benchmarks/bench_train.py --benchmark-only`, with the extras bench, train and
(for the exporter) export. The pixels are random: data sets are not at hand, and a step costs the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.datasets import Dataset, Split  # noqa: E402
from h2sim.trace import load_network  # noqa: E402
from h2sim.train.session import prepare_process, torch_session  # noqa: E402
from h2sim.train.settings import Settings  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from h2sim.train.writer import TraceWriter  # noqa: E402

BATCH = 4
SMALL_BATCH = 32  # what the runs of reports/training.sh take


def made(network: str, shape: tuple[int, int, int], batch: int) -> Trainer:
    """A trainer of a shipped network on random pixels."""
    rng = np.random.default_rng(0)
    pixels = rng.random((64, *shape), dtype=np.float32)
    split = Split(rng.integers(0, 10, 64), np.arange(64), pixels.__getitem__)
    dataset = Dataset(name="random pixels", kind="images", shape=shape, classes=10, train=split, test=split)
    settings = Settings(network=network, dataset="none", epochs=1000, batch=batch)
    return Trainer(settings, list(load_network(network).layers), dataset)


@pytest.fixture(scope="module")
def trainer():
    prepare_process()
    with torch_session():
        yield made("cifar10", (3, 32, 32), BATCH)


@pytest.mark.parametrize("what", ["step", "recorded", "recorded and written", "with values, written"])
def test_a_training_step(benchmark, trainer, tmp_path, what):
    with TraceWriter() as writer:

        def step():
            if what == "step":
                trainer.step()
                return
            _, (record,), part = trainer.recorded_step(BATCH, "values" in what)
            if "written" in what:
                writer.submit(tmp_path / "t.npz", lambda path: trainer.write_trace(path, record, part, {"epoch": 0}))

        benchmark.pedantic(step, rounds=9, warmup_rounds=2)


def test_a_step_of_the_small_network(benchmark):
    prepare_process()
    with torch_session():
        trainer = made("mnist-small", (1, 28, 28), SMALL_BATCH)
        benchmark.pedantic(trainer.step, rounds=9, warmup_rounds=2)


def spikingjelly_cifar10() -> torch.nn.Module:
    """Table 3.4's CIFAR10 network in SpikingJelly's layers, all timesteps in one call; its read-out does not fire."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, at import
        pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    layers = load_network("cifar10").layers
    parts: list[torch.nn.Module] = []
    for entry in layers:
        if entry["kind"] == "pool":
            parts.append(layer.AvgPool2d(entry["kernel"][0]))
        elif entry["kind"] == "fc":
            flat = [] if any(isinstance(part, layer.Flatten) for part in parts) else [layer.Flatten()]
            parts += [*flat, layer.Linear(entry["in_features"], entry["out_features"])]
        else:
            parts.append(layer.Conv2d(entry["in_shape"][0], entry["out_shape"][0], 3, padding=1))
        if entry is not layers[-1]:
            function = surrogate.Rect(alpha=2.0)
            parts.append(neuron.LIFNode(4 / 3, False, 0.3, surrogate_function=function))  # decay 0.25
    net = torch.nn.Sequential(*parts)
    functional.set_step_mode(net, "m")
    return net


def spikingjelly_model(number: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network in training mode, all timesteps in one call, and inputs of 4 samples for it.

    0: table 3.4's; then the library's own MNISTNet, CIFAR10Net and spiking_resnet18.
    """
    if number == 0:
        return spikingjelly_cifar10(), torch.rand(4, 3, 32, 32).expand(10, -1, -1, -1, -1)
    from spikingjelly.activation_based import functional, neuron

    from tests.helpers.zoo import parametric_lif_net, spiking_resnet

    if number == 1:
        net, shape = parametric_lif_net.MNISTNet(channels=128, spiking_neuron=neuron.ParametricLIFNode), (1, 28, 28)
    elif number == 2:
        net, shape = parametric_lif_net.CIFAR10Net(channels=64, spiking_neuron=neuron.ParametricLIFNode), (3, 32, 32)
    else:
        net = spiking_resnet.spiking_resnet18(num_classes=10, spiking_neuron=neuron.LIFNode)
        shape = (3, 32, 32)
    functional.set_step_mode(net, "m")
    return net.train(), torch.rand(4, *shape).expand(4, -1, -1, -1, -1)


def plain_step(net, inputs, targets, loss) -> Callable[[], None]:
    """Forward, loss and backward of a SpikingJelly network."""
    from spikingjelly.activation_based import functional

    def step():
        functional.reset_net(net)
        net.zero_grad()
        loss(net(inputs), targets).backward()

    return step


@pytest.mark.parametrize("what", ["step", "exported, masks only"])
def test_a_step_of_the_same_network_in_spikingjelly(benchmark, what):
    from h2sim import export

    prepare_process()
    with torch_session():
        torch.manual_seed(0)
        net, inputs = spikingjelly_model(0)
        targets = torch.arange(BATCH)

        def loss(output, wanted):
            return torch.nn.functional.cross_entropy(output.mean(0), wanted)

        step = plain_step(net, inputs, targets, loss)
        if what != "step":
            step = lambda: export.trace(net, inputs, targets, loss, values=False)  # noqa: E731
        benchmark.pedantic(step, rounds=5, warmup_rounds=1)


@contextmanager
def another_process() -> Iterator[subprocess.Popen]:
    """One that computes for as long as the block lasts."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            yield busy
        finally:
            busy.kill()


@contextmanager
def steps_elsewhere(settings: str) -> Iterator[subprocess.Popen]:
    """A fresh process on two threads that does a step of the small network for every line it is sent."""
    call = [sys.executable, __file__, settings]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MALLOC_"))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(call, text=True, bufsize=1, env=quiet, **pipes) as worker:
        yield worker
        worker.stdin.close()


@pytest.mark.parametrize("beside", ["quiet", "beside a busy process"])
@pytest.mark.parametrize("settings", ["prepared", "as it comes"])
def test_a_step_with_and_without_the_process_settings(benchmark, settings, beside):
    with steps_elsewhere(settings) as worker:

        def step():
            print(file=worker.stdin)
            assert worker.stdout.readline() == "done\n"

        step()
        if beside == "quiet":
            benchmark.pedantic(step, rounds=9, warmup_rounds=1)
            return
        with another_process():
            benchmark.pedantic(step, rounds=9, warmup_rounds=1)


def serve(settings: str) -> None:
    """A step for every line on standard input."""
    if settings == "prepared":
        prepare_process()
    torch.set_num_threads(2)
    trainer = made("mnist-small", (1, 28, 28), SMALL_BATCH)
    for _ in sys.stdin:
        trainer.step()
        print("done", flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
