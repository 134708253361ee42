"""Pipeline: hand-counted schedules of ping-pong buffers, shared memories and dependencies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.arch import load_arch
from h2sim.errors import ArchError
from h2sim.memory.job import Job, in_pieces
from h2sim.memory.schedule import schedule, transfer_cycles
from h2sim.memory.traffic import Traffic

ARCH = load_arch("h2learn")  # 160 bytes per cycle and memory


def job(name, phase, engine, cycles, reads, writes, after=(), side="forward", fill=0, dw=None):
    """A job of len(cycles) iterations; reads and writes are given in memory cycles (x 160 B)."""
    as_grid = lambda values: np.array(values, np.int64).reshape(1, -1, 1)  # noqa: E731
    zero = np.zeros_like(as_grid(cycles))
    traffic = Traffic(
        reads=as_grid(reads) * 160,
        writes=as_grid(writes) * 160,
        gradient_reads=zero,
        gradient_writes=zero if dw is None else as_grid(dw) * 160,
        pieces=zero + 1,
        buffers=(),
    )
    return Job(
        layer=name,
        phase=phase,
        engine=engine,
        side=side,
        cycles=as_grid(cycles),
        fill_cycles=fill,
        traffic=traffic,
        after=after,
    )


def test_compute_bound_iterations_show_only_the_first_read_and_the_last_write():
    only = job("a", "forward", "forward", [10, 10, 10], [4, 4, 4], [3, 3, 3])
    result = schedule(ARCH, [only])
    slot = result.slots["a", "forward"]
    # read 0 at 0..4, compute 4..14..24..34, last write 34..37
    assert (slot.start_cycle, slot.end_cycle, slot.done_cycle) == (0, 34, 37)
    assert (slot.stalls.memory_read, slot.stalls.memory_write, slot.stalls.dependency) == (4, 0, 0)
    assert result.makespan_cycles == 37


def test_a_job_of_an_engine_that_the_machine_does_not_have_is_refused():
    with pytest.raises(ArchError, match=r"^h2learn: job a forward: engine: expected one of forward, .*; got 'array'$"):
        schedule(ARCH, [job("a", "forward", "array", [1], [1], [1])])


def test_reads_longer_than_compute_bound_the_engine_and_are_reported_as_read_stalls():
    slot = schedule(ARCH, [job("a", "forward", "forward", [2, 2, 2], [5, 5, 5], [0, 0, 0])]).slots["a", "forward"]
    # reads 0..5, 5..10 (second half free), third waits for compute 0 at 7: 10..15; computes 5..7, 10..12, 15..17
    assert slot.end_cycle == 17
    assert slot.stalls.memory_read == 5 + 3 + 3


def test_a_full_output_buffer_stalls_the_third_result_until_the_first_is_written():
    slot = schedule(ARCH, [job("a", "forward", "forward", [1, 1, 1], [0, 0, 0], [10, 10, 10])]).slots["a", "forward"]
    # computes 0..1, 1..2; the third needs write 0 (1..11) done: 11..12; writes 11..21, 21..31
    assert (slot.end_cycle, slot.done_cycle, slot.stalls.memory_write) == (12, 31, 9)


def test_a_dependent_layer_waits_for_the_last_write_of_the_layer_it_reads():
    first = job("a", "forward", "forward", [10], [0], [6], fill=3)
    second = job("b", "forward", "forward", [5], [2], [0], after=(("a", "forward"),))
    slots = schedule(ARCH, [first, second]).slots
    assert slots["a", "forward"].end_cycle == 13
    assert slots["a", "forward"].done_cycle == 19
    waiting = slots["b", "forward"]
    assert (waiting.start_cycle, waiting.end_cycle) == (13, 26)
    assert (waiting.stalls.dependency, waiting.stalls.memory_read) == (6, 2)


def test_backward_and_weight_update_share_one_memory_and_forward_has_its_own():
    be = job("a", "backward", "backward", [1], [8], [0], side="backward")
    wue = job("a", "weight_update", "weight_update", [1], [8], [0], side="backward")
    fe = job("a", "forward", "forward", [1], [8], [0])
    slots = schedule(ARCH, [be, wue, fe]).slots
    assert sorted(s.end_cycle for s in slots.values()) == [9, 9, 17]
    assert slots["a", "forward"].end_cycle == 9


def test_weight_gradients_go_to_their_own_memory():
    wue = job("a", "weight_update", "weight_update", [1, 1], [4, 4], [0, 0], side="backward", dw=[0, 20])
    result = schedule(ARCH, [wue])
    assert {s.memory: (s.start_cycle, s.end_cycle, s.busy_cycles) for s in result.memory} == {
        "Mem 1": (0, 8, 8),
        "Mem 2": (9, 29, 20),
    }


def test_an_ideal_memory_leaves_compute_fill_and_dependencies_only():
    first = job("a", "forward", "forward", [10, 10], [50, 50], [50, 50], fill=3)
    slot = schedule(ARCH, [first], ideal_memory=True).slots["a", "forward"]
    assert (slot.end_cycle, slot.stalls.total) == (23, 0)


def test_jobs_that_wait_for_each_other_are_reported_not_looped_on():
    a = job("a", "forward", "forward", [1], [0], [0], after=(("b", "backward"),))
    b = job("b", "backward", "backward", [1], [0], [0], after=(("a", "forward"),))
    with pytest.raises(RuntimeError, match="wait for each other"):
        schedule(ARCH, [a, b])


def test_a_transfer_takes_whole_cycles_and_the_first_access_latency():
    arch = ARCH.model_copy(update={"memory": ARCH.memory.model_copy(update={"first_access_cycles": 7})})
    assert transfer_cycles(arch, np.array([0, 1, 160, 161])).tolist() == [0, 8, 8, 9]
    assert transfer_cycles(ARCH, np.array([0, 1, 160, 161])).tolist() == [0, 1, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 9)), min_size=1, max_size=20))
def test_pieces_sum_to_the_iteration_they_come_from(cut):
    totals, pieces = (np.array(column, np.int64) for column in zip(*cut, strict=True))
    parts = in_pieces(totals, pieces)
    owner = np.repeat(np.arange(len(totals)), pieces)
    assert np.bincount(owner, parts, len(totals)).astype(int).tolist() == totals.tolist()
    assert parts.min() >= 0


ITERATIONS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12)


@settings(max_examples=60)
@given(ITERATIONS, ITERATIONS, ITERATIONS)
def test_every_cycle_of_every_row_is_accounted_for_and_memory_is_never_oversubscribed(a, b, c):
    jobs = [
        job("x", "forward", "forward", *zip(*a, strict=True), fill=5),
        job("x", "backward", "backward", *zip(*b, strict=True), side="backward"),
        job("x", "weight_update", "weight_update", *zip(*c, strict=True), side="backward", after=(("x", "backward"),)),
    ]
    result = schedule(ARCH, jobs)
    for each in jobs:
        slot = result.slots[each.key]
        assert slot.end_cycle - slot.start_cycle == each.cycles.sum() + each.fill_cycles + slot.stalls.total
        assert min(slot.stalls.memory_read, slot.stalls.memory_write, slot.stalls.dependency) >= 0
    for memory in {s.memory for s in result.memory}:
        slices = [s for s in result.memory if s.memory == memory]
        span = max(s.end_cycle for s in slices) - min(s.start_cycle for s in slices)
        assert sum(s.busy_cycles for s in slices) <= span
    ideal = schedule(ARCH, jobs, ideal_memory=True)
    assert ideal.makespan_cycles <= result.makespan_cycles


@settings(max_examples=60)
@given(ITERATIONS, st.integers(1, 4))
def test_more_bandwidth_never_adds_cycles_to_one_engine(a, factor):
    jobs = [job("x", "forward", "forward", *zip(*a, strict=True))]
    faster = ARCH.model_copy(
        update={"memory": ARCH.memory.model_copy(update={"bandwidth_bytes_per_s": 128 * 10**9 * factor})}
    )
    assert schedule(faster, jobs).makespan_cycles <= schedule(ARCH, jobs).makespan_cycles
