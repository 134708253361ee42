"""The seam of training algorithms, by a recipe of another package: options, several updates a batch, state."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")

from click.testing import CliRunner  # noqa: E402
from pydantic import Field  # noqa: E402

from h2sim.cli import main  # noqa: E402
from h2sim.errors import TrainingError  # noqa: E402
from h2sim.trace import load_trace  # noqa: E402
from h2sim.train import bptt, registry  # noqa: E402
from h2sim.train import folder as folder_module  # noqa: E402
from h2sim.train.recipe import Options, Recipe, make_recipe  # noqa: E402
from tests.helpers.tiny import tiny_trainer  # noqa: E402
from tests.train.test_folder import Killed, artefacts, run  # noqa: E402

SHORT = ["--epochs", "1", "--batch", "8", "--train-samples", "24", "--test-samples", "10", "--timesteps", "2"]


class MineOptions(Options):
    reach: float = Field(0.1, gt=0, le=10, description="How far a pixel moves.")
    rounds: int = Field(2, ge=1, description="Updates of a batch.")
    sign: Literal["plus", "minus"] = Field("plus", description="Which way.")
    momentum: float | None = Field(None, description="SGD with this momentum in place of Adam.")
    still: bool = Field(False, description="Nothing moves.")


class Mine(Recipe):
    """Adds a memory of earlier batches to each batch, which it trains several times."""

    name = "mine"
    options_type = MineOptions

    def __init__(self, options):
        super().__init__(options)
        self.memory = torch.zeros(())

    @property
    def updates(self):
        return self.options.rounds

    def optimizer(self, run):
        if self.options.momentum is None:
            return torch.optim.Adam(run.network.parameters(), lr=run.settings.learning_rate, amsgrad=True)
        return torch.optim.SGD(run.network.parameters(), lr=0.1, momentum=self.options.momentum)

    def optimizer_words(self, settings):
        return "Adam or SGD"

    def _moved(self, batch):
        batch.inputs.add_(self.memory)
        if not self.options.still:
            self.memory = (self.memory + self.options.reach * batch.inputs.mean()) / 2
        return batch

    def step(self, run, batch):
        for _ in range(self.updates):
            loss = bptt.gradients(run.network, self._moved(batch), run.settings.timesteps, run.settings.objective)
            run.update()
        return loss

    def recorded_step(self, run, batch, samples, values):
        records, s = [], run.settings
        for _ in range(self.updates):
            loss, record = bptt.recorded_gradients(
                run.network, self._moved(batch), s.timesteps, s.objective, samples, values
            )
            run.update()
            records.append(record)
        return loss, records

    def state(self):
        return {"memory": self.memory}

    def check_state(self, state, run, iteration):
        if set(state) != {"memory"}:
            raise ValueError("memory: expected a tensor; got none")

    def load_state(self, state):
        self.memory = state["memory"]


class ClashOptions(Options):
    learning_rate: float = Field(0.1, description="There is one already.")


class Clash(Recipe):
    """A recipe whose option the command has already."""

    options_type = ClashOptions


@pytest.fixture(autouse=True)
def another_package(monkeypatch):
    entries = [
        EntryPoint("mine", f"{__name__}:Mine", registry.GROUP),
        EntryPoint("broken", "no_such_package.of_anyone:Recipe", registry.GROUP),
        EntryPoint("clash", f"{__name__}:Clash", registry.GROUP),
        EntryPoint("odd", f"{__name__}:SHORT", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)


def invoke(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_help_lists_the_options_of_the_recipe_that_is_named():
    plain, mine = invoke("--help").output, invoke("--recipe", "mine", "--help").output
    assert "Options of" not in plain
    section = mine.partition("Options of mine:")[2]
    for words in ("--reach NUMBER", "How far a pixel moves.", "[default: 0.1]", "--sign [plus|minus]", "--still"):
        assert words in section
    assert mine.startswith(plain.partition("\n\n  Options:")[0][:200])
    assert invoke("--recipe=mine", "-h").output == mine


def test_options_reach_run_json_and_the_trace(tmp_path):
    done = invoke("4C3(Encoding)-AP2-10FC", "mnist-5k", *SHORT, "--recipe", "mine", "--reach", "0.2", "--rounds", "2",
                  "--sign", "minus", "-o", tmp_path / "r")  # fmt: skip
    assert done.exit_code == 0, done.output
    kept = json.loads((tmp_path / "r" / "run.json").read_text())
    assert kept["recipe_options"] == {"reach": 0.2, "sign": "minus"}  # what is the default is not said
    traces = sorted((tmp_path / "r" / "traces").glob("*/*"))
    assert [path.name for path in traces] == ["batch-00-period-1.npz", "batch-00-period-2.npz"]
    sources = [load_trace(path).meta.source for path in traces]
    assert [source["period"] for source in sources] == [[1, 2], [2, 2]]
    assert sources[0]["recipe_options"] == {
        "reach": 0.2, "rounds": 2, "sign": "minus", "momentum": None, "still": False
    }  # fmt: skip
    assert (sources[0]["recipe"], sources[0]["optimizer"]) == ("mine", "Adam or SGD")


def test_the_plain_recipe_says_what_it_said_before(tmp_path):
    trainer, _ = run(tmp_path / "run", epochs=1)
    assert "recipe_options" not in json.loads((tmp_path / "run" / "run.json").read_text())
    source = load_trace(tmp_path / "run" / "traces" / "epoch-001" / "batch-00.npz").meta.source
    assert "recipe_options" not in source
    assert source["optimizer"] == "Adam, rate 0.01 falling linearly to 0, batch 8"
    assert "recipe" not in trainer.state()


@pytest.mark.parametrize("options", [{"rounds": 3}, {"momentum": 0.9}, {"momentum": 0.0}])
@pytest.mark.parametrize("kill_at", [3, 5, 8])
def test_a_killed_run_of_it_goes_on_with_its_state_and_ends_in_the_same_bytes(tmp_path, monkeypatch, options, kill_at):
    monkeypatch.setattr(folder_module, "CHECKPOINT_SECONDS", 0.0)
    how = {"recipe": "mine", "recipe_options": options}
    whole, _ = run(tmp_path / "whole", **how)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=kill_at, **how)
    resumed, _ = run(tmp_path / "killed", resume=True, **how)
    assert artefacts(tmp_path / "whole") == artefacts(tmp_path / "killed")
    assert float(whole.recipe.memory) == float(resumed.recipe.memory) != 0
    for ours, theirs in zip(resumed.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    forgetful = whole.recipe.options.model_copy(update={"still": True}).model_dump()
    run(tmp_path / "other", recipe="mine", recipe_options=forgetful)
    assert artefacts(tmp_path / "other") != artefacts(tmp_path / "whole")  # the state decides something


def test_a_step_past_the_end_changes_nothing():
    trainer = tiny_trainer(epochs=1, recipe="mine", schedule="constant")  # a rate that falls is 0 by then
    for _ in range(5):
        trainer.step()
    before = [p.detach().clone() for p in trainer.network.parameters()]
    memory = float(trainer.recipe.memory)
    first = trainer.recorded_step(samples=4, values=True)[1]
    assert not torch.equal(torch.tensor(first[0].layers["out"].weight), torch.tensor(first[1].layers["out"].weight))
    assert trainer.iteration == 5
    assert float(trainer.recipe.memory) == memory
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))


def test_a_run_does_not_go_on_with_other_options(tmp_path):
    run(tmp_path / "run", epochs=1, recipe="mine")
    with pytest.raises(TrainingError, match=r"run\.json: recipe_options: expected .*, as the run began; got"):
        run(tmp_path / "run", resume=True, epochs=1, recipe="mine", recipe_options={"reach": 0.3})
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    del state["trainer"]["recipe"]
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: trainer\.recipe\.memory: expected a tensor; got none"):
        run(tmp_path / "run", resume=True, epochs=1, recipe="mine")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "mine", "--reach", "-1"], "recipe mine: reach: expected greater than 0; got -1"),
        (["--recipe", "mine", "--reach", "nan"], "recipe mine: reach: expected a finite number; got nan"),
        (["--recipe", "mine", "--rounds", "1.5"], "recipe mine: rounds: expected"),
        (["--recipe", "mine", "--sign", "both"], "'both' is not one of 'plus', 'minus'"),
        (["--recipe", "mine", "--rech", "1"], "--rech"),
        (["--rounds", "3"], "No such option"),
        (
            ["--recipe", "broken"],
            "recipe broken: no_such_package.of_anyone:Recipe: cannot be imported: No module named",
        ),
        (["--recipe", "odd"], "expected a subclass of h2sim.train.recipe.Recipe; got"),
        (
            ["--recipe", "min"],
            "training: recipe: expected one of bptt, ann, diet, hire, certified, broken, clash, mine, odd; got 'min'",
        ),
        (
            ["--recipe", "clash"],
            "recipe clash: options: expected an option that main train does not have; got --learning-rate",
        ),
    ],
)
def test_wrong_use_is_a_line(tmp_path, words, said):
    done = invoke("4C3(Encoding)-AP2-10FC", "mnist-5k", *SHORT, *words, "-o", tmp_path / "r")
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "r").exists()


def test_options_in_python_are_checked_as_on_the_line():
    with pytest.raises(TrainingError, match="recipe mine: reech: unknown field; did you mean 'reach'"):
        make_recipe("mine", {"reech": 1})
    with pytest.raises(TrainingError, match="recipe bptt: reach: unknown field"):
        make_recipe("bptt", {"reach": 1})
    assert make_recipe("mine", {"reach": "0.5"}).options.reach == 0.5
