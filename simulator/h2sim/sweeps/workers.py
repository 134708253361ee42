"""Where batches of tasks run: the interface, and the processes of this machine behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Protocol

from h2sim.errors import SweepError
from h2sim.sweeps.session import Found, Session, Setup, Task
from h2sim.sweeps.worker import receive, run_batch, send

Batch = tuple[Task, ...]
AHEAD = 2  # batches that a worker has: one at work, one that waits
MOST_STILLBORN = 5  # processes in a row that end before they have begun, beside one for each worker
_BEGUN = object()
PACKAGES = Path(__file__).parents[2]
WORKER = [sys.executable, "-P", "-m", "h2sim.sweeps.worker"]


@dataclass(frozen=True)
class Done:
    """What became of a batch: what was found, or None where its worker died over it; begun: or before it."""

    batch: Batch
    found: Sequence[Found] | None
    begun: bool = True


class Workers(Protocol):
    """Something that runs batches. Places are where a batch can be put; each keeps its own counts."""

    def free(self) -> list[int]:
        """The places that can take a batch now."""
        ...

    def submit(self, place: int, batch: Batch) -> None:
        """Has a batch run at a place."""
        ...

    def collect(self, timeout_s: float) -> list[Done]:
        """Batches that ended since the last call; waits up to timeout_s for the first one."""
        ...

    def close(self) -> None:
        """Ends all workers at once."""
        ...


class LocalWorkers:
    """Processes of this machine, each with one thread of numba's. One that dies is replaced."""

    def __init__(self, setup: Setup, count: int) -> None:
        self._setup = setup
        self._events: SimpleQueue[tuple[_Process, Any]] = SimpleQueue()
        self._at: dict[int, _Process] = {}
        self._stillborn = 0
        self._most_stillborn = MOST_STILLBORN + count  # all may be killed at once
        try:
            for place in range(count):
                self._at[place] = _Process(setup, self._events)
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """The process numbers of the workers."""
        return [process.pid for process in self._at.values()]

    def free(self) -> list[int]:
        found = [place for place, process in self._at.items() if len(process.batches) < AHEAD]
        return sorted(found, key=lambda place: len(self._at[place].batches))

    def submit(self, place: int, batch: Batch) -> None:
        self._at[place].submit(batch)

    def collect(self, timeout_s: float) -> list[Done]:
        done: list[Done] = []
        try:
            done += self._ended(*self._events.get(timeout=timeout_s))
            while True:
                done += self._ended(*self._events.get_nowait())
        except Empty:
            return done

    def close(self) -> None:
        for process in self._at.values():
            process.kill()

    def _ended(self, process: _Process, message: Any) -> list[Done]:
        place = next((place for place, other in self._at.items() if other is process), None)
        if place is None:
            return []
        if message is _BEGUN:
            self._stillborn = 0
            process.has_begun = True
            return []
        if message is not None:
            return [Done(process.batches.popleft(), message)]
        self._stillborn += not process.has_begun
        process.kill()
        if self._stillborn > self._most_stillborn:
            raise SweepError(
                f"workers: expected processes that begin; got {self._stillborn} that ended before they did, the last "
                f"with status {process.status}"
            )
        self._at[place] = _Process(self._setup, self._events)
        return [
            Done(batch, None, begun=process.has_begun and number == 0) for number, batch in enumerate(process.batches)
        ]


class _Process:
    """One worker process, and a thread that hands on what it sends; None when it is gone."""

    def __init__(self, setup: Setup, events: SimpleQueue[tuple[_Process, Any]]) -> None:
        self.batches: deque[Batch] = deque()
        self.has_begun = False
        paths = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what a terminal sends to its group is the coordinator's to hear
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self.pid = self._process.pid
        self._send(setup)
        threading.Thread(target=self._listen, args=(self._process.stdout, events), daemon=True).start()

    @property
    def status(self) -> int | None:
        """The status with which it ended; negative: by that signal."""
        return self._process.returncode

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)
        self._send(batch)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # it is gone: its listener says so
            assert self._process.stdin is not None
            send(self._process.stdin, message)

    def _listen(self, stream: IO[bytes], events: SimpleQueue[tuple[_Process, Any]]) -> None:
        try:
            receive(stream)
            events.put((self, _BEGUN))
            while True:
                events.put((self, receive(stream)))
        except Exception:  # the end of the stream, or an answer that has no room or makes no sense
            events.put((self, None))


class InlineWorkers:
    """The plain form: batches run one after the other in this process. `workers=0`."""

    def __init__(self, setup: Setup) -> None:
        self._session = Session(setup)
        self._waiting: deque[Batch] = deque()

    def free(self) -> list[int]:
        return [] if self._waiting else [0]

    def submit(self, place: int, batch: Batch) -> None:
        self._waiting.append(batch)

    def collect(self, timeout_s: float) -> list[Done]:
        if not self._waiting:
            return []
        batch = self._waiting.popleft()
        return [Done(batch, run_batch(self._session, batch))]

    def close(self) -> None:
        self._waiting.clear()
