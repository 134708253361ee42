"""The trainer: does it learn, what decides its outcome, and does a trace say what the traced step did?"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from h2sim.arch import load_arch  # noqa: E402
from h2sim.errors import NetworkError, TrainingError  # noqa: E402
from h2sim.facade import simulate  # noqa: E402
from h2sim.trace import load_network, load_trace  # noqa: E402
from h2sim.train import bptt  # noqa: E402
from h2sim.train.batches import Coding, rate_spikes, shifted  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.network import SpikingNetwork  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402
from tests.helpers.tiny import binary_layers, halves, settings, stepped, tiny_layers, tiny_trainer  # noqa: E402


def weights_of(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.network.parameters()])


def test_training_learns_a_task_that_can_be_learnt():
    trainer, losses = stepped(tiny_trainer(epochs=12), 60)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert trainer.accuracy() > 0.9


@pytest.mark.parametrize("objective", [{"loss": "mse"}, {"readout": "rate"}, {"loss": "mse", "readout": "rate"}])
def test_other_objectives_learn_it_too(objective):
    _, losses = stepped(tiny_trainer(epochs=12, objective=objective), 60)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_an_update_uses_the_unscaled_gradient():
    plain, _ = stepped(tiny_trainer(), 3)
    scaled, _ = stepped(tiny_trainer(objective={"loss_scale": 1024.0}), 3)
    torch.testing.assert_close(weights_of(plain), weights_of(scaled), rtol=0, atol=1e-6)


def test_float16_gradients_train_another_network():
    plain, _ = stepped(tiny_trainer(), 3)
    rounded, _ = stepped(tiny_trainer(objective={"gradient_dtype": "float16"}), 3)
    assert not torch.equal(weights_of(plain), weights_of(rounded))


def test_recording_a_step_leaves_its_weights_where_an_unrecorded_step_puts_them():
    plain, recorded = tiny_trainer(), tiny_trainer()
    plain.step()
    recorded.recorded_step(samples=3, values=False)
    torch.testing.assert_close(weights_of(plain), weights_of(recorded), rtol=0, atol=1e-6)
    whole = tiny_trainer()
    whole.recorded_step(samples=8, values=True)
    assert torch.equal(weights_of(plain), weights_of(whole))


def test_a_step_past_the_end_changes_no_weight():
    trainer, _ = stepped(tiny_trainer(epochs=1), 5)
    before = weights_of(trainer).clone()
    trainer.recorded_step(samples=4, values=True)
    assert torch.equal(before, weights_of(trainer))


@pytest.mark.parametrize(
    ("layers", "kind", "objective"),
    [
        (tiny_layers(), "images", {}),
        (tiny_layers(), "events", {}),
        (binary_layers(), "images", {"readout": "rate"}),
        (binary_layers(), "events", {"loss": "mse"}),
        (tiny_layers(), "images", {"loss_scale": 512.0, "reduction": "sum"}),
        (tiny_layers(), "images", {"gradient_dtype": "float16"}),
        (tiny_layers(), "images", {"gradient_dtype": "float16-flush", "loss_scale": 16.0}),
    ],
)
def test_a_recorded_step_is_a_trace_that_verifies_and_runs(tmp_path, layers, kind, objective):
    trainer, _ = stepped(tiny_trainer(layers, halves(kind=kind), objective=objective), 4)
    _, (record,), part = trainer.recorded_step(samples=4, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0, "accuracy": None})
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert trace.meta.source["loss_reduction"].endswith("over 8")
    assert trace.meta.layers[-1].spiking is (objective.get("readout") == "rate")
    report = verify_trace(load_arch("h2learn"), trace)
    assert report.passed, [row for row in report.rows if not row.passed]
    assert {row.layer for row in report.rows} == {layer.name for layer in trace.meta.layers}
    assert simulate(load_arch("h2learn"), trace).activity.steady_cycles > 0


def test_the_masks_are_those_of_the_same_samples_in_the_whole_batch():
    trainer, _ = stepped(tiny_trainer(), 4)
    state = trainer.state()["stream"]
    batch = next(trainer.stream)
    _, part = bptt.recorded_gradients(trainer.network, batch, 4, trainer.settings.objective, 3, values=False)
    trainer.network.zero_grad(set_to_none=True)
    _, whole = bptt.recorded_gradients(trainer.network, batch, 4, trainer.settings.objective, 8, values=False)
    for name in part.layers:
        for mask in ("spikes", "window", "grad"):
            ours, theirs = getattr(part.layers[name], mask), getattr(whole.layers[name], mask)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.array_equal(ours, theirs[:, :3])
    trainer.stream.load_state(state)


def test_the_same_settings_give_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        with torch_session():
            trainer, _ = stepped(tiny_trainer(), 3)
            _, (record,), part = trainer.recorded_step(samples=4, values=True)
        trainer.write_trace(tmp_path / name, record, part, {"epoch": 0})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_float16_weights_are_stored_as_such_and_others_whole():
    trainer, _ = stepped(tiny_trainer(), 1)
    _, (record,), _ = trainer.recorded_step(samples=4, values=True)
    assert record.layers["down"].weight.dtype == np.float32
    trainer.network.round_to_float16()
    _, (record,), _ = trainer.recorded_step(samples=4, values=True)
    assert record.layers["down"].weight.dtype == np.float16


def test_a_loss_that_is_not_finite_stops_the_run_with_a_hint():
    trainer = tiny_trainer()
    with torch.no_grad():
        trainer.network.weights["out"].fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"loss: expected a finite value; got .*--learning-rate"):
        trainer.step()


def test_a_gradient_that_overflows_names_the_parameter_and_the_iteration():
    trainer = tiny_trainer(objective={"loss_scale": 1e30, "gradient_dtype": "float16"})
    with pytest.raises(TrainingError, match=r"iteration 1: weights\.\w+: gradient: expected finite.*--loss-scale"):
        trainer.step()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "stdp"}, r"training: recipe: expected one of bptt, ann, diet, hire, certified; got 'stdp'"),
        ({"batch": 41}, r"halves: batch: expected at most 40, the samples to train on; got 41"),
        ({"batch": 8, "train_samples": 4}, r"batch: expected at most 4"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        tiny_trainer(**changes)


def test_a_network_of_products_alone_reads_the_image_flattened(tmp_path):
    layers = [
        {"name": "fc1", "kind": "fc", "inputs": ["input"], "in_features": 36, "out_features": 8},
        {"name": "fc2", "kind": "fc", "inputs": ["fc1"], "in_features": 8, "out_features": 2},
    ]
    trainer, _ = stepped(tiny_trainer(layers), 2)
    _, (record,), part = trainer.recorded_step(samples=4, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    assert verify_trace(load_arch("h2learn"), load_trace(tmp_path / "t.npz")).passed
    with pytest.raises(
        TrainingError, match=r"halves: sample shape: expected \[35\], the network's input; got \[1, 6, 6\]"
    ):
        tiny_trainer([{**layers[0], "in_features": 35}, layers[1]])


def test_a_data_set_that_does_not_fit_the_network_is_refused():
    wide = [{**binary_layers()[0], "in_shape": [2, 6, 6]}, binary_layers()[1]]
    with pytest.raises(TrainingError, match=r"halves: sample shape: expected \[2, 6, 6\], the network's input; got"):
        tiny_trainer(wide)
    ten = [binary_layers()[0], {**binary_layers()[1], "out_features": 10}]
    with pytest.raises(TrainingError, match=r"tiny: last layer's features: expected 2, the classes of halves; got 10"):
        tiny_trainer(ten)
    with pytest.raises(TrainingError, match=r"halves: timesteps: expected 4; got 7"):
        tiny_trainer(binary_layers(), halves(kind="events", timesteps=7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "attention"}, "attention"),
        ({"inputs": ["nowhere"]}, "nowhere"),
        ({"in_shape": [9, 6, 6]}, "the output of"),
        ({"name": "encode"}, "encode"),
        ({"name": "unread"}, "join"),
    ],
)
def test_layers_that_do_not_chain_are_refused(change, message):
    layers = tiny_layers()
    layers[2] = {**layers[2], **change}
    with pytest.raises(NetworkError, match=message):
        SpikingNetwork(layers, Neuron(), torch.Generator())


def test_a_layer_that_nobody_reads_is_refused():
    layers = tiny_layers()
    layers.insert(1, {**layers[1], "name": "lost"})
    with pytest.raises(NetworkError, match="lost"):
        SpikingNetwork(layers, Neuron(), torch.Generator())


def test_torch_settings_come_back_after_a_session():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch_session(threads=1):
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_rate_coding_spikes_as_often_as_the_pixel_is_bright():
    images = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    rates = rate_spikes(images, 4000, torch.Generator().manual_seed(0)).mean(0).flatten().tolist()
    assert rates[0] == 0
    assert rates[1] == pytest.approx(0.25, abs=0.02)
    assert rates[2] == 1


def test_shifting_moves_an_image_whole():
    images = torch.zeros((50, 1, 9, 9))
    images[:, :, 4, 4] = 1
    moved = shifted(images, 2, torch.Generator().manual_seed(0))
    assert moved.flatten(1).sum(1).tolist() == [1.0] * 50
    assert {divmod(int(i), 9) for i in moved.flatten(1).argmax(1)} <= {(y, x) for y in range(2, 7) for x in range(2, 7)}


def test_the_frames_of_a_recording_shift_together():
    frames = np.zeros((3, 5, 2, 9, 9), np.float32)
    frames[..., 4, 4] = 1
    inputs = Coding(5, analog=False, shift_pixels=3).frames(frames, torch.Generator().manual_seed(1), True)
    assert inputs.shape == (5, 3, 2, 9, 9)
    places = inputs.flatten(3).argmax(3)
    assert bool((places == places[:1, :, :1]).all())
    assert len(set(places[0, :, 0].tolist())) > 1


def test_settings_are_plain_data():
    assert settings().to_dict()["neuron"]["window"] == [0.05, 0.55]
    assert settings(start_from="run").to_source("Adam", {})["start_from"] == "run"


def test_a_layer_may_have_a_dot_in_its_name():
    layers = [
        {**layer, "name": layer["name"].replace("conv1", "block1.conv1"), "inputs": [
            name.replace("conv1", "block1.conv1") for name in layer["inputs"]
        ]}
        for layer in load_network("4C3-AP2-10FC", (1, 8, 8)).layers
    ]  # fmt: skip
    network = SpikingNetwork(layers, Neuron(), torch.Generator().manual_seed(0))
    assert "block1.conv1" in network.weights
    assert "block1/conv1" not in [layer["name"] for layer in layers]
    output = network(torch.rand(2, 3, 1, 8, 8), 2)
    output.sum().backward()
    assert network.weights["block1.conv1"].grad.shape == (4, 1, 3, 3)
    assert {"weights.block1/conv1", "biases.block1/conv1"} < set(network.state_dict())
