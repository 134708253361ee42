"""The page on rivals: it is of this simulator, and of every machine; the record of the twins is of every twin."""

from __future__ import annotations

import json
import sys

import pandas as pd
import pytest

from h2sim.io import library
from h2sim.rivals.registry import MODULES
from tests.helpers.houses import ROOT
from tests.rivals import twins

FOLDER = ROOT / "reports" / "rivals"


@pytest.fixture(scope="module")
def made():
    """The files as today's simulator makes them."""
    sys.path.insert(0, str(FOLDER))
    try:
        import rivals
        import runs
    finally:
        sys.path.remove(str(FOLDER))
    return rivals.files(runs.study())


def test_the_committed_page_is_what_the_simulator_makes(made):
    assert made["rivals.md"] == (FOLDER / "rivals.md").read_text(encoding="utf-8")
    for name in ("rivals.html",):
        assert _body(made[name]) == _body((FOLDER / name).read_text(encoding="utf-8"))


def _body(page: str) -> str:
    """A page without its styles and scripts, which have tests of their own."""
    return page[page.index("<body") : page.rindex("<script")]


def test_every_number_is_kept(made, tmp_path):
    (tmp_path / "made.csv").write_text(made["rivals.csv"])
    now, kept = (pd.read_csv(path) for path in (tmp_path / "made.csv", FOLDER / "rivals.csv"))
    pd.testing.assert_frame_equal(now, kept, rtol=1e-9)


def test_every_shipped_rival_is_in_inference_and_those_that_train_in_training(made):
    frame = pd.read_csv(FOLDER / "rivals.csv")
    shipped = {name for name in library.names("arch") if name != "h2learn"}
    for _, each in frame[frame["step"] == "inference"].groupby(["trace", "memory"]):
        assert set(each["machine"]) == shipped
    trained = set(frame[frame["step"] == "training"]["machine"])
    assert {"sata", "dense-array"} <= trained < shipped


def test_every_machine_with_a_clock_has_a_twin_and_a_record_without_disagreement():
    kept = json.loads((FOLDER / "twins.json").read_text(encoding="utf-8"))["machines"]
    assert set(kept) == set(twins.TWINS) == set(MODULES) - {"loihi"}
    assert all(cases >= 1000 and disagreements == 0 for cases, disagreements in kept.values())


@pytest.mark.parametrize("kind", twins.TWINS)
def test_a_machine_has_a_test_that_names_its_twin(kind):
    assert list(twins.comparisons(kind))


def test_a_disagreement_is_counted_and_told(capsys):
    from hypothesis import given
    from hypothesis import strategies as st

    @given(st.integers(0, 100))
    def test_the_fast_count_is_the_stepped_machine(n):
        assert n < 10

    cases, faults = twins.compared(test_the_fast_count_is_the_stepped_machine, 200, 0)
    assert (cases > 0, faults) == (True, 1)
    assert "test_the_fast_count" in capsys.readouterr().out
    assert twins.compared(test_the_fast_count_is_the_stepped_machine, 1, 0)[1] == 0  # 0 alone is tried
