"""A Dask cluster on this machine: a scheduler and workers, processes that can be killed one by one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.sweeps.running import environment, wait_until

PRELOAD = str(Path(__file__).with_name("watched.py"))


class Cluster:
    """Processes in a folder, with their logs. Workers are looked at: see tests.sweeps.watched."""

    def __init__(self, place: Path, workers: int, **changes: str) -> None:
        self.place, self._changes = place, changes
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"
        )
        self.address = self._listening()
        self.workers = [self.worker() for _ in range(workers)]

    def _listening(self) -> str:
        """The address of the scheduler, once its file says it in full."""
        found: list[str] = []

        def told() -> bool:
            assert self.scheduler.poll() is None, "the scheduler ended"
            with suppress(OSError, ValueError):
                found.append(json.loads(self._file.read_text())["address"])
            return bool(found)

        wait_until(told, what="a scheduler")
        return found[0]

    @property
    def _file(self) -> Path:
        return self.place / "scheduler.json"

    def worker(self, **changes: str) -> subprocess.Popen[bytes]:
        """Starts one more worker."""
        return self._start("dask_worker", "--nthreads", "1", "--no-nanny", "--preload", PRELOAD, **changes)

    def _start(self, module: str, *options: str, **changes: str) -> subprocess.Popen[bytes]:
        with (self.place / f"{module}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{module}", *options, "--scheduler-file",
                 str(self._file)],
                stdout=log, stderr=log, cwd=self.place,
                env=environment(**self._changes, **changes),
            )  # fmt: skip

    def close(self) -> None:
        """Kills all processes."""
        for process in (*self.workers, self.scheduler):
            process.send_signal(signal.SIGKILL)
            process.wait()
