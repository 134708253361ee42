"""Fuzzing at length: processes try mutants of every kind of file, and the counts become a record.

    python -m tests.fuzz.campaign --seed 0 --inputs 100000 -o reports/robust/fuzz.md

A campaign that was stopped goes on where it was: what it tried stands in a file beside the record, until it is done.
A mutant is made from the seed, its kind and its number alone, so that the same command finds the same again:

    python -m tests.fuzz.campaign --seed 0 --kind "energy table" --only 1234
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from h2sim._version import __version__
from tests.fuzz.kinds import KINDS
from tests.fuzz.trial import COMMAND_EVERY, MOST_SECONDS, OUTCOMES, Bench, Found, attempt, limit_memory, mutant

BLOCK = 50  # inputs that a worker takes at a time
SILENT_SECONDS = 60 * MOST_SECONDS  # of a worker, after which it is ended: the limit is of processor time
FAULTS = OUTCOMES[2:]
PACKAGES = ("numpy", "numba", "pydantic", "PyYAML", "torch", "h5py", "nir", "pillow", "aedat")
THREADS = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of a worker: inputs are tiny
Block = tuple[str, int, int]  # kind, first number, end


@dataclass
class Tally:
    """Counts by kind and outcome. faults: (kind, number, what was found); done: what was tried, a line in journal."""

    journal: TextIO | None = None
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in KINDS})
    faults: list[tuple[str, int, Found]] = field(default_factory=list)
    done: set[tuple[str, int]] = field(default_factory=set)

    def add(self, kind: str, number: int, found: Found) -> None:
        """Counts one input."""
        self.counts[kind][found.outcome] += 1
        self.done.add((kind, number))
        if found.outcome in FAULTS:
            self.faults.append((kind, number, found))
            print(f"--- {kind} {number}: {found.outcome}\n{found.detail}", file=sys.stderr, flush=True)
        if self.journal:
            print(json.dumps([kind, number, found.outcome, found.detail]), file=self.journal, flush=True)


@contextmanager
def kept(output: Path | None) -> Iterator[Tally]:
    """A tally that goes on from the journal of a campaign that was stopped. The journal goes when the block is done."""
    if output is None:
        yield Tally()
        return
    path = output.with_name(f"{output.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    tally = Tally()
    for kind, number, outcome, detail in (json.loads(line) for line in lines if line.endswith("\n")):
        tally.add(kind, number, Found(outcome, detail))
    with path.open("w", encoding="utf-8") as journal:
        journal.writelines(line for line in lines if line.endswith("\n"))
        tally.journal = journal
        yield tally
    path.unlink()


def shares(inputs: int) -> dict[str, int]:
    """How many inputs of each kind: in proportion to the shares, no fewer than asked for in all."""
    whole = sum(kind.share for kind in KINDS.values())
    return {name: -int(-inputs * kind.share // whole) for name, kind in KINDS.items()}


def blocks(numbers: dict[str, int], done: Set[tuple[str, int]] = frozenset()) -> list[Block]:
    """What is left of the campaign's work in blocks, the kinds interleaved."""
    found = []
    for kind, n in numbers.items():
        for start in range(0, n, BLOCK):
            left = [number for number in range(start, min(n, start + BLOCK)) if (kind, number) not in done]
            if left:
                found.append((start / n, kind, left[0], left[-1] + 1))
    return [(kind, start, end) for _, kind, start, end in sorted(found)]


def work(pipe: Any, seed: int) -> None:
    """A worker: takes blocks from the pipe and answers with each input's outcome."""
    limit_memory()
    with tempfile.TemporaryDirectory(prefix="h2sim-fuzz-") as folder:
        benches = {name: Bench(Path(folder) / str(place)) for place, name in enumerate(KINDS)}
        for kind, start, end in iter(pipe.recv, None):
            for number in range(start, end):
                found = attempt(KINDS[kind], seed, number, benches[kind])
                pipe.send((number, found if found.outcome in FAULTS else Found(found.outcome)))


class Worker:
    """A process, the block that it works on, and the input that it is at."""

    def __init__(self, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, seed), daemon=True)
        self.process.start()
        theirs.close()
        self.kind, self.at, self.end, self.heard = "", 0, 0, time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether its block is done."""
        return self.at >= self.end

    def give(self, block: Block) -> None:
        """Starts a block."""
        self.kind, self.at, self.end = block
        self.heard = time.monotonic()
        self.pipe.send(block)

    def hear(self, tally: Tally) -> None:
        """Takes one outcome. Raises EOFError where the process has died."""
        number, found = self.pipe.recv()
        tally.add(self.kind, number, found)
        self.at, self.heard = number + 1, time.monotonic()

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run(tally: Tally, seed: int, numbers: dict[str, int], jobs: int) -> None:
    """Tries so many inputs of each kind. A worker that dies or falls silent is a fault of the input it was at."""
    waiting, began = blocks(numbers, tally.done)[::-1], time.monotonic()
    workers, total = [Worker(seed) for _ in range(jobs)], sum(numbers.values())
    shown = 0.0
    while waiting or not all(worker.idle for worker in workers):
        for worker in workers:
            if worker.idle and waiting:
                worker.give(waiting.pop())
        busy = [worker for worker in workers if not worker.idle]
        ready = multiprocessing.connection.wait([worker.pipe for worker in busy], timeout=5)
        for place, worker in enumerate(workers):
            silent = not worker.idle and time.monotonic() - worker.heard > SILENT_SECONDS
            if worker.pipe not in ready and not silent:
                continue
            try:
                if silent:
                    raise EOFError
                worker.hear(tally)
            except (EOFError, OSError):
                workers[place] = _replaced(worker, seed, silent, tally, waiting)
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            so_far = f"{len(tally.done):,} of {total:,}, {len(tally.faults)} faults"
            print(f"{so_far}, {shown - began:.0f} s", file=sys.stderr, flush=True)
    for worker in workers:
        worker.stop()


def _replaced(worker: Worker, seed: int, silent: bool, tally: Tally, waiting: list[Block]) -> Worker:
    if not silent:
        worker.process.join(10)
    worker.stop()
    why = "no answer" if silent else f"the process died with status {worker.process.exitcode}"
    tally.add(worker.kind, worker.at, Found("hang" if silent else "traceback", why))
    if worker.at + 1 < worker.end:
        waiting.append((worker.kind, worker.at + 1, worker.end))
    return Worker(seed)


def record(tally: Tally, command: str) -> str:
    """The Markdown record: a line a kind, the sums, and the versions. The same command gives the same bytes."""
    columns = ("inputs", *OUTCOMES)
    rows = [(name, [sum(counts.values()), *(counts[o] for o in OUTCOMES)]) for name, counts in tally.counts.items()]
    rows = [(name, numbers) for name, numbers in rows if numbers[0]]
    rows.append(("**all**", [sum(numbers) for numbers in zip(*(numbers for _, numbers in rows), strict=True)]))
    lines = [
        "# Record of fuzzing",
        "",
        "Mutants of every kind of file that h2sim reads, each through the product's own reader. *accepted*: read, and",
        "equal to the plain reference (traces, machines, networks: the stepped engines, row by row). *refused*: clean",
        "lines of an error that names the file. The other columns are faults of the product. Workers have 4 GB of",
        f"address space and {MOST_SECONDS} s of a processor for an input; every {COMMAND_EVERY}th input of a kind goes",
        "through the command line too.",
        "",
        f"| kind of file | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(f"| {name} | {' | '.join(f'{n:,}' for n in numbers)} |" for name, numbers in rows),
        "",
        f"`{command}`",
        "",
        f"h2sim {__version__}, Python {platform.python_version()}, {', '.join(_versions())}",
    ]
    return "\n".join(lines) + "\n"


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _one(kind: str, seed: int, number: int) -> Found:
    """Tries one input here, and shows it."""
    files, name, content = mutant(KINDS[kind], seed, number)
    kept = Path(tempfile.mkdtemp(prefix="h2sim-fuzz-"))
    print(f"{kept / name}: {len(content)} bytes", file=sys.stderr)
    bench = Bench(kept)
    bench.lay(files, name, content)
    limit_memory()
    return attempt(KINDS[kind], seed, number, bench)


def main() -> int:
    """The command; exit status 1 where a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="only the inputs of this kind; repeatable")
    parser.add_argument("--only", type=int, help="only this input of the one kind")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, help="write the record here")
    given = parser.parse_args()
    os.environ.update(THREADS)
    names = given.kind or list(KINDS)
    if given.only is not None:
        found = _one(names[0], given.seed, given.only)
        print(f"{found.outcome}: {found.detail}")
        return int(found.outcome in FAULTS)
    numbers = {name: number for name, number in shares(given.inputs).items() if name in names}
    with kept(given.output) as tally:
        run(tally, given.seed, numbers, given.jobs)
    kinds = shlex.join(word for name in given.kind or () for word in ("--kind", name))
    command = f"python -m tests.fuzz.campaign --seed {given.seed} --inputs {given.inputs} {kinds}".strip()
    text = record(tally, command)
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    return int(bool(tally.faults))


if __name__ == "__main__":
    sys.exit(main())
