"""Run folders that are damaged, of another run, or made to do harm: one line that names the file and the field."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import pickle
import random
import time
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from h2sim.errors import TrainingError  # noqa: E402
from h2sim.train.checkpoint import MOST_CHECKPOINT_BYTES, read_checkpoint  # noqa: E402
from h2sim.train.folder import Report, Run, RunFolder, TracePlan, read_run, start_weights  # noqa: E402
from h2sim.train.session import torch_session  # noqa: E402
from tests.helpers.tiny import binary_layers, tiny_trainer  # noqa: E402

STEPS = 7  # five are an epoch: the checkpoint lies within the second


class Killed(Exception):
    """Stands for the kill."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A run that was killed after STEPS steps and has a checkpoint of each."""
    path = tmp_path_factory.mktemp("killed") / "run"

    def step(iteration, total, loss):
        if iteration == STEPS + 1:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, torch_session(), pytest.raises(Killed):  # noqa: PT012
        patch.setattr("h2sim.train.folder.CHECKPOINT_SECONDS", 0.0)
        trainer, folder = tiny_trainer(epochs=2), RunFolder(path)
        folder.start(trainer.settings)
        Run(trainer, folder, TracePlan(epochs=(0,)), 20, Report(step=step)).to_the_end()
    return path


@pytest.fixture
def state(killed):
    return torch.load(killed / "checkpoint.pt", weights_only=True)


def resumed(killed: Path, tmp_path: Path, content) -> tuple:
    """A trainer that goes on from another checkpoint: bytes, or what torch saves."""
    (tmp_path / "run.json").write_bytes((killed / "run.json").read_bytes())
    if isinstance(content, bytes):
        (tmp_path / "checkpoint.pt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "checkpoint.pt")
    trainer, folder = tiny_trainer(epochs=2), RunFolder(tmp_path)
    folder.resume(trainer.settings, trainer)
    return trainer, folder


def one_line(error) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 2200


def test_the_checkpoint_itself_is_taken(killed, tmp_path, state):
    trainer, folder = resumed(killed, tmp_path, state)
    assert trainer.iteration == STEPS
    assert [row["epoch"] for row in folder.rows] == [0, 1]
    assert len(folder.losses) == STEPS - 5


# --- wrong values ----------------------------------------------------------------------------------------------------

NUMBERS = [None, True, "7", 7.0, -1, 10**9, 10**30, 2**63, math.nan, math.inf, [], {}, torch.tensor(7), 1 << 40_000]
INTEGERS = ["trainer/iteration", "trainer/stream/start", "log/1/epoch", "log/1/iteration", "log/0/test_samples"]
FLOATS = ["log/1/loss", "log/1/accuracy", "log/0/seconds", "losses/0", "losses/1"]
TENSORS = [
    "trainer/network/weights.out",
    "trainer/optimizer/state/0/exp_avg",
    "trainer/optimizer/state/1/exp_avg_sq",
    "trainer/optimizer/state/2/step",
    "trainer/stream/generator",
    "trainer/stream/order",
]
PARTS = ["trainer", "trainer/network", "trainer/optimizer", "trainer/optimizer/state", "trainer/stream", "log",
         "losses", "trainer/optimizer/state/0", "trainer/optimizer/param_groups"]  # fmt: skip


def place(state, path):
    """What holds the value at a path, and its key there."""
    *parts, last = (int(part) if part.isdecimal() else part for part in path.split("/"))
    for part in parts:
        state = state[part]
    return state, last


def odd_tensors(tensor):
    """The tensor in every way in which it cannot be."""
    yield from (None, 3, [1.0], tensor.tolist(), tensor.double(), tensor.half(), tensor.to(torch.complex64))
    yield from (tensor.unsqueeze(0), tensor.new_zeros(0, 3), tensor.new_zeros(*tensor.shape, 2), tensor.to(torch.int16))
    yield tensor.reshape(-1)[:1].expand(1000, 1000)
    yield torch.zeros(1).expand(10**12)
    yield torch.empty(tensor.shape, device="meta", dtype=tensor.dtype)
    if tensor.ndim:
        yield tensor.to_sparse()
    if tensor.is_floating_point():
        yield from (tensor * math.nan, tensor + math.inf)


def faults(state):
    """(path, value) of every fault that one value can have."""
    for path in INTEGERS:
        yield from ((path, value) for value in NUMBERS)
    for path in FLOATS:
        for value in NUMBERS:
            legal = type(value) is float and math.isfinite(value) and "accuracy" not in path
            if not legal and not (value is None and path == "log/1/loss"):
                yield path, value
    for path in TENSORS:
        holder, key = place(state, path)
        yield from ((path, value) for value in odd_tensors(holder[key]))
    for path in (*PARTS, "log/0", *INTEGERS[:2], *TENSORS):
        yield from ((path, value) for value in (None, 1, [1], {"a": 1}, {1: 2}, "text", [None] * 3))


def test_every_wrong_value_is_one_line_that_names_the_file(killed, tmp_path, state):
    tried, taken = 0, []
    for path, value in faults(state):
        changed = copy.deepcopy(state)
        holder, key = place(changed, path)
        holder[key] = value
        try:
            resumed(killed, tmp_path, changed)
            taken.append((path, value))
        except TrainingError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert "checkpoint.pt: " in str(error)  # noqa: PT017
        tried += 1
    assert taken == []
    assert tried > 250


@pytest.mark.parametrize("path", [*PARTS, *INTEGERS, *FLOATS[:3], *TENSORS])
def test_every_missing_value_is_one_line_that_names_the_file(killed, tmp_path, state, path):
    holder, key = place(state, path)
    del holder[key]
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: ") as caught:
        resumed(killed, tmp_path, state)
    one_line(caught)


def order_twice(state):
    state["trainer"]["stream"]["order"][0] = state["trainer"]["stream"]["order"][1]


def other_decay(state):
    state["trainer"]["optimizer"]["param_groups"][0]["betas"] = (0.5, 0.5)


def a_tensor_inside_an_option(state):
    group = state["trainer"]["optimizer"]["param_groups"][0]
    group["betas"] = (torch.ones(2), 0.999)


def later_step(state):
    state["trainer"]["optimizer"]["state"][0]["step"] += 1


def negative_squares(state):
    state["trainer"]["optimizer"]["state"][0]["exp_avg_sq"] -= 1


def broken_generator(state):
    state["trainer"]["stream"]["generator"] = torch.zeros_like(state["trainer"]["stream"]["generator"])


def one_loss_more(state):
    state["losses"].append(0.5)


def one_row_less(state):
    del state["log"][1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s["trainer"].update(iteration=10**9),
         "trainer.iteration: expected an integer from 0 to 10; got 1000000000$"),
        (lambda s: s["trainer"].update(iteration=-1), "trainer.iteration: expected an integer from 0 to 10; got -1$"),
        (lambda s: s["trainer"].update(iteration=6), "state.0.step: expected 6, the updates so far; got 7.0$"),
        (order_twice, "trainer.stream.order: expected each of 0 to 39 once; got others$"),
        (lambda s: s["trainer"]["stream"].update(start=8), "trainer.stream.start: expected 16; got 8$"),
        (other_decay, r"param_groups.betas: expected \(0.9, 0.999\); got \(0.5, 0.5\)$"),
        (a_tensor_inside_an_option, r"param_groups.betas: expected \(0.9, 0.999\); got \(tensor"),
        (later_step, "step: expected 7, the updates so far; got 8.0$"),
        (negative_squares, "exp_avg_sq: expected squares; got numbers below 0$"),
        (broken_generator, "trainer.stream.generator: expected a generator's state; got "),
        (one_loss_more, "losses: expected a list of 2, one of each step since epoch 1; got"),
        (one_row_less, "losses: expected a list of 7, one of each step since epoch 0; got"),
    ],
)  # fmt: skip
def test_a_state_to_which_the_run_cannot_have_come_is_refused(killed, tmp_path, state, change, why):
    change(state)
    with pytest.raises(TrainingError, match=rf"checkpoint\.pt: .*{why}"):
        resumed(killed, tmp_path, state)


def test_a_checkpoint_of_another_network_is_refused(killed, tmp_path, state):
    other = tiny_trainer(binary_layers(), epochs=2)
    state["trainer"]["network"] = other.network.state_dict()
    with pytest.raises(TrainingError, match=r"trainer\.network\..*: expected the weights of this network; got none$"):
        resumed(killed, tmp_path, state)


# --- damaged files ---------------------------------------------------------------------------------------------------


class Attack:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def zipped(state, how=zipfile.ZIP_STORED, change=lambda name, data: data):
    """What torch saves, in a zip archive of ours."""
    plain, other = io.BytesIO(), io.BytesIO()
    torch.save(state, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(other, "w", how) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return other.getvalue()


def long_binput(name, data):
    return data.replace(b"q\x00", b"r\xff\xff\xff\x7f", 1) if name.endswith("data.pkl") else data


def legacy(state):
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


DAMAGED = {
    "nothing": lambda _: b"",
    "no archive": lambda _: b"nothing of the kind",
    "a pickle with code": lambda _: pickle.dumps(Attack()),
    "a checkpoint with code": lambda s: {**s, "log": Attack()},
    "an archive with code": lambda s: zipped(s, change=lambda n, d: pickle.dumps(Attack()) if n[-4:] == ".pkl" else d),
    "packed members": lambda s: zipped(s, zipfile.ZIP_DEFLATED),
    "an archive without members": lambda _: b"PK\x05\x06" + bytes(18),
    "another archive": lambda _: zipped({}, change=lambda n, d: b"x"),
    "a file of older versions": legacy,
    "a whole module": lambda _: torch.nn.Linear(2, 2),
    "only weights": lambda s: s["trainer"]["network"],
    "a tensor": lambda _: torch.zeros(3),
    "a list": lambda _: [1],
    "none": lambda _: None,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_no_checkpoint_is_one_line_and_runs_nothing(killed, tmp_path, monkeypatch, state, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: ") as caught:
        resumed(killed, tmp_path, DAMAGED[name](state))
    one_line(caught)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: "):
        start_weights(tiny_trainer(), tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_memo_place_of_2_to_the_31_costs_nothing(killed, tmp_path, state):
    began = time.process_time()
    try:
        resumed(killed, tmp_path, zipped(state, change=long_binput))
    except TrainingError as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert time.process_time() - began < 5


def test_a_checkpoint_is_measured_before_it_is_read(killed, tmp_path):
    with (tmp_path / "checkpoint.pt").open("wb") as file:
        file.truncate(MOST_CHECKPOINT_BYTES + 1)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: expected a checkpoint .*; got damage: \d+ bytes, where"):
        read_checkpoint(tmp_path / "checkpoint.pt")


def test_a_folder_or_a_pipe_is_no_checkpoint(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(TrainingError, match=rf"{name}: expected a checkpoint of h2sim train; got damage: "):
            read_checkpoint(tmp_path / name)


def test_a_cut_or_a_changed_byte_is_one_line_or_changes_nothing(killed, tmp_path, state):
    rng, whole = random.Random(12), (killed / "checkpoint.pt").read_bytes()
    refused = 0
    for number in range(150):
        harmed = bytearray(whole)
        if number % 3 == 0:
            del harmed[rng.randrange(len(harmed)) :]
        else:
            harmed[rng.randrange(len(harmed))] ^= 1 << rng.randrange(8)
        try:
            trainer, _ = resumed(killed, tmp_path, bytes(harmed))
        except TrainingError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
            continue
        assert trainer.iteration == STEPS
        for name, weight in trainer.network.state_dict().items():
            assert torch.equal(weight, state["trainer"]["network"][name])
    assert refused > 100


# --- run.json --------------------------------------------------------------------------------------------------------

ODD_SETTINGS = {
    "lists without end": b"[" * 100_000,
    "a huge integer": b'{"epochs": ' + b"9" * 5000 + b"}",
    "nan": b'{"learning_rate": NaN}',
    "a key twice": b'{"epochs": 2, "epochs": 2}',
    "no UTF-8": b'{"network": "\xff"}',
    "half": b'{"epochs": 2',
    "nothing": b"",
}


@pytest.mark.parametrize("name", ODD_SETTINGS)
def test_odd_settings_are_one_line(tmp_path, name):
    (tmp_path / "run.json").write_bytes(ODD_SETTINGS[name])
    with pytest.raises(TrainingError, match=r"run\.json: cannot be read: ") as caught:
        read_run(tmp_path)
    one_line(caught)


@pytest.mark.parametrize("value", [None, 10**30, "x" * 10**6, [[]] * 10**5, {"a": {"b": 1}}, -1])
def test_settings_of_another_run_are_shown_short(killed, tmp_path, value):
    settings = json.loads((killed / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**settings, "network": value}))
    trainer = tiny_trainer(epochs=2)
    with pytest.raises(
        TrainingError, match=r"run\.json: network: expected .*, as the run began; got 'tiny'$"
    ) as caught:
        RunFolder(tmp_path).resume(trainer.settings, trainer)
    one_line(caught)
    assert len(str(caught.value)) < 300


def test_settings_are_measured_before_they_are_read(tmp_path):
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TrainingError, match=r"run\.json: cannot be read: 1099511627776 bytes, where at most"):
        read_run(tmp_path)
