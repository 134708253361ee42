"""Compiled kernels stay within their arrays: a few random shapes each, checked by numba; and the check can fail."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
import pytest

from h2sim.kernels.jit import njit
from tests.robust import bounds

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT=1: nothing is compiled")

ROOT = Path(__file__).parents[2]


def test_every_kernel_stays_within_its_arrays_and_answers_as_its_plain_form_does():
    done = bounds.checked(["--shapes", "12"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
    assert done.stdout.startswith(f"{len(bounds.CASES)} cases, {len(bounds.kernels())} kernels")


def harmed(folder: Path, module: str, old: str, new: str) -> Path:
    """A checkout in links, but for one line of one kernel."""
    for path in ROOT.iterdir():
        if path.name != "simulator" and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    package = folder / "simulator" / "h2sim"
    (package / "kernels").mkdir(parents=True)
    for path in (ROOT / "simulator" / "h2sim").iterdir():
        if path.name != "kernels":
            (package / path.name).symlink_to(path)
    for path in (ROOT / "simulator" / "h2sim" / "kernels").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.stem == module:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (package / "kernels" / path.name).write_text(text, encoding="utf-8")
    return folder / "simulator"


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        ("backward.sample_cycles", "tile_size[1] + 1, np", "tile_size[1] // 2 + 1, np"),
        ("lif.backward", "if t == steps - 1:", "if t == steps:"),
    ],
)
def test_an_index_beside_an_array_is_noticed(tmp_path, kernel, old, new):
    source = harmed(tmp_path, kernel.partition(".")[0], old, new)
    path = f"{source}:{ROOT}"
    found = bounds.checked(["--shapes", "40", "--only", kernel], PYTHONPATH=path)
    assert found.stdout.startswith(f"{kernel}: shape "), found.stderr[-2000:]
    assert found.stdout.endswith(": beside an array: index is out of bounds\n")
    assert found.returncode == 1


def test_a_wrong_answer_is_noticed():
    def twice(values):
        values *= 2
        return values[0]

    given = (np.ones(2, np.float32),)
    assert bounds.fault(twice, twice, given) is None
    assert bounds.fault(twice, lambda values: values[0], given) == "another result than the plain form's"
    assert bounds.fault(twice, lambda values: 2 * values[0], given) == "another argument than the plain form's"


def test_a_kernel_that_no_case_reaches_is_a_fault(monkeypatch):
    @njit()
    def new(values):
        return values[0]

    monkeypatch.setattr(bounds, "CASES", {})
    monkeypatch.setattr(bounds, "kernels", lambda: {"bits.new": new})
    assert bounds.campaign(1) == ["bits.new: no case reaches it"]
    new(np.ones(1))
    assert bounds.campaign(1) == []
