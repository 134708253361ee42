"""Names out of files, through every command that shows them: nothing that is in a name acts anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from h2sim.cli import main
from tests.robust import names
from tests.robust.names import HOSTILE

TRACE_PLACES = ("layers", "network", "dataset", "kind", "method", "framework", "samples")
GPU_PLACES = ("network", "dataset", "implementation", "device", "rows", "command")


def run(*arguments, statuses=(0, 2)) -> int:
    """A command's exit status; what it prints is looked at."""
    done = CliRunner().invoke(main, [str(word) for word in arguments], prog_name="h2sim")
    assert done.exit_code in statuses, (arguments, done.output[-2000:], done.exception)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert names.faults(done.stdout, done.stderr, done.exit_code) == [], arguments
    if done.exit_code == 2:
        print(*arguments, done.stderr)
    return done.exit_code


def look_at(folder) -> None:
    """No table, page or text that was written acts; JSON is left to its readers, but it must be JSON."""
    for path in folder.rglob("*"):
        if path.suffix == ".csv":
            text = path.read_text(encoding="utf-8")
            assert names.active_cells(text) == [], path
            assert names.raw_characters(text) == set(), path
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
            assert names.raw_characters(text) == set(), path
            assert "<script>" not in text.replace("\\<", ""), path
            tables = [line for line in text.splitlines() if line.startswith("| ")]
            assert len({line.replace("\\|", "").count("|") for line in tables}) <= 4, path
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def taken(make, check, *places: str) -> tuple[str, ...]:
    """The places in which a file may carry the name; the others refuse it in one line."""
    return tuple(place for place in places if run(*check, make(place)) == 0)


@pytest.mark.parametrize("what", [what for what in HOSTILE if what != "half a pair"])  # no JSON in UTF-8 holds it
def test_machines_tables_and_traces(tmp_path, what):
    name = HOSTILE[what]
    machine, table = names.machine(tmp_path, name), names.table(tmp_path, name)
    legal = name.isprintable() and what != "a length"
    assert run("arch", "check", machine) == run("table", "check", table) == (0 if legal else 2)
    machine, table = (machine, table) if legal else ("h2learn", "28nm")
    run("arch", "show", machine)
    run("table", "show", table)
    places = taken(lambda place: names.trace(tmp_path, name, place), ("trace", "check"), *TRACE_PLACES)
    assert {"network", "dataset"} <= set(places) or not legal
    trace, out = names.trace(tmp_path, name, *places), tmp_path / "out"
    other = names.trace(tmp_path, name, *places, file="other.npz")
    out.mkdir()
    with_table = ("--energy-table", table)
    assert run("run", machine, trace, *with_table, "--json", out / "r.json", "--csv", out / "r.csv", "--timeline",
               out / "t.json", "--plots", out / "plots", "--chips", 2) == 0  # fmt: skip
    assert run("run", machine, trace, other, *with_table, "--csv", out / "several.csv") == 0
    assert run("trace", "info", trace) == 0
    assert run("trace", "plot", trace, "-o", out / "pictures") == 0
    assert run("trace", "diff", trace, trace, "--json", out / "d.json") == 0
    assert run("trace", "compare", trace, trace, "--arch", machine, *with_table, "--csv", out / "c.csv", "--markdown",
               out / "c.md") == 0  # fmt: skip
    assert run("estimate", trace, "--arch", machine, *with_table, "--csv", out / "e.csv", "--json", out / "e.json") == 0
    assert run("compare", out / "r.json", out / "r.json", "--spinalflow", "--loihi", "--workload", trace, "--csv",
               out / "v.csv", "--json", out / "v.json", "--plots", out / "compared") == 0  # fmt: skip
    assert run("baseline", "run", "spinalflow", trace) == 0
    assert run("trace", "synth", "--like", trace, "-o", out / "twin.npz") == 0
    run("verify", machine, trace)
    run("run", machine, trace, "--layer", name)
    look_at(tmp_path)


@pytest.mark.parametrize("what", HOSTILE)
def test_networks_gpu_traces_and_profiles(tmp_path, what):
    name, out = HOSTILE[what], tmp_path / "out"
    out.mkdir()
    for place in ("name", "layers"):
        run("workload", "show", names.network(tmp_path, name, place), "--json", out / f"{place}.json")
    run("workload", "show", name)
    shape = ("--input-shape", "2,9,9")
    places = taken(lambda place: names.gpu(tmp_path, name, place), ("gpu", "show"), *GPU_PLACES)
    shown = names.gpu(tmp_path, name, *places)
    assert run("gpu", "show", shown) == 0
    run("gpu", "check", shown, *shape)
    result = out / "r.json"
    assert run("run", "h2learn", names.trace(tmp_path, "plain", "dataset"), "--json", result) == 0
    known = names.gpu(tmp_path, name, *(place for place in places if place != "network"))
    run("compare", result, "--gpu", known, "--csv", out / "g.csv", "--json", out / "g.json", "--plots", out / "plots")
    given = ("--network", "mnist-small", "--batch", 4, "--dataset", name)
    for suffix in ("json", "csv"):
        assert run("gpu", "import", names.profile(tmp_path, name), *given[:4], "-o", out / f"i.{suffix}") == 0
        assert run("gpu", "show", out / f"i.{suffix}") == 0
        run("gpu", "import", names.profile(tmp_path, name), *given, "-o", out / f"j.{suffix}")
    for keys in (("network",), ("name",), ("layer",), ("dataset", "kind"), ("command", "path", "trace")):
        document = names.renamed(json.loads(result.read_text()), name, keys)
        (tmp_path / "other.json").write_text(json.dumps(document))
        run("compare", result, tmp_path / "other.json", "--csv", out / "o.csv", "--json", out / "o.json")
        run("compare", tmp_path / "other.json", tmp_path / "other.json", "--csv", out / "p.csv")
    look_at(out)


@pytest.mark.parametrize("what", [what for what, name in HOSTILE.items() if "/" not in name and len(name) < 200])
def test_files_and_words_that_are_called_so(tmp_path, what):
    name, folder = HOSTILE[what], tmp_path / "in"
    folder.mkdir()
    if what != "half a pair":  # not a name that every file system takes
        trace = names.trace(folder, "plain", file=f"{name}.npz")
        out = tmp_path / "out"
        out.mkdir()
        assert run("run", "h2learn", trace, names.trace(folder, "plain"), "--csv", out / "r.csv") == 0
        assert run("trace", "compare", folder, "--csv", out / "c.csv", "--markdown", out / "c.md") == 0
        assert run("trace", "info", trace) == 0
        assert run("run", "h2learn", trace, "--json", out / f"{name}.json", "--csv", out / "s.csv") == 0
        assert run("compare", out / f"{name}.json", "--spinalflow", "--workload", trace, "--csv", out / "v.csv") == 0
        look_at(out)
    for words in (
        ("run", name, "mnist-digits"), ("run", "h2learn", name), ("run", "h2learn", "mnist-digits", "--layer", name),
        ("run", "h2learn", "mnist-digits", "--set", f"{name}=1"), ("run", "h2learn", "mnist-digits", "--set",
        f"clock_hz={name}"), ("compare", name), ("compare", name, "--gpu", name), ("estimate", name), ("verify",
        "h2learn", name), ("reproduce", name), ("explain", name), ("arch", "show", name), ("table", "show", name),
        ("trace", "info", name), ("workload", "show", name), ("gpu", "show", name), ("baseline", "run", name, "x"),
        ("gpu", "import", name, "--network", name, "--batch", "1", "-o", tmp_path / "x.json"), (name,),
        ("run", f"--{name}"),
    ):  # fmt: skip
        run(*words, statuses=(2,))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("ascii", "l\u00e4yer \u5c64 \U0001f9e0".encode()), ("latin-1", b"l\xe4yer \\u5c64 \\U0001f9e0")],
)
def test_letters_that_standard_output_may_not_have(tmp_path, encoding, said):
    """Under ASCII, which is nobody's wish, click writes UTF-8; another encoding gets escapes for what it has not."""
    name = HOSTILE["other letters"]
    trace, machine = names.trace(tmp_path, name, "layers", "network"), names.machine(tmp_path, name)
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "h2sim", "run", str(machine), str(trace), "--csv", str(tmp_path / "r.csv"),
               "--plots", str(tmp_path / "plots"), "--json", str(tmp_path / "r.json")]  # fmt: skip
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert name in (tmp_path / "r.csv").read_text(encoding="utf-8")
    refused = subprocess.run([*command[:4], name, name], env=env, capture_output=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"h2sim: ")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "status", "why"),
    [
        (("a\x1b[2J", ""), 0, "raw characters: ['\\x1b']"),
        (("", "h2sim: \u202ex"), 2, "raw characters: ['\\u202e']"),
        (("", "x.py:1: RuntimeWarning: y"), 0, "lines on standard error that are no error or warning"),
        (("", "h2sim: a\nh2sim: run.json: forged"), 2, "a forged line"),
        (("", "h2sim: " + "x" * 3000), 2, "a line that is too long to be read"),
        (("", ""), 2, "a refusal without a word"),
    ],
)
def test_what_acts_is_noticed(said, status, why):
    assert any(fault.startswith(why) for fault in names.faults(*said, status))


def test_cells_that_act_are_noticed():
    assert names.active_cells('a,=1+1\n-1.5,-,\'=2\n"@x",-2+3\n') == ["=1+1", "@x", "-2+3"]
