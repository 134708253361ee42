"""A whole co-simulation: many machines, many layers each, and the record of what was found."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from h2sim._version import __version__
from h2sim.arch.schema import Arch
from h2sim.io.progress import Progress
from h2sim.rtl.bench import VerilatorBench
from h2sim.rtl.check import ENGINES, Report, check, machines, wide_machines
from h2sim.rtl.corners import corners_drawn
from h2sim.rtl.layers import KINDS, Hardware
from h2sim.rtl.mutations import check_mutations, corner_of, mutation_machine

MUTATION_CASES = 1500
WIDE_CASES = 120  # of each wide machine: forty of each kind of layer


@dataclass(frozen=True)
class Plan:
    """How much to run: so many machines, with so many cases (layers) each, on so many processes, by which simulator.

    wide: how many wide Backward Engines are run too, the smallest first (check.wide_machines), with WIDE_CASES each.
    planes: the most bit planes of the counts that layers of the LUT engines have; 1: spikes. engines: of the machines
    and mutations. mutation_cases: layers that a mutation is shown at most.
    """

    machines: int
    cases: int
    seed: int
    jobs: int
    simulator: str
    wide: int = 0
    planes: int = 1
    engines: tuple[str, ...] = ENGINES
    mutation_cases: int = MUTATION_CASES


@dataclass
class Found:
    """What a co-simulation found. mutations[engine][mutation]: how many layers noticed it."""

    arch: str
    plan: Plan
    reports: list[tuple[Hardware, Report]] = field(default_factory=list)
    mutations: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> Report:
        """The reports of all machines as one."""
        total = Report()
        for _, report in self.reports:
            total.merge(report)
        return total

    @property
    def problems(self) -> list[str]:
        """A line for each disagreement, and for each mutation that no layer noticed."""
        missed = [
            f"{engine}: no case noticed the mutation {name!r}"
            for engine, noticed in self.mutations.items()
            for name, count in noticed.items()
            if name != "unchanged" and count == 0
        ]
        wrong = [
            f"{e}: {n['unchanged']} cases disagree without a mutation"
            for e, n in self.mutations.items()
            if n["unchanged"]
        ]
        return self.total.disagreements + missed + wrong


def run(arch: Arch, plan: Plan, mutations: bool, progress: Progress) -> Found:
    """Checks all machines of the plan, and then with `mutations` runs the mutation checks of every engine."""
    found = Found(arch.name, plan)
    drawn = [replace(each, planes=plan.planes) for each in machines(arch, plan.machines, plan.seed, plan.engines)]
    work = _work(drawn, plan.cases, plan.seed)
    work += _work(wide_machines(arch)[: plan.wide], WIDE_CASES, plan.seed)
    steps = len(work) + (len(plan.engines) if mutations else 0)
    progress("building", 0, steps)
    for each, report in check(work, plan.jobs, verilator=plan.simulator == "verilator"):
        found.reports.append((each, report))
        progress(each.engine, len(found.reports), steps)
    if mutations:
        with tempfile.TemporaryDirectory(prefix="h2sim-rtl-") as root, ProcessPoolExecutor(plan.jobs) as pool:
            futures = {e: pool.submit(_mutations, arch, e, plan, Path(root) / e) for e in plan.engines}
            for done, (engine, future) in enumerate(futures.items(), len(work) + 1):
                found.mutations[engine] = future.result()
                progress(f"{engine} mutations", done, steps)
    return found


def _work(built: Sequence[Hardware], cases: int, seed: int) -> list[tuple[Hardware, range]]:
    """Every machine with seeds of its own, and others for every `seed`."""
    first = [(seed * len(built) + i) * cases for i in range(len(built))]
    return [(each, range(at, at + cases)) for each, at in zip(built, first, strict=True)]


def _mutations(arch: Arch, engine: str, plan: Plan, folder: Path) -> dict[str, int]:
    hardware = replace(mutation_machine(arch, engine), planes=plan.planes)
    return check_mutations(hardware, VerilatorBench(hardware.parameters(), folder), plan.mutation_cases)


def by_kind(found: Found) -> list[tuple[str, str, int, int]]:
    """Rows of (engine, kind of layer, cases, disagreements), in the order of the engines."""
    rows = []
    for engine in ENGINES:
        total = Report()
        for hardware, report in found.reports:
            if hardware.engine == engine:
                total.merge(report)
        for kind, cases in total.cases.items():
            wrong = len({d.split(" on ")[0] for d in total.disagreements if d.startswith(f"{kind} ")})
            rows.append((engine, kind, cases, wrong))
    return rows


def markdown(found: Found, arch: Arch) -> str:
    """The record of a co-simulation as Markdown: what ran, on what, and what it found."""
    plan, total = found.plan, found.total
    lines = [
        "# Record of a co-simulation",
        "",
        f"`{_command(plan, bool(found.mutations))}`, h2sim {__version__}, amaranth {version('amaranth')}, "
        f"{_simulator(plan)}, Python {platform.python_version()}.",
        "",
        f"**{total.n_cases:,} cases, {len(total.disagreements)} disagreements**, {total.cycles:,} RTL cycles on "
        f"{len(found.reports)} machines. {total.stalled_cases:,} of the cases ran with late buffers and stalled. "
        f"In {total.adder_conflicts:,} cycles the LUTs' programming adders added while windows were in an Acc tree.",
        "",
        "| engine | layer | cases | cases that disagree |",
        "|---|---|---|---|",
        *(f"| {engine} | {kind} | {cases:,} | {wrong} |" for engine, kind, cases, wrong in by_kind(found)),
    ]
    lines += ["", "| corner (a case may lie in several) | cases |", "|---|---|"]
    lines += [f"| {corner} | {total.corners.get(corner, 0):,} |" for corner in corners_drawn(plan.planes)]
    lines += _by_planes(total, plan.planes) if plan.planes > 1 else []
    if found.mutations:
        lines += ["", f"## Mutations: the simulator changed, the RTL not ({plan.mutation_cases:,} cases each)", ""]
        lines += ["A mutation of a corner is shown to the cases of that corner alone.", ""]
        lines += ["| engine | machine | corner | mutation | cases that notice |", "|---|---|---|---|---|"]
        for engine, noticed in found.mutations.items():
            machine = mutation_machine(arch, engine)
            lines += [
                f"| {engine} | {machine} | {corner_of(engine, name) or 'any'} | {name} | {count:,} |"
                for name, count in noticed.items()
            ]
    lines += [
        "",
        "## Machines",
        "",
        "| engine | machine | cases | RTL cycles | disagreements |",
        "|---|---|---|---|---|",
    ]
    for hardware, report in found.reports:
        numbers = f"{report.n_cases:,} | {report.cycles:,} | {len(report.disagreements)}"
        lines.append(f"| {hardware.engine} | {hardware} | {numbers} |")
    return "\n".join(lines) + "\n"


def _command(plan: Plan, mutations: bool) -> str:
    command = f"h2sim rtl check --machines {plan.machines} --cases {plan.cases} --seed {plan.seed}"
    command += f" --wide {plan.wide}" if plan.wide else ""
    command += "".join(f" --engine {engine}" for engine in plan.engines) if plan.engines != ENGINES else ""
    command += f" --planes {plan.planes}" if plan.planes > 1 else ""
    command += " --mutations" if mutations else ""
    fewer = mutations and plan.mutation_cases != MUTATION_CASES
    return command + (f" --mutation-cases {plan.mutation_cases}" if fewer else "")


def _by_planes(total: Report, most: int) -> list[str]:
    """A table of how many cases of the LUT engines have how many bit planes."""
    numbers = range(1, most + 1)
    lines = ["", f"| bit planes | {' | '.join(map(str, numbers))} |", f"|---{'|---' * most}|"]
    kinds = [kind for engine in ("forward", "weight_update") for kind in KINDS[engine]]
    return lines + [f"| {kind} | {' | '.join(f'{total.planes[kind, n]:,}' for n in numbers)} |" for kind in kinds]


def _simulator(plan: Plan) -> str:
    if plan.simulator != "verilator":
        return "Amaranth's simulator"
    done = subprocess.run([shutil.which("verilator") or "verilator", "--version"], capture_output=True, text=True)
    return " ".join(done.stdout.split()[:2])
