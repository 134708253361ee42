"""Outputs have the same bytes whatever the threads, hash seed, locale, time zone and working folder."""

from __future__ import annotations

import os
import subprocess
import sys

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
SURROUNDINGS = {
    "as usual": {},
    "one thread": {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "four threads": {"NUMBA_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"},
    "ASCII": {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "another seed, zone and locale": {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LC_ALL": "POSIX"},
}


def outputs(folder, changes):
    """Every file that the commands write, and what they print, by name."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, str(folder.parents[1] / "commands")],
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
