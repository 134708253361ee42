"""Steps of networks that mix every operand: what the fast engines count is what the stepped ones count, row by row."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import h2sim
from h2sim.arch import load_arch
from h2sim.cli import main
from tests.fuzz.stepped import check_counts
from tests.helpers.steps import draw_step, small_machine


@pytest.mark.parametrize("seed", range(60))
def test_the_fast_step_is_the_stepped_one(seed, tmp_path):
    trace = draw_step(seed, tmp_path)
    assert check_counts(small_machine(seed), trace) == []


@pytest.mark.parametrize("seed", range(60, 90))
def test_on_the_shipped_machine(seed, tmp_path):
    assert check_counts(load_arch("h2learn"), draw_step(seed, tmp_path)) == []


@pytest.mark.parametrize("phases", [1, 2])
def test_inference_and_a_step_without_update(phases, tmp_path):
    trace = draw_step(1, tmp_path, phases)
    rows = h2sim.simulate(load_arch("h2learn"), trace).activity.layers
    assert {row.phase for row in rows} == set(trace.meta.phases)
    assert check_counts(small_machine(1), trace) == []


@pytest.mark.parametrize("source", ["mnist-digits", "tests/data/encode-residual.npz"])
def test_an_upgraded_trace_takes_the_same_step(source, tmp_path):
    CliRunner().invoke(main, ["trace", "upgrade", source, str(tmp_path / "new.npz")], catch_exceptions=False)
    old, new = h2sim.load_trace(source), h2sim.load_trace(tmp_path / "new.npz")
    assert (old.meta.version, new.meta.version) == (1, 2)
    assert h2sim.count(load_arch("h2learn"), old).activity == h2sim.count(load_arch("h2learn"), new).activity
