"""`h2sim run` with several traces: each one's row, mean and interval, in text, JSON and CSV; what is refused."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.compare.interval import student_t
from h2sim.trace import Sparsity, load_network, synthesise, write_trace


def made(path, notation="4C3-8C3-10FC", seed=0, batch=2):
    network = load_network(notation, (1, 8, 8))
    meta, members = synthesise(network, 3, batch, Sparsity(0.7, 0.5, 0.5), seed)
    write_trace(path, meta, dict(members))
    return str(path)


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    return [made(folder / f"{seed}.npz", seed=seed) for seed in range(3)]


def run(*words):
    return CliRunner().invoke(main, ["run", *map(str, words)])


def good(*words) -> str:
    found = run(*words)
    assert found.exit_code == 0, found.output
    return found.stdout


def bad(*words) -> str:
    found = run(*words)
    assert found.exit_code == 2, found.output
    return found.stderr


def test_the_mean_and_the_interval_are_those_of_the_rows(traces):
    frame = pd.read_csv(io.StringIO(good("h2learn", *traces, "--csv", "-"))).set_index("trace")
    assert list(frame.index) == [*traces, "mean", "low", "high"]
    for name in ("steady_cycles", "backward_compute_cycles", "seconds_per_sample", "energy_j_per_sample"):
        values = frame.loc[traces, name]
        half = student_t(2) * values.std(ddof=1) / 3**0.5
        assert frame.loc["mean", name] == pytest.approx(values.mean())
        assert frame.loc["low", name] == pytest.approx(values.mean() - half)
        assert frame.loc["high", name] == pytest.approx(values.mean() + half)
    assert frame["backward_compute_cycles"].nunique() > 3
    assert frame.loc[traces, "trace_sha256"].nunique() == 3
    assert frame.loc[["mean", "low", "high"], "trace_sha256"].isna().all()
    assert frame["arch_sha256"].nunique() == 1


def test_each_row_is_what_the_trace_alone_gives(traces):
    document = json.loads(good("h2learn", *traces, "--json", "-"))
    assert (document["schema"], document["version"]) == ("h2sim-results", 1)
    assert document["interval"] == {"kind": "Student t, 95%", "n": 3}
    for path, row in zip(traces, document["traces"], strict=True):
        alone = json.loads(good("h2learn", path, "--json", "-"))
        assert row["trace"] == path
        assert row["quantities"]["steady_cycles"] == alone["step"]["steady_cycles"]
        assert row["result"]["layers"] == alone["layers"]
    cycles = [row["quantities"]["steady_cycles"] for row in document["traces"]]
    assert document["quantities"]["steady_cycles"]["mean"] == sum(cycles) / 3


@pytest.mark.parametrize("machine", ["h2learn", "spinalflow", "loihi"])
def test_the_text_says_which_interval_of_how_many_traces(traces, machine):
    said = good(machine, *traces)
    assert "(Student t, 95% interval of the mean, n = 3)." in said
    assert "SYNTHETIC masks, 3 traces: a sample takes" in said
    for title in ("mean", "interval, from", "interval, to", *traces):
        assert any(line.startswith(title) for line in said.splitlines())


def test_several_traces_are_sub_batches_of_one_network_each_once(traces, tmp_path):
    other = made(tmp_path / "other.npz", "6C3-10FC")
    expected = f"network: expected 4C3-8C3-10FC, as in {traces[0]}; got 6C3-10FC"
    assert bad("h2learn", traces[0], other) == f"h2sim: {other}: {expected}\n"
    larger = made(tmp_path / "larger.npz", batch=3, seed=9)
    assert bad("h2learn", traces[0], larger) == f"h2sim: {larger}: batch: expected 2, as in {traces[0]}; got 3\n"
    expected = f"trace: expected another sub-batch for each name; got that of {traces[1]} again"
    assert bad("h2learn", *traces, traces[1]) == f"h2sim: {traces[1]}: {expected}\n"


@pytest.mark.parametrize(
    "option", [("--chips", 2), ("--plots", "p"), ("--timeline", "t.json"), ("--layer", "conv1"), ("--what-if", "a=1")]
)
def test_an_option_for_one_trace_is_refused_with_several(traces, option):
    assert f"{option[0]} is for one trace; give a single TRACE with it" in bad("h2learn", *traces, *option)


def test_a_result_is_not_written_over_a_trace(traces):
    assert "it is read by the same command" in bad("h2learn", *traces, "--csv", traces[2])
