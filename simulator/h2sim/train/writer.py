"""Writes traces in a thread of its own, so that training goes on meanwhile where a core is free."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path


class TraceWriter:
    """Writes one file at a time, in order. A context manager: its block ends when all files are written.

    written(path) is called for each finished file. An error while writing is raised by the next call.
    """

    def __init__(self, written: Callable[[Path], None] = lambda path: None) -> None:
        self.written, self.pool = written, ThreadPoolExecutor(1)
        self.pending: tuple[Future[None], Path] | None = None

    def submit(self, path: Path, write: Callable[[Path], None]) -> None:
        """Starts write(path) in the thread, after the write before it is done."""
        self.wait()
        self.pending = self.pool.submit(write, path), path

    def wait(self) -> None:
        """Waits until nothing is left to write."""
        if self.pending:
            (future, path), self.pending = self.pending, None
            future.result()
            self.written(path)

    def __enter__(self) -> TraceWriter:
        # a signal amid the start of the pool's thread leaves one that its shutdown does not wait for: let none write
        self.pool.submit(int).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self.pool.shutdown()
