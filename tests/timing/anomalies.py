"""Are smaller buffers ever faster? `python -m tests.timing.anomalies -o reports/buffers.json` looks for it.

The schedule is monotone for one stream on one memory, and where memory takes no time: tests/timing/
test_schedule_reference.py holds it. With several streams on several memories no rule that serves in order is, so this
command measures how large the exceptions are: random machines, all their buffers scaled, on shipped traces.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import h2sim
from h2sim.arch.schema import Arch
from h2sim.io.files import write_text
from h2sim.memory.schedule import schedule
from h2sim.pipeline.step import build_jobs

SCALES = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 4)
TRACES = ("mnist-digits", "mnist-table34")
CHOICES = {
    "engines.forward.rows": (16, 32, 64, 128),
    "engines.forward.columns": (8, 16, 32),
    "engines.backward.rows": (8, 16, 32),
    "engines.backward.columns": (32, 64, 128),
    "engines.weight_update.columns": (64, 128),
    "tile": ([4, 4], [4, 8], [7, 7], [8, 8]),
    "memory.bandwidth_bytes_per_s": (32 * 10**9, 64 * 10**9, 128 * 10**9, 256 * 10**9),
}


def random_machine(rng: np.random.Generator) -> Arch:
    """h2learn with one of CHOICES for each of their fields."""
    drawn = {path: values[int(rng.integers(len(values)))] for path, values in CHOICES.items()}
    return h2sim.load_arch("h2learn").with_(drawn)


def scaled(arch: Arch, scale: float) -> Arch:
    """The machine with all buffers so many times as large, of at least a word in each bank."""
    changes = {}
    for engine, of in arch.engines:
        for name, buffer in of.buffers:
            least = buffer.banks * buffer.word_bits // 8
            changes[f"engines.{engine}.buffers.{name}.bytes"] = max(least, int(buffer.bytes * scale))
    return arch.with_(changes)


def excess(cycles: list[int]) -> float:
    """By what share the slowest larger buffer is slower than a smaller one; cycles are in the order of SCALES."""
    return max(later / min(cycles[: n + 1]) - 1 for n, later in enumerate(cycles))


def study(machines: int, seed: int) -> dict[str, object]:
    """The largest excess over random machines and traces, and how many of them have one."""
    rng = np.random.default_rng(seed)
    traces = [h2sim.load_trace(name) for name in TRACES]
    found = []
    for number in range(machines):
        arch = random_machine(rng)
        for trace in traces:
            sizes = [scaled(arch, scale) for scale in SCALES]
            jobs = [[job for part in build_jobs(a, trace) for job in part] for a in sizes]
            cycles = [schedule(a, of).makespan_cycles for a, of in zip(sizes, jobs, strict=True)]
            found.append(excess(cycles))
        print(f"{number + 1} of {machines} machines", end="\r", flush=True)
    return {
        "command": f"python -m tests.timing.anomalies --machines {machines} --seed {seed}",
        "h2sim": h2sim.__version__,
        "traces": list(TRACES),
        "scales": list(SCALES),
        "cases": len(found),
        "slower_with_larger_buffers": sum(share > 0 for share in found),
        "slower_by_more_than_0.1_percent": sum(share > 0.001 for share in found),
        "slower_by_more_than_1_percent": sum(share > 0.01 for share in found),
        "largest_percent": round(100 * max(found), 3),
    }


def main() -> None:
    """Runs the study and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=54)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    text = json.dumps(study(asked.machines, asked.seed), indent=1) + "\n"
    print(text)
    if asked.output:
        write_text(asked.output, text)


if __name__ == "__main__":
    main()
