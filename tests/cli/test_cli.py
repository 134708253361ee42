"""The user's hands: every command, its exit status, its files, and one clear line for every wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.io import library
from h2sim.report.keys import KEYS
from tests.helpers.traces import parts, raw_trace, tiny_trace

H2LEARN = library.find("arch", "h2learn").read_text()
TABLE = library.find("energy table", "28nm").read_text()


def h2sim(*args: str | Path):
    return CliRunner().invoke(main, [str(a) for a in args])


def good(*args: str | Path) -> str:
    result = h2sim(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def bad(*args: str | Path) -> str:
    """Standard error of a refused call: exit status 2, every line says who speaks, no traceback, no output."""
    result = h2sim(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith(("h2sim: ", "Usage: ", "Try ", "Error: ")) or not line for line in lines), lines
    return result.stderr


@pytest.fixture
def trace(tmp_path) -> Path:
    return tiny_trace(tmp_path)


def commands(group=main, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        yield from commands(command, (*path, name)) if hasattr(command, "commands") else ()


@pytest.mark.parametrize("path", [p for p, _ in commands()], ids=" ".join)
def test_every_command_has_help_with_an_example(path):
    text = good(*path, "--help")
    assert "Example" in text
    assert f"h2sim {' '.join(path).removesuffix(' SPEC')}" in text  # in whose place a sweep's name stands


def test_run_prints_engines_layers_and_the_step(trace):
    text = good("run", "h2learn", trace)
    for word in (
        "Forward",
        "Weight update",
        "Backward",
        "conv2",
        "pool1",
        "steady state",
        "samples/s",
        "off chip",
        "mm2",
    ):
        assert word in text
    assert "SYNTHETIC" in text
    assert "27.85 TFLOPS" in text
    assert "\x1b" not in text


def test_run_on_the_bundled_trace_of_real_training():
    text = good("run", "h2learn", "mnist-digits")
    assert "training" in text
    assert "SYNTHETIC" not in text


def test_the_committed_summary_is_what_the_program_prints():
    report = (Path(__file__).parents[2] / "reports" / "first-figures.md").read_text()
    committed = report.split("```\n")[2].rstrip("\n")
    printed = good("run", "h2learn", "mnist-digits")
    assert committed == "\n".join(line.rstrip() for line in printed.rstrip().splitlines())


def test_two_runs_write_the_same_bytes(trace, tmp_path):
    files = []
    for name in ("a", "b"):
        out = tmp_path / name
        out.mkdir()
        good(
            "run", "h2learn", trace, "--json", out / "r.json", "--csv", out / "r.csv", "--timeline", out / "t.json",
            "--plots", out / "plots",
        )  # fmt: skip
        files.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert set(map(str, files[0])) == {
        "r.json",
        "r.csv",
        "t.json",
        "plots/cycles.png",
        "plots/energy.png",
        "plots/area.png",
    }
    assert files[0] == files[1]


def test_json_follows_the_schema_and_the_csv_agrees_with_it(trace, tmp_path):
    good("run", "h2learn", trace, "--json", tmp_path / "r.json", "--csv", tmp_path / "r.csv")
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["schema"], document["version"]) == ("h2sim-result", 1)
    assert document["workload"]["source"] == "synthetic"
    rows = pd.read_csv(tmp_path / "r.csv")
    assert rows["compute_cycles"].tolist() == [row["compute_cycles"] for row in document["layers"]]
    assert rows["stall_dependency_cycles"].sum() == sum(r["stall_cycles"]["dependency"] for r in document["layers"])
    for engine, sums in document["engines"].items():
        mine = [row for row in document["layers"] if row["engine"] == engine]
        assert sums["compute_cycles"] == sum(row["compute_cycles"] for row in mine)
        assert sums["busy_cycles"] == sums["compute_cycles"] + sums["fill_cycles"] + sum(sums["stall_cycles"].values())
    total = sum(sum(sums["energy_j"].values()) for sums in document["engines"].values())
    assert total == pytest.approx(document["step"]["energy_j"], rel=1e-12)
    step = document["step"]
    assert step["seconds"] == step["steady_cycles"] / step["clock_hz"]


def test_json_to_standard_output_is_json_alone(trace):
    result = h2sim("run", "h2learn", trace, "--json", "-")
    assert json.loads(result.stdout)["schema"] == "h2sim-result"
    assert "steady state" in result.stderr


def test_layer_narrows_rows_but_not_totals(trace):
    whole, part = (json.loads(good("run", "h2learn", trace, "--json", "-", *x)) for x in ((), ("--layer", "conv2")))
    assert {row["layer"] for row in part["layers"]} == {"conv2"}
    assert part["step"] == whole["step"]
    assert "did you mean 'conv2'" in bad("run", "h2learn", trace, "--layer", "conv22")


def test_modes_memory_and_tables_change_what_they_should(trace):
    def step(*options):
        return json.loads(good("run", "h2learn", trace, "--json", "-", *options))["step"]

    base = step()
    assert step("--mode", "dense")["steady_cycles"] >= base["steady_cycles"]
    assert step("--ideal-memory")["steady_cycles"] <= base["steady_cycles"]
    other = step("--energy-table", "45nm")
    assert other["steady_cycles"] == base["steady_cycles"]
    assert other["energy_j"] > base["energy_j"]


def test_an_edited_energy_table_reaches_the_result(trace, tmp_path):
    data = yaml.safe_load(TABLE)
    data["actions"]["fp16_add"]["energy_pj"] *= 2
    data["actions"]["fp16_add"].pop("high_pj", None)
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(data))
    one, two = (
        json.loads(good("run", "h2learn", trace, "--json", "-", "--energy-table", table))["layers"]
        for table in ("28nm", tmp_path / "t.yaml")
    )
    for before, after in zip(one, two, strict=True):
        assert after["energy_pj"]["fp16_add"] == pytest.approx(2 * before["energy_pj"]["fp16_add"])
        assert after["energy_pj"]["lut"] == before["energy_pj"]["lut"]


def test_the_timeline_has_a_track_per_engine_and_memory_and_slices_that_fit(trace, tmp_path):
    good("run", "h2learn", trace, "--timeline", tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert set(tracks.values()) == {"forward", "weight_update", "backward", "Mem 0", "Mem 1", "Mem 2"}
    for track, name in tracks.items():
        slices = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == track]
        assert slices, name
        assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in slices)


def test_every_key_of_a_result_is_explained(trace):
    def keys(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    document = json.loads(good("run", "h2learn", trace, "--json", "-", "--chips", "2"))
    assert document["arch"].pop("parameters")  # `arch schema` explains its fields
    assert document["provenance"].pop("versions")
    buffers = {name for row in document["layers"] for name in row.pop("buffers")}
    assert "psum" in buffers
    columns = good("run", "h2learn", trace, "--csv", "-").splitlines()[0].split(",")
    rival = json.loads(good("run", "spinalflow", trace, "--json", "-"))
    events = {name for row in rival["layers"] for part in ("operations", "energy_pj") for name in row[part]}
    del rival["arch"]["parameters"], rival["provenance"]
    ours = set(keys(document)) | set(columns)
    assert ours <= set(KEYS)
    assert {"fused", "published", "left_out", "notes", "seconds"} <= set(keys(rival)) & set(KEYS)
    assert "sorted_spikes" in events
    assert "steady_cycles" in good("explain")
    assert "nearest: steady_cycles" in bad("explain", "stedy_cycles")


def test_verify_passes_on_the_bundled_trace_and_prints_differences():
    text = good("verify", "h2learn", "mnist-digits")
    assert "all values agree" in text
    assert "weight_grad" in text


def test_verify_says_no_with_status_1_when_a_value_is_wrong(tmp_path):
    from tests.accuracy.test_verify import flip, rewritten

    path = rewritten(tmp_path, flip("down.spikes")).path
    result = h2sim("verify", "h2learn", path, "--json", tmp_path / "v.json")
    assert result.exit_code == 1
    assert "WRONG VALUES" in result.stderr
    assert "down spikes (1 of 18816)" in result.stderr
    assert json.loads((tmp_path / "v.json").read_text())["passed"] is False


def test_verify_refuses_a_trace_without_values(trace):
    assert "carries no values to verify" in bad("verify", "h2learn", trace)


def test_arch_commands(tmp_path):
    assert "27.85" in good("arch", "list")
    assert good("arch", "show", "h2learn") == H2LEARN
    assert json.loads(good("arch", "schema"))["title"] == "Arch"
    (tmp_path / "mine.yaml").write_text(good("arch", "show", "h2learn"))
    assert "ok: h2learn, peak 27.85 TFLOPS" in good("arch", "check", tmp_path / "mine.yaml", "h2learn")


def test_trace_commands(tmp_path):
    assert "mnist-digits" in good("trace", "list")
    out = tmp_path / "s.npz"
    sparsity = "spikes=0.9,window=0.5,grad=0.75"
    good("trace", "synth", "8C3-AP2-10FC", "--input-shape", "2,8,8", "--sparsity", sparsity, "-o", out)
    assert "masks only" in good("trace", "check", out)
    text = good("trace", "info", out)
    assert "SYNTHETIC" in text
    assert "conv1" in text
    good("run", "h2learn", out)
    assert "training" in good("trace", "info", "mnist-digits")


BAD_ARCH = [
    ("rows: 64 ", "rows: 0 ", r"engines.forward.rows: expected greater than or equal to 1; got 0"),
    ("rows: 64 ", "rows: -4 ", "engines.forward.rows: expected greater than or equal to 1; got -4"),
    ("rows: 64 ", "rows: 10000000 ", "engines.forward.rows: expected less than or equal to 65536; got 10000000"),
    ("rows: 64 ", "rows: 6.5 ", "engines.forward.rows: expected a valid integer; got 6.5"),
    ("rows: 64 ", "rowz: 64 ", "engines.forward.rowz: unknown field; did you mean 'rows'?"),
    ("sub_lut_size: 8 ", "sub_lut_size: 6 ", "engines.forward.sub_lut_size: must be a power of two; got 6"),
    ("mode: dual", "mode: duel", "engines.backward.mode: expected 'dense', 'input_only', 'output_only' or 'dual'"),
    ("clock_hz: 800000000", "clock_hz: 0", "clock_hz: expected greater than or equal to 1; got 0"),
    ("tile: {height: 8, width: 8}", "tile: {height: 8}", "tile.width: missing field"),
    ("name: h2learn", "name: [", "not valid YAML at line"),
    ("name: h2learn", "name: h2learn\nname: other", "not valid YAML at line 5: key 'name' stands twice"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD_ARCH)
def test_a_wrong_arch_file_is_named_with_field_expected_and_got(trace, tmp_path, old, new, message):
    assert old in H2LEARN
    (tmp_path / "bad.yaml").write_text(H2LEARN.replace(old, new, 1))
    for call in (("run", tmp_path / "bad.yaml", trace), ("arch", "check", tmp_path / "bad.yaml")):
        text = bad(*call)
        assert f"bad.yaml: {message}" in text


def test_missing_files_are_said_to_be_missing(trace):
    assert (
        "nothing: no such arch file; shipped arch files: bit-sparse-128, dense-array, dense-array-37mm2, h2learn"
        in bad("run", "nothing", trace)
    )
    assert "no such trace file" in bad("run", "h2learn", "nothing.npz")
    assert "no such energy table file; shipped energy table files: 28nm, " in bad(
        "run", "h2learn", trace, "--energy-table", "7nm"
    )
    assert "no such network" in bad("trace", "synth", "nothing", "--sparsity", "0.5", "-o", "x.npz")


def test_an_energy_table_that_lacks_an_operation_is_refused(trace, tmp_path):
    data = yaml.safe_load(TABLE)
    del data["actions"]["fp16_multiply"]
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(data))
    assert "fp16_multiply" in bad("run", "h2learn", trace, "--energy-table", tmp_path / "t.yaml")


def test_nan_in_values_is_found_by_check_and_verify(tmp_path):
    import numpy as np

    meta, members = parts()
    members["conv1.weight"] = np.full((4, 2, 3, 3), np.nan, np.float32)
    path = raw_trace(tmp_path / "n.npz", meta, members)
    for call in (("trace", "check", path), ("verify", "h2learn", path), ("run", "h2learn", path)):
        assert "conv1.weight: expected finite numbers; got nan" in bad(*call)


@pytest.mark.parametrize("option", ["--json", "--csv", "--timeline"])
def test_an_output_that_cannot_be_written_is_refused_before_the_run(trace, tmp_path, option):
    assert "cannot be written: no folder" in bad("run", "h2learn", trace, option, tmp_path / "no" / "x")
    assert "cannot be written: is a folder" in bad("run", "h2learn", trace, option, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.npz"]


def test_plots_into_a_file_or_nowhere_are_refused(trace, tmp_path):
    assert "is a file, expected a folder" in bad("run", "h2learn", trace, "--plots", trace)
    assert "no folder" in bad("run", "h2learn", trace, "--plots", tmp_path / "a" / "b")


@pytest.mark.parametrize("value", ["1.5", "spikes=0.5", "x", "spikes=0.5,window=0.5,grad=lots"])
def test_wrong_sparsity_is_refused(tmp_path, value):
    bad("trace", "synth", "mnist-small", "--sparsity", value, "-o", tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_trace_leaves_no_output(trace, tmp_path):
    trace.write_bytes(trace.read_bytes()[:2000])
    assert "tiny.npz: file: expected an intact .npz" in bad("run", "h2learn", trace, "--json", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_the_installed_program_runs_from_any_folder_with_the_right_status(tmp_path):
    def program(*args):
        call = [sys.executable, "-c", "from h2sim.cli import main; main()", *args]
        return subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env={**os.environ})

    assert program("run", "h2learn", "mnist-digits").returncode == 0
    wrong = program("run", "h2learn", "none.npz")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("h2sim: none.npz: no such trace file")
    assert program("--no-such-option").returncode == 2


@pytest.mark.parametrize("scalar", ["2001-99-99", '!!int "x"', "9" * 5000])
def test_a_scalar_that_yaml_cannot_make_is_one_line(tmp_path, scalar):
    (tmp_path / "a.yaml").write_text(f"name: {scalar}\n")
    assert "a.yaml: not valid YAML: " in bad("arch", "check", tmp_path / "a.yaml")
