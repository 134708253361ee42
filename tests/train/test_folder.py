"""A run on disk: log, checkpoints and traces; a killed run goes on and ends in the same bytes."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from h2sim.errors import OutputError, TrainingError  # noqa: E402
from h2sim.io.files import write_text  # noqa: E402
from h2sim.trace import load_trace, parse_notation  # noqa: E402
from h2sim.train import folder as folder_module  # noqa: E402
from h2sim.train.folder import Report, Run, RunFolder, TracePlan, start_weights  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from h2sim.train.writer import TraceWriter  # noqa: E402
from tests.helpers.tiny import binary_layers, settings, tiny_trainer  # noqa: E402
from tests.robust.kills import said  # noqa: E402

PLAN = TracePlan(epochs=(0, 1, 2), batches=2, samples=3, values=True)


class Killed(Exception):
    """Stands for the kill."""


def run(path, *, resume=False, kill_at=None, epochs=2, plan=PLAN, layers=None, **changes):
    """Trains in `path`; `kill_at` ends it after so many iterations, without warning."""

    def step(iteration, total, loss):
        if iteration == kill_at:
            raise Killed

    with torch_session():
        trainer, run_folder = tiny_trainer(layers, epochs=epochs, **changes), RunFolder(path)
        run_folder.resume(trainer.settings, trainer) if resume else run_folder.start(trainer.settings)
        Run(trainer, run_folder, plan, 20, Report(step=step)).to_the_end()
    return trainer, run_folder


def artefacts(path):
    """What a run leaves, but for the seconds in its log."""
    traces = {f"{p.parent.name}/{p.name}": p.read_bytes() for p in sorted((path / "traces").glob("*/*"))}
    log = [line.rpartition(",")[0] for line in (path / "log.csv").read_text().splitlines()]
    return traces, log


def test_a_run_leaves_settings_log_checkpoint_and_the_planned_traces(tmp_path):
    trainer, _ = run(tmp_path / "run")
    traces, log = artefacts(tmp_path / "run")
    assert list(traces) == [f"epoch-00{e}/batch-0{b}.npz" for e in range(3) for b in range(2)]
    assert log[0] == "epoch,iteration,loss,accuracy,test_samples"
    assert [line.split(",")[:2] for line in log[1:]] == [["0", "0"], ["1", "5"], ["2", "10"]]
    assert [line.split(",")[-1] for line in log[1:]] == ["20", "20", "40"]  # all of them after the last epoch
    assert log[1].split(",")[2] == ""  # no loss before training
    assert json.loads((tmp_path / "run" / "run.json").read_text())["epochs"] == 2
    assert trainer.iteration == 10
    last = load_trace(tmp_path / "run" / "traces" / "epoch-002" / "batch-01.npz")
    last.check()
    assert last.meta.batch == 3
    assert last.meta.source["iteration"] == 11
    assert f"{last.meta.source['accuracy']}" == log[3].split(",")[3]


@pytest.mark.parametrize("kill_at", [1, 5, 7, 10])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch, kill_at, seconds):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", seconds)
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=kill_at)
    resumed, _ = run(tmp_path / "killed", resume=True)
    assert artefacts(tmp_path / "whole") == artefacts(tmp_path / "killed")
    for ours, theirs in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dropout_mask", ["sample", "timestep"])
def test_a_killed_run_with_batch_norm_and_dropout_ends_in_the_same_bytes(tmp_path, monkeypatch, dropout_mask):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    layers = parse_notation("4C3(Encoding)(BN)-MP2-D20-4C3(BN)-D50-2FC", (1, 6, 6))
    how = {"layers": layers, "dropout_mask": dropout_mask, "initial_deviation": 0.3}
    whole, _ = run(tmp_path / "whole", **how)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=7, **how)
    resumed, _ = run(tmp_path / "killed", resume=True, **how)
    assert artefacts(tmp_path / "whole") == artefacts(tmp_path / "killed")
    ours, theirs = resumed.network.state_dict(), whole.network.state_dict()
    assert "norms./conv1.variance0" in ours
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("first", "then"), [("sample", "timestep"), ("timestep", "sample")])
def test_a_run_does_not_go_on_with_another_dropout_mask(tmp_path, first, then):
    layers = parse_notation("4C3(Encoding)-D20-2FC", (1, 6, 6))
    run(tmp_path / "run", layers=layers, dropout_mask=first, epochs=1, plan=TracePlan())
    with pytest.raises(TrainingError, match=r"run\.json: dropout_mask: expected .*, as the run began; got "):
        run(tmp_path / "run", resume=True, layers=layers, dropout_mask=then, epochs=1, plan=TracePlan())


def test_running_variances_below_0_are_refused(tmp_path):
    layers = parse_notation("4C3(Encoding)(BN)-2FC", (1, 6, 6))
    run(tmp_path / "run", layers=layers, epochs=1, plan=TracePlan())
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    state["trainer"]["network"]["norms./conv1.variance0"][0, 0, 1] = -1.0
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"norms\./conv1\.variance0: expected variances; got numbers below 0"):
        run(tmp_path / "run", resume=True, layers=layers, epochs=1, plan=TracePlan())


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    run(tmp_path / "run")
    before = artefacts(tmp_path / "run")
    run(tmp_path / "run", resume=True)
    assert artefacts(tmp_path / "run") == before


@pytest.mark.parametrize("log", ["older", "none"])
def test_a_run_killed_between_its_last_checkpoint_and_its_log_has_the_whole_log_after_all(tmp_path, log):
    run(tmp_path / "run")
    before, place = artefacts(tmp_path / "run"), tmp_path / "run" / "log.csv"
    lines = place.read_text().splitlines(keepends=True)
    place.write_text("".join(lines[:-1])) if log == "older" else place.unlink()
    run(tmp_path / "run", resume=True)
    assert artefacts(tmp_path / "run") == before


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    run(tmp_path / "run", plan=TracePlan())
    with pytest.raises(TrainingError, match=r"run: holds a run already: --resume goes on with it"):
        run(tmp_path / "run")


def test_a_run_resumes_only_as_it_began(tmp_path):
    run(tmp_path / "run", plan=TracePlan())
    with pytest.raises(
        TrainingError, match=r"run\.json: schedule: expected 'linear', as the run began; got 'constant'"
    ):
        run(tmp_path / "run", resume=True, schedule="constant")
    with pytest.raises(TrainingError, match=r"expected the folder of a training run; got no run\.json"):
        run(tmp_path / "nowhere", resume=True)


NORMED = "4C3(Encoding)(BN)-MP2-D20-4C3(BN)-D50-2FC"
LONGER = TracePlan(epochs=(0, 1, 2, 3), batches=2, samples=3, values=True)


def all_of(path):
    """A run's traces and log, its settings, and its checkpoint but for the seconds in that."""
    return *artefacts(path), (path / "run.json").read_bytes(), said(path / "checkpoint.pt")


@pytest.mark.parametrize("notation", [None, NORMED])
@pytest.mark.parametrize("stops", [(2,), (1, 2)])
def test_a_run_of_a_constant_rate_goes_on_to_the_bytes_of_so_many_epochs_at_once(tmp_path, notation, stops):
    how = {"schedule": "constant", "layers": notation and parse_notation(notation, (1, 6, 6)), "plan": LONGER}
    run(tmp_path / "whole", epochs=3, **how)
    for number, epochs in enumerate((*stops, 3)):
        run(tmp_path / "longer", epochs=epochs, resume=number > 0, **how)
    assert all_of(tmp_path / "whole") == all_of(tmp_path / "longer")


def test_the_log_of_a_run_that_goes_on_compares_like_with_like(tmp_path):
    run(tmp_path / "run", schedule="constant")
    assert [line.split(",")[-1] for line in artefacts(tmp_path / "run")[1][1:]] == ["20", "20", "40"]
    run(tmp_path / "run", epochs=3, resume=True, schedule="constant")
    assert [line.split(",")[-1] for line in artefacts(tmp_path / "run")[1][1:]] == ["20", "20", "20", "40"]


def test_a_rate_that_fell_follows_the_line_of_the_new_epochs_from_where_the_run_goes_on(tmp_path):
    run(tmp_path / "run")
    first = artefacts(tmp_path / "run")[0]
    trainer, _ = run(tmp_path / "run", epochs=3, resume=True, plan=LONGER)
    began = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (began["epochs"], began["earlier"]) == (3, [{"epochs": 2, "iterations": 10}])
    rates = [trainer.settings.rate(iteration, 5) for iteration in range(15)]
    assert rates == [1e-2 * (1 - n / 10) for n in range(10)] + [1e-2 * (1 - n / 15) for n in range(10, 15)]
    assert trainer.optimizer.param_groups[0]["lr"] == rates[14]
    source = load_trace(tmp_path / "run" / "traces" / "epoch-003" / "batch-00.npz").meta.source
    assert source["optimizer"] == (
        "Adam, rate 0.01 falling linearly to 0 in 2 epochs until iteration 10, then in 3 epochs, batch 8"
    )
    traces = artefacts(tmp_path / "run")[0]
    assert all(traces[name] == first[name] for name in first if not name.startswith("epoch-002"))
    run(tmp_path / "whole", epochs=3, plan=LONGER)
    assert said(tmp_path / "whole" / "checkpoint.pt") != said(tmp_path / "run" / "checkpoint.pt")


@pytest.mark.parametrize("kill_at", [11, 12, 15])
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_run_that_goes_on_and_is_killed_ends_as_one_that_goes_on_and_is_not(tmp_path, monkeypatch, kill_at, schedule):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    how = {"epochs": 3, "resume": True, "plan": LONGER, "schedule": schedule}
    for name in ("alone", "killed"):
        run(tmp_path / name, schedule=schedule)
    run(tmp_path / "alone", **how)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=kill_at, **how)
    run(tmp_path / "killed", **how)
    assert all_of(tmp_path / "alone") == all_of(tmp_path / "killed")


def test_a_plan_by_which_nothing_was_done_leaves_no_trace(tmp_path):
    run(tmp_path / "whole", epochs=3, plan=LONGER)
    with pytest.raises(Killed):  # before the first checkpoint
        run(tmp_path / "run", kill_at=1, plan=TracePlan())
    run(tmp_path / "run", epochs=3, resume=True, plan=LONGER)
    assert all_of(tmp_path / "whole") == all_of(tmp_path / "run")


def test_a_mind_that_was_changed_twice_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "run", kill_at=7)
    with pytest.raises(Killed):
        run(tmp_path / "run", kill_at=7, resume=True, epochs=5)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["earlier"] == [{"epochs": 2, "iterations": 6}]
    run(tmp_path / "run", resume=True)
    assert all_of(tmp_path / "whole") == all_of(tmp_path / "run")


def test_a_run_may_end_sooner_but_not_before_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    run(tmp_path / "whole", schedule="constant")
    with pytest.raises(Killed):
        run(tmp_path / "run", epochs=4, kill_at=8, schedule="constant")
    with pytest.raises(TrainingError, match=r"run: epochs: expected at least 2, as many as have begun; got 1$"):
        run(tmp_path / "run", epochs=1, resume=True, schedule="constant")
    run(tmp_path / "run", resume=True, schedule="constant")
    assert all_of(tmp_path / "whole") == all_of(tmp_path / "run")


def plans(*pairs):
    """Earlier plans of (epochs, iterations), as run.json has them."""
    return [dict(zip(("epochs", "iterations"), pair, strict=True)) for pair in pairs]


BAD_PLANS = [
    *(None, 3, plans((2, 10))[0], [2], [[2, 10]], [{"epochs": 2}], [{**plans((2, 10))[0], "more": 1}]),
    *(plans(pair) for pair in ((2, 0), (2, 11), (2, 5.0), (True, 3), ("2", 10), (-2, -10), (10**30, 10**40))),
    *(plans((2, 10), (2, 10)), plans((4, 6), (5, 6)), plans((4, 7), (5, 6))),
]


@pytest.mark.parametrize(("name", "value"), [
    *(("epochs", value) for value in (None, 0, -1, 2.0, "2", True, [2])), *(("earlier", value) for value in BAD_PLANS),
])  # fmt: skip
def test_plans_that_no_run_had_are_one_line(tmp_path, name, value):
    run(tmp_path / "run", plan=TracePlan())
    began = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**began, name: value}))
    with pytest.raises(TrainingError, match=rf"run\.json: {name}: expected .*; got ") as caught:
        run(tmp_path / "run", resume=True, epochs=3)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_named(tmp_path):
    run(tmp_path / "run", plan=TracePlan())
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: expected a checkpoint of h2sim train; got damage"):
        run(tmp_path / "run", resume=True)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(TrainingError, match=r"run\.json: cannot be read"):
        run(tmp_path / "run", resume=True)
    (tmp_path / "run" / "run.json").write_text("[1]")
    with pytest.raises(TrainingError, match=r"run\.json: top level: expected a mapping of settings; got list"):
        run(tmp_path / "run", resume=True)


def test_a_run_needs_a_folder_that_can_be_made(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        run(tmp_path / "missing" / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file: expected a folder for the run, or a name for one; got a file"):
        run(tmp_path / "file")


def test_another_run_lends_its_weights_if_they_fit(tmp_path):
    first, _ = run(tmp_path / "first", plan=TracePlan())
    second = tiny_trainer(seed=1)
    start_weights(second, tmp_path / "first")
    for ours, theirs in zip(second.network.parameters(), first.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    other = tiny_trainer(binary_layers())
    with pytest.raises(TrainingError, match=r"first: expected weights of this network; got .*(Missing|size mismatch)"):
        start_weights(other, tmp_path / "first")


def test_settings_in_a_run_folder_round_trip(tmp_path):
    RunFolder(tmp_path / "run").start(settings())
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == json.loads(json.dumps(settings().to_dict()))


def test_a_trace_that_cannot_be_written_stops_the_run(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"), TraceWriter() as writer:
        writer.submit(tmp_path / "missing" / "t.npz", lambda path: write_text(path, "x"))


def test_a_writer_tells_of_each_file_when_it_is_there(tmp_path):
    told = []
    with TraceWriter(lambda path: told.append((path.name, path.exists()))) as writer:
        for name in ("a", "b"):
            writer.submit(tmp_path / name, lambda path: write_text(path, "x"))
    assert told == [("a", True), ("b", True)]
