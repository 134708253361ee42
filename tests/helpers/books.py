"""Schedules of jobs by hand and at random, with the books that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from hypothesis import strategies as st

from h2sim.activity import ENGINES, Engine, JobKey
from h2sim.arch import load_arch
from h2sim.memory.books import Books
from h2sim.memory.job import Job
from h2sim.memory.schedule import schedule
from h2sim.memory.traffic import Traffic

ARCH = load_arch("h2learn")  # 160 bytes per cycle and memory
Iteration = tuple[int, int, int, int, int]


def job(name: str, engine: Engine, iterations: Sequence[Iteration], after: Sequence[JobKey] = (), fill: int = 0) -> Job:
    """A job of (compute, read, read dw, write, write dw) cycles per iteration."""
    grid = [np.array(column, np.int64).reshape(1, -1, 1) for column in zip(*iterations, strict=True)]
    traffic = Traffic(
        reads=grid[1] * 160, gradient_reads=grid[2] * 160, writes=grid[3] * 160, gradient_writes=grid[4] * 160,
        pieces=np.ones_like(grid[0]), buffers=(),
    )  # fmt: skip
    side: Literal["forward", "backward"] = "forward" if engine == "forward" else "backward"
    return Job(
        layer=name, phase=engine, engine=engine, side=side, cycles=grid[0], fill_cycles=fill, traffic=traffic,
        after=tuple(after),
    )  # fmt: skip


def books_of(jobs: list[Job], ideal: bool = False) -> Books:
    """What scheduling the jobs on h2learn leaves; ideal: transfers take no time."""
    found = schedule(ARCH, jobs, ideal, keep_books=True)
    assert found.books is not None
    return found.books


@st.composite
def networks(draw: st.DrawFn) -> list[Job]:
    """Jobs on all engines whose dependencies go back in a list, any lengths, zeros included."""
    some = st.integers(0, 12)
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, 7))):
        engine = draw(st.sampled_from(sorted(ENGINES)))
        rows = draw(st.lists(st.tuples(some, some, some, some, some), min_size=1, max_size=6))
        after = [j.key for j in jobs if draw(st.booleans())]
        jobs.append(job(f"j{number}", engine, rows, after, draw(st.integers(0, 5))))
    return jobs
