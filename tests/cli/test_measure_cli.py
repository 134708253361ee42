"""`h2sim measure` as a user meets it: a model by name, two files, and a comparison beside the simulated machine."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from h2sim.cli import main  # noqa: E402
from h2sim.gpu import load_gpu_trace  # noqa: E402
from h2sim.trace import load_trace  # noqa: E402
from tests.docs.lines import blocks  # noqa: E402
from tests.helpers.houses import ROOT  # noqa: E402

PAGE = (ROOT / "docs/how-to/measure.md").read_text(encoding="utf-8")
QUICK = ["--device", "cpu", "--warm-up", "0", "--repeats", "1"]
PLAIN = """
import torch
from tests.helpers.models import Lif, Loop, TARGETS, mean_loss, spikes

def step():
    torch.manual_seed(0)
    return Loop(torch.nn.Linear(12, 8), Lif(), torch.nn.Linear(8, 3)), spikes(12), TARGETS, mean_loss

def named():
    model, inputs, targets, loss = step()
    return {"model": model, "inputs": inputs, "targets": targets, "loss": loss, "dataset": "noise",
            "about_device": {"node_nm": 7}}

def needs(size): ...
def three(): return 1, 2, 3
def number(): return 3
def lacks(): return {"model": 1, "inputs": 2, "loss": 3}
def more(): return {"model": 1, "inputs": 2, "targets": 3, "loss": 4, "batches": 5}
def fails(): raise ValueError("no data here")
def shapes(): return step()[0], spikes(7), TARGETS, mean_loss
value = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to be in, with a file of models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_steps.py").write_text(PLAIN)
    return tmp_path


def call(*arguments, status=0):
    done = CliRunner().invoke(main, [str(word) for word in arguments], prog_name="h2sim")
    assert done.exit_code == status, done.output
    return done


def rough(text):
    """A text without its numbers, their units and what aligns them."""
    text = re.sub(r"[\d.,]+(e-?\d+)?( ?([munp]?[sJ]|x|%|samples/s)\b)?", "#", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_a_spikingjelly_model_stands_beside_the_simulated_machine_as_the_guide_shows(here):
    pytest.importorskip("spikingjelly")
    (here / "my_model.py").write_text(blocks(PAGE, "python")[0])
    said = call("measure", "my_model.py:step", *QUICK, "-o", "model.npz")
    assert said.stdout.startswith("model.npz: digits, T = 4, batch 8, 3 layers\nmodel-gpu.json: ")
    assert "note: 0: membrane, threshold and window divided by the input gain 0.5" in said.stderr
    assert said.stdout.endswith(
        "then: h2sim run h2learn model.npz --json model.json; h2sim compare model.json --gpu model-gpu.json\n"
    )
    call("run", "h2learn", "model.npz", "--json", "model.json")
    shown = call("compare", "model.json", "--gpu", "model-gpu.json").stdout
    printed = rough(blocks(PAGE, "text")[0])
    assert rough(shown)[: len(printed)] == printed
    layers = [layer.name for layer in load_trace("model.npz").meta.layers]
    timing = load_gpu_trace("model-gpu.json")
    timing.check_layers(layers)
    assert {row.layer for row in timing.rows if row.phase != "other"} == set(layers) == {"0", "3", "5"}


def test_a_function_of_a_module_in_this_folder_is_found_and_may_return_four_things(here):
    call("measure", "own_steps:step", *QUICK, "--network", "mine", "-o", "m.npz")
    timing = load_gpu_trace("m-gpu.json")
    assert (timing.network, timing.dataset, load_trace("m.npz").meta.network) == ("mine", "not named", "mine")
    assert timing.command == (
        "h2sim measure own_steps:step -o m.npz --network mine --warm-up 0 --repeats 1 --device cpu"
    )


def test_what_the_dict_says_is_taken_and_options_say_more(here):
    call("measure", "own_steps.py:named", *QUICK, "--area", "100", "--peak-flops", "1e12", "-o", "m.npz")
    timing = load_gpu_trace("m-gpu.json")
    assert (timing.dataset, timing.network) == ("noise", "Loop")
    assert (timing.device.node_nm, timing.device.area_mm2, timing.device.peak_flops_per_s) == (7, 100, 1e12)
    assert "of roof" in call("gpu", "show", "m-gpu.json").stdout


WRONG = {
    "own_steps": "measure: step: expected module:function, or file.py:function; got 'own_steps'",
    "nowhere:step": "nowhere: cannot be imported: there is no module nowhere",
    "nowhere.py:step": "nowhere.py: expected a file; got none",
    "own_steps.py:absent": "own_steps.py: function: expected one called absent; got none",
    "own_steps.py:value": "own_steps.py: function: expected one called value; got no function",
    "own_steps.py:needs": "own_steps.py:needs: function: expected one without arguments; got needs(size)",
    "own_steps.py:three": "own_steps.py:three: result: expected (model, inputs, targets, loss), or a dict of "
    "arguments of h2sim.measure; got 3 things",
    "own_steps.py:number": "own_steps.py:number: result: expected (model, inputs, targets, loss), or a dict of "
    "arguments of h2sim.measure; got int",
    "own_steps.py:lacks": "own_steps.py:lacks: result: expected the keys model, inputs, targets, loss, and of forward, "
    "optimizer, timesteps, network, dataset, window_threshold, values, about_device some; got no targets",
    "own_steps.py:more": "own_steps.py:more: result: expected the keys model, inputs, targets, loss, and of forward, "
    "optimizer, timesteps, network, dataset, window_threshold, values, about_device some; got 'batches'",
    "own_steps.py:fails": "own_steps.py:fails: expected code that runs; got ValueError: no data here",
    "own_steps.py:shapes": "record: model: expected one that runs on (4, 3, 7); got RuntimeError: mat1 and mat2 "
    "shapes cannot be multiplied (3x7 and 12x8)",
}


@pytest.mark.parametrize("step", WRONG)
def test_what_is_wrong_with_a_step_is_a_line_and_nothing_is_written(step, here):
    done = call("measure", step, *QUICK, "-o", "m.npz", status=2)
    assert done.stderr == f"h2sim: {WRONG[step]}\n"
    assert not list(here.glob("m*.npz"))
    assert not list(here.glob("m*.json"))


def test_files_that_cannot_be_written_are_told_at_once(here):
    done = call("measure", "own_steps.py:step", "-o", "no-such/m.npz", status=2)
    assert done.stderr.startswith("h2sim: no-such")
    done = call("measure", "own_steps.py:step", "-o", "m.json", status=2)
    assert done.stderr == "h2sim: measure: path: expected a name that ends in .npz; got m.json\n"


def test_cuda_without_cuda_is_a_line(here, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = call("measure", "own_steps.py:step", "--device", "cuda", "-o", "m.npz", status=2)
    assert done.stderr.startswith("h2sim: device: expected a CUDA GPU, and a torch built for it; got none")
    assert len(done.stderr.splitlines()) == 1
    assert not (here / "m.npz").exists()
