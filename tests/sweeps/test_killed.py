"""Sweeps whose processes are killed, told to end, or have no room: what is finished stays, and nothing is left over."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from h2sim.errors import SweepError
from h2sim.sweeps import workers
from h2sim.sweeps.run import sweep
from tests.sweeps import watched
from tests.sweeps.running import WATCHED, Run, children, environment, kill, lives, log_folder, points, spec, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in Linux' /proc")
SPEC = spec(24)
SLOW = {watched.NAP: "0.4"}  # the sweep must still run when the signal comes, however busy the machine is
DONE = (0, "")


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """What a sweep finds that nobody disturbs, on one worker."""
    folder = tmp_path_factory.mktemp("alone") / "space"
    sweep(SPEC, folder, workers=1)
    return points(folder)


def test_a_point_that_kills_its_worker_is_recorded_and_all_others_are_found(tmp_path):
    small, poison = spec(8), {"clock_hz": 420_000_000, "memory.bandwidth_bytes_per_s": 64_000_000_000}
    logs = log_folder(tmp_path)
    assert Run(tmp_path / "space", small, **{watched.POISON: json.dumps(poison)}, **logs).ended() == DONE
    assert sorted(status for status, _ in points(tmp_path / "space").values()) == ["killed"] + ["ok"] * 7
    died = watched.logged(tmp_path / "logs", "begun") - watched.logged(tmp_path / "logs", "done")
    assert len(died) == 1
    retried = sweep(small, tmp_path / "space", workers=1, retry_failed=True)
    assert list(retried.status) == ["ok"] * 8


def test_a_sweep_whose_coordinator_is_killed_leaves_no_worker_and_goes_on(left_alone, tmp_path, monkeypatch):
    folder, logs = tmp_path / "space", log_folder(tmp_path)
    broken = Run(folder, SPEC, **SLOW, **logs)
    wait_until(lambda: len(points(folder)) >= 5)
    processes = children(broken.pid)
    assert len(processes) == 2
    kill(broken.pid)
    assert broken.ended() == (-signal.SIGKILL, "")
    # 2 s are promised; a machine that does ten other things may take longer
    assert wait_until(lambda: not any(map(lives, processes)), what="workers gone") < 10
    before = points(folder)
    assert 5 <= len(before) < len(left_alone)
    first = watched.logged(tmp_path / "logs", "done")
    monkeypatch.setattr(workers, "WORKER", WATCHED)
    monkeypatch.setenv(watched.FOLDER, logs[watched.FOLDER])
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    sweep(SPEC, folder, workers=1)
    assert points(folder) == left_alone
    again = watched.logged(tmp_path / "logs", "done") - first
    assert again.total() == len(left_alone) - len(before)  # what was written is not done again, all else is, once


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_told_to_end_says_one_line_and_goes_on(number, left_alone, tmp_path):
    folder = tmp_path / "space"
    broken = Run(folder, SPEC, "--workers", "1", **SLOW)
    wait_until(lambda: len(points(folder)) >= 5)
    processes = children(broken.pid)
    broken.send(number)
    said = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    assert broken.ended() == (128 + number, f"h2sim: {said}; nothing was half-written\n")
    assert not any(map(lives, processes))
    assert points(folder).items() < left_alone.items()
    assert not list(folder.glob(".h2sim-*"))
    sweep(SPEC, folder, workers=1)
    assert points(folder) == left_alone


def test_a_second_sweep_of_a_folder_is_told_so(tmp_path):
    folder = tmp_path / "space"
    first = Run(folder, SPEC, "--workers", "1", **{watched.NAP: "60"})
    wait_until((folder / "points.sqlite").exists)
    with pytest.raises(SweepError, match=f"{folder}: another h2sim sweep is running there; wait for it or end it"):
        sweep(SPEC, folder, workers=1)
    kill(first.pid)
    assert first.ended()[0] == -signal.SIGKILL


def test_a_full_disk_is_one_line_and_the_sweep_goes_on_later(left_alone, tmp_path):
    folder = tmp_path / "space"
    status, said = Run(folder, SPEC, "--workers", "1", most_bytes=70_000).ended()
    assert status == 2, said
    assert said.startswith(f"{folder / 'points.sqlite'}: cannot be written: ")
    assert said.count("\n") == 1
    assert points(folder).items() <= left_alone.items()
    sweep(SPEC, folder, workers=1)
    assert points(folder) == left_alone


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SweepError, match=f"^{tmp_path / 'file' / 'space'}: cannot be made: Not a directory$"):
        sweep(SPEC, tmp_path / "file" / "space", workers=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path):
    (tmp_path / "space").mkdir(mode=0o500)
    with pytest.raises(SweepError, match=f"^{tmp_path / 'space'}: cannot be written: Permission denied$"):
        sweep(SPEC, tmp_path / "space", workers=1)
