"""Energy tables in the terminal, and as YAML that can be read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from h2sim.document import Document, counted, table
from h2sim.energy import EnergyTable


class PlainDumper(yaml.SafeDumper):
    """Plain YAML in the order of the fields; a macro's row stands in one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _sequence(dumper: PlainDumper, value: list[Any]) -> yaml.Node:
    plain = all(not isinstance(item, list | dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


PlainDumper.add_representer(list, _sequence)


def tables_document(tables: Sequence[EnergyTable]) -> Document:
    """One line per table: what it is, its SRAM, and the prices that decide most."""
    rows = []
    for entry in tables:
        actions, sram = entry.actions, entry.sram
        reads = (entry.lut_read_pj(8), entry.lut_read_pj(16))
        prices = (actions.fp16_add.energy_pj, actions.fp16_multiply.energy_pj, *reads)
        point = (f"{entry.node_nm:g}", f"{entry.voltage_v:g}", f"{sram.temperature_k:g}")
        rows.append((entry.name, entry.kind, sram.flavour, *point, *(f"{pj:.3f}" for pj in prices)))
    listed = table(
        "Energy tables (pJ: FP16 add and multiply, one word from a LUT of 8 and of 16 entries)",
        ["name", "kind", "SRAM"], ["node nm", "V", "SRAM K", "add", "multiply", "LUT 8", "LUT 16"], rows,
        drop=("SRAM K", "V", "LUT 8", "kind"),
        foot=("calibrated: fitted to the source's totals, never evidence for them; derived: from its own claims",),
    )  # fmt: skip
    adds = [entry.actions.fp16_add.energy_pj for entry in tables]
    range_ = f"; an FP16 add costs {min(adds):.3f} to {max(adds):.3f} pJ" if adds else ""
    return Document(f"{counted(len(tables), 'energy table')} shipped{range_}.", (listed,))


def table_yaml(table: EnergyTable, sram_part: str | None = None) -> str:
    """A whole table as YAML, with its macros or, if `sram_part` names them, with that part's name instead."""
    data = table.model_dump(mode="json", exclude_none=True)
    if sram_part:
        data["sram"] = {"part": sram_part}
    return yaml.dump(data, Dumper=PlainDumper, sort_keys=False, width=118, allow_unicode=True)
