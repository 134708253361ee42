"""Energy tables in the terminal, and as YAML that can be read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from h2sim.energy import EnergyTable
from h2sim.report.text import new_table

if TYPE_CHECKING:
    from rich.console import Console


class _Dumper(yaml.SafeDumper):
    """Plain YAML in the order of the fields; a macro's row stands in one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _sequence(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    plain = all(not isinstance(item, list | dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


_Dumper.add_representer(list, _sequence)


def tables_list(console: Console, tables: Sequence[EnergyTable]) -> None:
    """One line per table: what it is, its SRAM, and the prices that decide most."""
    listed = new_table(
        "Energy tables (pJ: FP16 add and multiply, one word from a LUT of 8 and of 16 entries)",
        ["name", "kind", "SRAM"],
        ["node nm", "V", "SRAM K", "add", "multiply", "LUT 8", "LUT 16"],
    )
    for table in tables:
        actions = table.actions
        listed.add_row(
            table.name, table.kind, table.sram.flavour, f"{table.node_nm:g}", f"{table.voltage_v:g}",
            f"{table.sram.temperature_k:g}", f"{actions.fp16_add.energy_pj:.3f}",
            f"{actions.fp16_multiply.energy_pj:.3f}", f"{table.lut_read_pj(8):.3f}", f"{table.lut_read_pj(16):.3f}",
        )  # fmt: skip
    console.print(listed)
    console.print("calibrated: fitted to the source's totals, never evidence for them; derived: from its own claims")


def table_yaml(table: EnergyTable, sram_part: str | None = None) -> str:
    """A whole table as YAML, with its macros or, if `sram_part` names them, with that part's name instead."""
    data = table.model_dump(mode="json", exclude_none=True)
    if sram_part:
        data["sram"] = {"part": sram_part}
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)
