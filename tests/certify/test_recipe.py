"""Certified training: its loss, its ramp and its state; the robust error; `h2sim certify`."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from h2sim.algorithms.certified import NEURON, certified_settings  # noqa: E402
from h2sim.arch import load_arch  # noqa: E402
from h2sim.certify import bounds, image_spikes  # noqa: E402
from h2sim.certify.robust import boundary, margins, robust_error, robust_loss  # noqa: E402
from h2sim.cli import main  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.train import bptt  # noqa: E402
from h2sim.train import folder as folder_module  # noqa: E402
from h2sim.train.batches import held_out  # noqa: E402
from h2sim.train.folder import Report, Run, RunFolder, TracePlan  # noqa: E402
from h2sim.train.lif import Neuron  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402
from tests.helpers.tiny import halves  # noqa: E402
from tests.train.test_folder import Killed, artefacts  # noqa: E402

NOTATION = "4C3S2-8FC-2FC"


def trainer(notation=NOTATION, epochs=2, timesteps=4, recipe="certified", neuron=None, **options):
    settings = certified_settings(
        "tiny", "halves", timesteps, recipe=recipe, epochs=epochs, batch=8, learning_rate=1e-2, initial_deviation=0.5,
        neuron=neuron or Neuron(**NEURON), recipe_options=options,
    )  # fmt: skip
    return Trainer(settings, parse_notation(notation, (1, 6, 6)), halves())


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.network.parameters()])


def stepped(run, steps=6):
    for _ in range(steps):
        run.step()
    return run


def test_without_weight_and_clip_it_is_plain_training_bit_for_bit():
    """The bounds draw random numbers behind each batch, so only the first step is that of the plain stream."""
    ours = stepped(trainer(weight=0.0, clip_norm=None), 1)
    assert torch.equal(weights(ours), weights(stepped(trainer(recipe="bptt"), 1)))
    assert not torch.equal(weights(stepped(trainer(clip_norm=None), 1)), weights(ours))


@pytest.mark.parametrize("bound", ["crown", "ibp", "max"])
def test_the_gradient_is_that_of_both_losses(bound):
    run = trainer(bound=bound, clip_norm=None, ramp=0.0, epsilon=0.2, weight=0.6)
    twin = trainer(recipe="bptt")
    kept = {}
    run.update = lambda: kept.update({n: p.grad.clone() for n, p in run.network.named_parameters()})
    run.step()
    batch = next(twin.stream)
    bptt.gradients(twin.network, batch, 4, twin.settings.objective)
    plain = {name: p.grad.clone() for name, p in twin.network.named_parameters()}
    twin.network.zero_grad()
    near = boundary(twin.network, batch, 0.2, 3, twin.stream.generator)
    assert bool((near.lower != near.upper).any())
    found = bounds(twin.network, near.lower, near.upper, batch.labels)
    logits = torch.zeros(8, 2)
    for n, label in enumerate(batch.labels.tolist()):
        logits[n, 1 - label] = -margins(found, bound)[n, 0]
    robust_loss(margins(found, bound)).backward()
    torch.testing.assert_close(
        torch.nn.functional.cross_entropy(logits, batch.labels), robust_loss(margins(found, bound)).detach()
    )
    for name, parameter in twin.network.named_parameters():
        torch.testing.assert_close(kept[name], 0.4 * plain[name] + 0.6 * parameter.grad, rtol=1e-4, atol=1e-7)


def test_epsilon_rises_with_the_batches_and_stays():
    run = trainer(epsilon=0.4, ramp=0.5)
    seen = []
    for _ in range(run.iterations):
        seen.append(run.recipe.epsilon(run))
        run.step()
    half = run.iterations // 2
    assert seen[0] == 0
    assert seen[half // 2] == pytest.approx(0.4 * (half // 2) / (0.5 * run.iterations))
    assert seen[half:] == [0.4] * (run.iterations - half)
    assert trainer(ramp=0.0, epsilon=0.3).recipe.epsilon(trainer()) == 0.3


def test_gradients_are_clipped():
    run, norms = trainer(clip_norm=0.01), []
    run.update = lambda: norms.append(float(torch.cat([p.grad.flatten() for p in run.network.parameters()]).norm()))
    run.step()
    assert norms == [pytest.approx(0.01, rel=1e-4)]


def run_to_end(path, *, resume=False, kill_at=None, **options):
    def step(iteration, total, loss):
        if iteration == kill_at:
            raise Killed

    with torch_session():
        run, folder = trainer(epochs=2, **options), RunFolder(path)
        folder.resume(run.settings, run) if resume else folder.start(run.settings)
        Run(run, folder, TracePlan((1, 2), 1, 3, values=True), 20, Report(step=step)).to_the_end()


@pytest.mark.parametrize("kill_at", [1, 5, 8])
def test_a_killed_run_goes_on_with_its_width_and_ends_in_the_same_bytes(tmp_path, monkeypatch, kill_at):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    run_to_end(tmp_path / "whole", epsilon=0.3)
    with pytest.raises(Killed):
        run_to_end(tmp_path / "killed", kill_at=kill_at, epsilon=0.3)
    run_to_end(tmp_path / "killed", resume=True, epsilon=0.3)
    assert artefacts(tmp_path / "whole") == artefacts(tmp_path / "killed")


def test_the_trace_is_of_the_plain_part_and_verifies(tmp_path):
    run = stepped(trainer())
    _, (record,), part = run.recorded_step(4, values=True)
    run.write_trace(tmp_path / "t.npz", record, part, {"epoch": 0})
    trace = load_trace(tmp_path / "t.npz")
    assert trace.meta.timesteps == 4
    report = verify_trace(load_arch("h2learn"), trace)
    assert report.passed
    source = json.loads(bytes(np.load(tmp_path / "t.npz")["meta"]))["source"]
    assert source["recipe_options"]["bound"] == "crown"


@pytest.mark.parametrize("notation", [NOTATION, "4C3(Encoding)-AP2-8FC-2FC"])
def test_the_robust_error_is_that_of_each_bound(notation):
    run = stepped(trainer(notation))
    found = robust_error(run, 0.1, 3, 20)
    (batch,) = held_out(run.dataset, run.coding, 20, part=50)
    near = boundary(run.network, batch, 0.1, 3, torch.Generator().manual_seed(0))
    each = bounds(run.network, near.lower, near.upper, batch.labels, timesteps=3)
    assert found.ibp == int((each.ibp <= 0).any(1).sum()) / 20
    assert found.crown == int((each.crown <= 0).any(1).sum()) / 20
    assert found.best == int((~each.robust).sum()) / 20
    assert found.clean <= found.best <= min(found.ibp, found.crown)
    assert (found.samples, found.timesteps) == (20, 3)
    nothing = robust_error(run, 0.0, 3, 20)
    assert nothing.clean == nothing.ibp == nothing.crown == nothing.best
    assert nothing.unstable == 0 < found.unstable


def test_robust_training_lowers_the_robust_error():
    """On two classes and a network of three layers; the reports show it on digits."""
    plain, robust = trainer(recipe="bptt", epochs=30), trainer(epochs=30, epsilon=0.3)
    errors = []
    for run in (plain, robust):
        stepped(run, run.iterations)
        errors.append(robust_error(run, 0.3, 3, 40).best)
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"certified_timesteps": 5}, "timesteps: expected at least 5, those of the bounds; got 4"),
        ({"notation": "4C3-MP2-2FC"}, "recipe certified: .*kind: expected one that has bounds"),
        ({"neuron": Neuron(reset="subtract")}, "neuron.reset: expected 'zero'"),
        ({"epsilon": 2.0}, "epsilon: expected"),
    ],
)
def test_what_it_cannot_train_is_refused(change, line):
    with pytest.raises(TrainingError, match=line):
        trainer(**change)


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_says_and_writes_what_is_proven(tmp_path):
    done = invoke("train", "8C3S2-16FC-10FC", "mnist-5k", "--recipe", "certified", "--epochs", 1, "--train-samples", 64,
                  "--batch", 16, "--timesteps", 3, "--test-samples", 20, "-o", tmp_path / "run")  # fmt: skip
    assert done.exit_code == 0, done.output
    words = ["certify", tmp_path / "run", "mnist-5k", "--epsilon", "0.02,0.3", "--test-samples", 30]
    done = invoke(*words, "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "a.json").read_text())
    assert (data["schema"], data["version"]) == ("h2sim-certificate", 1)
    assert [each["epsilon"] for each in data["certificates"]] == [0.02, 0.3]
    first = data["certificates"][0]
    assert f"{1 - first['best']:.2%} of 30 samples are proven right" in done.output.replace("\n", " ")
    assert invoke(*words, "--json", tmp_path / "b.json").exit_code == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    other = invoke(*words, "--seed", 1, "--json", "-")
    assert json.loads(other.stdout[other.stdout.index("{") :])["seed"] == 1
    wrong = invoke("certify", tmp_path / "run", "mnist-5k", "--epsilon", "2")
    assert wrong.exit_code == 2
    assert "epsilon" in wrong.output


def test_the_corner_that_an_attack_finds_is_inside_the_bounds():
    """Pictures that the spike-compatible attack made within the box, coded by the random numbers of the bounds."""
    from h2sim.attacks.networks import OwnNetwork
    from h2sim.attacks.spike import SpikeAttack, spike_attack

    run, epsilon = stepped(trainer(recipe="bptt", epochs=8), 40), 0.4
    (batch,) = held_out(run.dataset, run.coding, 20, part=50)
    found = spike_attack(OwnNetwork(run), batch.images, batch.labels, SpikeAttack(box=epsilon / 2), timesteps=4)
    assert bool(found.success.any())
    draws = torch.rand((4, *batch.images.shape), generator=torch.Generator().manual_seed(5))
    low, high = image_spikes(batch.images, epsilon, draws)
    proven = bounds(run.network, low, high, batch.labels)
    spikes = (found.examples > draws).float()
    assert bool(((spikes >= low) & (spikes <= high)).all())
    alone = bounds(run.network, spikes, spikes, batch.labels).ibp
    assert bool((alone >= proven.certificate - 1e-5).all())
    own = image_spikes(batch.images, 0, draws)[0]
    assert alone.mean().item() < bounds(run.network, own, own, batch.labels).ibp.mean().item()
