"""One mutant tried: accepted, refused in clean lines, or a fault of the product."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.errors import MOST_IN_LINE, H2SimError
from tests.fuzz.kind import Files, Kind, Wrong
from tests.fuzz.mutate import Rng, pick

Outcome = Literal["accepted", "refused", "traceback", "wrong answer", "hang", "above 4 GB"]
OUTCOMES: tuple[Outcome, ...] = ("accepted", "refused", "traceback", "wrong answer", "hang", "above 4 GB")
MOST_BYTES = 4 << 30  # of a worker's address space
MOST_SECONDS = 20  # of a processor's time, for one input
COMMAND_EVERY, PROCESS_EVERY = 100, 5000  # inputs of which the command line is tried, within the process and in its own
MOST_LINES = 101
_NO_MEMORY = ("MemoryError", "in memory", "out of memory", "llocate", "too large an array")


class _TooLong(BaseException):
    """The time of one input is over. No handler of ordinary errors catches it."""


@dataclass(frozen=True)
class Found:
    """What became of one input, and what went wrong where it did."""

    outcome: Outcome
    detail: str = ""


@dataclass
class Bench:
    """A folder in which inputs are laid out; what stands in it is kept from one input of a kind to the next."""

    folder: Path
    base: Files | None = None
    dirty: set[str] = field(default_factory=set)

    def lay(self, files: Files, changed: str, content: bytes) -> None:
        """Puts the files there, one of them changed."""
        if self.base is not files:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            for name, data in files.items():
                (self.folder / name).write_bytes(data)
            self.base, self.dirty = files, set()
        for name in self.dirty:
            (self.folder / name).write_bytes(files[name])
        (self.folder / changed).write_bytes(content)
        self.dirty = {changed}


def mutant(kind: Kind, seed: int, number: int) -> tuple[Files, str, bytes]:
    """Input `number` of a kind: the folder's files, the name of the one that is changed, and what it becomes."""
    rng: Rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
    files = pick(rng, kind.bases())
    name = pick(rng, sorted(kind.changed or files))
    content = files[name]
    while content == files[name]:
        content = kind.change(rng, name, content)
    return files, name, content


def attempt(kind: Kind, seed: int, number: int, bench: Bench) -> Found:
    """Tries one input through the readers, and every so often through the command line too."""
    bench.lay(*mutant(kind, seed, number))
    found = _timed(lambda: _read(kind, bench.folder))
    if found.outcome in ("accepted", "refused") and kind.argv:
        argv = list(kind.argv(bench.folder))
        if number % PROCESS_EVERY == 0:
            return _worse(found, _timed(lambda: _process(argv)))
        if number % COMMAND_EVERY == 0:
            return _worse(found, _timed(lambda: _command(argv)))
    return found


def _worse(first: Found, second: Found) -> Found:
    return first if second.outcome in ("accepted", "refused") else second


def _read(kind: Kind, folder: Path) -> Found:
    try:
        kind.read(folder)
    except H2SimError as error:
        return _refusal(error.lines, str(folder) if kind.names_file else "")
    except Wrong as error:
        return Found("wrong answer", str(error))
    return Found("accepted")


def _refusal(lines: tuple[str, ...], where: str) -> Found:
    """A refusal is one line a fault: printable, of a length that can be read, and it names the file."""
    text = "\n".join(lines)
    if any(word in text for word in _NO_MEMORY):
        return Found("above 4 GB", text)
    if not 1 <= len(lines) <= MOST_LINES or not all(line.isprintable() and line.strip() for line in lines):
        return Found("traceback", f"a refusal that is not one line a fault: {lines!r:.500}")
    if max(map(len, lines)) > MOST_IN_LINE + 10 or (where and where not in text):
        return Found("traceback", f"a refusal that is too long, or does not name the file: {lines!r:.500}")
    return Found("refused", text)


def _timed(run: Any) -> Found:
    """The outcome of a call, under the limit of time; whatever else it raises is a fault."""
    with _limit():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found: Found = run()
        except _TooLong:
            found = Found("hang", "")
        except MemoryError:
            found = Found("above 4 GB", traceback.format_exc(limit=-4))
        except (Exception, SystemExit):
            found = Found("traceback", traceback.format_exc(limit=-6))
    return Found("hang", f"more than {MOST_SECONDS} s") if _over else found


_over: list[int] = []


@contextmanager
def _limit() -> Iterator[None]:
    """Raises _TooLong when the input's time is over. Code that swallows it is still found out by `_over`."""

    def end(*_: object) -> None:
        _over.append(1)
        raise _TooLong

    _over.clear()
    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _command(argv: list[str]) -> Found:
    """The command line within this process: status 0, 1 or 2, and no more than clean lines on standard error."""
    done = CliRunner().invoke(main, argv, prog_name="h2sim")
    if isinstance(done.exception, Exception):
        raise done.exception
    return _judge(argv, done.exit_code, done.stderr)


def _process(argv: list[str]) -> Found:
    """The command line as users run it."""
    command = [sys.executable, "-m", "h2sim", *argv]
    done = subprocess.run(command, capture_output=True, timeout=30 * MOST_SECONDS, check=False, env=_environment())
    return _judge(argv, done.returncode, done.stderr.decode("utf-8", "replace"))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _judge(argv: list[str], status: int, said: str) -> Found:
    """A command refuses by status 2 and lines of its own on standard error; else there is no traceback among them."""
    if any(word in said for word in _NO_MEMORY):
        return Found("above 4 GB", said)
    lines = [line for line in said.splitlines() if line]
    clean = all(line.startswith(("h2sim: ", "Usage: ", "Try ", "Error: ")) for line in lines)
    if status not in (0, 1, 2) or "Traceback" in said or (status == 2 and not (clean and lines)):
        return Found("traceback", f"{' '.join(argv)}: status {status}: {said[-1500:]}")
    return Found("refused" if status == 2 else "accepted", said)


def limit_memory() -> None:
    """No more address space than MOST_BYTES from here on: whoever asks for more gets a MemoryError."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
