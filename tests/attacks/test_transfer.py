"""Examples shown to another network, targets of BIM, iterations as traces, and the options of each method."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")

from click.testing import CliRunner  # noqa: E402

import h2sim  # noqa: E402
from h2sim.algorithms.ann import ann_settings  # noqa: E402
from h2sim.attacks.evaluate import outcome  # noqa: E402
from h2sim.attacks.gradient_sign import Attack  # noqa: E402
from h2sim.attacks.networks import OwnNetwork  # noqa: E402
from h2sim.attacks.reading import read  # noqa: E402
from h2sim.attacks.record import write_iteration  # noqa: E402
from h2sim.attacks.spike import SpikeAttack, spike_attack  # noqa: E402
from h2sim.attacks.summary import spike_summary  # noqa: E402
from h2sim.cli import main  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from tests.attacks.test_attack_command import runs  # noqa: E402, F401
from tests.attacks.test_spike import pictures, trained  # noqa: E402
from tests.helpers.tiny import halves  # noqa: E402

HOW = SpikeAttack(iterations=25, fresh=2)


@pytest.fixture(scope="module")
def spiking():
    return trained()


@pytest.fixture(scope="module")
def ann():
    settings = ann_settings("tiny", "halves", batch=8, epochs=20, learning_rate=0.05)
    run = Trainer(settings, parse_notation("4C3(Encoding)-8FC-2FC", (1, 6, 6)), halves())
    for _ in range(60):
        run.step()
    return run


def test_examples_of_a_spiking_network_are_shown_to_one_that_reads_pixels(spiking, ann):
    found = spike_summary(ann, HOW, 20, source=spiking)
    images, labels = pictures(ann)
    own = spike_attack(OwnNetwork(spiking), images, labels, HOW, timesteps=6)
    judged = own.success & (read(ann, images) == labels)
    assert found.judged == int(judged.sum()) > 0
    assert found.transferred == float((read(ann, own.examples) != labels)[judged].double().mean())
    assert found.transferred_null is None  # pixels are drawn once


def test_a_sample_that_the_other_network_misreads_anyway_is_not_counted(spiking):
    """A judge that reads every sample wrong is fooled by none: nothing is left to fool."""
    judge = trained(steps=0)
    with torch.no_grad():
        for parameter in judge.network.parameters():
            parameter.zero_()
    found = spike_summary(judge, HOW, 20, source=spiking)
    images, labels = pictures(spiking)
    own = spike_attack(OwnNetwork(spiking), images, labels, HOW, timesteps=6)
    assert found.judged == int((own.success & (labels == 0)).sum())  # silence is read as the first class
    assert found.transferred in (0.0, None)
    assert found.transferred_null in (0.0, None)


def test_transfer_does_not_hang_on_the_parts(spiking, monkeypatch):
    other = trained(loss="mse")
    whole = spike_summary(other, HOW, 20, source=spiking)
    monkeypatch.setattr("h2sim.attacks.summary.PART", 7)
    parts = spike_summary(other, HOW, 20, source=spiking)
    assert (parts.judged, parts.transferred, parts.transferred_null) == (
        whole.judged, whole.transferred, whole.transferred_null
    )  # fmt: skip
    assert whole.transferred_null is not None


def test_pictures_of_a_network_without_spikes_are_judged_beside_the_null_control(spiking, ann):
    found = outcome(spiking, Attack("bim", 0.5, 10, 0.1), 20, ann)
    assert found.black_box
    assert 0 < found.attacked <= 20
    assert found.success is not None
    assert found.null is not None
    assert 0 < found.norms["linf"] <= 0.5 + 1e-6
    assert found.distance == found.norms["l2"]
    white = outcome(ann, Attack("bim", 0.5, 10, 0.1), 20)
    assert white.null is None
    assert white.success is not None
    assert white.success > 0.5
    assert white.accuracy >= 1 - white.success - 1e-9 - (1 - white.attacked / 20)


def test_bim_goes_towards_each_other_class(ann):
    found = outcome(ann, Attack("bim", 0.5, 10, 0.1, targeted=True), 20)
    plain = outcome(ann, Attack("bim", 0.5, 10, 0.1), 20)
    assert found.attacked == plain.attacked  # of two classes there is one other
    assert found.success is not None
    assert found.success > 0.5


def test_a_trace_has_the_threshold_and_the_aim_of_the_attack(spiking, tmp_path):
    images, labels = pictures(spiking, 4)
    spikes = spiking.coding.coded(images, torch.Generator().manual_seed(1))
    before = dict(spiking.network.neurons)
    for threshold, targeted in ((None, False), (1.5, False), (1.5, True)):
        path = tmp_path / f"{threshold}{targeted}.npz"
        write_iteration(spiking, path, threshold=threshold, targeted=targeted)
        trace = load_trace(path)
        trace.check()
        found = {layer.name: layer.neuron for layer in trace.meta.layers}
        assert found["fc1"].threshold == (threshold or 0.3)
        assert found["fc1"].window == (-0.2, 0.8)  # which stays
        fired = OwnNetwork(spiking, threshold).gradient(spikes, labels)[1]
        with np.load(path) as members:
            packed = members["fc1.spikes"]
        assert np.unpackbits(packed, axis=-1).sum((0, 2)).tolist() == fired.tolist()
        h2sim.simulate(h2sim.load_arch("h2learn"), trace)
    plain, aimed = (load_trace(tmp_path / f"1.5{aim}.npz").meta.source for aim in (False, True))
    assert plain["attack"] == "iteration 1"
    assert aimed["attack"] == "iteration 1, towards the class after the label"
    assert aimed["labels"] == [1 - label for label in plain["labels"]]
    assert spiking.network.neurons == before


def test_an_iteration_through_pixels_is_a_trace_too(ann, tmp_path):
    write_iteration(ann, tmp_path / "t.npz")
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert trace.meta.input_gradient
    assert all(parameter.grad is None for parameter in ann.network.parameters())


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_crosses_and_aims(runs, tmp_path):  # noqa: F811
    words = ["attack", runs / "one", "mnist-5k", "--test-samples", 20]
    done = invoke(*words, "--method", "bim", "--targeted", "--trace", tmp_path / "t.npz", "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    (one,) = json.loads((tmp_path / "a.json").read_text())["attacks"]
    assert one["targeted"]
    assert one["attacked"] % 9 == 0
    assert one["null"] is None
    assert {"perturbation", "l2_over_n", "l2", "linf", "l0_over_n"} == set(one["norms"])
    assert "bim, targeted" in done.output
    assert load_trace(tmp_path / "t.npz").meta.input_gradient
    crossed = invoke(*words, "--method", "spike", "--black-box", runs / "spikes", "--iterations", 4, "--fresh", 0,
                     "--pull", 0.1, "--pull-factor", 1, "--box", 0.5, "--json", tmp_path / "b.json")  # fmt: skip
    assert crossed.exit_code == 0, crossed.output
    (found,) = json.loads((tmp_path / "b.json").read_text())["spike_attacks"]
    assert (found["black_box"], found["settings"]["factor"], found["settings"]["box"]) == (True, 1.0, 0.5)
    assert "Examples of the other network" in crossed.output
    assert "no gradient at first (float32)" in crossed.output


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("one", ["--method", "fgsm", "--steps", "9"], "--steps: no method of fgsm reads it"),
        ("one", ["--method", "fgsm", "--step-size", "0.1"], "--step-size: no method of fgsm reads it"),
        ("one", ["--method", "bim", "--from-picture"], "--random-start: no method of bim reads it"),
        ("one", ["--gamma", "0.1"], "--gamma: no method of fgsm, pgd reads it"),
        ("one", ["--method", "bim", "--pull-factor", "1"], "--pull-factor: no method of bim reads it"),
        ("spikes", ["--epsilon", "0.1"], "--epsilon: no method of spike reads it"),
        ("spikes", ["--checks"], "--checks: no method of spike reads it"),
        ("spikes", ["--method", "spike", "--penultimate-threshold", "0.1"], "attack: penultimate threshold: expected"),
        ("one", ["--method", "spike"], "attack: network: expected one that reads spikes; got one that encodes pixels"),
    ],
)
def test_an_option_that_the_method_does_not_read_is_a_line(runs, name, words, said):  # noqa: F811
    done = invoke("attack", runs / name, "mnist-5k", "--test-samples", 10, *words)
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_events_have_no_pictures_to_pull(tmp_path):
    train = ["--epochs", 1, "--train-samples", 32, "--test-samples", 10, "--batch", 16, "--timesteps", 3]
    done = invoke("train", "4C3S2-10FC", "saccade-mnist", "--readout", "rate", *train, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.output
    for option, value in (("--pull", 0.1), ("--pull-factor", 1), ("--box", 0.1), ("--fresh", 3)):
        refused = invoke("attack", tmp_path / "run", "saccade-mnist", option, value)
        assert refused.exit_code == 2
        assert f"{option}: no method of spike reads it on events" in refused.output
    done = invoke("attack", tmp_path / "run", "saccade-mnist", "--iterations", 2, "--test-samples", 10, "--json", "-")
    assert done.exit_code == 0, done.output
