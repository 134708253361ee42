"""Sweeps in processes of their own, that can be killed: `python -m tests.sweeps.running SPEC FOLDER`."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.sweeps import watched

ROOT = Path(__file__).parents[2]
WATCHED = [sys.executable, "-P", "-m", "tests.sweeps.watched"]
PATIENCE_S = 120.0  # for what takes a second on a machine that is not busy


def spec(designs: int = 40) -> dict[str, Any]:
    """So many machines that share all counts: a point takes some 10 ms."""
    clocks = [int(4e8 + 1e7 * number) for number in range(designs // 2)]
    return {
        "traces": ["mnist-digits"],
        "parameters": {"memory.bandwidth_bytes_per_s": [64_000_000_000, 128_000_000_000], "clock_hz": clocks},
    }


def environment(**changes: str) -> dict[str, str]:
    """This process's environment and changes of it, in which our packages are found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "simulator")]), **changes}


class Run:
    """A sweep in a process of its own."""

    def __init__(self, folder: Path, written: dict[str, Any], *options: str, most_bytes: int = 0, **changes: str):
        command = [sys.executable, "-W", "ignore", "-m", "tests.sweeps.running", json.dumps(written), str(folder)]
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))) if most_bytes else None
        self._process = subprocess.Popen(
            [*command, *options], env=environment(**changes), stderr=self._err, preexec_fn=limit
        )
        self.pid = self._process.pid

    def send(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Waits for the end: the status, and what was said on standard error."""
        status = self._process.wait(timeout=PATIENCE_S)
        with self._err as err:
            err.seek(0)
            return status, err.read()


def main() -> None:
    """Runs a sweep as the command does, on workers that are looked at."""
    from h2sim.cli.ending import ending_on_signals
    from h2sim.errors import H2SimError
    from h2sim.sweeps import workers
    from h2sim.sweeps.run import sweep

    parser = argparse.ArgumentParser()
    parser.add_argument("spec")
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dask")
    arguments = parser.parse_args()
    workers.WORKER = WATCHED
    with ending_on_signals():
        try:
            sweep(json.loads(arguments.spec), arguments.folder, workers=arguments.workers, dask=arguments.dask)
        except H2SimError as error:
            print(error, file=sys.stderr)
            sys.exit(2)


def wait_until(holds: Callable[[], Any], *, what: str = "") -> float:
    """Waits until something holds; returns the seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_S, f"not within {PATIENCE_S:.0f} s: {what or holds}"
        time.sleep(0.01)
    return time.monotonic() - began


def points(folder: Path) -> dict[str, tuple[str, str]]:
    """Status and numbers of every point of a folder, which a sweep may be writing to."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{folder}/points.sqlite?mode=ro", uri=True)) as db:
        return {key: (status, numbers) for key, status, numbers in db.execute("select id, status, numbers from points")}
    return {}


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    found: list[int] = []
    with suppress(OSError):
        for tasks in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (tasks / "children").read_text().split())
    return found


def lives(pid: int) -> bool:
    """Whether a process runs: one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def log_folder(place: Path) -> dict[str, str]:
    """A folder for logs of workers, as a change of the environment."""
    (place / "logs").mkdir(exist_ok=True)
    return {watched.FOLDER: str(place / "logs")}


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
