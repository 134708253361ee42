"""Test benches of an engine: Verilator (compiled once, for thousands of cases) and Amaranth's own simulator.

Both serve the buffer ports from the images of a Case, and know nothing else of the engines. harness.cpp is the compiled
twin of AmaranthBench.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from amaranth.sim import Simulator

from h2sim.arrays import Array
from h2sim.errors import ToolError
from h2sim.rtl.design import Engine, is_wide, new_engine, served_modules, verilog_modules
from h2sim.rtl.parameters import BackwardParameters, LutParameters
from h2sim.rtl.primitives import COUNT_BITS, ReadPort, WritePort

Parameters = LutParameters | BackwardParameters
MOST_CYCLES = 2_000_000
MOST_FLAT_PES = 64  # 8x16x4 PEs took over ten minutes to compile in one piece, and one unit by unit
LATEST = 120  # cycles by which a half may be late
HARNESS = Path(__file__).with_name("harness.cpp")


@dataclass(frozen=True)
class Image:
    """What a buffer holds: int64 words, indexed by shared counters, then bank, then the lane's own coordinates.

    Axes that are broadcast take no memory.
    """

    words: Array


@dataclass(frozen=True)
class Case:
    """One layer on one engine: configuration registers, buffer images, and the shape of what is written.

    results_shape: extents of the result port's shared counters. stall_seed: 0 refills the buffers' halves at once, so
    that the engine never waits; another seed draws how many cycles each refill is late.
    """

    config: dict[str, int]
    images: dict[str, Image]
    results_shape: tuple[int, ...]
    stall_seed: int = 0


@dataclass(frozen=True, eq=False)
class RtlRun:
    """What the clocked design did in one case.

    total_cycles: from the first cycle to the one in which the last result is in its register. adder_conflicts: cycles
    in which programming adds while the Acc tree does. results: unsigned words, (*results_shape, lanes).
    """

    total_cycles: int
    compute_cycles: int
    stall_cycles: int
    adder_conflicts: int
    overrun: bool
    iteration_cycles: list[int] = field(repr=False)
    results: Array = field(repr=False)

    @property
    def fill_cycles(self) -> int:
        """Cycles that are neither compute nor stall: the fill of the pipeline."""
        return self.total_cycles - self.compute_cycles - self.stall_cycles


def read_ports(engine: Engine) -> list[ReadPort]:
    """The buffer ports from which an engine reads."""
    return [port for port in engine.ports if isinstance(port, ReadPort)]


def write_port(engine: Engine) -> WritePort:
    """The port to which an engine writes its results."""
    return next(port for port in engine.ports if isinstance(port, WritePort))


class Context(Protocol):
    """What Amaranth's simulator hands to a test bench, as far as it is used here."""

    def get(self, signal: object, /) -> int: ...
    def set(self, signal: object, value: int, /) -> None: ...
    def tick(self) -> Awaitable[object]: ...


class AmaranthBench:
    """Runs cases on Amaranth's simulator, which is slow but needs nothing beside Amaranth."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    def run(self, cases: Sequence[Case]) -> Iterator[RtlRun]:
        for case in cases:
            engine = new_engine(self.parameters)
            simulator = Simulator(engine)
            simulator.add_clock(1.25e-9)
            found: list[RtlRun] = []

            async def bench(
                ctx: Context, engine: Engine = engine, case: Case = case, found: list[RtlRun] = found
            ) -> None:
                found.append(await AmaranthRun(ctx, engine, case).drive())

            simulator.add_testbench(bench)
            simulator.run()
            yield found[0]


class AmaranthRun:
    """Runs one case on Amaranth's simulator. harness.cpp does the same, step by step."""

    def __init__(self, ctx: Context, engine: Engine, case: Case) -> None:
        self.ctx, self.engine, self.case = ctx, engine, case
        self.results = np.zeros((*case.results_shape, write_port(engine).lanes), np.uint64)
        self.refills: dict[str, list[int]] = {half: [] for half in engine.halves}
        self.random = random.Random(case.stall_seed)
        self.iterations: list[int] = []
        self.compute = self.compute_end = self.conflicts = self.last = 0
        self.overrun = False

    def get(self, name: str) -> int:
        """The value of one of the engine's ports."""
        return self.ctx.get(getattr(self.engine, name))

    def set(self, name: str, value: int) -> None:
        """Sets one of the engine's inputs."""
        self.ctx.set(getattr(self.engine, name), value)

    async def drive(self) -> RtlRun:
        """Runs the case. Both halves of the buffers are filled first; the engine is started in cycle -1."""
        for name in self.engine.config:
            self.set(name, self.case.config[name])
        for half in self.engine.halves:
            self.set(f"{half}_filled", 1)
        for cycle in range(-3, MOST_CYCLES):
            self.set("start", int(cycle == -1))
            data = {port.name: self._served(port) for port in read_ports(self.engine)}
            if cycle >= 0:
                self._observe(cycle)
                if self.get("done"):
                    return self._run()
            self._note_released(cycle)
            await self.ctx.tick()
            for name, word in data.items():
                self.set(f"{name}_data", word)
            self._refill(cycle + 1)
        raise ToolError(f"{self.engine.module}: expected an end; got none after {MOST_CYCLES} cycles")

    def _observe(self, cycle: int) -> None:
        if self.get("computing"):
            self.compute, self.compute_end = self.compute + 1, cycle + 1
        if self.get("iteration_end"):
            self.iterations.append(self.compute - sum(self.iterations))
        self.conflicts += self.get("adder_conflict")
        self.overrun |= bool(self.get("overrun"))
        if self.get("results_valid"):
            self.last = cycle
            self._store()

    def _run(self) -> RtlRun:
        stalls = self.compute_end - self.compute
        return RtlRun(
            total_cycles=self.last,
            compute_cycles=self.compute,
            stall_cycles=stalls,
            adder_conflicts=self.conflicts,
            overrun=self.overrun,
            iteration_cycles=self.iterations,
            results=self.results,
        )

    def _note_released(self, cycle: int) -> None:
        for half, due in self.refills.items():
            if self.get(f"{half}_released"):
                due.append(cycle + 1 + (self.random.randrange(LATEST) if self.case.stall_seed else 0))

    def _refill(self, cycle: int) -> None:
        """Fills halves of buffers: at most one of each buffer a cycle, and both in cycles -3 and -2."""
        for half, due in self.refills.items():
            ready = [t for t in due if t <= cycle][:1]
            for t in ready:
                due.remove(t)
            self.set(f"{half}_filled", int(bool(ready) or cycle == -2))

    def _served(self, port: ReadPort) -> int:
        """The data word of a buffer port for the address that it has now."""
        image = self.case.images[port.name].words
        shared = _fields(self.get(f"{port.name}_shared"), len(port.shared))
        own = self.get(f"{port.name}_own") if port.own else 0
        word = 0
        for lane in range(port.lanes):
            index, low = [*shared, lane // port.sharers], lane * port.own_bits
            for _, bits in port.own:
                index.append(own >> low & ((1 << bits) - 1))
                low += bits
            inside = all(i < n for i, n in zip(index, image.shape, strict=True))
            value = int(image[tuple(index)]) if inside else 0
            word |= (value & ((1 << port.width) - 1)) << (lane * port.width)
        return word

    def _store(self) -> None:
        port = write_port(self.engine)
        shared = _fields(self.get("results_shared"), len(port.shared))
        data, mask = self.get("results_data"), (1 << port.width) - 1
        self.results[shared] = [data >> (lane * port.width) & mask for lane in range(port.lanes)]


def _fields(vector: int, count: int) -> tuple[int, ...]:
    """The counters that a port's address consists of."""
    return tuple(vector >> (COUNT_BITS * i) & ((1 << COUNT_BITS) - 1) for i in range(count))


class VerilatorBench:
    """Compiles an engine's Verilog with harness.cpp in `folder` by Verilator, and runs many cases in one process.

    Raises ToolError where a tool is missing or fails.
    """

    def __init__(self, parameters: Parameters, folder: Path) -> None:
        engine = new_engine(parameters)
        engine._MustUse__silence = True
        self.engine, self.folder = engine, folder
        folder.mkdir(parents=True, exist_ok=True)
        boxed = is_boxed(engine)
        text = served_modules(parameters) if boxed else "\n".join(verilog_modules(parameters).values())
        (folder / "engine.v").write_text(text)
        (folder / "ports.h").write_text(_header(engine, boxed))
        command = [
            "verilator",
            "--cc",
            "--exe",
            "--build",
            "-O3",
            "-Wno-fatal",
            "-Wno-lint",
            "--top-module",
            engine.module,
        ]
        command += ["--hierarchical"] if boxed else []
        command += ["-Mdir", str(folder / "build"), "-CFLAGS", f"-O1 -I{folder}", "--prefix", "Engine", "-o", "engine"]
        done = subprocess.run([*command, str(folder / "engine.v"), str(HARNESS)], capture_output=True, text=True)
        if done.returncode:
            raise ToolError(f"verilator: {engine.module}: expected a program; got {_last_error(done)}")
        self.program = folder / "build" / "engine"

    def run(self, cases: Sequence[Case]) -> Iterator[RtlRun]:
        (self.folder / "cases.bin").write_bytes(b"".join(_bytes(self.engine, case) for case in cases))
        done = subprocess.run([self.program, "cases.bin", "runs.bin"], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise ToolError(f"{self.engine.module}: expected runs of {len(cases)} cases; got {_last_error(done)}")
        numbers = np.fromfile(self.folder / "runs.bin", np.int64)
        at = 0
        for case in cases:
            total, compute, stalls, conflicts, overrun, n_iterations = (int(v) for v in numbers[at : at + 6])
            at += 6
            iterations = numbers[at : at + n_iterations].tolist()
            at += n_iterations
            shape = (*case.results_shape, write_port(self.engine).lanes)
            results = numbers[at : at + int(np.prod(shape))].view(np.uint64).reshape(shape)
            at += results.size
            yield RtlRun(
                total_cycles=total,
                compute_cycles=compute,
                stall_cycles=stalls,
                adder_conflicts=conflicts,
                overrun=bool(overrun),
                iteration_cycles=iterations,
                results=results,
            )


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    """The first line of a tool's output that names an error, else its first line."""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    wrong = [line for line in lines if "rror" in line]
    return (wrong or lines or [f"exit status {done.returncode}"])[0].strip()


def has_verilator() -> bool:
    """Whether Verilator, a C++ compiler and make are on the PATH."""
    return all(shutil.which(tool) for tool in ("verilator", "g++", "make"))


def is_boxed(engine: Engine) -> bool:
    """Whether Verilator compiles an engine's units one by one, and serves its buffers in boxes (design.served_modules).

    So it does engines of many PEs, and those that have no room for ports.
    """
    p = engine.parameters
    return p.rows * p.columns * p.parallelism > MOST_FLAT_PES or is_wide(engine)


def _header(engine: Engine, boxed: bool) -> str:
    """The C++ macros that tell harness.cpp what ports an engine has; those of a boxed one lie in boxes."""
    lines = ["#pragma once", f"#define BOXED {int(boxed)}"]
    for port in read_ports(engine):
        box = f"top->rootp->{engine.module}__DOT__{port.name}_0__DOT__"
        for part in ("shared", "own", "data"):
            where = f"{box}{'served' if part == 'data' else part}" if boxed else f"top->{port.name}_{part}"
            lines.append(f"#define AT_{port.name}_{part} {where}")
    config = " ".join(f"X({name}, {len(getattr(engine, name))})" for name in engine.config)
    lines.append(f"#define CONFIG(X) {config}")
    shared = [p for p in read_ports(engine) if not p.own]
    own = [p for p in read_ports(engine) if p.own]
    plain = " ".join(f"X({p.name}, {p.lanes}, {p.width}, {len(p.shared)}, {p.sharers})" for p in shared)
    lines.append(f"#define SHARED_PORTS(X) {plain}")
    rows = []
    for p in own:
        widths = [bits for _, bits in p.own]
        first, second = widths[0], widths[1] if len(widths) > 1 else 0
        rows.append(f"X({p.name}, {p.lanes}, {p.width}, {len(p.shared)}, {p.sharers}, {first}, {second})")
    lines.append(f"#define OWN_PORTS(X) {' '.join(rows)}")
    results = write_port(engine)
    lines.append(f"#define RESULTS {results.lanes}, {results.width}, {len(results.shared)}")
    lines.append(f"#define HALVES(X) {' '.join(f'X({half})' for half in engine.halves)}")
    return "\n".join(lines) + "\n"


def _bytes(engine: Engine, case: Case) -> bytes:
    """A case as int64 words in the order in which harness.cpp reads them: configuration, ports, results, stall seed."""
    words = [case.config[name] for name in engine.config]
    parts = [np.array(words, np.int64)]
    for port in (*[p for p in read_ports(engine) if not p.own], *[p for p in read_ports(engine) if p.own]):
        image = case.images[port.name].words
        repeated = [n > 1 and stride == 0 for n, stride in zip(image.shape, image.strides, strict=True)]
        stored = np.ascontiguousarray(image[tuple(slice(0, 1) if r else slice(None) for r in repeated)], np.int64)
        strides = [0 if r else stride // stored.itemsize for r, stride in zip(repeated, stored.strides, strict=True)]
        parts += [np.array([*image.shape, *strides, stored.size], np.int64), stored.ravel()]
    parts.append(np.array([*case.results_shape, case.stall_seed], np.int64))
    return b"".join(part.tobytes() for part in parts)
