"""One training step: the jobs of all layers, one sub-batch alone and sub-batches overlapped (figure 3.9)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from h2sim.activity import PHASES, Activity, Bounds, LayerActivity, Phase, SteadyState
from h2sim.arch.schema import Arch
from h2sim.errors import TraceError, at
from h2sim.io.progress import Progress
from h2sim.memory.books import Books
from h2sim.memory.job import Job
from h2sim.memory.schedule import Schedule, Slot, schedule, transfer_cycles
from h2sim.memory.traffic import VALUE_BYTES
from h2sim.pipeline.analog_jobs import multiplied
from h2sim.pipeline.backward_jobs import backward_job, with_loss
from h2sim.pipeline.forward_jobs import forward_job
from h2sim.pipeline.update_jobs import update_job
from h2sim.trace import Layer, Trace, TraceMeta
from h2sim.trace.graph import Graph
from h2sim.trace.maps import Maps

Jobs = tuple[list[Job], list[Job], list[Job]]  # forward, backward, weight update


def simulate_step(
    arch: Arch, trace: Trace, *, ideal_memory: bool = False, progress: Progress | None = None
) -> Activity:
    """Counts what a sub-batch of `trace` does on `arch`: cycles, stalls, events and bytes.

    The first sub-batch has the machine to itself: forward, then backward and weight update. In the steady state the
    forward pass of the next sub-batch runs beside the backward pass and weight update of the current one. A batch group
    takes first + (sub_batches - 1) * steady + update cycles. ideal_memory: transfers take no time.
    progress(layer, done, total) is called after every layer.
    """
    return _step(arch, trace, ideal_memory, progress, keep_books=False)[0]


def record_step(
    arch: Arch, trace: Trace, *, ideal_memory: bool = False, progress: Progress | None = None
) -> tuple[Activity, Books]:
    """The same counts with what bounds the step, and the schedule's books: every interval of the steady state."""
    activity, steady = _step(arch, trace, ideal_memory, progress, keep_books=True)
    books = steady.books
    if books is None:
        raise TraceError(at(str(trace.path), "layers", "at least one that an engine works on", "none"))
    ideal = schedule(arch, list(books.jobs), ideal_memory=True).makespan_cycles
    critical = books.critical_cycles()
    rows = tuple(critical[row.layer, row.phase] for row in activity.layers)
    return replace(activity, bounds=Bounds(books.bounds(), rows, ideal)), books


def simulate_steady(arch: Arch, trace: Trace, *, ideal_memory: bool = False) -> SteadyState:
    """The steady state alone: the part of simulate_step that prices need, in less than half of its time."""
    return _steady(trace, *_scheduled(arch, trace, ideal_memory))


def _scheduled(
    arch: Arch, trace: Trace, ideal_memory: bool, progress: Progress | None = None, *, keep_books: bool = False
) -> tuple[Jobs, Schedule]:
    """The jobs of a step, and the schedule of its steady state."""
    jobs = build_jobs(arch, trace, progress)
    return jobs, schedule(arch, [job for phase in jobs for job in phase], ideal_memory, keep_books=keep_books)


def _steady(trace: Trace, jobs: Jobs, steady: Schedule) -> SteadyState:
    return SteadyState(
        layers=tuple(_activity(job, steady.slots[job.key]) for phase in jobs for job in phase),
        memory=steady.memory,
        steady_cycles=steady.makespan_cycles,
        samples=trace.meta.batch,
    )


def _step(
    arch: Arch, trace: Trace, ideal_memory: bool, progress: Progress | None, *, keep_books: bool
) -> tuple[Activity, Schedule]:
    """The counts of a step, and its steady state's schedule."""
    jobs, steady = _scheduled(arch, trace, ideal_memory, progress, keep_books=keep_books)
    forward, backward, update = jobs
    state = _steady(trace, jobs, steady)
    alone = schedule(arch, forward, ideal_memory)
    behind = schedule(arch, backward + update, ideal_memory)
    sub_batches = arch.pipeline.sub_batches_per_batch
    update_cycles = _weight_update_cycles(arch, trace.meta, ideal_memory) if update else 0
    first = alone.makespan_cycles + behind.makespan_cycles
    activity = Activity(
        **{each.name: getattr(state, each.name) for each in fields(state)},
        first_cycles=first,
        batch_cycles=first + (sub_batches - 1) * state.steady_cycles + update_cycles,
        update_cycles=update_cycles,
        sub_batches=sub_batches,
    )
    return activity, steady


def simulate_job(arch: Arch, trace: Trace, layer: str, phase: Phase, *, ideal_memory: bool = False) -> Activity:
    """Counts one layer in one phase, alone on its engine and with the memories to itself (as in section 3.3.2).

    first_cycles, steady_cycles and batch_cycles are all the cycles until its last result is written. Raises TraceError
    for a layer and phase that the trace's step does not have.
    """
    meta = trace.meta
    build = {"forward": forward_job, "backward": backward_job, "weight_update": update_job}[phase]
    job = build(arch, Graph.of(trace), trace.maps, meta.layer(layer))
    if phase not in meta.phases or job is None:
        raise TraceError(at(str(trace.path), "layer and phase", "one that the trace's step has", f"{layer} {phase}"))
    alone = schedule(arch, [job], ideal_memory)
    cycles = alone.makespan_cycles
    row = _activity(job, alone.slots[job.key])
    return Activity(
        layers=(row,),
        memory=alone.memory,
        first_cycles=cycles,
        steady_cycles=cycles,
        batch_cycles=cycles,
        update_cycles=0,
        sub_batches=1,
        samples=meta.batch,
    )


def build_jobs(arch: Arch, trace: Trace, progress: Progress | None = None) -> Jobs:
    """The jobs of a step: (forward, backward, weight update), the forward ones in layer order, the others reversed."""
    meta = trace.meta
    graph, maps = Graph.of(trace), trace.maps
    hang_on = _hang_on(arch)
    jobs: dict[Phase, list[Job]] = {phase: [] for phase in PHASES}
    for number, layer in enumerate(meta.layers, start=1):
        for phase in meta.phases:
            engine = "backward" if layer.has_weights and multiplied(arch, graph, layer) else phase
            key = ("job", layer.name, phase, *hang_on[engine, phase])
            made = maps.kept.get(key, partial(_made, arch, graph, maps, layer, phase))
            jobs[phase] += made.jobs
        if progress:
            progress(layer.name, number, len(meta.layers))
    return jobs["forward"], jobs["backward"][::-1], jobs["weight_update"][::-1]


@dataclass(frozen=True)
class _Made:
    """The job of a layer in a phase, or none: what an open trace keeps of it."""

    jobs: tuple[Job, ...]

    @property
    def nbytes(self) -> int:
        return sum(job.nbytes for job in self.jobs)


def _made(arch: Arch, graph: Graph, maps: Maps, layer: Layer, phase: Phase) -> _Made:
    build = {"forward": forward_job, "backward": backward_job, "weight_update": update_job}[phase]
    job = build(arch, graph, maps, layer)
    if job and phase == "backward":
        job = with_loss(arch, graph, maps, layer, job)
    return _Made((job,) if job else ())


def _hang_on(arch: Arch) -> dict[tuple[str, Phase], tuple[str, ...]]:
    """All of a machine that the jobs of an engine in a phase depend on, by (engine, phase)."""
    shared = arch.tile.model_dump_json(), arch.latency.model_dump_json(), arch.normalisation.model
    of = {name: getattr(arch.engines, name).model_dump_json() for name in arch.engine_names}
    update = (arch.pipeline.model_dump_json(),)  # whether dw is added to what Mem 2 holds
    return {
        (engine, phase): (of[engine], *shared, *(update if phase == "weight_update" else ()))
        for engine in of
        for phase in PHASES
    }


def _activity(job: Job, slot: Slot) -> LayerActivity:
    t = job.traffic
    return LayerActivity(
        layer=job.layer,
        phase=job.phase,
        engine=job.engine,
        start_cycle=slot.start_cycle,
        end_cycle=slot.end_cycle,
        compute_cycles=int(job.cycles.sum()),
        fill_cycles=job.fill_cycles,
        stalls=slot.stalls,
        pe_array=job.pe_array,
        acc=job.acc,
        neuron=job.neuron,
        buffers=t.buffers,
        offchip_read_bytes=int(t.reads.sum() + t.gradient_reads.sum()),
        offchip_write_bytes=int(t.writes.sum() + t.gradient_writes.sum()),
        useful_operations=job.useful_operations,
        peak_operations=job.peak_operations,
    )


def _weight_update_cycles(arch: Arch, meta: TraceMeta, ideal_memory: bool) -> int:
    """Cycles of the update that ends a batch group [A]: dw is read from Mem 2, w from Mem 0, w written to Mem 0, 1."""
    n_bytes = VALUE_BYTES * sum(layer.parameters for layer in meta.layers)
    return int(transfer_cycles(arch, np.array([2 * n_bytes]), ideal_memory)[0])
