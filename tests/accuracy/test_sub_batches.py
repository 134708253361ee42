"""Summaries of several sub-batches: what one says, what is refused, and the shipped ones."""

from __future__ import annotations

import csv
from itertools import chain

import pytest

from h2sim.arch import arch_sha256, load_arch
from h2sim.compare.interval import interval
from h2sim.errors import ReproductionError
from h2sim.io import library
from h2sim.reproduce.page import _sub_batch_lines
from h2sim.reproduce.sub_batches import ENDS, LEAST, QUANTITIES, load, load_all

ARCH = load_arch("h2learn")
HEAD = ["trace", "network", *QUANTITIES, "arch_sha256", "trace_sha256", "energy_table_sha256"]


def row(n: int, cycles: float, network: str = "mnist", machine: str = "m", trace: str | None = None) -> list[str]:
    return [f"{n}.npz", network, "100", str(cycles), "0.001", "0.002", machine, trace or f"t{n}", "e"]


def written(path, rows, head=HEAD):
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(chain([head], rows))
    return path


def test_a_summary_gives_the_intervals_of_its_traces_and_says_whose_machine_it_is(tmp_path):
    rows = [row(n, 10.0 + n) for n in range(LEAST)]
    ends = [[end, "mnist", "1", "1", "1", "1", "m", "", "e"] for end in ENDS]
    found = load(written(tmp_path / "run.csv", [*rows, *ends]), ARCH)
    assert (found.name, found.network, found.current) == ("run", "mnist", False)
    assert found.intervals["backward_compute_cycles"] == interval([10.0 + n for n in range(LEAST)])
    assert found.v100_seconds == pytest.approx(138.55 / 60000)
    mine = [row(n, 10.0, "mnist-small", arch_sha256(ARCH)) for n in range(LEAST)]
    found = load(written(tmp_path / "mine.csv", mine), ARCH)
    assert (found.current, found.v100_seconds) == (True, None)


def test_the_page_shows_mean_and_interval_and_the_speedup_from_their_ends(tmp_path):
    rows = [row(n, 10.0 + n % 2) for n in range(LEAST)]
    lines = _sub_batch_lines([load(written(tmp_path / "run.csv", rows), ARCH)])
    assert lines[-1] == (
        "| run (mnist) | 8 | 10.5 (10.05 to 10.95) | 5.1% | 100 (100 to 100) | 2.309x (2.309 to 2.309) | "
        "another than this page's: make the summary anew |"
    )
    assert _sub_batch_lines([]) == []


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        ([row(n, 1.0) for n in range(7)], HEAD, r"r\.csv: rows: expected at least 8 different .*; got 7 in 7 rows$"),
        ([row(n, 1.0, trace="t") for n in range(9)], HEAD, r"rows: expected at least 8 different .*; got 1 in 9 rows$"),
        ([row(n, 1.0, network=f"n{n % 2}") for n in range(9)], HEAD, r"of one network on one machine; got 9 in 9"),
        ([row(n, 1.0, machine=f"m{n % 2}") for n in range(9)], HEAD, r"of one network on one machine; got 9 in 9"),
        ([["a", "b"]], ["trace", "cycles"], r"r\.csv: columns: expected those of `h2sim run ARCH TRACE\.\.\. --csv`"),
        ([row(n, "many") for n in range(8)], HEAD, r"columns: .*; got could not convert string to float: 'many'$"),
    ],
)  # fmt: skip
def test_what_is_no_summary_is_refused_in_one_line(tmp_path, rows, head, message):
    with pytest.raises(ReproductionError, match=message):
        load(written(tmp_path / "r.csv", rows, head), ARCH)


def test_the_shipped_summaries_are_of_enough_sub_batches_and_hold_no_paths():
    for found in load_all(ARCH):
        assert found.intervals["steady_cycles"].n >= LEAST
        text = library.find("sub-batches", found.name).read_text()
        assert all(not line.startswith(("/", "~")) for line in text.splitlines())
