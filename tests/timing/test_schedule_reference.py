"""The compiled schedule against the plain one on random jobs, how rows are cut, and what is monotone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.arch import load_arch
from h2sim.kernels.rows import parts_of
from h2sim.kernels.schedule import COMPUTE, READ_AFTER
from h2sim.memory import bursts
from h2sim.memory.job import Job
from h2sim.memory.schedule import schedule
from h2sim.memory.stepped import run
from h2sim.memory.traffic import Traffic

ARCH = load_arch("h2learn")
LANES = {"forward": "forward", "backward": "backward", "weight_update": "backward"}
CYCLE = 160  # bytes that a memory moves in one


def machine(burst_cycles: int = 4):
    """h2learn whose bursts are so many cycles long."""
    return ARCH.with_({"memory.burst_bytes": max(64, burst_cycles * CYCLE)})


@st.composite
def traffics(draw, n: int):
    """Bytes of n iterations, pieces, and results that are written in their iteration or, some of them, in the next."""
    some = st.lists(st.integers(0, 30).map(lambda c: c * CYCLE // 2), min_size=n, max_size=n)
    reads, dw_in, out, dw_out = (np.array(draw(some), np.int64).reshape(1, n, 1) for _ in range(4))
    pieces = np.array(draw(st.lists(st.integers(1, 5), min_size=n, max_size=n)), np.int64).reshape(1, n, 1)
    completed = None
    if draw(st.booleans()) and n > 1:
        later = np.zeros_like(out)
        later[0, ::2] = out[0, ::2] // 2
        later[0, -1] = 0
        completed = out + dw_out
        out = out - later
        out[0, 1:] += later[0, :-1]
        if (pieces > 1).any():
            pieces[:] = 1
    return Traffic(
        reads=reads, gradient_reads=dw_in, writes=out, gradient_writes=dw_out, pieces=pieces, buffers=(),
        completed=completed,
    )  # fmt: skip


@st.composite
def networks(draw):
    """Jobs on all engines whose dependencies go back in a list, of any lengths, zeros included."""
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, 6))):
        engine = draw(st.sampled_from(sorted(LANES)))
        n = draw(st.integers(1, 6))
        cycles = np.array(draw(st.lists(st.integers(0, 25), min_size=n, max_size=n)), np.int64).reshape(1, n, 1)
        jobs.append(
            Job(
                layer=f"j{number}", phase=engine, engine=engine, side=LANES[engine], cycles=cycles,
                fill_cycles=draw(st.integers(0, 4)), traffic=draw(traffics(n)),
                after=tuple(j.key for j in jobs if draw(st.booleans())),
            )
        )  # fmt: skip
    return jobs


@settings(max_examples=150)
@given(networks(), st.integers(1, 12), st.booleans())
def test_the_compiled_schedule_is_the_plain_one(jobs, burst, ideal):
    assert schedule(machine(burst), jobs, ideal).slots == run(machine(burst), jobs, ideal)


def test_a_wrong_rule_is_noticed(monkeypatch):
    """Planted: operands that wait for the part before them, not for the one before that."""
    grid = np.array([10, 10, 10], np.int64).reshape(1, -1, 1)
    jobs = [reading(grid, grid * CYCLE, np.ones_like(grid))]
    assert schedule(machine(99), jobs).slots == run(machine(99), jobs)
    cut_rows = bursts.kernel.cut_rows

    def at_once(grid, cycles, n_rows, job_start, engine_of, rows, transfers):
        cut_rows(grid, cycles, n_rows, job_start, engine_of, rows, transfers)
        rows[READ_AFTER] = np.arange(rows.shape[1]) - 1

    monkeypatch.setattr(bursts.kernel, "cut_rows", at_once)
    assert schedule(machine(99), jobs).slots != run(machine(99), jobs)


def reading(cycles, reads, pieces, writes=None) -> Job:
    """A forward job that reads, and writes at most as told."""
    zero = np.zeros_like(cycles)
    traffic = Traffic(
        reads=reads, writes=zero if writes is None else writes, gradient_reads=zero, gradient_writes=zero,
        pieces=pieces, buffers=(),
    )  # fmt: skip
    return Job(
        layer="a", phase="forward", engine="forward", side="forward", cycles=cycles, fill_cycles=0, traffic=traffic,
        after=(),
    )  # fmt: skip


def test_an_iteration_begins_with_its_first_burst_and_needs_each_further_one():
    """Reads of 4 bursts of 5 cycles, computes of 8 in 4 shares of 2: each share follows its burst."""
    one = np.ones((1, 1, 1), np.int64)
    slot = schedule(machine(5), [reading(8 * one, 20 * CYCLE * one, one)]).slots["a", "forward"]
    assert (slot.end_cycle, slot.stalls.memory_read) == (22, 14)
    whole = schedule(machine(99), [reading(8 * one, 20 * CYCLE * one, one)]).slots["a", "forward"]
    assert (whole.end_cycle, whole.stalls.memory_read) == (28, 20)


def test_streams_that_share_a_memory_take_turns_burst_by_burst():
    """Two engines that read 3 bursts of 4 each from Mem 1: 1 2 1 2 1 2, so that they end in cycles 20 and 24."""
    grid = np.zeros((1, 1, 1), np.int64)
    jobs = []
    for engine in ("backward", "weight_update"):
        traffic = Traffic(
            reads=grid + 12 * CYCLE, writes=grid, gradient_reads=grid, gradient_writes=grid, pieces=grid + 1,
            buffers=(),
        )  # fmt: skip
        jobs.append(
            Job(
                layer="a", phase=engine, engine=engine, side="backward", cycles=grid, fill_cycles=0, traffic=traffic,
                after=(),
            )
        )  # fmt: skip
    slots = schedule(machine(4), jobs).slots
    assert sorted(slot.end_cycle for slot in slots.values()) == [20, 24]


@given(st.lists(st.tuples(st.integers(1, 300_000), st.integers(1, 40), st.integers(0, 999)), min_size=1, max_size=9))
def test_rows_add_up_to_their_iterations_and_no_half_holds_more_than_it_can(cut):
    n_bytes, pieces, cycles = (np.array(column, np.int64).reshape(1, -1, 1) for column in zip(*cut, strict=True))
    job = reading(cycles, n_bytes, pieces)
    grid = bursts.Grid.of([job], ARCH.memory.burst_bytes)
    rows = grid.rows
    assert np.all(rows >= pieces.ravel())
    spent = np.stack([n_bytes.ravel() // CYCLE] * 4)
    found = bursts.cut(grid, np.zeros(1, np.int64), spent)
    owner = np.repeat(np.arange(len(rows)), rows)
    assert np.bincount(owner, found.rows[COMPUTE]).astype(int).tolist() == cycles.ravel().tolist()
    moved = np.bincount(owner, bursts.bytes_moved(grid, spent)[0]).astype(int)
    assert moved.tolist() == np.where(n_bytes.ravel() >= CYCLE, n_bytes.ravel(), 0).tolist()
    for n, halves in zip(rows.tolist(), pieces.ravel().tolist(), strict=True):
        held = np.bincount((np.arange(1, n + 1) * parts_of(n, halves) - 1) // n)
        # so many rows of equal size, of which at least `pieces` halves hold the iteration
        assert held.max() * halves <= n


SHARES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60 * CYCLE)), min_size=1, max_size=8)


@given(SHARES, st.data())
def test_a_smaller_buffer_is_never_faster_for_one_stream(shares, data):
    """As long as a half holds a burst: the same rows, and every wait is for the same row or a later one."""
    cycles, reads = (np.array(column, np.int64).reshape(1, -1, 1) for column in zip(*shares, strict=True))
    most = bursts.Grid.of([reading(cycles, reads, np.ones_like(cycles))], machine().memory.burst_bytes).rows
    small = np.array([data.draw(st.integers(1, int(rows))) for rows in most], np.int64).reshape(cycles.shape)
    large = np.array([data.draw(st.integers(1, int(n))) for n in small.ravel()], np.int64).reshape(cycles.shape)
    by_size = [schedule(machine(), [reading(cycles, reads, n)]).makespan_cycles for n in (large, small)]
    assert by_size[0] <= by_size[1]


@given(SHARES, st.integers(1, 5), st.booleans())
def test_more_bandwidth_is_never_slower_for_one_stream(shares, factor, ideal):
    cycles, reads = (np.array(column, np.int64).reshape(1, -1, 1) for column in zip(*shares, strict=True))
    job = reading(cycles, reads, np.ones_like(cycles))
    faster = machine().with_({"memory.bandwidth_bytes_per_s": 128 * 10**9 * factor})
    slow, fast = (schedule(m, [job], ideal).makespan_cycles for m in (machine(), faster))
    assert fast <= slow


@settings(max_examples=60)
@given(networks(), st.integers(1, 12))
def test_memory_that_takes_no_time_is_never_slower(jobs, burst):
    ideal, real = (schedule(machine(burst), jobs, flag).makespan_cycles for flag in (True, False))
    assert ideal <= real


def test_what_a_block_completes_is_written_while_the_next_is_computed():
    """Three blocks of 4 row groups: shares 1 to 3 leave with the next block's first three, the last block's at once."""
    from h2sim.memory.traffic import _written_later

    results, waits = np.array([[40, 42, 8]], np.int64), np.array([[True, True, True]])
    assert _written_later(results, waits, 4).tolist() == [
        [[0, 0, 0, 10], [10, 10, 10, 10], [11, 10, 11, 8]],
    ]
    late = _written_later(results, np.array([[False, True, True]]), 4)
    assert late.tolist() == [[[0, 0, 0, 40], [0, 0, 0, 10], [11, 10, 11, 8]]]


@pytest.mark.parametrize("name", ["mnist-digits"])
def test_results_leave_in_the_order_and_number_in_which_they_were_completed(name):
    import h2sim
    from h2sim.pipeline.step import build_jobs

    for part in build_jobs(ARCH, h2sim.load_trace(name)):
        for job in part:
            t = job.traffic
            completed = np.cumsum(t.results.ravel())
            written = np.cumsum((t.writes + t.gradient_writes).ravel())
            assert np.all(written <= completed), job
            assert written[-1] == completed[-1]
