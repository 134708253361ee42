"""Kills processes of sweeps at random moments: `python -m tests.robust.sweep_kills --runs 50 -o sweep-kills.json`.

The coordinator, a worker of this machine, a worker of a Dask cluster, its scheduler: `runs` kills each, by SIGKILL.
After each the sweep is run again where it ended; then its folder holds what that of an undisturbed sweep does, every
point once, nothing that was written had been simulated again, and no process is left. The moments depend on the seed,
what they meet depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.traces import tiny_trace
from tests.robust.kills import wait
from tests.sweeps import running, watched
from tests.sweeps.clusters import Cluster
from tests.sweeps.running import children, lives, points

WHAT = ("coordinator", "local worker", "dask worker", "dask scheduler")
DESIGNS = 40
NAP_S = 0.05  # before each task, so that there is a middle
PATIENCE_S = 900.0  # the first sweep may compile all kernels
GONE_S = 2.0  # within which workers are to follow their coordinator


@dataclass
class Outcome:
    """What one kill met. written: points in the folder when it came; twice: simulated twice; gone_s: until the
    workers of a killed coordinator had ended; faults: empty where all is as it should be."""

    what: str
    number: int
    killed: bool = False
    written: int = 0
    twice: int = 0
    gone_s: float | None = None
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """A sweep that was left alone: its points, its table, and how long it takes, of local workers (False) and of a
    cluster (True): in all, and from its first point on."""

    points: dict[str, tuple[str, str]]
    table: str
    seconds: dict[bool, float]
    writing: dict[bool, float]


def begin(written: dict[str, Any], folder: Path, logs: Path, dask: str | None = None) -> int:
    """Starts a sweep in a fork of this process; returns its number. What it says goes to a file beside its folder."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        err = os.open(f"{folder}.err", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(err, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        changes = {watched.FOLDER: str(logs), watched.NAP: str(NAP_S)}
        os.environ.update(running.environment(**changes))
        sys.argv = ["sweep", json.dumps(written), str(folder), *(["--dask", dask] if dask else [])]
        try:
            running.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


def said(folder: Path) -> str:
    """What a sweep said on standard error."""
    return Path(f"{folder}.err").read_text(errors="replace")


def table(folder: Path) -> str:
    """The rows of a folder, as CSV."""
    from h2sim.sweeps.frame import frame_of
    from h2sim.sweeps.run import load_sweep

    plan, store = load_sweep(folder)
    with store:
        return str(frame_of(plan, store).to_csv(index=False))


def left(logs: Path) -> list[int]:
    """Processes that were told to log there and that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if f"{watched.FOLDER}={logs}\0".encode() in (entry / "environ").read_bytes() and lives(int(entry.name)):
                    found.append(int(entry.name))
    return found


def first_point(pid: int, folder: Path) -> int | None:
    """Waits until a sweep has written a point; its status where it ended before."""
    status = None
    while status is None and not points(folder):
        status = wait(pid, time.monotonic() + 0.01)
    return status


class Campaign:
    """Kills in a folder. `place` is emptied by whoever made it."""

    def __init__(self, place: Path, seed: int) -> None:
        self._place, self._seed = place, seed
        self._written = {**running.spec(DESIGNS), "traces": [str(tiny_trace(place))]}
        self._cluster: Cluster | None = None
        self._clusters = 0
        self._reference: Reference | None = None

    def close(self) -> None:
        """Ends the cluster, if any."""
        if self._cluster:
            self._cluster.close()
        self._cluster = None

    def cluster(self) -> Cluster:
        """The cluster that is there; a new one where none is."""
        if self._cluster is None:
            self._clusters += 1
            place = self._place / f"cluster-{self._clusters}"
            (place / "logs").mkdir(parents=True)
            self._cluster = Cluster(place, 2, **{watched.FOLDER: str(place / "logs"), watched.NAP: str(NAP_S)})
        return self._cluster

    def _logs(self, folder: Path, on_cluster: bool) -> Path:
        """Where workers log: each kill has a folder of its own, or an empty one of the cluster's."""
        logs = self.cluster().place / "logs" if on_cluster else Path(f"{folder}.logs")
        logs.mkdir(exist_ok=True)
        for file in logs.iterdir():
            file.unlink()
        return logs

    def reference(self) -> Reference:
        """Sweeps that are left alone, the second of each kind timed. Raises ValueError where they differ."""
        if self._reference is None:
            seconds, writing, found = {}, {}, []
            for number, on_cluster in enumerate((False, False, True, True)):
                folder = self._place / f"alone-{number}"
                dask = self.cluster().address if on_cluster else None
                began = time.monotonic()
                pid = begin(self._written, folder, self._logs(folder, on_cluster), dask)
                status = first_point(pid, folder)
                writing[on_cluster] = -time.monotonic()
                status = wait(pid, began + PATIENCE_S) if status is None else status
                writing[on_cluster] += time.monotonic()
                seconds[on_cluster] = time.monotonic() - began
                if status != 0:
                    raise ValueError(f"expected status 0; got {status}: {said(folder)}")
                found.append((points(folder), table(folder)))
            if any(other != found[0] for other in found) or len(found[0][0]) != DESIGNS:
                raise ValueError("expected the same points of every sweep that is left alone")
            self._reference = Reference(*found[0], seconds, writing)
        return self._reference

    def kill_once(self, what: str, number: int) -> Outcome:
        """One kill, and the sweep run to its end."""
        outcome, rng = Outcome(what, number), random.Random(f"{self._seed} {what} {number}")
        on_cluster = what.startswith("dask")
        reference = self.reference()
        folder = self._place / f"{what.replace(' ', '-')}-{number}"
        logs = self._logs(folder, on_cluster)
        began = time.monotonic()
        pid = begin(self._written, folder, logs, self.cluster().address if on_cluster else None)
        status = first_point(pid, folder) if number % 2 else None
        span = reference.writing if number % 2 else reference.seconds
        moment = (time.monotonic() if number % 2 else began) + span[on_cluster] * rng.random()
        status = wait(pid, moment) if status is None else status
        outcome.killed = status is None
        outcome.written = len(points(folder))
        if status is None:
            kills: dict[str, Callable[[Outcome, int, Path, Path, random.Random], int | None]] = {
                "coordinator": self._coordinator, "local worker": self._worker, "dask worker": self._dask_worker,
                "dask scheduler": self._scheduler,
            }  # fmt: skip
            status = kills[what](outcome, pid, folder, logs, rng)
        if status not in (0, None):
            outcome.faults.append(f"status {status}: {said(folder)[-500:]}")
        self._look(outcome, folder)
        orphans = [] if on_cluster else left(logs)
        if orphans:
            outcome.faults.append(f"processes left: {orphans}")
        return outcome

    def _coordinator(self, outcome: Outcome, pid: int, folder: Path, logs: Path, rng: random.Random) -> int | None:
        workers = children(pid)
        os.kill(pid, signal.SIGKILL)
        wait(pid)
        began = time.monotonic()
        while any(map(lives, workers)) and time.monotonic() < began + PATIENCE_S:
            time.sleep(0.005)
        outcome.gone_s = round(time.monotonic() - began, 3)
        if outcome.gone_s > GONE_S:
            outcome.faults.append(f"workers gone after {outcome.gone_s} s")
        return self._again(outcome, folder, logs, None)

    def _worker(self, outcome: Outcome, pid: int, folder: Path, logs: Path, rng: random.Random) -> int | None:
        victim = rng.choice(children(pid) or [0])
        if victim:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        status = wait(pid, time.monotonic() + PATIENCE_S)
        self._count(outcome, logs, victim)
        return status

    def _dask_worker(self, outcome: Outcome, pid: int, folder: Path, logs: Path, rng: random.Random) -> int | None:
        cluster = self.cluster()
        index = rng.randrange(len(cluster.workers))
        victim = cluster.workers[index]
        victim.kill()
        victim.wait()
        cluster.workers[index] = cluster.worker()
        status = wait(pid, time.monotonic() + PATIENCE_S)
        self._count(outcome, logs, victim.pid)
        return status

    def _scheduler(self, outcome: Outcome, pid: int, folder: Path, logs: Path, rng: random.Random) -> int | None:
        cluster = self.cluster()
        cluster.scheduler.kill()
        status = wait(pid, time.monotonic() + PATIENCE_S)
        if status not in (0, 2) or (status == 2 and said(folder).count("\n") != 1):
            outcome.faults.append(f"without its scheduler: status {status}: {said(folder)[-500:]}")
        self.close()
        if left(logs):
            outcome.faults.append(f"processes left: {left(logs)}")
        return self._again(outcome, folder, logs, self.cluster())

    def _again(self, outcome: Outcome, folder: Path, logs: Path, cluster: Cluster | None) -> int | None:
        """Runs a sweep again that ended; nothing that was written is simulated again."""
        written, done = set(points(folder)), watched.logged(logs, "done")
        for file in logs.iterdir():
            file.unlink()
        anew = cluster.place / "logs" if cluster else logs
        status = wait(begin(self._written, folder, anew, cluster.address if cluster else None))
        again = set(watched.logged(anew, "begun"))
        outcome.twice = len(again & set(done))
        if len(again) != DESIGNS - len(written):
            outcome.faults.append(f"{len(written)} of {DESIGNS} points were written, and {len(again)} simulated then")
        return status

    def _count(self, outcome: Outcome, logs: Path, victim: int) -> None:
        """Of a sweep that went on: what was begun twice had been begun by the worker that was killed."""
        log = logs / f"{victim}.log"
        lines = log.read_text().split() if log.exists() else []
        done = watched.logged(logs, "done")
        outcome.twice = sum(count - 1 for count in done.values())
        begun = {design for design, count in watched.logged(logs, "begun").items() if count > 1}
        if not begun <= set(lines):
            outcome.faults.append(f"{len(begun - set(lines))} points were simulated twice that no dead worker had")

    def _look(self, outcome: Outcome, folder: Path) -> None:
        """What the folder holds in the end."""
        reference = self.reference()
        if points(folder) != reference.points:
            outcome.faults.append(f"{len(points(folder))} points, other than those of a sweep that was left alone")
        elif table(folder) != reference.table:
            outcome.faults.append("another table than that of a sweep that was left alone")


HEAD = """# Sweeps whose processes are killed at random moments

`{command}`: {kills} kills, {bad} with a fault.

Each is a sweep of {designs} machines on 2 workers, one of whose processes gets SIGKILL at a random moment, and which is
run to its end: by itself where a worker was killed, by the same command where it was the coordinator or the scheduler.
Half of the kills wait for the first point. In the end the folder holds the points and the table of a sweep that was
left alone, every point once; nothing that had been written is simulated again; no process is left. *Ended before*: the
sweep was faster than the kill. *Written*: points in the folder at the kill, the median. *Twice*: points that had been
simulated but not written, and were simulated again, the most of one kill and the mean. *Gone*: seconds until the
workers of a killed coordinator had ended, the longest.

| killed | kills | ended before | written | twice, most | twice, mean | gone (s) | faults |
|---|--:|--:|--:|--:|--:|--:|--:|
"""


def record(outcomes: list[Outcome], runs: int, seed: int) -> str:
    """The campaign as Markdown."""
    command = f"python -m tests.robust.sweep_kills --seed {seed} --runs {runs} -o reports/robust/sweep-kills.json"
    bad = sum(bool(outcome.faults) for outcome in outcomes)
    lines = HEAD.format(command=command, kills=len(outcomes), bad=bad, designs=DESIGNS).splitlines()
    for what in WHAT:
        mine = [outcome for outcome in outcomes if outcome.what == what]
        if not mine:
            continue
        written = sorted(outcome.written for outcome in mine)[len(mine) // 2]
        gone = [outcome.gone_s for outcome in mine if outcome.gone_s is not None]
        cells = [what, len(mine), sum(not o.killed for o in mine), written, max(o.twice for o in mine)]
        cells += [f"{sum(o.twice for o in mine) / len(mine):.1f}", f"{max(gone):.2f}" if gone else "-"]
        cells.append(sum(bool(o.faults) for o in mine))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for outcome in outcomes:
        lines += [f"* {outcome.what}, {outcome.number}: {fault!r}" for fault in outcome.faults]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=50, help="kills of each kind")
    parser.add_argument("--what", default=",".join(WHAT), help="what is killed, with commas between")
    parser.add_argument(
        "-o", "--output", type=Path,
        help="a .json file of every kill, from which a broken-off campaign goes on, and beside it a .md file",
    )  # fmt: skip
    arguments = parser.parse_args()
    output: Path | None = arguments.output
    outcomes = []
    if output and output.exists():
        outcomes = [Outcome(**fields) for fields in json.loads(output.read_text())]
    done = {(outcome.what, outcome.number) for outcome in outcomes}
    import distributed  # noqa: F401

    import h2sim.sweeps.run  # noqa: F401

    with tempfile.TemporaryDirectory() as place:
        campaign = Campaign(Path(place), arguments.seed)
        try:
            for number in range(arguments.runs):
                for what in arguments.what.split(","):
                    if (what, number) in done:
                        continue
                    outcomes.append(campaign.kill_once(what, number))
                    if output:
                        lines = ",\n".join(json.dumps(asdict(outcome)) for outcome in outcomes)
                        output.write_text(f"[\n{lines}\n]\n")
                        output.with_suffix(".md").write_text(record(outcomes, arguments.runs, arguments.seed))
                print(f"{len(outcomes)} kills, {sum(bool(o.faults) for o in outcomes)} with faults", file=sys.stderr)
        finally:
            campaign.close()
    print(record(outcomes, arguments.runs, arguments.seed))
    sys.exit(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    main()
