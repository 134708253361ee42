"""Writes traces beside the training: packing a file takes no time from the next step where a core is free."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path


class TraceWriter:
    """One file at a time, in order; a context that ends when all are written. An error comes out at the next call."""

    def __init__(self, written: Callable[[Path], None] = lambda path: None) -> None:
        self.written, self.pool = written, ThreadPoolExecutor(1)
        self.pending: tuple[Future[None], Path] | None = None

    def submit(self, path: Path, write: Callable[[Path], None]) -> None:
        """Have write(path) done, after the one before it."""
        self.wait()
        self.pending = self.pool.submit(write, path), path

    def wait(self) -> None:
        """Until nothing is left to write; tells `written` of each path that is there."""
        if self.pending:
            (future, path), self.pending = self.pending, None
            future.result()
            self.written(path)

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self.pool.shutdown()
