"""The facade: (machine, Trace, EnergyTable) -> Result, and its two halves, counting and pricing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import overload

from h2sim.activity import Activity
from h2sim.arch import Arch, arch_sha256, with_mode
from h2sim.cautions import machine_cautions, table_cautions, trace_cautions
from h2sim.energy import EnergyTable, load_energy_table, price
from h2sim.errors import H2SimError, at
from h2sim.io.progress import Progress
from h2sim.memory.books import Books
from h2sim.pipeline.chips import GroupRun, check_chips, gradient_bytes, gradient_values, group_run
from h2sim.pipeline.notes import step_notes
from h2sim.pipeline.step import record_step, simulate_step
from h2sim.result import Chips, ChipsPoint, Result, Scaling, Workload, workload_of
from h2sim.rivals.machine import RivalMachine
from h2sim.rivals.registry import run_rival
from h2sim.rivals.result import RivalResult
from h2sim.trace import Trace, TraceMeta
from h2sim.trace.graph import Graph
from h2sim.trace.members import VALUES

DEFAULT_TABLE = "28nm"
LEAST_EFFICIENCY = 0.5  # [A] from here on a chip of several is worth its place


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a step did, before any price: price it with as many energy tables as you like (`priced`)."""

    arch: Arch
    workload: Workload
    meta: TraceMeta
    activity: Activity
    ideal_memory: bool
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    books: Books | None = None


def count(
    arch: Arch,
    trace: Trace,
    *,
    mode: str | None = None,
    ideal_memory: bool = False,
    progress: Progress | None = None,
    bounds: bool = False,
) -> Counts:
    """Counts one training (or inference) step of `trace` on `arch`: cycles, stalls, events and bytes.

    mode: another Backward Engine mode than the arch file's. ideal_memory: the memories' transfers take no time.
    bounds: also what bounds the step (Activity.bounds), and the schedule's books.
    Raises H2SimError (its kinds) for input that does not fit together.

    >>> import h2sim
    >>> arch, trace = h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits")
    >>> counts = h2sim.count(arch, trace)
    >>> counts.activity.steady_cycles
    88472
    >>> h2sim.count(arch, trace, ideal_memory=True).activity.steady_cycles
    38446
    """
    if not isinstance(arch, Arch) or not isinstance(trace, Trace):
        raise H2SimError("simulate(arch, trace): expected h2sim.load_arch(...) and h2sim.load_trace(...)")
    arch = with_mode(arch, mode) if mode else arch
    trace.check(VALUES)  # masks of a step whose values are NaN mean nothing
    books = None
    if bounds:
        activity, books = record_step(arch, trace, ideal_memory=ideal_memory, progress=progress)
    else:
        activity = simulate_step(arch, trace, ideal_memory=ideal_memory, progress=progress)
    return Counts(
        arch=arch,
        workload=workload_of(trace),
        meta=trace.meta,
        activity=activity,
        ideal_memory=ideal_memory,
        books=books,
        notes=step_notes(arch, Graph.of(trace)),
        warnings=(*machine_cautions(arch), *trace_cautions(trace, arch.engines.backward.mode)),
    )


def priced(counts: Counts, energy_table: EnergyTable | str | None = None) -> Result:
    """What a counted step costs. energy_table: a loaded table, or the name or file of one; 28nm by default.

    >>> import h2sim
    >>> counts = h2sim.count(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"))
    >>> for table in ("28nm", "45nm"):
    ...     print(f"{h2sim.priced(counts, table).cost.energy_j * 1e6:.0f} uJ")
    302 uJ
    816 uJ
    """
    table = energy_table if isinstance(energy_table, EnergyTable) else load_energy_table(energy_table or DEFAULT_TABLE)
    return Result(
        arch=counts.arch,
        arch_sha256=arch_sha256(counts.arch),
        workload=counts.workload,
        energy_table=table,
        activity=counts.activity,
        cost=price(counts.activity, counts.arch, table),
        ideal_memory=counts.ideal_memory,
        books=counts.books,
        notes=counts.notes,
        warnings=(*counts.warnings, *table_cautions(table)),
    )


@overload
def simulate(
    arch: Arch,
    trace: Trace,
    energy_table: EnergyTable | str | None = ...,
    *,
    mode: str | None = ...,
    ideal_memory: bool = ...,
    progress: Progress | None = ...,
    chips: int | None = ...,
    least_efficiency: float = ...,
    bounds: bool = ...,
) -> Result: ...
@overload
def simulate(
    arch: RivalMachine,
    trace: Trace,
    energy_table: EnergyTable | str | None = ...,
    *,
    ideal_memory: bool = ...,
) -> RivalResult: ...
def simulate(
    arch: Arch | RivalMachine,
    trace: Trace,
    energy_table: EnergyTable | str | None = None,
    *,
    mode: str | None = None,
    ideal_memory: bool = False,
    progress: Progress | None = None,
    chips: int | None = None,
    least_efficiency: float = LEAST_EFFICIENCY,
    bounds: bool = False,
) -> Result | RivalResult:
    """Runs one training (or inference) step of `trace` on a machine and prices it: `priced(count(...))`.

    energy_table: a loaded table, or the name or file of one; the shipped 28nm table by default.
    mode: another Backward Engine mode than the arch file's. ideal_memory: the memories' transfers take no time.
    chips: also what 1 to so many machines make of a batch group (`Result.chips`); least_efficiency: see Scaling.
    bounds: also what bounds the step (Result.activity.bounds) and every interval of it (Result.books).
    A rival (h2sim.load_machine("spinalflow")) takes neither mode nor chips.
    Raises H2SimError (its kinds) for input that does not fit together.

    >>> import h2sim
    >>> trace = h2sim.load_trace("mnist-digits")
    >>> h2sim.simulate(h2sim.load_arch("h2learn"), trace)
    Result(h2learn on mnist-small: 88,472 cycles a sub-batch, 0.000302 J)
    >>> h2sim.simulate(h2sim.load_machine("spinalflow"), trace).measurement().system
    'SpinalFlow (first_spike)'
    """
    if isinstance(arch, RivalMachine):
        if mode is not None or chips is not None:
            raise H2SimError(at(arch.name, "mode and chips", "none for a rival machine", mode or chips))
        table = (
            energy_table if isinstance(energy_table, EnergyTable) else load_energy_table(energy_table or DEFAULT_TABLE)
        )
        return run_rival(arch, trace, table, ideal_memory=ideal_memory)
    _check_chips(arch, chips, least_efficiency)
    counts = count(arch, trace, mode=mode, ideal_memory=ideal_memory, progress=progress, bounds=bounds)
    result = priced(counts, energy_table)
    return result if chips is None else replace(result, chips=_on_chips(result, trace.meta, chips, least_efficiency))


def _check_chips(arch: Arch, chips: int | None, least_efficiency: float) -> None:
    if chips is not None:
        check_chips(arch, chips)
    if not 0 < least_efficiency <= 1:
        raise H2SimError(at("--least-efficiency", "share", "a number above 0 and at most 1", least_efficiency))


def _on_chips(result: Result, meta: TraceMeta, most: int, least_efficiency: float) -> Chips:
    """The batch group on 1 to `most` chips: shared among them (strong), or one for each (weak)."""
    arch, activity, values = result.arch, result.activity, gradient_values(meta)

    def curve(weak: bool) -> Scaling:
        sizes = [activity.sub_batches * (chips if weak else 1) for chips in range(1, most + 1)]
        runs = [
            group_run(arch, activity, values, chips, size, result.ideal_memory) for chips, size in enumerate(sizes, 1)
        ]
        return Scaling(tuple(_point(result, run, runs[0]) for run in runs), least_efficiency)

    return Chips(arch.interconnect, gradient_bytes(meta), least_efficiency, curve(weak=False), curve(weak=True))


def _point(result: Result, run: GroupRun, alone: GroupRun) -> ChipsPoint:
    """A run's throughput beside one chip's; energy: sub-batches, leakage of the time between, all-reduce and update."""
    cost, table, clock = result.cost, result.energy_table, result.arch.clock_hz
    waited_cycles = run.chips * run.cycles - run.sub_batches * result.activity.steady_cycles
    waited_j = cost.waiting_leakage_w * waited_cycles / clock
    adds_j = 1e-12 * run.all_reduce.additions * table.actions.fp16_add.energy_pj
    moved_bits = 8 * (run.all_reduce.memory_bytes + run.update_bytes)
    links = result.arch.interconnect
    speedup = run.sub_batches * alone.cycles / (alone.sub_batches * run.cycles) if run.cycles else 1.0
    samples = run.sub_batches * result.activity.samples
    return ChipsPoint(
        n_chips=run.chips,
        working_chips=run.working,
        sub_batches_per_chip=run.sub_batches_per_chip,
        samples=samples,
        cycles=run.cycles,
        all_reduce_cycles=run.all_reduce.cycles,
        idle_chip_cycles=run.idle_chip_cycles,
        link_bytes=run.all_reduce.link_bytes,
        samples_per_second=samples * clock / run.cycles if run.cycles else 0.0,
        speedup=speedup,
        efficiency=speedup / run.chips,
        energy_j=run.sub_batches * cost.energy_j + waited_j + adds_j,
        offchip_energy_j=run.sub_batches * cost.offchip_energy_j + 1e-12 * moved_bits * table.offchip.energy_pj_per_bit,
        link_energy_j=1e-12 * 8 * run.all_reduce.link_bytes * (links.energy_pj_per_bit if links else 0.0),
    )
