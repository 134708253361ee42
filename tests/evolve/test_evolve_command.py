"""`h2sim evolve` on real digits: the folder, any number of workers, resuming, simulated latency, wrong use."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")
pytest.importorskip("scipy")

from click.testing import CliRunner  # noqa: E402

from h2sim.algorithms.convert import accuracy_over_time  # noqa: E402
from h2sim.arch import load_arch  # noqa: E402
from h2sim.cli import main  # noqa: E402
from h2sim.cli.trained import load_data, load_trained  # noqa: E402
from h2sim.energy import load_energy_table  # noqa: E402
from h2sim.evolve import trial as trial_module  # noqa: E402
from h2sim.evolve.trial import Running, Trial, simulated, tries  # noqa: E402
from h2sim.trace import load_trace  # noqa: E402

NETWORK = "4C3S2(Encoding)-AP2(Spikes)-10FC"
SMALL = ["--images", "40", "--timesteps", "6", "--population", "5", "--generations", "2", "--test-samples", "50"]
OPTIONS = {"data": None, "size": None, "channels": None}


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evolved")
    train = ["--recipe", "ann", "--epochs", "2", "--train-samples", "640", "--test-samples", "50"]
    done = invoke("train", NETWORK, "mnist-5k", *train, "--learning-rate", "0.05", "-o", folder / "ann")
    assert done.exit_code == 0, done.output
    how = ["--by", "activations", "--images", "64", "--test-samples", "50", "--timesteps", "6"]
    done = invoke("convert", NETWORK, "mnist-5k", "--ann", folder / "ann", *how, "-o", folder / "snn")
    assert done.exit_code == 0, done.output
    return folder / "snn"


def trial_of(converted, images=40, timesteps=6):
    data = load_data(str(converted), "mnist-5k", OPTIONS)
    return Trial.of(load_trained(str(converted), data, None), images, timesteps)


def test_the_command_writes_a_run_and_what_was_found(converted, tmp_path):
    done = invoke("evolve", converted, "mnist-5k", *SMALL, "--workers", "1", "-o", tmp_path / "one")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "one" / "evolution.json").read_text())
    assert [row["what"] for row in found["candidates"]] == ["as converted", "best single scale", "evolved"]
    costs = [row["cost"] for row in found["candidates"]]
    assert costs[2] <= costs[0] + 1e-9  # TH itself is a candidate
    assert costs[1] <= costs[0] + 1e-9
    assert found["candidates"][2]["nfe"] == 5 * (len(found["by_generation"]) + 1)
    assert all(len(row["test_curve"]) == 6 for row in found["candidates"])
    run = load_trained(str(tmp_path / "one"), load_data(str(converted), "mnist-5k", OPTIONS), None)
    thresholds = [float(v.detach()) for v in run.network.thresholds.parameters()]
    assert thresholds == pytest.approx(list(found["candidates"][2]["thresholds"].values()))
    attacked = invoke("attack", tmp_path / "one", "mnist-5k", "--method", "fgsm", "--test-samples", "10")
    assert attacked.exit_code == 0, attacked.output


def test_two_workers_and_a_search_that_was_cut_off_end_in_the_same_bytes(converted, tmp_path):
    for name, workers in (("one", "1"), ("two", "2")):
        done = invoke("evolve", converted, "mnist-5k", *SMALL, "--workers", workers, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
    one, two = ((tmp_path / name / "evolution.json").read_bytes() for name in ("one", "two"))
    assert one == two
    lines = (tmp_path / "one" / "tried.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "tried.jsonl").write_text("".join(lines[:30]) + lines[30][:20])
    done = invoke("evolve", converted, "mnist-5k", *SMALL, "--workers", "1", "-o", tmp_path / "cut")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "cut" / "evolution.json").read_bytes() == one
    assert sorted((tmp_path / "cut" / "tried.jsonl").read_text().splitlines()) == sorted(map(str.rstrip, lines))
    other = invoke("evolve", converted, "mnist-5k", *SMALL, "--seed", "1", "-o", tmp_path / "cut")
    assert "tried.jsonl: settings: expected those of this search; got others" in other.output


def test_a_trial_says_what_the_accuracy_over_time_says(converted, monkeypatch):
    monkeypatch.setattr(trial_module, "PART", 7)
    trial = trial_of(converted)
    own = list(trial.thresholds.values())
    with tries(trial, 1) as made:
        (first,), (again, other) = list(made([own])), list(made([own, [2 * v for v in own]]))
    assert first == again != other
    data = load_data(str(converted), "mnist-5k", OPTIONS)
    run = load_trained(str(converted), data, None)
    from dataclasses import replace

    import numpy as np

    from h2sim.datasets import Split

    kept = Split(trial.labels, np.arange(len(trial.labels)), trial.images.__getitem__)
    coding = replace(run.coding, timesteps=6)
    assert tuple(accuracy_over_time(run.network, replace(run.dataset, test=kept), coding)) == first


def test_simulated_latency_grows_with_time_and_is_one_at_the_first_step(converted, tmp_path):
    trial = trial_of(converted)
    own = tuple(trial.thresholds.values())
    path = Running(trial).activity(own, 3, tmp_path)
    trace = load_trace(path)
    trace.check()
    assert (trace.meta.timesteps, trace.meta.phases) == (3, ("forward",))
    assert [layer.neuron.threshold for layer in trace.meta.layers if layer.spiking] == pytest.approx(list(own))
    for measure in ("cycles", "joules"):
        latency = simulated(trial, measure, load_arch("h2learn"), load_energy_table("28nm"))(own)
        assert latency(1) == 1
        assert 1 < latency(3) < latency(6)


def test_evolution_by_cycles_runs(converted, tmp_path):
    done = invoke(
        "evolve", converted, "mnist-5k", *SMALL, "--workers", "1", "--latency", "cycles", "-o", tmp_path / "c"
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "c" / "evolution.json").read_text())["latency"] == "cycles"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "mnist-5k"], "nowhere: expected the folder of a training run"),
        (["RUN", "mnist-5k", "--bounds", "2,1"], "evolution: bounds: expected 0 < low < high"),
        (["RUN", "mnist-5k", "--bounds", "1"], "evolution: bounds: expected 0 < low < high"),
        (["RUN", "mnist-5k", "--population", "4"], "--population"),
        (["RUN", "mnist-5k", "--gamma", "nan"], "--gamma"),
        (["RUN", "mnist-5k", "-o", "RUN"], "holds a training run; name another folder"),
        (["ANN", "mnist-5k"], "expected one with a threshold for each layer"),
    ],
)
def test_wrong_use_is_a_line(converted, tmp_path, words, said):
    places = {"RUN": converted, "ANN": converted.parent / "ann"}
    output = [] if "-o" in words else ["-o", tmp_path / "out"]
    done = invoke("evolve", *(places.get(word, word) for word in words), *SMALL[:4], *output)
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output
