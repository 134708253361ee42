"""Warnings on the command line: each caution once, on standard error, beside an answer that stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from h2sim.cautions import trace_cautions
from h2sim.cli import main
from h2sim.cli.support import warn_of
from h2sim.io.library import find
from tests.accuracy.test_verify import rewritten
from tests.cautions.test_cautions import made, silent
from tests.helpers.tiny import tiny_layers

SLOW = "machine h2learn: clock_hz is 800 Hz, below 1 MHz: was 800 MHz meant?"
SILENT = "layer down without a single spike: what reads it has next to nothing to do"


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def warnings(result) -> list[str]:
    """The sentences, from the lines of standard error that are warnings; there are no others.

    Without the one on gradients that no training has: the masks of the small traces here are drawn apart.
    """
    begin = "h2sim: warning: "
    assert all(line.startswith(begin) for line in result.stderr.splitlines()), result.stderr
    found = [line.removeprefix(begin) for line in result.stderr.splitlines()]
    return [sentence for sentence in found if "gradients that no training has" not in sentence]


@pytest.fixture
def silent_trace(tmp_path: Path) -> Path:
    return made(tmp_path, tiny_layers(), silent("down")).path.rename(tmp_path / "silent.npz")


@pytest.fixture
def slow_machine(tmp_path: Path) -> Path:
    path = tmp_path / "slow.yaml"
    path.write_text(find("arch", "h2learn").read_text().replace("clock_hz: 800000000", "clock_hz: 800"))
    return path


@pytest.mark.parametrize(
    "command",
    [("trace", "info", "mnist-digits"), ("trace", "compare", "mnist-digits"), ("verify", "h2learn", "mnist-digits")],
    ids=" ".join,
)
def test_what_is_as_usual_gets_no_warning(command):
    result = run(*command)
    assert (result.exit_code, result.stderr) == (0, "")


def test_trace_info_warns_of_the_trace(silent_trace):
    result = run("trace", "info", silent_trace)
    assert (result.exit_code, warnings(result)) == (0, [SILENT])
    assert "down" in result.stdout


def test_trace_compare_warns_of_machine_and_trace_once_each(silent_trace, slow_machine):
    result = run("trace", "compare", silent_trace, silent_trace, "--arch", slow_machine, "--twins", "both")
    assert (result.exit_code, warnings(result)) == (0, [SLOW, SILENT])


def test_trace_compare_names_the_trace_where_not_all_have_the_fault(silent_trace):
    assert warnings(run("trace", "compare", "mnist-digits", silent_trace)) == [f"silent: {SILENT}"]


def test_trace_compare_names_the_file_of_a_folder(tmp_path, silent_trace):
    made(tmp_path, tiny_layers(), lambda *_: None)
    assert warnings(run("trace", "compare", tmp_path)) == [f"{tmp_path}/silent: {SILENT}"]


def test_verify_warns_of_machine_and_trace(tmp_path, slow_machine):
    def no_spike(arrays, _meta):
        arrays["join.spikes"] = np.zeros_like(arrays["join.spikes"])

    result = run("verify", slow_machine, rewritten(tmp_path, no_spike).path)
    assert result.exit_code == 1
    *said, wrong = result.stderr.splitlines()
    assert said[0] == f"h2sim: warning: {SLOW}"
    assert any(line.startswith("h2sim: warning: layer join without a single spike") for line in said)
    assert "WRONG VALUES" in wrong


def test_verify_tells_of_batch_norm_in_its_own_words_alone(tmp_path):
    trace = rewritten(tmp_path, lambda _, meta: meta["source"].update(batch_norm=True))
    result = run("verify", "h2learn", trace.path)
    assert result.stderr == ""
    assert sum("batch norm" in line for line in result.stdout.splitlines()) == 1
    assert len(trace_cautions(trace)) == 1


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two results of one machine; the caution stands in the first, as `run` stores it."""
    folder = tmp_path_factory.mktemp("results")
    document = json.loads(run("run", "h2learn", "mnist-digits", "--json", "-").stdout)
    for name, found in {"odd": [SILENT], "usual": []}.items():
        (folder / f"{name}.json").write_text(json.dumps({**document, "warnings": found}))
    return folder / "odd.json", folder / "usual.json"


def test_compare_warns_of_what_its_result_was_warned_of(results):
    odd, usual = results
    assert warnings(run("compare", odd, "--loihi")) == [SILENT]
    assert warnings(run("compare", usual, "--loihi")) == []


def test_compare_names_the_result_where_not_all_have_the_fault(results):
    odd, usual = results
    assert warnings(run("compare", odd, usual)) == [f"{odd}: {SILENT}"]
    assert warnings(run("compare", odd, odd)) == [SILENT]


def test_run_stores_the_warning_that_compare_repeats(tmp_path, silent_trace):
    path = tmp_path / "result.json"
    assert warnings(run("run", "h2learn", silent_trace, "--json", path)) == [SILENT]
    assert json.loads(path.read_text())["warnings"][0] == SILENT
    assert warnings(run("compare", path, path)) == [SILENT]


def test_many_names_are_counted(capsys):
    warn_of({f"t{number}": ["odd"] for number in range(8)} | {"usual": []})
    assert capsys.readouterr().err == "h2sim: warning: t0, t1, t2, t3, t4, t5 and 2 more: odd\n"


def test_a_warning_out_of_a_file_is_one_line_of_printable_text(capsys):
    warn_of({"a.json": ["one\ntwo\x1b[31m"]})
    assert capsys.readouterr().err == "h2sim: warning: one\\ntwo\\x1b[31m\n"


def test_a_sentence_that_was_stored_twice_is_told_once(capsys):
    warn_of({"a.json": ["odd", "odd"], "b.json": []})
    assert capsys.readouterr().err == "h2sim: warning: a.json: odd\n"
