"""Where the commands write: one output to a place, none over an input, no device replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import h2sim
from h2sim.cli import main
from h2sim.cli.outputs import check_outputs
from h2sim.errors import OutputError
from h2sim.io.files import check_writable
from tests.helpers.traces import tiny_trace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small trace and its result."""
    folder = tmp_path_factory.mktemp("outputs")
    trace = tiny_trace(folder)
    document = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(trace)).to_dict()
    (folder / "r.json").write_text(json.dumps(document))
    return trace, folder / "r.json"


def refused(*arguments) -> str:
    found = CliRunner().invoke(main, list(map(str, arguments)))
    assert found.exit_code == 2, found.output
    assert found.stdout == ""
    return found.stderr


def test_two_outputs_of_one_name_are_refused(tmp_path):
    with pytest.raises(OutputError, match=r"^-: cannot be written: expected one output there; got two$"):
        check_outputs("-", None, "-")
    with pytest.raises(OutputError, match=r"x: cannot be written: expected one output there; got two$"):
        check_outputs(str(tmp_path / "x"), f"{tmp_path}/../{tmp_path.name}/x")
    check_outputs("-", str(tmp_path / "x"), None, str(tmp_path / "y"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_is_none_is_refused_not_passed_over(name):
    with pytest.raises(OutputError, match=r"^output: name: expected a file's, a folder's, or '-'; got '"):
        check_outputs(name)
    with pytest.raises(OutputError, match=r"^output: name: expected a file's, a folder's, or '-'; got '"):
        check_outputs(folder=name)


def test_what_is_no_plain_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("pipe", "link", "nowhere"):
        with pytest.raises(OutputError, match=rf"{name}: cannot be written: is no plain file$"):
            check_outputs(str(tmp_path / name))
    with pytest.raises(OutputError, match=r"^/dev/null: cannot be written: is no plain file"):
        check_outputs("/dev/null")


def test_what_a_command_reads_is_not_written_over(tmp_path, made):
    (tmp_path / "link.json").symlink_to(made[1])
    for name in (made[1], tmp_path / "link.json"):
        with pytest.raises(OutputError, match=r"json: cannot be written: it is read by the same command$"):
            check_outputs(str(name), reads=(made[1], "28nm"))
    with pytest.raises(OutputError, match=r"r\.json: cannot be written: it is read by the same command$"):
        check_outputs(str(made[1]), reads=(tmp_path / "link.json",))
    check_outputs(str(tmp_path / "other.json"), reads=(made[1],))


@pytest.mark.parametrize("outputs", [("--json", "-", "--csv", "-"), ("--csv", ""), ("--json", "TRACE")])
@pytest.mark.parametrize("command", ["run", "estimate", "compare"])
def test_every_command_checks_its_outputs_before_it_works(made, command, outputs):
    trace, result = made
    read = result if command == "compare" else trace
    before = read.read_bytes()
    arguments = {"run": ("h2learn", trace), "estimate": (trace,), "compare": (result, result)}[command]
    said = refused(command, *arguments, *(read if word == "TRACE" else word for word in outputs))
    assert "cannot be written" in said or "output: name" in said
    assert read.read_bytes() == before


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_folder_without_a_name_is_refused(made, command):
    trace, result = made
    arguments = {"run": ("h2learn", trace), "compare": (result, result)}[command]
    assert "output: name" in refused(command, *arguments, "--plots", "")


def test_a_scaled_table_goes_to_no_device():
    said = refused("table", "scale", "45nm", "--to", 28, "--sram", "sram-28nm-itrs-hp-360k", "-o", "/dev/null")
    assert said == "h2sim: /dev/null: cannot be written: is no plain file\n"


def test_no_command_replaces_a_device_or_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"pipe: cannot be written: is no plain file$"):
        check_writable(tmp_path / "pipe")
    said = refused("trace", "synth", "4C3-10FC", "--input-shape", "1,8,8", "--sparsity", "0.5", "-o", tmp_path / "pipe")
    assert "no plain file" in said
    assert (tmp_path / "pipe").is_fifo()


def test_a_trace_is_not_written_over_the_one_it_is_like(made):
    trace, _ = made
    before = trace.read_bytes()
    assert "it is read by the same command" in refused("trace", "synth", "--like", trace, "-o", trace)
    assert trace.read_bytes() == before


def test_a_closed_pipe_is_no_answer(made):
    trace, _ = made
    command = [sys.executable, "-c", "from h2sim.cli import main; main()", "run", "h2learn", str(trace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before anything is printed
        said = process.stderr.read()
        assert process.wait() == 2
    assert b"Traceback" not in said
