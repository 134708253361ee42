"""What recording costs a training step: the CIFAR10 network of table 3.4 on a sub-batch of 4, one thread.

Not part of the test run: `pytest tests/benchmarks/bench_train.py --benchmark-only`, with the extras bench and train.
The pixels are random: the data set is not at hand, and a step costs the same.
"""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def trainer():
    prepare_process()
    with torch_session():
        rng = np.random.default_rng(0)
        pixels = rng.random((64, 3, 32, 32), dtype=np.float32)
        split = Split(rng.integers(0, 10, 64), np.arange(64), pixels.__getitem__)
        dataset = Dataset("random pixels", "images", (3, 32, 32), 10, split, split)
        yield Trainer(
            Settings("cifar10", "none", epochs=1000, batch=BATCH), list(load_network("cifar10").layers), dataset
        )


@pytest.mark.parametrize("what", ["step", "recorded", "recorded and written", "with values, written"])
def test_a_training_step(benchmark, trainer, tmp_path, what):
    with TraceWriter() as writer:

        def step():
            if what == "step":
                trainer.step()
                return
            _, record, part = trainer.recorded_step(BATCH, "values" in what)
            if "written" in what:
                writer.submit(tmp_path / "t.npz", lambda path: trainer.write_trace(path, record, part, {"epoch": 0}))

        benchmark.pedantic(step, rounds=9, warmup_rounds=2)
