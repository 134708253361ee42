"""Workers that are looked at: a local one (`python -m tests.sweeps.watched`), or Dask's (`--preload` this file).

They write down what they simulate, may take their time over it, and may die over a point, as the environment says:
H2SIM_WATCHED a folder for logs, H2SIM_NAP seconds before each task, H2SIM_POISON fields, as JSON, of the tasks that
kill.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h2sim.sweeps.session import Found, Session, Task

FOLDER, NAP, POISON = "H2SIM_WATCHED", "H2SIM_NAP", "H2SIM_POISON"


def watch() -> None:
    """Has this process's sessions looked at."""
    from h2sim.sweeps.session import Session

    plain = Session.run

    def run(self: Session, task: Task, **options: Any) -> list[Found]:
        log(f"begun {task.ids[0]}")
        time.sleep(float(os.environ.get(NAP, "0")))
        poison = json.loads(os.environ.get(POISON, "{}"))
        if poison and poison.items() <= task.arch.items():
            os.kill(os.getpid(), signal.SIGKILL)
        found = plain(self, task, **options)
        log(f"done {task.ids[0]}")
        return found

    Session.run = run  # type: ignore[method-assign]


def log(line: str) -> None:
    """Adds a line to this process's log; what is written is there though the process be killed."""
    if folder := os.environ.get(FOLDER):
        with open(Path(folder) / f"{os.getpid()}.log", "a") as file:
            file.write(f"{line}\n")


def logged(folder: Path, what: str) -> Counter[str]:
    """How often each design was begun, or done, by all workers that logged there."""
    found: Counter[str] = Counter()
    for file in folder.glob("*.log"):
        lines = (line.split() for line in file.read_text().splitlines())
        found.update(line[1] for line in lines if len(line) == 2 and line[0] == what)
    return found


def dask_setup(worker: Any) -> None:
    """What Dask calls in a worker that preloads this."""
    watch()


def main() -> None:
    """As the plain worker's, which imports next to nothing before it listens; nor does this."""
    from h2sim.sweeps import worker

    plain = worker.run_batch

    def run_batch(session: Session, tasks: tuple[Task, ...]) -> list[Any]:
        worker.run_batch = plain  # type: ignore[assignment]
        watch()
        return plain(session, tasks)

    worker.run_batch = run_batch
    worker.main()


if __name__ == "__main__":
    main()
