"""HIRE-SNN: the noise, its state, what the recipe equals where there is none, and the traces of its periods."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from h2sim.algorithms.diet import NEURON, diet_settings  # noqa: E402
from h2sim.algorithms.hire import moved  # noqa: E402
from h2sim.arch import load_arch  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.facade import simulate  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.train import bptt  # noqa: E402
from h2sim.train import folder as folder_module  # noqa: E402
from h2sim.train.folder import Report, Run, RunFolder, TracePlan  # noqa: E402
from h2sim.train.lif import Neuron, continued  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from h2sim.train.trainer import Trainer  # noqa: E402
from h2sim.verify import verify_trace  # noqa: E402
from tests.helpers.tiny import halves  # noqa: E402
from tests.train.test_folder import Killed, artefacts  # noqa: E402

NOTATION = "4C3(Encoding)-AP2(Spikes)-D20-6C3-AP2-2FC"


def trainer(timesteps=4, recipe="hire", layers=NOTATION, **others):
    neuron = Neuron(**{**NEURON, "threshold": 0.2})  # at 1 the first weights make no spike
    others = {"batch": 8, "learning_rate": 1e-2, "neuron": neuron, **others}
    settings = diet_settings("tiny", "halves", timesteps, recipe=recipe, **others)
    return Trainer(settings, parse_notation(layers, (1, 6, 6)), halves())


def hire(timesteps=4, epochs=1, layers=NOTATION, **options):
    return trainer(timesteps, epochs=epochs, layers=layers, recipe_options=options)


def weights(run):
    return torch.cat([parameter.detach().flatten() for parameter in run.network.parameters()])


def stepped(run, steps=5):
    for _ in range(steps):
        run.step()
    return weights(run)


def test_the_noise_moves_by_the_sign_of_the_gradient_and_stays_in_its_bounds():
    found = moved(torch.tensor([0.0, 0.01, -0.013]), torch.tensor([2.0, -1.0, -3.0]), 0.013, 0.013)
    torch.testing.assert_close(found, torch.tensor([0.013, -0.003, -0.013]))
    assert moved(torch.tensor([0.01]), torch.tensor([0.0]), 0.013, 0.013).tolist() == pytest.approx([0.01])


def test_one_period_without_noise_is_traditional_training_bit_for_bit():
    plain = stepped(trainer(recipe="diet"))
    assert torch.equal(stepped(hire(periods=1, noise_step=0.0)), plain)
    assert torch.equal(stepped(hire(periods=1, noise="none")), plain)
    assert not torch.equal(stepped(hire(periods=1, noise_step=0.1)), plain)


def test_two_periods_without_noise_are_two_updates_of_half_the_timesteps():
    ours, by_hand = hire(timesteps=5, periods=2, noise_step=0.0), trainer(timesteps=2, recipe="diet")
    for _ in range(5):
        ours.step()
        batch = next(by_hand.stream)
        for _ in range(2):
            bptt.gradients(by_hand.network, batch, 2, by_hand.settings.objective)
            by_hand.update()
        by_hand.iteration += 1
    assert torch.equal(weights(ours), weights(by_hand))  # 5 timesteps in 2 periods are 2 each


def test_the_gradient_of_the_pixels_is_the_sum_over_timesteps():
    run = hire()
    x = torch.rand((1, 3, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    once, each = x.clone().requires_grad_(), x.expand(4, 3, 1, 6, 6).clone().requires_grad_()
    run.network.eval()
    for inputs in (once, each):
        run.network(inputs, 4).square().sum().backward()
    torch.testing.assert_close(once.grad, each.grad.sum(0, keepdim=True))
    assert float(once.grad.abs().max()) > 0


def test_noise_goes_on_from_batch_to_batch_and_from_epoch_to_epoch():
    how = {"epochs": 2, "layers": NOTATION.replace("-D20", ""), "noise_step": 0.02, "noise_bound": 0.05}
    run, seen = hire(**how), []
    forward = run.network.forward
    run.network.forward = lambda inputs, *rest: seen.append(inputs.detach().clone()) or forward(inputs, *rest)
    kappas = []
    for _ in range(10):
        run.step()
        kappas.append(run.recipe.kappa.clone())
    assert all(float(kappa.abs().max()) <= 0.05 + 1e-9 for kappa in kappas)
    assert len(seen) == 20
    first_of_batch_6 = seen[10]
    stream = hire(**how).stream  # dropout would draw of it
    batches = [next(stream).inputs for _ in range(6)]
    torch.testing.assert_close(first_of_batch_6 - batches[5], kappas[4])  # the sixth is the first of epoch 2


def test_gaussian_noise_has_no_state_and_clipping_keeps_pixels():
    gauss = hire(noise="gaussian", noise_step=0.5, clip=True)
    seen, forward = [], gauss.network.forward
    gauss.network.forward = lambda inputs, *rest: seen.append(inputs) or forward(inputs, *rest)
    stepped(gauss, 3)
    assert gauss.recipe.state() == {}
    assert not gauss.recipe.input_gradient
    assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in seen)
    assert not torch.equal(seen[0], seen[1])


def run_to_end(path, *, resume=False, kill_at=None, **options):
    def step(iteration, total, loss):
        if iteration == kill_at:
            raise Killed

    with torch_session():
        run, folder = hire(epochs=2, **options), RunFolder(path)
        folder.resume(run.settings, run) if resume else folder.start(run.settings)
        Run(run, folder, TracePlan((1, 2), 1, 3, values=True), 20, Report(step=step)).to_the_end()
    return run


@pytest.mark.parametrize("options", [{}, {"noise": "gaussian"}, {"periods": 3, "noise_bound": 0.1}])
@pytest.mark.parametrize("kill_at", [1, 5, 8])
def test_a_killed_run_goes_on_with_its_noise_and_ends_in_the_same_bytes(tmp_path, monkeypatch, options, kill_at):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    whole = run_to_end(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        run_to_end(tmp_path / "killed", kill_at=kill_at, **options)
    resumed = run_to_end(tmp_path / "killed", resume=True, **options)
    assert artefacts(tmp_path / "whole") == artefacts(tmp_path / "killed")
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("kappa"), "kappa: expected the noise of the last batch; got none"),
        (lambda s: s.update(kappa=torch.zeros(1, 8, 1, 6, 5)), r"kappa: expected float32 of shape \[1, 8, 1, 6, 6\]"),
        (lambda s: s.update(kappa=torch.full((1, 8, 1, 6, 6), 0.02)), "kappa: expected numbers of at most 0.013"),
        (lambda s: s.update(kappa=torch.full((1, 8, 1, 6, 6), torch.nan)), "kappa: expected numbers of at most 0.013"),
        (lambda s: s.update(more=1), "more: expected no such field; got one"),
    ],
)
def test_a_checkpoint_with_other_noise_is_refused(tmp_path, change, said):
    run_to_end(tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    change(state["trainer"]["recipe"])
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(TrainingError, match=rf"checkpoint\.pt: trainer\.recipe\.{said}"):
        run_to_end(tmp_path / "run", resume=True)


def test_traces_are_of_periods_and_say_that_the_gradient_went_on_to_the_pixels(tmp_path):
    run_to_end(tmp_path / "run")
    paths = sorted((tmp_path / "run" / "traces" / "epoch-001").iterdir())
    assert [path.name for path in paths] == ["batch-00-period-1.npz", "batch-00-period-2.npz"]
    for number, path in enumerate(paths, 1):
        trace = load_trace(path)
        trace.check()
        assert (trace.meta.timesteps, trace.meta.source["period"]) == (2, [number, 2])
        assert trace.meta.input_gradient
        assert trace.meta.source["recipe_options"]["periods"] == 2
        assert verify_trace(load_arch("h2learn"), trace).passed
        rows = simulate(load_arch("h2learn"), trace).activity.layers
        assert ("conv1", "backward") in {(row.layer, row.phase) for row in rows}


def test_what_it_cannot_run_on_is_refused():
    with pytest.raises(TrainingError, match="recipe hire: timesteps: expected at least 3, a timestep for each period"):
        hire(timesteps=2, periods=3)
    with pytest.raises(TrainingError, match="recipe hire: input: expected pixels that the first layer encodes"):
        hire(layers="4C3-AP2-2FC")


@pytest.mark.parametrize("reset", ["zero", "subtract", "subtract-after-leak", "none"])
def test_membranes_that_are_carried_run_on_as_if_there_were_one_run(reset):
    run = trainer(
        timesteps=6, recipe="diet", neuron=Neuron(**{**NEURON, "threshold": 0.25, "decay": 0.5, "reset": reset})
    )
    run.network.eval()
    x = 8 * torch.rand((1, 5, 1, 6, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole, carried = run.network(x, 6), {}
        parts = torch.cat([run.network(x, steps, None, carried) for steps in (2, 3, 1)])
        anew = torch.cat([run.network(x, steps) for steps in (2, 3, 1)])
    torch.testing.assert_close(parts, whole)
    assert not torch.allclose(anew, whole)


@pytest.mark.parametrize("reset", ["zero", "subtract", "subtract-after-leak", "none"])
def test_carried_membranes_reach_threshold_and_leak_but_are_no_part_of_the_graph(reset):
    neuron = Neuron(**{**NEURON, "threshold": 0.8, "decay": 0.9, "reset": reset})
    before, current = torch.tensor([0.9, 0.3], dtype=torch.float64), torch.tensor([[0.7, 0.2]], dtype=torch.float64)
    spikes = neuron.fires(before).double()
    threshold, decay = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.8, 0.9))
    first = continued(current, neuron, before, spikes, threshold, decay)
    first.sum().backward()
    held = before * (1 - spikes) if reset == "zero" else before - 0.8 * spikes if reset == "subtract" else before
    taken = 0.8 * spikes if reset == "subtract-after-leak" else 0
    torch.testing.assert_close(first.detach()[0], current[0] + 0.9 * held - taken)
    torch.testing.assert_close(decay.grad, held.sum())
    of_threshold = {"subtract": -0.9, "subtract-after-leak": -1.0}.get(reset, 0.0)
    assert (0.0 if threshold.grad is None else float(threshold.grad)) == pytest.approx(of_threshold)


def test_periods_with_carried_membranes_differ_and_the_first_verifies(tmp_path):
    plain, carried = hire(), hire(carry=True)
    assert not torch.equal(stepped(plain), stepped(carried))
    recorded = hire(carry=True)
    for _ in range(5):
        recorded.recorded_step(3, values=False)
    torch.testing.assert_close(weights(recorded), weights(carried))
    _, records, part = carried.recorded_step(4, values=True)
    traces = []
    for number, record in enumerate(records):
        carried.write_trace(tmp_path / f"{number}.npz", record, part, {"epoch": 0})
        traces.append(load_trace(tmp_path / f"{number}.npz"))
        traces[-1].check()
    report = verify_trace(load_arch("h2learn"), traces[0])
    assert report.passed
    assert not report.unchecked
    assert not traces[1].has_values  # it begins with membranes that the trace does not hold
