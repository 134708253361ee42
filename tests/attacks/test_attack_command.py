"""`h2sim attack`, and what it asks of networks: white and black box, signs of masked gradients, wrong use."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")

from click.testing import CliRunner  # noqa: E402

from h2sim.attacks.evaluate import checks, outcome  # noqa: E402
from h2sim.attacks.gradient_sign import Attack  # noqa: E402
from h2sim.cli import main  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.train.run_json import settings_of, write_run  # noqa: E402
from tests.attacks.test_gradient_sign import trained  # noqa: E402
from tests.helpers.tiny import settings  # noqa: E402

NETWORK = "4C3S2(Encoding)-AP2(Spikes)-10FC"
SHORT = ["--epochs", "1", "--batch", "16", "--train-samples", "64", "--test-samples", "20", "--timesteps", "3"]


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("one", []), ("two", ["--seed", "1"]), ("spikes", [])):
        network = "4C3S2-10FC" if name == "spikes" else NETWORK
        done = invoke("train", network, "mnist-5k", *SHORT, "--learning-rate", "0.01", *more, "-o", folder / name)
        assert done.exit_code == 0, done.output
    return folder


def test_the_command_says_and_writes_what_each_attack_leaves(runs, tmp_path):
    words = ["attack", runs / "one", "mnist-5k", "--epsilon", "0.05,0.3", "--test-samples", "30"]
    done = invoke(*words, "--black-box", runs / "two", "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "r.json").read_text())
    assert (data["schema"], data["version"], data["samples"]) == ("h2sim-robustness", 1, 30)
    assert [(a["method"], a["epsilon"], a["black_box"]) for a in data["attacks"]] == [
        (m, e, b) for m in ("fgsm", "pgd") for e in (0.05, 0.3) for b in (False, True)
    ]
    assert all(0 <= a["accuracy"] <= 1 and a["mean_distance"] > 0 for a in data["attacks"])
    assert f"{data['clean_accuracy']:.2%} of the pictures as they are" in done.output.replace("\n", " ")
    assert data["run"]["checkpoint_sha256"] != data["black_box_sha256"]
    again = invoke(*words, "--black-box", runs / "two", "--json", tmp_path / "s.json")
    assert again.exit_code == 0
    assert (tmp_path / "r.json").read_bytes() == (tmp_path / "s.json").read_bytes()


def test_checks_look_for_every_sign(runs):
    done = invoke("attack", runs / "one", "mnist-5k", "--method", "pgd", "--epsilon", "0.1", "--test-samples", "10",
                  "--checks", "--json", "-")  # fmt: skip
    assert done.exit_code == 0, done.output
    text = done.stdout[done.stdout.index("{") :]
    signs = json.loads(text)["masked_gradients"]
    assert len(signs) == 6  # without a black box
    assert all(isinstance(sign["found"], bool) for sign in signs)


def test_a_network_whose_gradients_are_masked_is_found():
    """Behind a slope that is 0 almost everywhere no attack gets far, and the box may be as large as it likes."""
    from dataclasses import replace

    trainer = trained()
    found = [check.name for check in checks(trainer, trainer, 0.3, 60, lambda what: None) if check.found]
    assert found == []
    blind = trained()
    blind.network.neurons = {n: replace(v, surrogate_scale=0.0) for n, v in blind.network.neurons.items()}
    masked = {check.name: check.found for check in checks(blind, trainer, 0.3, 60, lambda what: None)}
    assert masked["the largest box leaves over 2 %"]
    assert masked["a larger box is no stronger"]
    assert masked["a black box is stronger than a white one"]


def test_a_black_box_of_another_input_is_refused():
    other = trained(steps=0)
    other.network.checked = trained("4C3(Encoding)-AP2-2FC", steps=0).network.checked
    assert outcome(trained(steps=0), Attack("fgsm", 0.1), 10, other).black_box


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["RUNS/spikes", "mnist-5k", "--method", "pgd"],
            "attack: network: expected one whose first layer encodes pixels",
        ),
        (["RUNS/one", "mnist-5k", "--method", "spike"], "attack: network: expected one that reads spikes"),
        (["RUNS/spikes", "mnist-5k", "--steps", "3"], "--steps: no method of spike reads it"),
        (["RUNS/one", "mnist-5k", "--gamma", "0.1"], "--gamma: no method of fgsm, pgd reads it"),
        (["RUNS/spikes", "mnist-5k", "--penultimate-threshold", "0.1"], "expected at least 0.3"),
        (["nowhere", "mnist-5k"], "nowhere: expected the folder of a training run"),
        (["RUNS/one", "mnist-5k", "--epsilon", "2"], "--epsilon"),
        (["RUNS/one", "mnist-5k", "--epsilon", "0.1,nan"], "--epsilon"),
        (["RUNS/one", "mnist-5k", "--network", "4C3(Encoding)-10FC"], "network: expected '4C3S2(Encoding)"),
        (["RUNS/one", "mnist-5k", "--size", "8,8"], "expected weights of this network"),
    ],
)
def test_wrong_use_is_a_line(runs, words, said):
    done = invoke("attack", *(word.replace("RUNS", str(runs)) for word in words), "--test-samples", "10")
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_settings_come_back_from_their_file(tmp_path):
    kept = settings(trained_neurons=True, recipe="hire", recipe_options={"periods": 3})
    write_run(tmp_path, kept)
    assert settings_of(tmp_path) == kept
    text = (tmp_path / "run.json").read_text()
    for old, new, said in (
        ('"timesteps": 4', '"timesteps": "many"', "run.json: timesteps: "),
        ('"threshold": 0.3', '"threshold": "high"', "run.json: neuron: "),
        ('"reset": "zero"', '"reset": "all"', "run.json: neuron.reset: "),
        ('"loss": "ce"', '"loss": 3', "run.json: objective.loss: "),
    ):
        assert old in text
        (tmp_path / "run.json").write_text(text.replace(old, new))
        with pytest.raises(TrainingError) as error:
            settings_of(tmp_path)
        assert said in str(error.value), str(error.value)
