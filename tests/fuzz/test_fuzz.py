"""A short slice of the fuzzing campaign, and that the fuzzer notices what it looks for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from h2sim.arch import load_arch
from h2sim.engines import forward
from h2sim.errors import H2SimError
from h2sim.trace import load_trace
from tests.fuzz import trial
from tests.fuzz.campaign import Tally, blocks, kept, record, shares
from tests.fuzz.kind import Kind, Wrong
from tests.fuzz.kinds import KINDS
from tests.fuzz.kinds_machine import _network, trace_bytes
from tests.fuzz.stepped import check_counts
from tests.fuzz.trial import Bench, Found, attempt, mutant

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")
SLICE = range(1, 13)  # of each kind; number 0 would start a process


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_mutant_is_refused_in_clean_lines_or_read_right(kind, tmp_path):
    bench = Bench(tmp_path / "bench")
    found = {number: attempt(kind, 0, number, bench) for number in SLICE}
    assert {n: f for n, f in found.items() if f.outcome not in ("accepted", "refused")} == {}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_mutants_are_made_of_is_accepted(kind, tmp_path):
    for place, files in enumerate(kind.bases()):
        if files in kind.bases()[:place]:
            continue
        bench, name = Bench(tmp_path / str(place)), next(iter(files))
        bench.lay(files, name, files[name])
        kind.read(bench.folder)


@pytest.mark.parametrize("forward_once", [False, True])
@pytest.mark.parametrize("gradient_once", [False, True])
def test_the_stepped_step_is_the_fast_one_however_the_input_is_encoded(forward_once, gradient_once, tmp_path):
    (tmp_path / "t.npz").write_bytes(trace_bytes(_network("encode"), timesteps=3))
    backward = {"rows": 2, "columns": 2, "encode_once": forward_once, "encode_gradient_once": gradient_once}
    arch = load_arch("h2learn").with_({f"engines.backward.{name}": value for name, value in backward.items()})
    assert check_counts(arch, load_trace(tmp_path / "t.npz")) == []


def digests():
    """A hash of some mutants of each kind."""
    quick = [kind for name, kind in KINDS.items() if name != "training run"]  # whose base is trained first
    made = {kind.name: [mutant(kind, 0, n)[1:] for n in range(3)] for kind in quick}
    return {name: hashlib.sha256(repr(found).encode()).hexdigest() for name, found in made.items()}


def test_the_same_seed_gives_the_same_mutants_in_any_process():
    code = "from tests.fuzz.test_fuzz import digests; print(digests())"
    environment = {**trial._environment(), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines()[-1] == str(digests())


def planted(read, **changes):
    """A kind whose reader does this."""
    return Kind("planted", lambda: [{"f": b"x" * 40}], lambda rng, _, data: data + b"y", read, **changes)


def raising(error):
    def read(_):
        raise error

    return read


def endless(_):
    while True:
        pass


def swallowing(folder):
    try:
        endless(folder)
    except BaseException:
        raise H2SimError(f"{folder}: refused") from None


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda _: None, "accepted"),
        (lambda folder: raising(H2SimError(f"{folder}/f: x: expected a; got b"))(folder), "refused"),
        (raising(ValueError("no")), "traceback"),
        (raising(H2SimError("names no file")), "traceback"),
        (lambda folder: raising(H2SimError(f"{folder}", ""))(folder), "traceback"),
        (raising(SystemExit(3)), "traceback"),
        (raising(Wrong("other cycles")), "wrong answer"),
        (raising(MemoryError()), "above 4 GB"),
        (lambda folder: raising(H2SimError(f"{folder}: Unable to allocate 8 TiB"))(folder), "above 4 GB"),
        (endless, "hang"),
        (swallowing, "hang"),
    ],
)
def test_the_fuzzer_tells_each_outcome(read, outcome, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "MOST_SECONDS", 0.1)
    assert attempt(planted(read), 0, 1, Bench(tmp_path / "bench")).outcome == outcome


def test_the_command_line_is_tried_too(tmp_path, monkeypatch):
    fine = planted(lambda _: None, argv=lambda folder: ("arch", "check", "h2learn"))
    bench = Bench(tmp_path / "bench")
    assert attempt(fine, 0, trial.COMMAND_EVERY, bench).outcome == "accepted"
    assert attempt(fine, 0, trial.PROCESS_EVERY, bench).outcome == "accepted"
    monkeypatch.setattr("h2sim.cli.arch.load_machine", raising(KeyError("x")), raising=False)
    monkeypatch.setattr("h2sim.rivals.registry.load_machine", raising(KeyError("x")))
    assert attempt(fine, 0, trial.COMMAND_EVERY, bench).outcome == "traceback"
    wrong = trial._judge(["x"], 2, "h2sim: a line\nand another")
    assert (wrong.outcome, trial._judge(["x"], 2, "h2sim: a line").outcome) == ("traceback", "refused")


def test_a_wrong_count_of_the_fast_engine_is_noticed(tmp_path, monkeypatch):
    right = forward.conv

    def wrong(*arguments):
        work = right(*arguments)
        return replace(work, iteration_cycles=work.iteration_cycles + 1)

    monkeypatch.setattr(forward, "conv", wrong)
    bench = Bench(tmp_path / "bench")
    found = {attempt(KINDS["trace"], 0, number, bench).outcome for number in SLICE}
    assert "wrong answer" in found


def test_a_campaign_tries_as_many_inputs_as_asked_for_and_counts_them():
    numbers = shares(1000)
    assert 1000 <= sum(numbers.values()) < 1000 + len(KINDS)
    given = {}
    for kind, start, end in blocks(numbers):
        given.setdefault(kind, []).extend(range(start, end))
    assert {kind: sorted(found) for kind, found in given.items()} == {k: list(range(n)) for k, n in numbers.items()}
    tally = Tally()
    for outcome in ("accepted", "refused", "refused", "hang"):
        tally.add("trace", 1, Found(outcome))
    assert [number for _, number, _ in tally.faults] == [1]
    text = record(tally, "command")
    assert "| trace | 4 | 1 | 2 | 0 | 0 | 1 | 0 |" in text
    assert "| **all** | 4 | 1 | 2 | 0 | 0 | 1 | 0 |" in text


def stopped(output):
    """A campaign that is stopped after three inputs and in the middle of a line."""
    with kept(output) as tally:
        for number in range(3):
            tally.add("trace", number, Found("refused"))
        raise KeyboardInterrupt


def test_a_campaign_that_was_stopped_goes_on_where_it_was(tmp_path):
    journal = tmp_path / "r" / "x.md.part"
    with pytest.raises(KeyboardInterrupt):
        stopped(tmp_path / "r" / "x.md")
    with journal.open("a") as file:
        file.write('["trace", 3, "refu')
    with kept(tmp_path / "r" / "x.md") as tally:
        assert tally.counts["trace"] == {"refused": 3}
        assert blocks({"trace": 60}, tally.done) == [("trace", 3, 50), ("trace", 50, 60)]
        tally.add("trace", 3, Found("accepted"))
        assert journal.read_text().splitlines()[-1] == '["trace", 3, "accepted", ""]'
    assert not journal.exists()
