"""The facade: (Arch, Trace, EnergyTable) -> Result."""

from __future__ import annotations

from h2sim.arch import Arch, arch_sha256, with_mode
from h2sim.energy import EnergyTable, load_energy_table, price
from h2sim.errors import H2SimError
from h2sim.pipeline.step import Progress, simulate_step
from h2sim.result import Result, Workload
from h2sim.trace import Trace
from h2sim.trace.members import VALUES

DEFAULT_TABLE = "28nm"


def simulate(
    arch: Arch,
    trace: Trace,
    energy_table: EnergyTable | str | None = None,
    *,
    mode: str | None = None,
    ideal_memory: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Runs one training (or inference) step of `trace` on `arch` and prices it.

    energy_table: a loaded table, or the name or file of one; the shipped 28nm table by default.
    mode: another Backward Engine mode than the arch file's. ideal_memory: transfers take no time.
    Raises H2SimError (its kinds) for input that does not fit together.
    """
    if not isinstance(arch, Arch) or not isinstance(trace, Trace):
        raise H2SimError("simulate(arch, trace): expected h2sim.load_arch(...) and h2sim.load_trace(...)")
    arch = with_mode(arch, mode) if mode else arch
    table = energy_table if isinstance(energy_table, EnergyTable) else load_energy_table(energy_table or DEFAULT_TABLE)
    trace.check(VALUES)  # masks of a step whose values are NaN mean nothing
    activity = simulate_step(arch, trace, ideal_memory=ideal_memory, progress=progress)
    source = str(trace.meta.source.get("kind", "unknown"))
    workload = Workload(trace.meta.network, trace.meta.dataset, source, trace.sha256)
    return Result(arch, arch_sha256(arch), workload, table, activity, price(activity, arch, table), ideal_memory)
