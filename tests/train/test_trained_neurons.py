"""Thresholds and decays that are trained with the weights, and what traces and checkpoints say of them."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from h2sim.arch import load_arch  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.facade import simulate  # noqa: E402
from h2sim.trace import load_trace  # noqa: E402
from h2sim.train import folder as folder_module  # noqa: E402
from h2sim.train.lif import RESETS, Neuron  # noqa: E402
from h2sim.train.network import LEAST_THRESHOLD  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402
from tests.helpers.tiny import stepped, tiny_trainer  # noqa: E402
from tests.train.test_folder import Killed, artefacts, run  # noqa: E402

DIET = Neuron(0.4, 0.9, surrogate_scale=0.3, detach_reset=True, fires_at="greater", reset="subtract",
              surrogate="triangle")  # fmt: skip


def numbers(trainer):
    stores = trainer.network.thresholds, trainer.network.decays
    return [float(p.detach()) for store in stores for p in store.parameters()]


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", ["rectangle", "triangle"])
@pytest.mark.parametrize("detach_reset", [False, True])
def test_a_trace_has_each_layers_neuron_of_its_step_and_verifies(tmp_path, reset, surrogate, detach_reset):
    neuron = Neuron(0.3, 0.5, reset=reset, surrogate=surrogate, detach_reset=detach_reset)
    trainer, _ = stepped(tiny_trainer(neuron=neuron, trained_neurons=True), 6)
    before = numbers(trainer)
    _, (record,), part = trainer.recorded_step(samples=4, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    spiking = [layer.neuron for layer in trace.meta.layers if layer.spiking]
    assert [n.threshold for n in spiking] + [n.decay for n in spiking] == before
    assert len({n.threshold for n in spiking}) == len(spiking)
    assert numbers(trainer) != before  # they were updated behind the record
    report = verify_trace(load_arch("h2learn"), trace)
    assert report.passed, report
    assert not report.unchecked
    assert not report.broken_laws
    assert simulate(load_arch("h2learn"), trace).activity.steady_cycles > 0


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"surrogate": {"shape": "triangle", "scale": 0.31}}, "grad_membrane"),
        ({"reset": "subtract-after-leak"}, "membrane"),
        ({"threshold": 0.41, "window": [0.0, 0.82]}, "spikes"),
        ({"detach_reset": False}, "grad_membrane"),
        ({"surrogate": {"shape": "arctan", "scale": 0.3}}, None),
    ],
)
def test_verify_notices_another_neuron(tmp_path, fields, row):
    trainer, _ = stepped(tiny_trainer(neuron=DIET, trained_neurons=True), 6)
    _, (record,), part = trainer.recorded_step(samples=4, values=True)
    name = next(layer["name"] for layer in trainer.network.layers if trainer.network.described[layer["name"]].spiking)
    record.layers[name].neuron |= fields
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    report = verify_trace(load_arch("h2learn"), load_trace(tmp_path / "t.npz"))
    wrong = {found.quantity for found in report.rows if found.wrong and found.layer == name}
    assert report.passed == (row is None)
    assert row in wrong if row else "shape" in " ".join(part.why for part in report.unchecked)


def test_what_is_trained_lowers_the_loss_and_without_it_nothing_moves():
    trained, losses = stepped(tiny_trainer(epochs=12, neuron=DIET, trained_neurons=True), 60)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert max(abs(value - 0.4) for value in numbers(trained)[:4]) > 0.01
    assert not numbers(tiny_trainer(neuron=DIET))


def test_neurons_stay_neurons_at_any_rate():
    trainer, _ = stepped(tiny_trainer(epochs=4, neuron=DIET, trained_neurons=True, learning_rate=0.5), 10)
    found = numbers(trainer)
    assert min(found[: len(found) // 2]) >= torch.tensor(LEAST_THRESHOLD)
    assert all(0 <= decay <= 1 for decay in found[len(found) // 2 :])


@pytest.mark.parametrize("kill_at", [1, 7])
def test_a_killed_run_ends_in_the_same_bytes(tmp_path, monkeypatch, kill_at):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    how = {"neuron": DIET, "trained_neurons": True}
    whole, _ = run(tmp_path / "whole", **how)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=kill_at, **how)
    resumed, _ = run(tmp_path / "killed", resume=True, **how)
    assert artefacts(tmp_path / "whole") == artefacts(tmp_path / "killed")
    assert numbers(whole) == numbers(resumed)
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["trained_neurons"] is True
    with pytest.raises(TrainingError, match=r"run\.json: trained_neurons: expected True, as the run began; got False"):
        run(tmp_path / "killed", resume=True, neuron=DIET)
