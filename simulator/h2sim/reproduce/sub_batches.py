"""Summaries of several sub-batches of real training, as `h2sim run ARCH TRACE... --csv FILE` wrote them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from h2sim.arch import Arch, arch_sha256
from h2sim.compare.interval import Interval, interval
from h2sim.errors import GpuTraceError, ReproductionError, at
from h2sim.gpu.files import load_gpu_trace
from h2sim.io import library

LEAST = 8  # sub-batches: of fewer an interval says little
ENDS = ("mean", "low", "high")  # the rows of a summary that are no trace
QUANTITIES = ("steady_cycles", "backward_compute_cycles", "seconds_per_sample", "energy_j_per_sample")


@dataclass(frozen=True, kw_only=True)
class SubBatches:
    """One summary. intervals: of each of QUANTITIES over the sub-batches; current: whether the machine is that of the
    report; v100_seconds: of a sample on the V100, None for a network that table 3.1 does not have."""

    name: str
    network: str
    intervals: Mapping[str, Interval]
    current: bool
    v100_seconds: float | None


def load_all(arch: Arch) -> tuple[SubBatches, ...]:
    """All shipped summaries by name, beside a report of this machine. Raises ReproductionError, one line."""
    return tuple(load(library.find("sub-batches", name), arch) for name in library.names("sub-batches"))


def load(path: Path, arch: Arch) -> SubBatches:
    """One summary. Raises ReproductionError, one line, for a file that is none, or of too few different sub-batches."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("trace") not in ENDS]
    try:
        hashes = {row["trace_sha256"] for row in rows}
        machines, networks = {row["arch_sha256"] for row in rows}, {row["network"] for row in rows}
        values = {name: [float(row[name]) for row in rows] for name in QUANTITIES}
    except (KeyError, TypeError, ValueError) as error:
        raise ReproductionError(at(str(path), "columns", "those of `h2sim run ARCH TRACE... --csv`", error)) from None
    if len(hashes) < LEAST or len(hashes) != len(rows) or len(machines) != 1 or len(networks) != 1:
        expected = f"at least {LEAST} different sub-batches of one network on one machine"
        raise ReproductionError(at(str(path), "rows", expected, f"{len(hashes)} in {len(rows)} rows"))
    (network,) = networks
    found = {name: interval(each) for name, each in values.items()}
    return SubBatches(
        name=path.stem,
        network=network,
        intervals=found,
        current=machines == {arch_sha256(arch)},
        v100_seconds=_v100_seconds(network),
    )


def _v100_seconds(network: str) -> float | None:
    try:
        return load_gpu_trace(f"v100-{network}").to_measurement().seconds_per_sample
    except GpuTraceError:
        return None
