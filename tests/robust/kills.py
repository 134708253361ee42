"""Kills commands at random moments and looks at what is left: `python -m tests.robust.kills --seed 0 -o kills.md`.

After each kill an output is absent, the old one, or byte for byte that of a run that was left alone. SIGTERM leaves no
temporary file; what SIGKILL leaves is gone after the next run, whose outputs are whole. Half of the kills wait until
the command has begun to write. Most children are forks of a process that has imported what it needs; one in five is
a fresh one, with its start-up. Those of the row `kernels` share a folder of compiled code, whose files are damaged
before each. The moments depend on the seed, what they meet depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.robust.killed import ROOT, ROWS, Row

SIGNALS = ("SIGKILL", "SIGTERM")
FRESH_EVERY = 5  # kills
OLD = b"what an earlier run wrote\n"
AT_ONCE = 10  # kills between two lines of progress
PATIENCE_S = 300.0  # a child that is neither done nor dead by then hangs


@dataclass
class Outcome:
    """What one kill met. faults: empty where all is as it should be."""

    row: str
    signal: str
    number: int
    killed: bool
    states: dict[str, int] = field(default_factory=dict)  # outputs: absent, old, complete, growing
    leftovers: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """A run that was left alone: digests of its files, seconds in all and until it first wrote, forked and fresh."""

    files: dict[str, str]
    seconds: dict[bool, float]
    first_write: dict[bool, float]


def parts(folder: Path) -> list[str]:
    """The temporary files under a folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".h2sim-*")]


def fresh(name: str, again: bool, folder: Path) -> int:
    """Starts a row's command in a new interpreter; returns its process number."""
    code = f"from tests.robust.kills import call; call({name!r}, {again})"
    changes = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "simulator")])}
    if ROWS[name].cold:
        changes["NUMBA_CACHE_DIR"] = str(folder.parent / "cache")
    with (folder.parent / f"{folder.name}.err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code], cwd=folder, stdout=err, stderr=err, stdin=subprocess.DEVNULL,
            env={**os.environ, **changes},
        )  # fmt: skip
    process.returncode = 0  # waited for here, not by its destructor
    return process.pid


def damage(cache: Path, rng: random.Random) -> None:
    """Cuts, empties, flips a bit of, swaps or deletes some files of compiled kernels."""
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    for path in files:
        with suppress(OSError):  # the run beside this one may have replaced it
            blob = bytearray(path.read_bytes())
            match rng.randrange(12):
                case 0:
                    path.write_bytes(blob[: rng.randrange(len(blob) + 1)])
                case 1:
                    path.write_bytes(b"")
                case 2 if blob:
                    blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
                    path.write_bytes(blob)
                case 3:
                    path.write_bytes(rng.choice(files).read_bytes())
                case 4:
                    path.unlink()


def forked(name: str, again: bool, folder: Path) -> int:
    """Starts a row's command in a fork of this process; returns its process number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        err = os.open(folder.parent / f"{folder.name}.err", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(err, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(folder)
        status = _status(lambda: call(name, again))
    finally:
        os._exit(status)


def call(name: str, again: bool) -> None:
    """Runs a row's command here."""
    row = ROWS[name]
    (row.again if again and row.again else row.call)()


def _status(run: Callable[[], None]) -> int:
    try:
        run()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def warm_up() -> None:
    """Imports what the commands need, so that forks begin at once. Starts no thread."""
    import warnings

    warnings.simplefilter("ignore")
    import h2sim.cli
    import h2sim.facade
    import h2sim.gpu.importing
    import h2sim.report.plots
    import h2sim.reproduce.report

    try:
        import h2sim.export.capture
        import h2sim.train.trainer  # noqa: F401
        import tests.helpers.models  # noqa: F401
    except ImportError:
        pass


def wait(pid: int, until: float | None = None) -> int | None:
    """The status with which a child ended (negative: by that signal), or None where it still runs at `until`."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG if until is not None else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            return None
        time.sleep(0.0005)


def wait_for_a_write(pid: int, folder: Path, until: float) -> int | None:
    """Waits until a child has begun an output; its status where it ended before."""
    while time.monotonic() < until:
        if parts(folder):
            return None
        if (status := wait(pid, 0.0)) is not None:
            return status
    return None


def digests(folder: Path, inputs: set[str]) -> dict[str, str]:
    """A digest of what each file says, inputs and temporary files aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in inputs and not path.name.startswith(".h2sim-"):
            found[name] = sha256(said(path)).hexdigest()
    return found


def said(path: Path) -> bytes:
    """A file's bytes; of a training run's log and checkpoint all but how long it took."""
    if path.name == "log.csv":
        return b"\n".join(line.rpartition(b",")[0] for line in path.read_bytes().splitlines())
    if path.name == "checkpoint.pt":
        import torch

        state = torch.load(path, weights_only=True)
        return _plain({**state, "log": [{**row, "seconds": 0} for row in state["log"]]}).encode()
    return path.read_bytes()


def _plain(value: object) -> str:
    """All that a checkpoint holds, bit for bit; its file also says which values were one object in that process."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_plain(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if hasattr(value, "numpy"):
        array = value.contiguous().numpy()
        return f"{array.dtype}{array.shape}{array.tobytes().hex()}"
    return repr(value)


def names(folder: Path) -> set[str]:
    """The files under a folder, by their names from it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def prepared(row: Row, folder: Path) -> set[str]:
    """Makes a row's folder; returns the names of its inputs that stay as they are."""
    folder.mkdir()
    row.prepare(folder)
    return {name for name in names(folder) if not (row.goes_on and name.startswith(f"{row.goes_on}/"))}


def left_alone(name: str, place: Path) -> Reference:
    """Runs a row to its end, forked and fresh, twice each. Raises ValueError where two runs do not end alike."""
    row, seconds, first, found = ROWS[name], {}, {}, []
    for number, is_fresh in enumerate((True, True) if row.cold else (False, True, False)):
        folder = place / f"alone-{number}"
        inputs = prepared(row, folder)
        began = time.monotonic()
        pid = (fresh if is_fresh else forked)(name, False, folder)
        status = wait_for_a_write(pid, folder, began + PATIENCE_S)
        first[is_fresh] = time.monotonic() - began
        status = wait(pid, began + PATIENCE_S) if status is None else status
        seconds[is_fresh] = time.monotonic() - began
        if status != 0:
            raise ValueError(f"{name}: expected status 0; got {status}: {_errors(folder)[-500:]}")
        found.append(digests(folder, inputs))
    if any(other != found[0] for other in found):
        raise ValueError(f"{name}: expected the same bytes of every run; got {found}")
    return Reference(found[0], seconds, first)


def _errors(folder: Path) -> str:
    said = folder.parent / f"{folder.name}.err"
    return said.read_text(errors="replace") if said.exists() else ""  # killed before it could make one


def kill_once(name: str, by: str, number: int, seed: int, reference: Reference, place: Path) -> Outcome:
    """One kill and, where it left something or the row can go on, the next run in the same folder."""
    row, rng = ROWS[name], random.Random(f"{seed} {name} {by} {number}")
    folder = place / f"{by}-{number}"
    inputs = prepared(row, folder)
    old = row.keeps_old and rng.random() < 0.5
    for file in reference.files if old else ():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(OLD)
    before = digests(folder, inputs)
    status = _killed(name, by, number, folder, rng, reference)
    outcome = Outcome(name, by, number, status not in (0, None))
    _look(outcome, row, folder, inputs, before, reference, status)
    if outcome.leftovers or row.again or row.cold or number % FRESH_EVERY == 1:
        _go_on(outcome, row, folder, inputs, reference)
    if not outcome.faults:
        shutil.rmtree(folder)
        Path(f"{folder}.err").unlink(missing_ok=True)
    return outcome


def _killed(name: str, by: str, number: int, folder: Path, rng: random.Random, reference: Reference) -> int | None:
    """Starts the command and kills it at a random moment; its status."""
    is_fresh = number % FRESH_EVERY == 0 or ROWS[name].cold
    if ROWS[name].cold:
        damage(folder.parent / "cache", rng)
    began = time.monotonic()
    pid = (fresh if is_fresh else forked)(name, False, folder)
    writing = reference.seconds[is_fresh] - reference.first_write[is_fresh]
    status = None
    if number % 2:
        status = wait_for_a_write(pid, folder, began + PATIENCE_S)
        moment = time.monotonic() + 1.05 * writing * rng.random() ** 2
    else:
        moment = began + 1.05 * reference.seconds[is_fresh] * rng.random()
    if status is None:
        status = wait(pid, moment)
    if status is None:
        os.kill(pid, getattr(signal, by))
        status = wait(pid, time.monotonic() + PATIENCE_S)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            wait(pid)
    return status


def _look(
    outcome: Outcome,
    row: Row,
    folder: Path,
    inputs: set[str],
    before: dict[str, str],
    reference: Reference,
    status: int | None,
) -> None:
    """Notes the state of each output and what is wrong. before: digests of what stood there."""
    number = getattr(signal, outcome.signal)
    if status not in (0, -number, 128 + number):
        outcome.faults.append(f"status {status}: {_errors(folder)[-500:]}")
    if "Traceback" in _errors(folder):
        outcome.faults.append(f"a traceback: {_errors(folder)[-500:]}")
    outcome.states = dict(Counter(_states(outcome, row, folder, inputs, before, reference)))
    left = parts(folder)
    outcome.leftovers = len(left)
    if left and outcome.signal != "SIGKILL":
        outcome.faults.append(f"left {left}")


def _states(
    outcome: Outcome, row: Row, folder: Path, inputs: set[str], before: dict[str, str], reference: Reference
) -> Iterator[str]:
    try:
        found = digests(folder, inputs)
    except Exception as error:  # torch raises whatever zip and pickle raise
        outcome.faults.append(f"a file that cannot be read: {error}")
        return
    for name in {**reference.files, **found}:
        if name not in found:
            yield "absent"
        elif found[name] == reference.files.get(name):
            yield "complete"
        elif found[name] == before.get(name):
            yield "old"
        elif name in row.growing:
            yield "growing"
        else:
            outcome.faults.append(f"{name} is neither the old nor the new one")


def _go_on(outcome: Outcome, row: Row, folder: Path, inputs: set[str], reference: Reference) -> None:
    """The next run: it ends as one that was left alone, and sweeps up."""
    begun = (folder / "run" / "run.json").exists()
    status = wait((fresh if row.cold else forked)(outcome.row, begun, folder), time.monotonic() + PATIENCE_S)
    if status != 0:
        outcome.faults.append(f"the next run: status {status}: {_errors(folder)[-500:]}")
    elif (found := digests(folder, inputs)) != reference.files:
        other = sorted(name for name, _ in found.items() ^ reference.files.items())
        outcome.faults.append(f"the next run's outputs differ from those of a run that was left alone: {other}")
    if left := parts(folder):
        outcome.faults.append(f"the next run left {left}")


def slice_of(name: str, by: str, numbers: list[int], seed: int, reference: Reference, place: str) -> list[Outcome]:
    """Several kills in one worker process."""
    warm_up()
    return [kill_once(name, by, number, seed, reference, Path(place)) for number in numbers]


def reference_of(name: str, place: str) -> Reference:
    """`left_alone` in a worker process."""
    warm_up()
    return left_alone(name, Path(place))


def campaign(
    rows: list[str],
    kills: int,
    seed: int,
    place: Path,
    jobs: int = 2,
    before: list[Outcome] | None = None,
    keep: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """`kills` kills of each row with each signal, `jobs` side by side; progress goes to standard error.

    before: outcomes of a campaign that was broken off, which are not made again. keep: is given all that there are
    after every few kills.
    """
    outcomes = list(before or [])
    done = {(outcome.row, outcome.signal, outcome.number) for outcome in outcomes}
    with ProcessPoolExecutor(jobs) as pool:
        for name in rows:
            todo = {by: [n for n in range(kills) if (name, by, n) not in done] for by in SIGNALS}
            if not any(todo.values()):
                continue
            folder = place / name.replace(" ", "-")
            folder.mkdir()
            reference = pool.submit(reference_of, name, str(folder)).result()
            tasks = [
                pool.submit(slice_of, name, by, todo[by][n : n + AT_ONCE], seed, reference, str(folder))
                for n in range(0, kills, AT_ONCE) for by in SIGNALS
            ]  # fmt: skip
            for task in tasks:
                outcomes += task.result()
                keep(outcomes)
                bad = sum(bool(outcome.faults) for outcome in outcomes)
                print(f"{name}: {len(outcomes)} kills so far, {bad} with faults", file=sys.stderr, flush=True)
    return outcomes


HEAD = """# Commands killed at random moments

`{command}`: {kills} kills, {bad} with a fault.

After each kill every output is absent, the one of before, or byte for byte that of a run that was left alone. SIGTERM
leaves no temporary file. What SIGKILL leaves is gone after the next run, whose outputs are those of a run that was left
alone; a training run goes on with `--resume`. Half of the kills wait until the command has begun to write. *Growing*:
checkpoint and log of a training run between two epochs. *Left*: kills that left a temporary file.

| command | signal | kills | ended before | absent | old | complete | growing | left | faults |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""


def record(outcomes: list[Outcome], kills: int, seed: int) -> str:
    """The campaign as Markdown."""
    command = f"python -m tests.robust.kills --seed {seed} --kills {kills} -o reports/robust/kills.md"
    bad = sum(bool(outcome.faults) for outcome in outcomes)
    lines = HEAD.format(command=command, kills=len(outcomes), bad=bad).splitlines()
    for name in dict.fromkeys(outcome.row for outcome in outcomes):
        for by in SIGNALS:
            mine = [o for o in outcomes if (o.row, o.signal) == (name, by)]
            states = sum((Counter(o.states) for o in mine), Counter[str]())
            counts = [len(mine), sum(not o.killed for o in mine)]
            counts += [states[state] for state in ("absent", "old", "complete", "growing")]
            counts += [sum(bool(o.leftovers) for o in mine), sum(bool(o.faults) for o in mine)]
            lines.append(f"| {name} | {by} | {' | '.join(map(str, counts))} |")
    for outcome in outcomes:
        lines += [f"* {outcome.row}, {outcome.signal}, {outcome.number}: {fault!r}" for fault in outcome.faults]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=100, help="of each command with each signal")
    parser.add_argument("--rows", default=",".join(ROWS), help="commands, with commas between")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="a .md file; beside it a .json file of every kill, from which a broken-off campaign goes on",
    )
    arguments = parser.parse_args()
    output: Path | None = arguments.output
    before = []
    if output and output.with_suffix(".json").exists():
        before = [Outcome(**fields) for fields in json.loads(output.with_suffix(".json").read_text())]

    def keep(outcomes: list[Outcome]) -> None:
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(record(outcomes, arguments.kills, arguments.seed))
            lines = ",\n".join(json.dumps(asdict(outcome)) for outcome in outcomes)
            output.with_suffix(".json").write_text(f"[\n{lines}\n]\n")

    with tempfile.TemporaryDirectory() as place:
        rows = arguments.rows.split(",")
        found = campaign(rows, arguments.kills, arguments.seed, Path(place), arguments.jobs, before, keep)
    print(record(found, arguments.kills, arguments.seed))
    sys.exit(any(outcome.faults for outcome in found))


if __name__ == "__main__":
    main()
