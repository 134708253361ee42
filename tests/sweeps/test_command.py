"""`h2sim sweep`: what people type, and what they are told when it is wrong."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.io import library
from h2sim.sweeps.plan import make_plan
from h2sim.sweeps.spec import load_spec

SPEC = """\
traces: [mnist-digits]
energy_tables: [28nm, 45nm]
parameters:
  engines.backward.rows: {values: [8, 16]}
  tile: {values: [[8, 8], [4, 8]]}
constraints: ["area_mm2 < 200"]
"""


def h2sim(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that was run, and its spec."""
    folder = tmp_path_factory.mktemp("swept")
    spec = folder / "mine.yaml"
    spec.write_text(SPEC)
    result = h2sim("sweep", spec, "-o", folder / "space", "--workers", 0)
    assert result.exit_code == 0, result.output
    return folder / "space", result.stdout


def test_a_sentence_comes_first_and_names_the_best(swept):
    folder, said = swept
    assert said.splitlines()[0].endswith(".")
    assert "4 machines" in said.splitlines()[0]
    assert (folder / "sweep.yaml").is_file()


def test_options_may_stand_in_front_of_the_spec(swept, tmp_path):
    spec = swept[0].parent / "mine.yaml"
    result = h2sim("sweep", "-o", tmp_path / "s", "--workers", 0, spec, "engines.backward.rows=8", "tile=[8, 8]")
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(exported(tmp_path / "s", tmp_path / "p.csv"))) == 2


def exported(folder, file):
    result = h2sim("sweep", "export", folder, "-o", file)
    assert result.exit_code == 0, result.output
    return file


def test_exports_hold_a_row_per_machine_and_table_by_the_specs_names(swept, tmp_path):
    frame = pd.read_csv(exported(swept[0], tmp_path / "points.csv"))
    assert len(frame) == 8
    columns = ["engines.backward.rows", "tile", "energy_table", "status", "seconds", "energy_j", "area_mm2"]
    assert set(columns) <= set(frame.columns)
    assert set(frame["tile"]) == {"[8, 8]", "[4, 8]"}
    assert set(frame["status"]) == {"ok"}
    pytest.importorskip("pyarrow")
    same = pd.read_parquet(exported(swept[0], tmp_path / "points.parquet"))
    assert same["seconds"].tolist() == frame["seconds"].tolist()
    assert same["energy_j"].tolist() == frame["energy_j"].tolist()


def test_an_export_says_the_same_bytes_again(swept, tmp_path):
    one, two = (exported(swept[0], tmp_path / name).read_bytes() for name in ("a.csv", "b.csv"))
    assert one == two


def test_a_point_is_an_arch_file_that_runs_to_the_same_numbers(swept, tmp_path):
    frame = pd.read_csv(exported(swept[0], tmp_path / "points.csv"))
    row = frame[(frame["energy_table"] == "28nm") & (frame["tile"] == "[4, 8]")].iloc[0]
    shown = h2sim("sweep", "show", swept[0], row["id"])
    assert shown.exit_code == 0, shown.output
    (tmp_path / "better.yaml").write_text(shown.stdout)
    ran = h2sim("run", tmp_path / "better.yaml", "mnist-digits", "--json", tmp_path / "r.json")
    assert ran.exit_code == 0, ran.output
    step = json.loads((tmp_path / "r.json").read_text())["step"]
    assert (step["seconds"], step["energy_j"]) == (row["seconds"], row["energy_j"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere.yaml", "-o", "x"], "nowhere.yaml: no such file"),
        (["status", "nowhere"], "nowhere: expected a sweep's folder"),
        (["figure-3.13-forward"], "Missing option '-o'"),
        (["figure-3.10", "-o", "x", "engines.forward.rowz=8"], "did you mean 'engines.forward.rows'?"),
        (["figure-3.10", "-o", "x", "--dask", "tcp://a:1", "--workers", "2"], "a cluster has its own"),
    ],
)
def test_wrong_use_is_told_in_a_line_with_status_2(tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    result = h2sim("sweep", *args)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_wrong_columns_points_and_names_are_told_in_a_line(swept, tmp_path):
    for args, said in (
        (("table", swept[0], "--sort", "secondz"), "did you mean 'seconds'"),
        (("show", swept[0], "zzzz"), "zzzz"),
        (("export", swept[0], "-o", tmp_path / "points.txt"), ".csv or .parquet"),
        (("plot", swept[0], "-o", tmp_path / "p", "--slice", "tilt"), "tilt"),
    ):
        result = h2sim("sweep", *args)
        assert result.exit_code == 2, args
        assert said in result.output
        assert "Traceback" not in result.output


def test_a_check_runs_nothing(swept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = h2sim("sweep", swept[0].parent / "mine.yaml", "-o", "x", "--check")
    assert result.exit_code == 0
    assert "4 choices" in result.output
    assert not (tmp_path / "x").exists()


def test_every_shipped_sweep_of_a_figure_is_sound(tmp_path):
    names = [name for name in library.names("sweep") if name.startswith("figure-")]
    assert len(names) == 6
    for name in names:  # one folder: they share a drawn trace
        plan = make_plan(load_spec(library.find("sweep", name)), tmp_path)
        assert not any(plan.machines.design(choice).fault for choice in plan.choices())
