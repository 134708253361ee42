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


def test_pictures_and_files_are_not_put_at_one_place(tmp_path):
    plots = tmp_path / "plots"
    wanted = r"plots/?: cannot be written: expected one output there; got two$"
    with pytest.raises(OutputError, match=wanted):
        check_outputs(str(plots), folder=f"{plots}/")
    plots.mkdir()
    with pytest.raises(OutputError, match=wanted):
        check_outputs(str(plots / "energy.png"), folder=str(plots))
    check_outputs(str(plots / "result.json"), folder=str(plots))


@pytest.mark.parametrize("end", ["/", "/.", "//"])
def test_a_file_is_not_named_like_a_folder(end, tmp_path):
    with pytest.raises(OutputError, match=r"new/.*: cannot be written: (is the name of a folder|no folder .*)$"):
        check_outputs(f"{tmp_path}/new{end}")


@pytest.mark.parametrize(
    ("shown", "command"),
    [
        (
            ("table", "show", "45nm"),
            ("table", "scale", "FILE", "--to", "28", "--sram", "sram-28nm-itrs-lstp-360k", "-o"),
        ),
        (("workload", "show", "mnist-small", "--json", "-"), ("workload", "show", "FILE", "--json")),
        (("workload", "show", "mnist-small", "--json", "-"), ("trace", "synth", "FILE", "--sparsity", "0.5", "-o")),
    ],
)
def test_no_command_writes_over_the_file_that_it_reads(shown, command, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(CliRunner().invoke(main, shown).stdout)
    before = path.read_bytes()
    assert "it is read by the same command" in refused(
        *[str(path) if word == "FILE" else word for word in command], path
    )
    assert path.read_bytes() == before


def test_a_notation_longer_than_a_files_name_is_no_input_that_could_be_written_over(tmp_path):
    notation = "-".join(["8C3"] * 120) + "-10FC"
    given = ["workload", "show", notation, "--input-shape", "1,8,8", "--json", str(tmp_path / "x.json")]
    assert CliRunner().invoke(main, given).exit_code == 0


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>&-"])
def test_a_stream_that_is_closed_gets_nothing_and_ends_nothing(closed, made, tmp_path):
    """The result must not go to the file that gets the closed stream's number."""
    out = tmp_path / "r.json"
    line = f'"{sys.executable}" -m h2sim run h2learn "{made[0]}" --json "{out}" {closed}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Error" not in done.stderr
    assert json.loads(out.read_text())["schema"].startswith("h2sim-result")


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("NUMBA_NUM_THREADS", "0", 1), ("NUMBA_NUM_THREADS", "x", 1), ("SOURCE_DATE_EPOCH", "x", 0)],
)
def test_a_variable_that_packages_cannot_read_is_one_line(name, value, least):
    given = [sys.executable, "-m", "h2sim", "arch", "list"]
    done = subprocess.run(given, capture_output=True, text=True, env={**os.environ, name: value}, check=False)
    assert done.returncode == 2
    assert done.stderr == f"h2sim: environment: {name}: expected a whole number of at least {least}; got {value!r}\n"


def test_pictures_are_drawn_whatever_backend_is_set(made, tmp_path):
    given = [sys.executable, "-m", "h2sim", "run", "h2learn", str(made[0]), "--plots", str(tmp_path / "plots")]
    env = {**os.environ, "MPLBACKEND": "nope"}
    done = subprocess.run(given, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plots" / "energy.png").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("train", "mnist-small", "mnist-5k", "--epochs", "1"),
        ("trace", "plot", "mnist-digits"),
        ("reproduce",),
        ("rtl", "emit", "h2learn"),
    ],
    ids=["train", "plot", "reproduce", "rtl"],
)
def test_a_folder_without_a_name_is_not_the_one_that_the_command_runs_in(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(*command, "-o", "") == "h2sim: output: name: expected a file's, a folder's, or '-'; got ''\n"
    assert list(tmp_path.iterdir()) == []
