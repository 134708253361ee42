"""Outputs have the same bytes whatever the threads, hash seed, locale, time zone and working folder."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import pytest

from tests.helpers.look import RESIDUAL
from tests.helpers.traces import tiny_trace

CODE = """if True:
    import os, sys
    from h2sim.cli import main
    for line in open(sys.argv[1], encoding="utf-8"):
        main(line.split(), prog_name="h2sim", standalone_mode=False)
"""
COMMANDS = """\
run h2learn {t} --json run.json --csv run.csv --timeline time.json --plots plots
run h2learn {t} --mode dense --json dense.json
run loihi {t} --json loihi.json
trace synth 4C3-AP2-6C3-10FC --input-shape 2,9,9 --sparsity 0.7 --batch 2 -o synth.npz
trace synth --like {t} --structure measured -o twin.npz
trace plot {t} -o pictures
compare run.json dense.json --spinalflow --workload {t} --json compare.json --csv compare.csv --plots compared
verify h2learn {v} --json verify.json
reproduce peak fe-adders
"""
TRAINING = """\
train 4C3-AP2-10FC mnist-5k --epochs 1 --train-samples 64 --test-samples 20 --timesteps 2 --shift 1 \
--trace-epochs 0,last --trace-batches 2 --trace-values -o run
"""
SURROUNDINGS = {
    "as usual": {},
    "one thread": {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "four threads": {"NUMBA_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
    "ASCII": {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "another seed, zone and locale": {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LC_ALL": "POSIX"},
}


def outputs(folder, changes, commands="commands"):
    """Every file that the commands write, and what they print, by name."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(folder.parents[1] / commands)],
        cwd=folder, env={**os.environ, "PYTHONHASHSEED": "0", **changes}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {"stdout": done.stdout, **found}


@pytest.fixture(scope="module")
def all_outputs(tmp_path_factory):
    place = tmp_path_factory.mktemp("same")
    trace = tiny_trace(place)
    text = COMMANDS.format(t=trace, v=RESIDUAL)
    (place / "commands").write_text(text, encoding="utf-8")
    return {name: outputs(place / str(n) / "x", changes) for n, (name, changes) in enumerate(SURROUNDINGS.items())}


def test_all_that_was_asked_for_is_there(all_outputs):
    assert len(all_outputs["as usual"]) >= 15


@pytest.mark.parametrize("name", list(SURROUNDINGS)[1:])
def test_the_bytes_are_the_same(all_outputs, name):
    usual, other = all_outputs["as usual"], all_outputs[name]
    assert usual.keys() == other.keys()
    assert [file for file in usual if usual[file] != other[file]] == []


def without_seconds(name, content):
    """A file of a run without what a clock gave: seconds in the log and in the checkpoint, and their printed digits."""
    if name == "run/log.csv":
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    if name == "run/checkpoint.pt":
        import torch

        state = torch.load(io.BytesIO(content), weights_only=True)
        for row in state["log"]:
            del row["seconds"]
        return plain(state)
    if name == "stdout":
        return [line.rpartition(b", ")[0] if line.endswith(b" s") else line for line in content.splitlines()]
    return content


def plain(value):
    """Tensors as their bytes, so that a state can be compared."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return (value.dtype, value.shape, value.numpy().tobytes()) if hasattr(value, "numpy") else value


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory):
    for package in ("torch", "mlxtend"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    place = tmp_path_factory.mktemp("trained")
    (place / "commands").write_text(TRAINING, encoding="utf-8")
    return {name: outputs(place / str(n) / "x", changes) for n, (name, changes) in enumerate(SURROUNDINGS.items())}


def test_a_run_leaves_traces_that_hold_values(all_runs):
    usual = all_runs["as usual"]
    traces = [name for name in usual if name.endswith(".npz")]
    assert len(traces) == 4
    with zipfile.ZipFile(io.BytesIO(usual[traces[0]])) as archive:
        assert "conv1.membrane.npy" in archive.namelist()
    assert json.loads(usual["run/run.json"])["epochs"] == 1
    assert usual.keys() - set(traces) == {"stdout", "run/run.json", "run/log.csv", "run/checkpoint.pt",
                                          "run/training.png"}  # fmt: skip


@pytest.mark.parametrize("name", list(SURROUNDINGS)[1:])
def test_a_run_and_its_traces_have_the_same_bytes(all_runs, name):
    usual, other = all_runs["as usual"], all_runs[name]
    assert usual.keys() == other.keys()
    assert [file for file in usual if without_seconds(file, usual[file]) != without_seconds(file, other[file])] == []
    assert [file for file in usual if file.endswith(".npz") and usual[file] != other[file]] == []


def test_another_seed_gives_other_bytes(all_runs, tmp_path):
    (tmp_path / "commands").write_text(TRAINING.replace(" -o", " --seed 1 -o"), encoding="utf-8")
    other, usual = outputs(tmp_path / "0" / "x", {}), all_runs["as usual"]
    same = {name for name in usual if without_seconds(name, usual[name]) == without_seconds(name, other[name])}
    assert same == set()
