"""Names, numbers and columns of sweeps as people read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from h2sim.document import Cell, Column, Number, amount, percent, significant, times
from h2sim.io.names import distinct_ends
from h2sim.sweeps.findings import Findings
from h2sim.sweeps.frame import Row
from h2sim.sweeps.spec import Direction

GAINED = {"seconds": "faster", "energy_j": "less energy", "area_mm2": "smaller"}  # how a machine is better in a result
BEST = {"seconds": "fastest", "energy_j": "least energy", "area_mm2": "smallest"}
UNITS = {"_js": "J s", "_j": "J", "_w": "W"}
RESULTS = {
    "seconds": "time of a sub-batch",
    "energy_j": "energy of a sub-batch",
    "area_mm2": "area",
    "average_power_w": "power",
    "energy_delay_js": "energy x time",
}
LARGE = 1_000_000  # from here on a parameter's whole number is written with an exponent: 128e9


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """The shortest ends of dotted paths that tell them apart: `rows`, or `backward.rows` beside `forward.rows`."""
    return distinct_ends(paths, ".")


def parameter_text(value: Any) -> str:
    """A parameter's value: `8`, `128e9`, `[4, 8]`, `dual`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(parameter_text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {parameter_text(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        value = int(value)
    if isinstance(value, int):
        return _with_exponent(value) if abs(value) >= LARGE else str(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _with_exponent(value: int) -> str:
    exponent = 0
    while value % 1000 == 0:
        value, exponent = value // 1000, exponent + 3
    return f"{value}e{exponent}" if exponent else str(value)


def parameter_cell(value: Any) -> Cell:
    """The same as a cell of a table."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Number(parameter_text(value), value) if is_number else parameter_text(value)


def result_text(name: str, value: float | int | None) -> str:
    """A result with its unit: `96.20 us`, `36.95` (mm2), `12.3%`; '-' where it is not known."""
    result = name.partition("[")[0]
    if value is None:
        return "-"
    if result == "seconds":
        return amount(value, "s")
    unit = next((unit for end, unit in UNITS.items() if result.endswith(end)), None)
    if unit:
        return amount(value, unit)
    if result.endswith("_utilization"):
        return percent(value, 1)
    return significant(value, 4)


def result_cell(name: str, value: float | int | None) -> Number:
    """The same as a cell of a table."""
    return Number(result_text(name, value), value)


def result_name(name: str) -> str:
    """A result in words, for pictures: `time of a sub-batch`, `forward stall memory read cycles`."""
    result, _, trace = name.partition("[")
    return RESULTS.get(result, result.replace("_", " ")) + (f" ({trace[:-1]})" if trace else "")


def gain_name(objective: str) -> str:
    """The name of a column that says how many times better a machine is than the base."""
    return f"x {GAINED[objective]}" if objective in GAINED else f"x better {objective}"


def gain_text(ratio: float | None, objective: str, base: str) -> str:
    """`1.40x faster than h2learn`; `0.90x as fast as` where it is worse."""
    if ratio is None:
        return f"not comparable with {base} in {objective}"
    said = f"{GAINED[objective]} than" if objective in GAINED else f"better in {objective} than"
    return f"{times(ratio)} {said} {base}"


def best_name(objective: str, direction: Direction) -> str:
    """`fastest`, `least energy`, `most samples_per_second`."""
    if objective in BEST and direction == "minimize":
        return BEST[objective]
    return f"{'least' if direction == 'minimize' else 'most'} {objective}"


def base_name(findings: Findings) -> str:
    """The machine that parameters change."""
    return findings.plan.machines.base.name


def varied_among(findings: Findings, rows: Sequence[Row]) -> list[str]:
    """The parameters that tell the rows apart; of one row all that the sweep varies."""
    if len(rows) < 2:
        return findings.varied
    return [p for p in findings.varied if len({repr(findings.parameter(p)(row)) for row in rows}) > 1]


def row_columns(
    findings: Findings,
    paths: Sequence[str],
    results: Sequence[str],
    gains: Sequence[str],
    *,
    with_table: bool = True,
) -> list[Column]:
    """Columns of parameters, results, and gains over the base; where there is no room gains go first.

    with_table: also the energy table, if the sweep has several.
    """
    names = short_names(paths)
    columns = [Column("id"), *([Column("energy table")] if with_table and len(findings.tables) > 1 else [])]
    columns += [Column(names[path], right=True, alone=path) for path in paths]
    columns += [Column(name, right=True) for name in results]
    columns += [Column(gain_name(n), right=True, drop=len(gains) - i, alone=gain_name(n)) for i, n in enumerate(gains)]
    return columns


def row_cells(
    findings: Findings,
    row: Row,
    paths: Sequence[str],
    results: Sequence[str],
    gains: Sequence[str],
    *,
    with_table: bool = True,
) -> list[Cell]:
    """The cells of a row for `row_columns`."""
    table = row.design.energy_table
    cells: list[Cell] = [row.id, *([table] if with_table and len(findings.tables) > 1 else [])]
    cells += [parameter_cell(findings.parameter(path)(row)) for path in paths]
    cells += [result_cell(name, row.value(name)) for name in results]
    ratios = [findings.gain(row, name, table) for name in gains]
    return [*cells, *(Number(times(ratio), ratio) for ratio in ratios)]
