"""What bounds a step: intervals and the critical path, hand-counted, on random jobs and on the shipped traces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import h2sim
from h2sim.activity import Bound
from h2sim.arch import load_arch
from h2sim.kernels import path as walker
from h2sim.kernels import schedule as kernel
from h2sim.memory.books import CAUSES, KINDS, Books
from h2sim.report.bounds import bound_sentence
from tests.helpers.books import books_of, job, networks

ARCH = load_arch("h2learn")
SHIPPED = ("mnist-digits", "mnist-table34", "mnist-table34-fp16")


def sums_by_job(found, what, n_jobs):
    mine = found.what == what
    return np.bincount(found.job[mine], weights=(found.end - found.start)[mine], minlength=n_jobs).astype(int).tolist()


def check_intervals(books: Books) -> None:
    """Lengths equal the rows, tracks never overlap, memories' intervals are their transfers."""
    work, moved, n = books.engine_intervals(), books.memory_intervals(), len(books.jobs)
    columns = {
        "dependency": kernel.STALL_DEPENDENCY,
        "memory_read": kernel.STALL_READ,
        "memory_write": kernel.STALL_WRITE,
    }
    for cause, column in columns.items():
        assert sums_by_job(work, CAUSES.index(cause), n) == books.job_rows[:, column].tolist()
    assert sums_by_job(work, CAUSES.index("compute"), n) == [int(j.cycles.sum()) for j in books.jobs]
    assert sums_by_job(work, CAUSES.index("fill"), n) == [j.fill_cycles for j in books.jobs]
    for found in (work, moved):
        assert np.all(found.end > found.start)
        for track in np.unique(found.track):
            mine = found.track == track
            assert np.all(found.start[mine][1:] >= found.end[mine][:-1])
    for number in range(len(books.memories)):
        held = (books.job_rows[books.job_of][:, [0, 1, 0, 1]] == number).T
        busy = int((moved.end - moved.start)[moved.track == number].sum())
        assert busy == int(books.transfers[held].sum())
        assert int(moved.n_bytes[moved.track == number].sum()) == int(books.moved[held & (books.transfers > 0)].sum())


def check_path(books: Books) -> None:
    """No gap from cycle 0 to the last one, and every part is what its resource then really did."""
    path = books.critical_path()
    start, end = path[:, walker.PATH_START], path[:, walker.PATH_END]
    assert (end - start).sum() == books.makespan_cycles
    if len(path):
        assert start[0] == 0
        assert end[-1] == books.makespan_cycles
        assert np.array_equal(start[1:], end[:-1])
    work, moved = books.engine_intervals(), books.memory_intervals()
    kinds = {walker.WORKED: [CAUSES.index("compute")], walker.FILLED: [CAUSES.index("fill")],
             walker.READS: [0, 1], walker.WRITES: [2, 3]}  # fmt: skip
    for resource, what, number, first, last in path.tolist():
        found, track = (work, resource) if resource >= 0 else (moved, -1 - resource)
        around = (found.track == track) & (found.job == number) & np.isin(found.what, kinds[what])
        assert np.any(around & (found.start <= first) & (last <= found.end))
    assert sum(part.cycles for part in books.bounds()) == books.makespan_cycles
    assert sum(books.critical_cycles().values()) == books.makespan_cycles


@given(networks())
def test_intervals_and_path_of_random_jobs_add_up_to_their_schedule(jobs):
    books = books_of(jobs)
    check_intervals(books)
    check_path(books)


@given(networks())
def test_the_compiled_walk_is_the_interpreted_one(jobs):
    books = books_of(jobs)
    fast = books.critical_path()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("done_event", "before_compute", "before_transfer", "walk"):
            patch.setattr(walker, name, getattr(getattr(walker, name), "py_func", getattr(walker, name)))
        assert np.array_equal(books.critical_path(), fast)


def test_the_path_of_three_iterations_by_hand():
    """Read 0 at 0..4, computes 4..14..24..34, last write 34..37: the engine holds what is between them."""
    books = books_of([job("a", "forward", [(10, 4, 0, 3, 0)] * 3)])
    path = [tuple(row) for row in books.critical_path().tolist()]
    mem0, fe = -1, 0
    assert path == [
        (mem0, walker.READS, 0, 0, 4), (fe, walker.WORKED, 0, 4, 14), (fe, walker.WORKED, 0, 14, 24),
        (fe, walker.WORKED, 0, 24, 34), (mem0, walker.WRITES, 0, 34, 37),
    ]  # fmt: skip
    assert books.bounds() == (
        Bound("forward", "compute", 30), Bound("Mem 0", "read", 4), Bound("Mem 0", "write", 3),
    )  # fmt: skip


def test_a_memory_that_is_slower_than_the_engine_holds_the_path():
    """Reads of 9 behind each other, computes of 2: the memory holds 9 + 9 + 9, the engine its last 2."""
    books = books_of([job("a", "forward", [(2, 9, 0, 0, 0)] * 3)])
    assert books.bounds() == (Bound("Mem 0", "read", 27), Bound("forward", "compute", 2))


def test_a_tie_goes_to_the_engine():
    """Compute 0 ends at 5 + 5, as does read 1 (5..10): the path goes on through the engine."""
    books = books_of([job("a", "forward", [(5, 5, 0, 0, 0)] * 2)])
    assert books.bounds() == (Bound("forward", "compute", 10), Bound("Mem 0", "read", 5))


def test_what_a_job_waits_for_is_on_the_path_through_the_one_before():
    first = job("a", "forward", [(7, 0, 0, 4, 0)])
    second = job("b", "backward", [(3, 2, 0, 0, 0)], after=[first.key], fill=1)
    books = books_of([first, second])
    assert {(p.resource, p.cause): p.cycles for p in books.bounds()} == {
        ("forward", "compute"): 7, ("Mem 0", "write"): 4, ("Mem 1", "read"): 2, ("backward", "compute"): 3,
        ("backward", "fill"): 1,
    }  # fmt: skip
    assert books.critical_cycles() == {first.key: 11, second.key: 6}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("ideal", [False, True])
def test_intervals_and_path_of_a_shipped_step_equal_its_result(name, ideal):
    result = h2sim.simulate(ARCH, h2sim.load_trace(name), ideal_memory=ideal, bounds=True)
    books, activity = result.books, result.activity
    check_intervals(books)
    check_path(books)
    assert books.makespan_cycles == activity.steady_cycles == sum(activity.bounds.critical_cycles)
    if ideal:
        assert {part.cause for part in activity.bounds.parts} <= {"compute", "fill"}
    work, number_of = books.engine_intervals(), {j.key: n for n, j in enumerate(books.jobs)}
    for row in activity.layers:
        mine = work.job == number_of[row.layer, row.phase]
        lengths = [int((work.end - work.start)[mine & (work.what == w)].sum()) for w in range(len(CAUSES))]
        stalls = (row.stalls.dependency, row.stalls.memory_read, row.stalls.memory_write)
        assert lengths == [*stalls, row.compute_cycles, row.fill_cycles]


def test_the_shipped_step_is_bound_by_memory_1_as_its_sentence_says():
    bounds = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"), bounds=True).activity.bounds
    assert bound_sentence(bounds.parts, bounds.ideal_memory_cycles) == (
        "Mem 1 bounds the step: 87% of it; with memory that takes no time it would be 2.30x faster."
    )


def test_what_was_not_asked_for_is_not_kept():
    plain = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"))
    assert plain.books is None
    assert plain.activity.bounds is None
    assert "bounds" not in plain.to_dict()["step"]
    asked = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"), bounds=True).to_dict()
    step, rows = asked["step"], asked["layers"]
    assert sum(part["cycles"] for part in step["bounds"]) == step["steady_cycles"]
    assert sum(row.pop("critical_cycles") for row in rows) == step["steady_cycles"]
    del step["bounds"], step["ideal_memory_cycles"]
    assert asked == plain.to_dict()


def test_a_wrong_book_is_noticed():
    """The checks above can fail: a transfer that ends a cycle later, a job that ends a cycle earlier."""
    jobs = [job("a", "forward", [(3, 4, 0, 5, 0)] * 4)]
    books = books_of(jobs)
    books.transfers[KINDS.index("read"), 1] += 1
    with pytest.raises(AssertionError):
        check_intervals(books)
    books = books_of(jobs)
    books.job_rows[0, kernel.STALL_READ] -= 1
    with pytest.raises(AssertionError):
        check_intervals(books)
    books = books_of(jobs)
    books.finish[0, 2] += 3
    with pytest.raises(AssertionError):
        check_path(books)
