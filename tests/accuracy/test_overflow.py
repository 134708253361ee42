"""Values that overflow float32 on their way through the engines: wrong ones are counted, and numpy says nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from h2sim.cli import main
from tests.accuracy.test_verify import rewritten


def filled(member, value):
    def change(arrays, _meta):
        for name in [n for n in arrays if n.endswith(f".{member}")]:
            arrays[name] = np.full(arrays[name].shape, value, np.float32)

    return change


@pytest.mark.parametrize("value", [3e38, -3e38, 1e30, 1e-45])
@pytest.mark.parametrize("member", ["analog", "weight", "bias", "membrane", "grad_membrane", "weight_grad"])
def test_verify_says_no_without_a_word_of_numpy(tmp_path, member, value):
    path = rewritten(tmp_path, filled(member, value)).path
    done = CliRunner().invoke(main, ["verify", "h2learn", str(path), "--json", "-"])
    assert done.exit_code == 1
    assert "Warning" not in done.stderr
    answer = json.loads(done.stdout, parse_constant=pytest.fail)
    assert not answer["passed"]


def test_a_sum_that_overflows_is_wrong_and_not_within_an_endless_tolerance(tmp_path):
    path = rewritten(tmp_path, filled("weight", -3e38)).path
    rows = json.loads(CliRunner().invoke(main, ["verify", "h2learn", str(path), "--json", "-"]).stdout)["rows"]
    assert {row["passed"] for row in rows if row["max_difference"] is None} == {False}
    assert any(row["max_difference"] is None for row in rows)
