"""The co-simulation: compares layers on the RTL with the simulator's stepped engines and its fast ones.

The cycles of every grid iteration, the fill, and every result must be equal.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from h2sim.arch.schema import Arch
from h2sim.rtl.bench import AmaranthBench, RtlRun, VerilatorBench
from h2sim.rtl.corners import corners_of
from h2sim.rtl.draw import WIDE
from h2sim.rtl.layers import KINDS, Hardware, Layer, hardware_of, layers, smaller

ENGINES = tuple(KINDS)


@dataclass
class Report:
    """What a check found: how many cases, by kind of layer and by corner; disagreements, one line each.

    planes: cases by kind of layer and number of bit planes.
    """

    cases: dict[str, int] = field(default_factory=dict)
    corners: dict[str, int] = field(default_factory=dict)
    planes: Counter[tuple[str, int]] = field(default_factory=Counter)
    cycles: int = 0
    stalled_cases: int = 0
    adder_conflicts: int = 0
    disagreements: list[str] = field(default_factory=list)

    def add(self, layer: Layer, run: RtlRun, hardware: Hardware) -> None:
        """Counts one layer, and compares what the RTL did with what the simulator says."""
        self.cases[layer.kind] = self.cases.get(layer.kind, 0) + 1
        self.planes[layer.kind, layer.planes] += 1
        engine = getattr(hardware.arch.engines, hardware.engine)
        for corner in corners_of(layer.kind, layer.shape, engine, layer.planes):
            self.corners[corner] = self.corners.get(corner, 0) + 1
        self.cycles += run.total_cycles
        self.stalled_cases += run.stall_cycles > 0
        self.adder_conflicts += run.adder_conflicts
        self.disagreements += [f"{layer.kind} seed {layer.seed} on {hardware}: {d}" for d in differences(layer, run)]

    def merge(self, other: Report) -> None:
        """Adds what another check found."""
        for kind, count in other.cases.items():
            self.cases[kind] = self.cases.get(kind, 0) + count
        for corner, count in other.corners.items():
            self.corners[corner] = self.corners.get(corner, 0) + count
        self.planes += other.planes
        self.cycles += other.cycles
        self.stalled_cases += other.stalled_cases
        self.adder_conflicts += other.adder_conflicts
        self.disagreements += other.disagreements

    @property
    def n_cases(self) -> int:
        """Cases of all kinds."""
        return sum(self.cases.values())


def differences(layer: Layer, run: RtlRun) -> list[str]:
    """One line for each quantity in which RTL, stepped engine and fast engine differ.

    Where buffers are late, stalls hide the beginning of the fill, so only compute cycles and results are compared.
    """
    found = []

    def same(what: str, rtl: object, stepped: object, fast: object) -> None:
        if not rtl == stepped == fast:
            found.append(f"{what}: RTL {rtl}, stepped {stepped}, fast {fast} ({layer.about})")

    iterations = layer.fast.iteration_cycles.ravel().tolist()
    same("compute_cycles", run.compute_cycles, layer.reference.cycles, layer.fast.compute_cycles)
    same("iteration cycles", run.iteration_cycles, layer.reference.iteration_cycles, iterations)
    if layer.case.stall_seed == 0:
        stepped = layer.fill_cycles - layer.fast.neuron_cycles + layer.reference.neuron_cycles
        same("fill_cycles", run.fill_cycles, stepped, layer.fill_cycles)
    if run.overrun:
        found.append(f"a buffer overran ({layer.about})")
    for name, got in layer.read(run.results).items():
        wrong = int((got != layer.results[name]).sum())
        if wrong:
            found.append(f"{name}: {wrong} of {got.size} values differ ({layer.about})")
    return found


def machines(arch: Arch, count: int, seed: int = 0, engines: Sequence[str] = ENGINES) -> list[Hardware]:
    """Machines to check: of the engines in turn, first the arch itself with a smaller array, then random small ones."""
    own, n = [smaller(arch, engine) for engine in engines], len(engines)
    drawn = [hardware_of(np.random.default_rng([seed, i]), arch, engines[i % n]) for i in range(n, count)]
    return (own + drawn)[:count]


def wide_machines(arch: Arch) -> list[Hardware]:
    """Wide Backward Engines, the arch's own last: before it with half its rows and columns, and half of these.

    They end above draw.WIDE groups of PEs; an arch whose own engine has no more gives none.
    """
    found: list[Hardware] = []
    array = arch.engines.backward
    rows, columns = array.rows, array.columns
    while rows * columns > WIDE:
        size = {"engines.backward.rows": rows, "engines.backward.columns": columns}
        found.insert(0, Hardware("backward", arch.with_(size)))
        rows, columns = max(1, rows // 2), max(1, columns // 2)
    return found


def check_machine(hardware: Hardware, seeds: range, folder: Path | None) -> Report:
    """Builds one machine and compares a layer per seed: with Verilator in `folder`, or with Amaranth if it is None."""
    bench = AmaranthBench(hardware.parameters()) if folder is None else VerilatorBench(hardware.parameters(), folder)
    compared = list(layers(hardware, seeds))
    report = Report()
    for layer, run in zip(compared, bench.run([layer.case for layer in compared]), strict=True):
        report.add(layer, run, hardware)
    return report


def check(
    work: Sequence[tuple[Hardware, range]], workers: int, *, verilator: bool = True
) -> Iterator[tuple[Hardware, Report]]:
    """Checks machines with the layers of their seeds, `workers` at a time, and yields them in their order.

    The largest are begun first, so that none is left for one worker at the end.
    """
    with tempfile.TemporaryDirectory(prefix="h2sim-rtl-") as root, ProcessPoolExecutor(workers) as pool:
        futures = {}
        for i in sorted(range(len(work)), key=lambda i: -n_groups(work[i][0])):
            folder = Path(root) / str(i) if verilator else None
            futures[i] = pool.submit(check_machine, *work[i], folder)
        try:
            for i, (hardware, _) in enumerate(work):
                yield hardware, futures[i].result()
        finally:
            pool.shutdown(cancel_futures=True)


def n_groups(hardware: Hardware) -> int:
    """Rows times columns of a machine's array."""
    engine = getattr(hardware.arch.engines, hardware.engine)
    return int(engine.rows * engine.columns)
