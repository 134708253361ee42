"""The spike-compatible attack: on h2sim's networks, on models of one's own, by command; what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

import h2sim  # noqa: E402
from h2sim.attacks.networks import OwnNetwork  # noqa: E402
from h2sim.attacks.record import write_iteration  # noqa: E402
from h2sim.attacks.spike import SpikeAttack, spike_attack  # noqa: E402
from h2sim.attacks.summary import spike_summary  # noqa: E402
from h2sim.cli import main  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.train.lif import Neuron, membrane_gradient, membranes  # noqa: E402
from h2sim.train.objective import Objective  # noqa: E402
from h2sim.train.settings import Settings  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from tests.helpers.tiny import halves  # noqa: E402

NEURON = Neuron(0.3, 0.25, window=(-0.2, 0.8))
SOME = SpikeAttack(iterations=6, fresh=4)


def trained(notation="4C3-8FC-2FC", steps=60, loss="ce", neuron=NEURON):
    settings = Settings(
        network="tiny", dataset="halves", epochs=20, timesteps=6, batch=8, learning_rate=1e-2, neuron=neuron,
        objective=Objective(loss=loss, readout="rate"), initial_deviation=0.5,
    )  # fmt: skip
    run = Trainer(settings, parse_notation(notation, (1, 6, 6)), halves())
    for _ in range(steps):
        run.step()
    return run


def pictures(run, n=20):
    rows = run.dataset.test.spread(n)
    images = torch.from_numpy(np.ascontiguousarray(run.dataset.test.samples(rows), np.float32))
    return images, torch.from_numpy(np.asarray(run.dataset.test.labels[rows], np.int64))


@pytest.fixture(scope="module")
def run():
    return trained()


def test_examples_of_pictures_fool_more_than_resampling(run):
    images, labels = pictures(run)
    found = spike_attack(OwnNetwork(run), images, labels, replace(SOME, iterations=25), timesteps=6)
    assert found.success_rate > 0.5 > found.null_rate
    assert found.count == int(found.attacked.sum()) > 15
    assert not bool((found.success & ~found.attacked).any())
    assert bool((found.examples >= 0).all() & (found.examples <= 1).all())
    untouched = ~found.attacked
    assert torch.equal(found.examples[untouched], images[untouched])
    assert bool((found.norms["perturbation"][found.success] > 0).all())
    assert bool((found.iterations[found.success] >= 1).all())
    assert 0 < found.robust_rate <= 1
    assert len(found.penultimate) <= 25
    assert all(samples <= found.count and spikes <= samples * 6 * 8 for spikes, samples in found.penultimate)


def test_examples_of_spikes_are_spikes_that_fool(run):
    images, labels = pictures(run)
    spikes = run.coding.coded(images, torch.Generator().manual_seed(0))
    found = spike_attack(OwnNetwork(run), spikes, labels, replace(SOME, iterations=25))
    assert bool(((found.examples == 0) | (found.examples == 1)).all())
    assert found.success_rate > 0.5
    scores = OwnNetwork(run).scores(found.examples)
    best = scores.max(1)
    alone = (scores == best.values[:, None]).sum(1) == 1
    assert bool(((best.indices != labels) & alone)[found.success].all())
    assert found.norms["l0_over_n"][found.success].min() > 0
    torch.testing.assert_close(found.norms["perturbation"], found.norms["l0_over_n"])  # flips have no size


def test_a_target_is_hit(run):
    images, labels = pictures(run)
    found = spike_attack(OwnNetwork(run), images, labels, replace(SOME, iterations=25), timesteps=6, targets=1 - labels)
    assert found.targeted
    spikes = run.coding.coded(found.examples, torch.Generator().manual_seed(3))
    hit = OwnNetwork(run).scores(spikes).argmax(1) == 1 - labels
    assert float(hit[found.success].double().mean()) > 0.5
    none = spike_attack(OwnNetwork(run), images, labels, SOME, timesteps=6, targets=labels)
    assert none.count == 0
    assert np.isnan(none.success_rate)


def test_a_sample_is_attacked_the_same_in_any_company(run):
    images, labels = pictures(run, 10)
    whole = spike_attack(OwnNetwork(run), images, labels, SOME, timesteps=6)
    for start, stop in ((0, 3), (3, 10)):
        part = spike_attack(OwnNetwork(run), images[start:stop], labels[start:stop], SOME, timesteps=6,
                            numbers=range(start, stop))  # fmt: skip
        for name in ("success", "examples", "iterations", "vanished", "flips", "null", "kept", "fooled"):
            ours, theirs = getattr(part, name), getattr(whole, name)[start:stop]
            assert torch.equal(torch.nan_to_num(ours.double(), -1), torch.nan_to_num(theirs.double(), -1)), name
    other = spike_attack(OwnNetwork(run), images, labels, replace(SOME, seed=1), timesteps=6)
    assert not torch.equal(other.examples, whole.examples)


def test_what_is_too_far_is_no_example(run):
    images, labels = pictures(run)
    near = spike_attack(OwnNetwork(run), images, labels, replace(SOME, epsilon=1e-6), timesteps=6)
    assert not bool(near.success.any())
    boxed = spike_attack(OwnNetwork(run), images, labels, replace(SOME, box=0.05), timesteps=6)
    assert float((boxed.examples - images).abs().max()) <= 0.05 + 1e-6
    pulled = spike_attack(OwnNetwork(run), images, labels, replace(SOME, c=0.2), timesteps=6)
    free = spike_attack(OwnNetwork(run), images, labels, SOME, timesteps=6)
    assert pulled.norms["perturbation"].mean() < free.norms["perturbation"].mean()


def test_the_gradient_of_the_spikes_is_that_of_the_equations_one_by_one():
    """In float64, through two layers by eq. 2.1 to 2.6 in plain operations."""
    run = trained("5FC-2FC", steps=3)
    network = run.network.double()
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand((6, 3, 36), generator=generator) < 0.4).double()
    labels = torch.tensor([0, 1, 0])
    found, _ = OwnNetwork(run).gradient(spikes, labels)
    (w1, b1), (w2, b2) = ((network.weights[n].detach(), network.biases[n].detach()) for n in ("fc1", "fc2"))
    m1, s1 = membranes(spikes @ w1.T + b1, NEURON)
    m2, s2 = membranes(s1 @ w2.T + b2, NEURON)
    rate = s2.mean(0).requires_grad_()
    torch.nn.functional.cross_entropy(rate, labels, reduction="sum").backward()
    d2 = membrane_gradient((rate.grad / 6).expand(6, -1, -1).contiguous(), m2, s2, NEURON)
    d1 = membrane_gradient(d2 @ w2, m1, s1, NEURON)
    torch.testing.assert_close(found, d1 @ w1, rtol=1e-10, atol=1e-14)


def test_the_penultimate_threshold_is_there_only_as_examples_are_made(run):
    images, labels = pictures(run)
    spikes = run.coding.coded(images, torch.Generator().manual_seed(0))
    plain, tuned = OwnNetwork(run), OwnNetwork(run, 1.5)
    assert plain.penultimate == tuned.penultimate == "fc1"
    before = dict(run.network.neurons)
    assert torch.equal(plain.scores(spikes), tuned.scores(spikes))
    of_plain, of_tuned = plain.gradient(spikes, labels)[1], tuned.gradient(spikes, labels)[1]
    assert int(of_tuned.sum()) < int(of_plain.sum())
    assert not torch.equal(plain.gradient(spikes, labels)[0], tuned.gradient(spikes, labels)[0])
    assert run.network.neurons == before
    assert run.network.training
    counted = {}
    run.network.eval()
    from h2sim.export.record import LayerRecord

    records = {name: LayerRecord(values=False) for name in run.network.described}
    with torch.no_grad():
        run.network(spikes, 6, records)
    run.network.train()
    counted = np.unpackbits(records["fc1"].spikes, axis=-1)[..., :8].sum((0, 2))
    assert of_plain.tolist() == counted.tolist()


def test_where_every_gradient_vanishes_flips_take_over():
    run = trained(neuron=replace(NEURON, window=(5.0, 6.0)), steps=3)
    images, labels = pictures(run)
    found = spike_attack(OwnNetwork(run), images, labels, replace(SOME, gamma=0.3), timesteps=6)
    assert bool(found.vanished[found.attacked].all())
    assert torch.equal(found.flips[found.attacked], found.iterations[found.attacked])
    still = spike_attack(OwnNetwork(run), images, labels, replace(SOME, gamma=0.0), timesteps=6)
    assert torch.equal(still.examples, images)


def test_an_iteration_is_a_trace_that_the_machine_runs(run, tmp_path):
    write_iteration(run, tmp_path / "t.npz")
    trace = load_trace(tmp_path / "t.npz")
    trace.check()
    assert trace.meta.phases == ("forward", "backward")
    assert trace.meta.input_gradient
    rows = h2sim.simulate(h2sim.load_arch("h2learn"), trace).activity.layers
    assert {(row.layer, row.phase) for row in rows} >= {("conv1", "backward"), ("conv1", "forward")}
    assert all(parameter.grad is None for parameter in run.network.parameters())


class Sums:
    """Two classes, by how many of four elements spike: below 2 the first, above it the second, at 2 both."""

    def scores(self, spikes):
        second = spikes.flatten(2).sum((0, 2)) - 2
        return torch.stack([-second, second], 1)

    def gradient(self, spikes, wanted):
        return torch.ones_like(spikes), None


def by_sums(own, **how):
    how = SpikeAttack(iterations=3, fresh=0, sampling=False, **how)
    return spike_attack(Sums(), torch.tensor(own).view(2, 1, 2), torch.tensor([0]), how)


def test_a_tie_is_no_success():
    class Half(Sums):
        def gradient(self, spikes, wanted):
            gradient = torch.zeros_like(spikes)
            gradient[0] = -1.0
            return gradient, None

    how = SpikeAttack(iterations=3, fresh=0, sampling=False)
    found = spike_attack(Half(), torch.ones(2, 1, 2), torch.tensor([1]), how)
    assert found.examples.flatten().tolist() == [0, 0, 1, 1]  # both classes alike, again and again
    assert (found.success_rate, int(found.iterations)) == (0.0, 3)


def test_an_example_beyond_epsilon_is_a_failure_and_the_end():
    inside, beyond = by_sums([1.0, 0.0, 0.0, 0.0], epsilon=0.75), by_sums([1.0, 0.0, 0.0, 0.0], epsilon=0.74)
    assert (inside.success_rate, int(inside.iterations), inside.mean_norm("perturbation")) == (1.0, 1, 0.75)
    assert (beyond.success_rate, int(beyond.iterations)) == (0.0, 1)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"iterations": 0}, "attack: iterations: expected a whole number from 1 to 10000; got 0"),
        ({"gamma": 1.5}, "attack: gamma: expected a number from 0 to 1; got 1.5"),
        ({"factor": 3}, "attack: factor: expected 1 or 2; got 3"),
    ],
)
def test_settings_that_cannot_be_are_a_line(change, line):
    with pytest.raises(TrainingError, match=line):
        SpikeAttack(**change)


def test_inputs_that_do_not_fit_are_a_line(run):
    images, labels = pictures(run)
    with pytest.raises(TrainingError, match="attack: inputs: expected spikes, 0 or 1"):
        spike_attack(OwnNetwork(run), images.unsqueeze(0), labels, SOME)
    with pytest.raises(TrainingError, match=r"attack: labels: expected shape \[20\]; got \[3\]"):
        spike_attack(OwnNetwork(run), images, labels[:3], SOME, timesteps=6)
    with pytest.raises(TrainingError, match="network: expected one that reads spikes; got one that encodes pixels"):
        OwnNetwork(trained("4C3(Encoding)-8FC-2FC", steps=0))


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0].abs() < 0.5)


class Lif(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.threshold, self.v = 0.3, None

    def forward(self, x):
        self.v = x if self.v is None else 0.25 * self.v + x
        s = Fire.apply(self.v - self.threshold)
        self.v = self.v * (1 - s)
        return s


class Mine(torch.nn.Module):
    """A model as people write them: a loop over time, state in the neurons, dropout, batch norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.norm, self.lif1 = torch.nn.Linear(36, 24), torch.nn.BatchNorm1d(24), Lif()
        self.drop, self.fc2, self.lif2 = torch.nn.Dropout(0.3), torch.nn.Linear(24, 2), Lif()

    def again(self):
        self.lif1.v = self.lif2.v = None

    def forward(self, spikes):
        return torch.stack(
            [self.lif2(self.fc2(self.drop(self.lif1(self.norm(self.fc1(x.flatten(1))))))) for x in spikes]
        )


@pytest.fixture(scope="module")
def mine():
    model, data = Mine(), halves()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    rows = np.arange(len(data.train))
    images = torch.from_numpy(np.ascontiguousarray(data.train.samples(rows), np.float32))
    labels = torch.from_numpy(np.asarray(data.train.labels, np.int64))
    for seed in range(40):
        model.again()
        spikes = (torch.rand((6, *images.shape), generator=torch.Generator().manual_seed(seed)) < images).float()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(spikes).mean(0), labels).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_a_model_of_ones_own_is_attacked_and_left_as_it_was(mine, loss):
    images, labels = pictures(trained(steps=0))
    mine.train()
    mine.drop.eval()
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    grads = [None if p.grad is None else p.grad.clone() for p in mine.parameters()]
    found = h2sim.attack(mine, images, labels, timesteps=6, reset=mine.again, penultimate="lif1", loss=loss,
                         iterations=25, fresh=3)  # fmt: skip
    assert found.success_rate > 0.5
    assert found.penultimate
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    for parameter, grad in zip(mine.parameters(), grads, strict=True):
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)
    assert mine.training
    assert not mine.drop.training
    assert not mine.lif1._forward_hooks
    tuned = h2sim.attack(mine, images, labels, timesteps=6, reset=mine.again, penultimate="lif1", threshold=1.0,
                         loss=loss, iterations=3)  # fmt: skip
    assert mine.lif1.threshold == 0.3
    assert tuned.penultimate[0][0] < found.penultimate[0][0]


def test_models_that_do_not_fit_are_a_line(mine):
    images, labels = pictures(trained(steps=0))
    for options, line in (
        ({"penultimate": "lif9"}, r"penultimate: expected a module of the model \(fc1, norm, lif1, drop, fc2, lif2\)"),
        ({"penultimate": "fc1", "threshold": 1.0}, "expected a module with one of threshold"),
        ({"threshold": 1.0}, "penultimate: expected the name of the layer"),
        ({"loss": "hinge"}, "loss: expected ce, mse or a function; got 'hinge'"),
    ):
        with pytest.raises(TrainingError, match=line):
            h2sim.attack(mine, images, labels, timesteps=6, reset=mine.again, **options)
    with pytest.raises(TrainingError, match=r"model: expected scores \(N, classes\) or \(T, N, classes\)"):
        h2sim.attack(lambda spikes: spikes.sum(), images, labels, timesteps=6)
    with pytest.raises(TypeError):
        h2sim.attack(mine, images, labels, timesteps=6, nonsense=1)


@pytest.mark.parametrize("name", ["spikingjelly", "snntorch"])
def test_models_of_the_libraries_are_attacked_and_reset(name):
    pytest.importorskip(name)
    torch.manual_seed(0)
    if name == "spikingjelly":
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        net = torch.nn.Sequential(
            layer.Flatten(), layer.Linear(36, 20), neuron.LIFNode(v_threshold=0.2, surrogate_function=surrogate.ATan()),
            layer.Linear(20, 2), neuron.LIFNode(v_threshold=0.2),
        )  # fmt: skip
        functional.set_step_mode(net, "m")
        penultimate = "2"
    else:
        import snntorch as snn

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.fc1, self.lif1 = torch.nn.Linear(36, 20), snn.Leaky(beta=0.5, threshold=0.2, init_hidden=True)
                self.fc2 = torch.nn.Linear(20, 2)

            def forward(self, spikes):
                return torch.stack([self.fc2(self.lif1(self.fc1(x.flatten(1)))) for x in spikes])

        net, penultimate = Net(), "lif1"
    images, _ = pictures(trained(steps=0), 12)
    spikes = (torch.rand((6, *images.shape), generator=torch.Generator().manual_seed(0)) < images).float()
    from h2sim.export.neurons import reset_states

    def read(x):
        reset_states(net)
        with torch.no_grad():
            return net(x).mean(0)

    labels = read(spikes).argmax(1)
    first = h2sim.attack(net, spikes, labels, penultimate=penultimate, iterations=10)
    again = h2sim.attack(net, spikes, labels, penultimate=penultimate, iterations=10)
    assert torch.equal(first.examples, again.examples)  # no state is left over
    assert first.count == 12
    assert first.success_rate > 0.5
    assert bool((read(first.examples).argmax(1) != labels)[first.success].all())
    assert first.penultimate[0][0] > 0


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_says_what_was_found_beside_the_null_control(tmp_path):
    for name, network, more in (
        ("snn", "8C3S2-16FC-10FC", ["--readout", "rate"]),
        ("other", "8C3S2-16FC-10FC", ["--readout", "rate", "--seed", 1]),
        ("ann", "8C3S2(Encoding)-10FC", ["--recipe", "ann"]),
    ):  # fmt: skip
        done = invoke("train", network, "mnist-5k", "--epochs", 1, "--train-samples", 320, "--batch", 16, "--timesteps",
                      4 if name != "ann" else 1, "--test-samples", 20, "--initial-deviation", 0.4, *more, "-o",
                      tmp_path / name)  # fmt: skip
        assert done.exit_code == 0, done.output
    words = ["attack", tmp_path / "snn", "mnist-5k", "--test-samples", 30, "--iterations", 8, "--fresh", 3]
    done = invoke(*words, "--trace", tmp_path / "i.npz", "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "a.json").read_text())
    (one,) = data["spike_attacks"]
    assert data["attacks"] == []
    assert 0 < one["attacked"] <= one["samples"] == 30
    assert 0 <= one["null"] <= 1
    assert one["settings"]["iterations"] == 8
    assert f"finds examples of {one['success']:.1%} of the {one['attacked']}" in done.output.replace("\n", " ")
    assert "by resampling alone" in done.output
    assert load_trace(tmp_path / "i.npz").meta.phases == ("forward", "backward")
    assert invoke(*words, "--json", tmp_path / "b.json").exit_code == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    targeted = invoke(*words, "--targeted", "--penultimate-threshold", 1, "--json", tmp_path / "t.json")
    assert targeted.exit_code == 0, targeted.output
    assert json.loads((tmp_path / "t.json").read_text())["spike_attacks"][0]["attacked"] == 9 * one["attacked"]
    black = invoke(*words, "--black-box", tmp_path / "other", "--json", tmp_path / "c.json")
    assert black.exit_code == 0, black.output
    both = json.loads((tmp_path / "c.json").read_text())["spike_attacks"]
    assert [each["black_box"] for each in both] == [False, True]
    assert both[0]["transferred"] is None
    across = invoke("attack", tmp_path / "snn", "mnist-5k", "--test-samples", 30, "--method", "bim", "--epsilon", 0.2,
                    "--black-box", tmp_path / "ann", "--json", "-")  # fmt: skip
    assert across.exit_code == 0, across.output
    made = json.loads(across.stdout[across.stdout.index("{") :])["attacks"]
    assert [(each["method"], each["black_box"]) for each in made] == [("bim", True)]


def test_a_summary_is_of_all_parts(run, monkeypatch):
    whole = spike_summary(run, SOME, 20)
    monkeypatch.setattr("h2sim.attacks.summary.PART", 7)
    parts = spike_summary(run, SOME, 20)
    assert whole.attacked == parts.attacked
    assert whole.success == parts.success
    assert parts.gradient_dtype == "float32"
