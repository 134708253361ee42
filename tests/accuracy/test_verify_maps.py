"""Recorded steps of networks of maps, counts, groups and norms: the machine's values are torch's."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.arch import load_arch  # noqa: E402
from h2sim.trace import load_trace, parse_notation, write_trace  # noqa: E402
from h2sim.trace.derived import Derived  # noqa: E402
from h2sim.train import bptt  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402
from tests.helpers.tiny import halves, stepped, tiny_trainer  # noqa: E402
from tests.train.test_maps import random_layers, resized  # noqa: E402

ARCH = load_arch("h2learn")
FEW_PLANES = ARCH.with_({"engines.forward.most_planes": {"conv": 1, "fc": 1}})
NOTATIONS = {
    "every": "4C3(Encoding)(BN)-MP2-D20-4C3G2(BN)-AP3(Spikes)-8FC(BN)-2FC(Mean)",
    "averages": "4C3(Encoding)-AP2(Spikes)-6C3-AP3(Spikes)-2FC",
    "norms": "4C3(Encoding)(BN)-4C3(BN)-MP2-4C3(BN)-2FC",
}


@pytest.mark.parametrize("arch", [ARCH, FEW_PLANES], ids=["planes", "multiplied"])
@pytest.mark.parametrize("name", NOTATIONS)
def test_a_trained_step(tmp_path, name, arch):
    trainer, _ = stepped(tiny_trainer(parse_notation(NOTATIONS[name], (1, 6, 6))), 6)
    _, (record,), part = trainer.recorded_step(8, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    report = verify_trace(arch, load_trace(tmp_path / "t.npz"))
    assert report.unchecked == ()
    assert [row for row in report.rows if not row.passed] == []
    assert {"membrane", "weight_grad", "grad_membrane"} <= {row.quantity for row in report.rows}
    if name != "averages":
        assert {"current", "grad_current", "grad is dL/dx != 0"} <= {row.quantity for row in report.rows}


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_of_maps(tmp_path, seed):
    drawn, layers = random_layers(seed)
    entry = {"kind": "counts", "most": drawn.most} if drawn.most > 1 else None
    shape, data = drawn.shapes["input"], halves(kind="images")
    data = type(data)(data.name, data.kind, shape, 2, *(resized(part, shape) for part in (data.train, data.test)))
    trainer = tiny_trainer(layers, data)
    trainer = type(trainer)(trainer.settings, layers, data, entry)
    batch = next(trainer.stream).part(0, 3)
    _, record = bptt.recorded_gradients(trainer.network, batch, 4, trainer.settings.objective, 3, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, batch, {"epoch": 0})
    report = verify_trace(FEW_PLANES if seed % 4 == 0 else ARCH, load_trace(tmp_path / "t.npz"))
    assert [row for row in report.rows if not row.passed] == []
    assert sum(row.checked for row in report.rows) > 100


@pytest.mark.parametrize("member", ["conv2.weight", "conv1.norm_weight", "drop1.kept"])
def test_a_changed_value_is_noticed(tmp_path, member):
    trainer, _ = stepped(tiny_trainer(parse_notation(NOTATIONS["every"], (1, 6, 6))), 6)
    _, (record,), part = trainer.recorded_step(8, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    with np.load(tmp_path / "t.npz") as file:
        members = {name: file[name] for name in file.files}
    meta = json.loads(members.pop("meta").tobytes())
    members[member] = other(members[member])
    write_trace(tmp_path / "changed.npz", meta, members)
    assert not verify_trace(ARCH, load_trace(tmp_path / "changed.npz")).passed


def other(array):
    return np.zeros_like(array) if array.dtype == np.uint8 else np.roll(array, 1) + array.dtype.type(0.25)


def weight_gradients(trainer, batch, needed=None):
    """dL/dw and dL/db of a step; needed: by map, where alone a convolution's gradient to it is kept."""
    network = trainer.network
    if needed is not None:
        current = network.current

        def only_needed(layer, inputs, record=None):
            mask = needed.get(layer["inputs"][0]) if layer["kind"] == "conv" else None
            if mask is not None and inputs[0].requires_grad:
                through = inputs[0].clone()
                through.register_hook(lambda grad: grad * torch.tensor(mask).reshape(grad.shape))
                inputs = [through]
            return current(layer, inputs, record)

        network.current = only_needed
    _, record = bptt.recorded_gradients(network, batch, 4, trainer.settings.objective, 3, values=True)
    return record, {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


CONVOLVED = [
    "4C3-MP2-4C3-AP2(Spikes)-4C3-2FC",
    "4C3(BN)-MP2-4C3(BN)-D20-4C3G2-2FC",
    "4C3-AP2(Spikes)-MP2-6C3-2FC",
    "4C3(Encoding)(BN)-AP2-4C3-MP2-6C3(BN)-2FC(Mean)",
]


@pytest.mark.parametrize("notation", CONVOLVED)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_do_not_change_when_only_what_is_needed_is_computed(tmp_path, notation, seed):
    def made():
        trainer, _ = stepped(tiny_trainer(parse_notation(notation, (1, 6, 6)), seed=seed), 3)
        return trainer, next(trainer.stream).part(0, 3)

    trainer, batch = made()
    record, whole = weight_gradients(trainer, batch)
    trainer.write_trace(tmp_path / "t.npz", record, batch, {"epoch": 0})
    derived = Derived(load_trace(tmp_path / "t.npz"))
    needed = {layer.inputs[0]: derived.needed(layer.inputs[0]) for layer in derived.meta.layers
              if layer.kind == "conv" and layer.inputs[0] != "input"}  # fmt: skip
    assert any(not mask.all() for mask in needed.values())
    _, part = weight_gradients(*made(), needed)
    assert whole.keys() == part.keys()
    for name, grad in whole.items():
        assert torch.equal(grad, part[name]), name
    assert any(grad.abs().max() > 0 for grad in whole.values())


def test_conv_norm_maximum_neuron(tmp_path):
    """The neuron stands behind the maximum of normalised currents: where it routes is recorded."""
    layers = parse_notation("4C3(BN)-AP2-2FC", (1, 6, 6))
    layers[0] |= {"spiking": False}
    layers[1] |= {"mode": "max"}
    trainer, _ = stepped(tiny_trainer(layers), 6)
    _, (record,), part = trainer.recorded_step(8, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    trace = load_trace(tmp_path / "t.npz")
    report = verify_trace(ARCH, trace)
    assert report.unchecked == ()
    assert [row for row in report.rows if not row.passed] == []
    assert trace.has("pool1.route")
    assert {("conv1", "grad_current"), ("pool1", "membrane")} <= {(row.layer, row.quantity) for row in report.rows}
