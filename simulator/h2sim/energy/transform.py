"""Multiplies all prices of an energy table by factors: to go to another node, or to meet a calibration target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from h2sim.energy.table import Macro


@dataclass(frozen=True)
class Factors:
    """What energies, areas and leakage are multiplied by.

    energy_low to energy_high, where given, is the range of the energy factor itself: it widens the ranges of prices.
    """

    energy: float
    area: float
    leakage: float
    energy_low: float | None = None
    energy_high: float | None = None


def multiplied(table: dict[str, Any], factors: Factors, note: str, *, with_sram: bool) -> dict[str, Any]:
    """An EnergyTable, given and returned as plain data, with every on-chip price times its factor.

    Each entry's method then begins with `note`. Off-chip memory stays as it is, for it is another chip, and so does
    SRAM unless with_sram.
    """
    changed = dict(table)
    changed["actions"] = {name: _entry(entry, factors, note) for name, entry in table["actions"].items()}
    changed["luts"] = [_entry(lut, factors, note) for lut in table["luts"]]
    if with_sram:
        changed["sram"] = _sram(table["sram"], factors, note)
    return changed


def _entry(entry: dict[str, Any], factors: Factors, note: str) -> dict[str, Any]:
    """An entry of a unit or a LUT; the end of a field's name (_pj, _um2, _uw) says which factor it takes."""
    changed = dict(entry)
    by_unit = {"_pj": factors.energy, "_um2": factors.area, "_uw": factors.leakage}
    for name, value in entry.items():
        unit = next((u for u in by_unit if name.endswith(u)), None)
        if unit and value is not None:
            changed[name] = value * by_unit[unit]
    centre = entry["energy_pj"] if "energy_pj" in entry else entry["read_pj"]
    for name, bound in (("low_pj", factors.energy_low), ("high_pj", factors.energy_high)):
        if bound is not None:
            changed[name] = (centre if entry[name] is None else entry[name]) * bound
    return {**changed, "method": f"{note}; before: {entry['method']}"}


def _sram(sram: dict[str, Any], factors: Factors, note: str) -> dict[str, Any]:
    macros = [
        m._replace(
            read_pj=m.read_pj * factors.energy,
            write_pj=m.write_pj * factors.energy,
            leakage_mw=m.leakage_mw * factors.leakage,
            area_um2=m.area_um2 * factors.area,
        )
        for m in (Macro(*macro) for macro in sram["macros"])
    ]
    return {**sram, "macros": macros, "method": f"{note}; before: {sram['method']}"}
