"""Properties between runs on a few random pairs; each is shown to notice a bug that is planted for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from h2sim import facade
from h2sim.activity import Actions
from h2sim.energy.cost import Cost
from h2sim.engines import backward, forward, weight_update
from h2sim.memory import schedule
from h2sim.pipeline import backward_jobs, step
from tests.fuzz import properties
from tests.fuzz.metamorphic import contradictions, record
from tests.fuzz.properties import PROPERTIES

PAIRS = range(1000, 1008)  # others than those of a campaign's beginning
MOST_PAIRS = 40
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("number", PAIRS)
def test_the_properties_hold(number, tmp_path):
    assert contradictions(0, number, tmp_path) == []


def after(module: Any, name: str, change: Callable[..., Any]) -> Plant:
    """Plants a function that gives change(what the right one gave, its arguments)."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        right = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: change(right(*args, **kwargs), *args, **kwargs))

    return plant


def slower(work: Any, by: int) -> Any:
    return replace(work, iteration_cycles=work.iteration_cycles + by)


def busier(work: Any, by: int) -> Any:
    return replace(work, useful_operations=work.useful_operations + by)


def reads(work: Any, by: int) -> Any:
    return replace(work, pe_array=work.pe_array + Actions(lut_read=by))


def first_sample_counts_twice(job: Any, _arch: Any, _graph: Any, maps: Any, layer: Any) -> Any:
    """The first sample's gradients, whichever sample is the first."""
    mask = maps.packed(layer.name, "grad")
    return replace(job, cycles=job.cycles + int(mask[0].astype(np.int64).sum() % 7))


def empty_costs(job: Any, _arch: Any, _graph: Any, maps: Any, layer: Any) -> Any:
    """A mask of gradients costs what its zeros do."""
    return replace(job, cycles=job.cycles + int(np.count_nonzero(maps.packed(layer.name, "grad") == 0)))


def later_with_ideal_memory(found: Any, arch: Any, jobs: Any, ideal_memory: bool, **_: Any) -> Any:
    return replace(found, makespan_cycles=found.makespan_cycles + 10_000_000) if ideal_memory else found


def by_name(found: Any, *_: Any, **__: Any) -> Any:
    return replace(found, update_cycles=found.update_cycles + len(found.layers[0].layer))


def by_clock(cycles: Any, arch: Any, *_: Any) -> Any:
    return cycles + arch.clock_hz // 800_000_000


def more_than_4(cost: Any, *_: Any) -> Any:
    charges = [replace(c, unit_pj=c.unit_pj + 1.0) for c in cost.charges]
    return replace(cost, charges=tuple(charges))


def later_chip(run: Any, *_: Any) -> Any:
    return replace(run, cycles=run.cycles + 1)


def flipped(mask: Any, *_: Any) -> Any:
    return mask ^ np.uint8(0x80)


def first_bit(work: Any, engine: Any, shape: Any, *_: Any) -> Any:
    return reads(work, 2 * shape.samples)


def training_counts(job: Any, arch: Any, graph: Any, *_: Any) -> Any:
    return replace(job, useful_operations=job.useful_operations + len(graph.meta.phases))


PLANTS: dict[str, Plant] = {
    "the_order_of_samples_does_not_matter": after(backward_jobs, "_conv", first_sample_counts_twice),
    "twice_the_samples_are_twice_the_operations": after(forward, "conv", lambda work, *_: busier(work, 1)),
    "a_silent_sample_adds_no_work_to_what_skips_zeros": after(forward, "fc", first_bit),
    "fewer_bits_are_never_more_work": after(
        forward, "fc", lambda work, _, __, spikes, ___: reads(work, -2 * spikes * 99)
    ),
    "fewer_gradients_are_never_slower": after(backward_jobs, "_conv", empty_costs),
    "masks_that_an_engine_does_not_read_change_nothing": after(
        weight_update, "conv", lambda work, *_: slower(work, next(_counter))
    ),
    "skipping_zeros_is_never_more_work": after(
        backward, "conv_of", lambda work, engine, *_: busier(work, 10_000 * (engine.mode == "dual"))
    ),
    "larger_arrays_never_compute_longer": after(
        backward, "fc", lambda work, engine, *_: slower(work, 100 * engine.rows * engine.columns)
    ),
    "useful_operations_never_exceed_the_slots": after(forward, "fc", lambda work, *_: busier(work, 10**9)),
    "cycles_add_up": after(step, "_activity", lambda row, *_: replace(row, end_cycle=row.end_cycle + 1)),
    "ideal_memory_is_never_slower": after(step, "schedule", later_with_ideal_memory),
    "a_clock_and_memories_twice_as_fast_take_the_same_cycles": after(step, "transfer_cycles", by_clock),
    "the_forward_pass_is_the_same_without_training": after(step, "forward_job", training_counts),
    "names_change_no_number": after(facade, "simulate_step", by_name),
    "energies_scale_with_the_prices": after(facade, "price", more_than_4),
    "energy_is_the_sum_of_its_parts": after(Cost, "reconcile", lambda lines, *_: lines[1:]),
    "one_chip_is_the_machine_itself": after(facade, "group_run", later_chip),
    "a_trace_written_and_read_gives_the_same_bytes": after(properties, "_member", flipped),
}
_counter = iter(range(10**6))


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_notices_a_planted_bug(name, tmp_path, monkeypatch):
    PLANTS[name](monkeypatch)
    assert any(contradictions(0, number, tmp_path, (name,)) for number in range(MOST_PAIRS))


def test_the_record_counts_pairs_and_not_sentences():
    text = record(7, [(1, "cycles_add_up: a"), (1, "cycles_add_up: b"), (3, "cycles_add_up: c")], "command")
    assert "| cycles add up | 7 | 2 |" in text
    assert "| names change no number | 7 | 0 |" in text


def test_the_schedule_that_a_bug_was_planted_in_is_the_one_that_steps_use():
    assert step.schedule is schedule.schedule
