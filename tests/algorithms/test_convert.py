"""Networks without spikes, their conversion, and hybrid training: unit cases of the sources, then the commands."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")

from click.testing import CliRunner  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from h2sim.algorithms.ann import ann_settings, without_spikes  # noqa: E402
from h2sim.algorithms.convert import (  # noqa: E402
    Balancing,
    accuracy_over_time,
    balanced,
    convert,
    of_activations,
    percentile,
    take,
)
from h2sim.algorithms.diet import NEURON, diet_settings  # noqa: E402
from h2sim.arch import load_arch  # noqa: E402
from h2sim.cli import main  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.facade import simulate  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.train.folder import RunFolder  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402
from tests.helpers.tiny import halves  # noqa: E402

NOTATION = "4C3(Encoding)-AP2(Spikes)-6C3-AP2-2FC"
SHORT = ["--train-samples", "64", "--test-samples", "20", "--batch", "16"]


def layers():
    return parse_notation(NOTATION, (1, 6, 6))


def ann(**others):
    return Trainer(ann_settings("tiny", "halves", batch=8, **others), layers(), halves())


def spiking(timesteps=5, **others):
    return Trainer(diet_settings("tiny", "halves", timesteps, batch=8, **others), layers(), halves())


def trained_ann(steps=40):
    trainer = ann(epochs=8, learning_rate=0.2)
    for _ in range(steps):
        trainer.step()
    return trainer


def test_the_percentile_is_an_element_without_interpolation():
    assert percentile(torch.arange(1, 1001.0), 99.7) == 997  # k = 1 + round(.997 * 999)
    assert percentile(torch.tensor([3.0, -1.0, 2.0]), 100) == 3
    assert percentile(torch.tensor([5.0]), 99.7) == 5


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60), st.floats(50, 100))
def test_the_percentile_is_the_kth_smallest(values, share):
    wanted = sorted(values)[round(share / 100 * (len(values) - 1))]
    assert percentile(torch.tensor(values, dtype=torch.float32), share) == wanted


def test_without_spikes_a_relu_stands_in_place_of_each_neuron():
    made = without_spikes(layers())
    assert [layer["name"] for layer in made] == [
        "conv1", "conv1.relu", "pool1", "conv2", "conv2.relu", "pool2", "pool2.relu", "fc1", "fc1.relu"
    ]  # fmt: skip
    assert made[2]["inputs"] == ["conv1.relu"]
    network = ann().network
    assert not any(layer.spiking for layer in network.described.values())
    assert len(network.biases.state_dict()) == 0
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1, bias=False), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 6, 3, padding=1, bias=False), torch.nn.ReLU(), torch.nn.AvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(6, 2, bias=False),
    )  # fmt: skip
    for module, name in ((plain[0], "conv1"), (plain[3], "conv2"), (plain[7], "fc1")):
        module.weight.data.copy_(network.weights[name])
    x = torch.rand((3, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x.unsqueeze(0), 1)[0], plain(x))


def test_it_learns_and_its_trace_is_one_of_analog_operands(tmp_path):
    trainer = trained_ann()
    assert trainer.accuracy() > 0.9
    _, (record,), part = trainer.recorded_step(samples=4, values=True)
    trainer.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert trace.meta.timesteps == 1
    assert trace.meta.source["optimizer"].startswith("SGD, momentum 0.9, rate 0.2 falling")
    assert verify_trace(load_arch("h2learn"), trace).passed
    assert simulate(load_arch("h2learn"), trace).activity.steady_cycles > 0


def chain(weights, timesteps):
    """Layers of one neuron each, one after the other, that read one analog pixel."""
    parts = "-".join(["1C1(Encoding)", *["1C1"] * (len(weights) - 1), "2FC"])
    trainer = Trainer(diet_settings("chain", "halves", timesteps, batch=8), parse_notation(parts, (1, 6, 6)), halves())
    with torch.no_grad():
        for name, weight in zip((f"conv{n}" for n in range(1, 9)), weights, strict=False):
            trainer.network.weights[name].fill_(weight)
    return trainer


def test_balancing_takes_the_largest_percentile_of_each_layers_current_with_those_before_balanced():
    trainer, inputs = chain([0.75, 2.0], 8), torch.ones((1, 1, 1, 6, 6))
    neuron = trainer.settings.neuron
    # at its own percentile a constant current of the first layer does not pass u > v at t = 1, but ever after
    with pytest.raises(TrainingError, match="conv2"):
        balanced(trainer.network, inputs, Balancing(timesteps=1), neuron)
    found = balanced(trainer.network, inputs, Balancing(timesteps=3), neuron)
    assert found == pytest.approx({"conv1": 0.75, "conv2": 2.0})
    assert balanced(trainer.network, inputs, Balancing(timesteps=50), neuron) == found


def test_a_layer_without_current_is_named():
    trainer = chain([0.75, -1.0], 8)
    with pytest.raises(TrainingError, match=r"conversion: conv2: expected a 99\.7 percentile of its current above 0"):
        balanced(trainer.network, torch.ones((1, 1, 1, 6, 6)), Balancing(timesteps=3), trainer.settings.neuron)


def test_thresholds_by_activations_are_quotients_of_percentiles():
    spike, plain = chain([0.75, 2.0], 8), None
    layers_of = parse_notation("1C1(Encoding)-1C1-2FC", (1, 6, 6))
    plain = Trainer(ann_settings("chain", "halves", batch=8), layers_of, halves())
    with torch.no_grad():
        plain.network.weights["conv1"].fill_(0.75)
        plain.network.weights["conv2"].fill_(2.0)
    found = of_activations(plain.network, spike.network, torch.ones((1, 2, 1, 6, 6)), 99.7)
    assert found == {"conv1": 0.75, "conv2": 2.0}  # 1.5 / 0.75


@pytest.mark.parametrize("by", [Balancing(timesteps=30), 99.7])
def test_a_converted_network_comes_near_the_other_with_time_and_a_scale_multiplies_every_threshold(by):
    plain, spike = trained_ann(), spiking()
    found = convert(spike, plain, by, [0.5, 1.0], 32, 40)
    assert found.ann_accuracy > 0.9
    assert found.accuracies[1.0][-1] >= found.ann_accuracy - 0.05
    assert min(found.accuracies[1.0]) < found.accuracies[1.0][-1]  # it takes time
    kept = {name: float(v.detach()) for name in found.thresholds for v in [spike.network.thresholds[name]]}
    assert kept == pytest.approx(found.thresholds)
    for name in ("conv1", "conv2", "fc1"):
        assert torch.equal(spike.network.weights[name], plain.network.weights[name])


def test_rates_of_a_converted_network_are_the_activations_it_was_made_of():
    """Eq. 6 of the neuroevolution paper: with enough steps a neuron fires in proportion to its relu."""
    plain, spike = trained_ann(), spiking()
    convert(spike, plain, 100.0, [1.0], 32, 1)
    x, steps = torch.rand((1, 4, 1, 6, 6), generator=torch.Generator().manual_seed(1)), 400
    with torch.no_grad():
        current = spike.network.current(spike.network.layers[0], [x])
        fired = spike.network._fired("conv1", current.expand(steps, *current.shape[1:])).mean(0)
    wanted = (current[0].clamp_min(0) / spike.network.thresholds["conv1"].detach()).clamp_max(1)
    assert float((fired - wanted).abs().max()) <= 1.5 / steps


def test_accuracy_over_time_ends_in_the_accuracy_of_so_many_timesteps():
    spike = spiking(timesteps=7)
    convert(spike, trained_ann(), Balancing(timesteps=20), [0.5], 32, 7)
    over_time = accuracy_over_time(spike.network, spike.dataset, spike.coding)
    assert len(over_time) == 7
    assert over_time[-1] == spike.accuracy()
    first = accuracy_over_time(spike.network, spike.dataset, spike.coding, samples=10)
    assert all(round(value * 10) == value * 10 for value in first)


def test_weights_that_do_not_fit_are_named():
    other = Trainer(ann_settings("o", "halves", batch=8), parse_notation("5C3(Encoding)-AP2-2FC", (1, 6, 6)), halves())
    with pytest.raises(TrainingError, match=r"conversion: conv1: expected weights of shape \[4, 1, 3, 3\]; got shape"):
        take(spiking().network, other.network.state_dict(), {}, 1.0)


def test_hybrid_training_moves_thresholds_at_a_rate_of_their_own():
    neuron = Neuron(**{**NEURON, "threshold": 0.2})  # at 1 the first weights make no spike
    slow, fast = spiking(neuron=neuron), spiking(neuron=neuron, recipe_options={"neuron_rate": 0.05})
    frozen = spiking(neuron=neuron, recipe_options={"freeze_neurons": True})
    for trainer in (slow, fast, frozen):
        for _ in range(5):
            trainer.step()
    moved = [
        max(abs(float(v.detach()) - 0.2) for v in trainer.network.thresholds.parameters())
        for trainer in (slow, fast, frozen)
    ]
    assert 0 < moved[0] <= 6e-4
    assert moved[1] > 50 * moved[0]
    assert moved[2] == pytest.approx(0, abs=1e-7)
    assert len(frozen.optimizer.param_groups) == len(slow.optimizer.param_groups) == 1
    assert slow.optimizer.defaults["amsgrad"]


@pytest.mark.parametrize("options", [{"neuron_rate": 0.05}, {"freeze_neurons": True}])
def test_a_hybrid_run_with_these_goes_on_where_it_was(tmp_path, options):
    with torch_session():
        run, folder = spiking(recipe_options=options, epochs=2), RunFolder(tmp_path / "run")
        folder.start(run.settings)
        for _ in range(3):
            folder.losses.append(run.step())
        folder.save(run)
        again = spiking(recipe_options=options, epochs=2)
        folder.resume(again.settings, again)
        assert run.step() == again.step()
    for ours, theirs in zip(run.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_three_commands_make_a_hybrid_network_of_real_digits(tmp_path):
    network = "4C3S2(Encoding)-AP2(Spikes)-10FC"
    first = invoke("train", network, "mnist-5k", "--recipe", "ann", "--epochs", "1", *SHORT, "-o", tmp_path / "ann")
    assert first.exit_code == 0, first.output
    settings = json.loads((tmp_path / "ann" / "run.json").read_text())
    assert (settings["timesteps"], settings["learning_rate"]) == (1, 0.01)
    how = ["--ann", tmp_path / "ann", "--images", "32", "--balancing-steps", "10", "--test-samples", "20"]
    shown = invoke("convert", network, "mnist-5k", *how, "--scale", "1,0.5", "--timesteps", "2,6", "--csv", "-")
    assert shown.exit_code == 0, shown.output
    text = shown.stdout[shown.stdout.index("scale,timestep") :]
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["scale"], row["timestep"]) for row in rows] == [(s, str(t)) for s in ("1", "0.5") for t in range(1, 7)]
    made = invoke("convert", network, "mnist-5k", *how, "--scale", "0.4", "--timesteps", "4", "-o", tmp_path / "snn")
    assert made.exit_code == 0, made.output
    assert "without spikes" in made.output
    hybrid = invoke("train", network, "mnist-5k", "--recipe", "diet", "--timesteps", "4", "--epochs", "1", *SHORT,
                    "--start-from", tmp_path / "snn", "--trace-values", "-o", tmp_path / "diet")  # fmt: skip
    assert hybrid.exit_code == 0, hybrid.output
    trace = load_trace(tmp_path / "diet" / "traces" / "epoch-001" / "batch-00.npz")
    assert trace.meta.source["recipe"] == "diet"
    assert trace.meta.source["readout"] == "summed current"
    assert trace.meta.layers[0].neuron.reset == "subtract"
    assert verify_trace(load_arch("h2learn"), trace).passed
    again = invoke("convert", network, "mnist-5k", *how, "--scale", "0.4", "--timesteps", "4", "-o", tmp_path / "snn2")
    assert again.exit_code == 0
    ours, theirs = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("snn", "snn2"))
    for name, value in ours["trainer"]["network"].items():
        assert torch.equal(value, theirs["trainer"]["network"][name])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scale", "0"], "--scale"),
        (["--scale", "1,nan"], "--scale"),
        (["--percentile", "40"], "--percentile"),
        (["--scale", "1,2", "-o", "out"], "-o takes one --scale"),
        (["--ann", "nowhere"], "nowhere: expected the folder of a training run"),
        (["--timesteps", "5,5000"], "5000 is not in the range 1<=x<=4096"),
    ],
)
def test_wrong_use_of_convert_is_a_line(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    done = invoke(
        "convert", "4C3(Encoding)-10FC", "mnist-5k", *(["--ann", "x"] if "--ann" not in words else []), *words
    )
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_an_ann_takes_one_timestep_and_no_rate(tmp_path):
    base = ["train", "4C3(Encoding)-10FC", "mnist-5k", "--recipe", "ann", "--epochs", "1", "-o", tmp_path / "r"]
    assert "recipe ann: timesteps: expected 1, for nothing spikes; got 3" in invoke(*base, "--timesteps", "3").output
    assert "recipe ann: readout: expected current or sum" in invoke(*base, "--readout", "rate").output
    assert np.isfinite(Neuron(**NEURON).threshold)
