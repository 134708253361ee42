"""Scaling of energy tables from one technology node to another: a factor per quantity, with its range and source.

The factors stand in energy_tables/parts/scaling.yaml. They hold for logic at one voltage. SRAM is not scaled: the
scaled table takes macros that were modelled at its own node.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from h2sim.energy.load import load_sram_part, parse_energy_table, parts_folder
from h2sim.energy.table import EnergyTable, Sram
from h2sim.energy.transform import Factors, multiplied
from h2sim.errors import EnergyTableError, at
from h2sim.io.faults import describe
from h2sim.io.strict import Strict
from h2sim.io.yamlfile import read_mapping

Quantity = Literal["energy", "area", "delay", "leakage"]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
DIGITS = 6  # significant, of a scaled table's numbers


class Factor(Strict):
    """What a quantity of logic is multiplied by from from_nm to to_nm; low to high is the range that sources give."""

    quantity: Quantity
    from_nm: Positive
    to_nm: Positive
    value: Positive
    low: Positive
    high: Positive
    condition: str
    method: str
    source: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"expected low <= value <= high; got {self.low}, {self.value}, {self.high}")
        return self


class Check(Strict):
    """The factor that another source gives for the same quantity and nodes."""

    quantity: Quantity
    from_nm: Positive
    to_nm: Positive
    value: Positive
    source: str


class ScalingRules(Strict):
    """All known factors, and what other sources give (checks)."""

    factors: tuple[Factor, ...]
    checks: tuple[Check, ...]


def energy_factor(from_nm: float, to_nm: float) -> Factor:
    """The factor of dynamic energy of an operation, at the same voltage.

    Raises EnergyTableError for a pair of nodes whose factor is not known.
    """
    return _factor("energy", from_nm, to_nm)


def area_factor(from_nm: float, to_nm: float) -> Factor:
    """The factor of area. Raises EnergyTableError for a pair of nodes whose factor is not known."""
    return _factor("area", from_nm, to_nm)


def delay_factor(from_nm: float, to_nm: float) -> Factor:
    """The factor of delay. Raises EnergyTableError for a pair of nodes whose factor is not known."""
    return _factor("delay", from_nm, to_nm)


def leakage_factor(from_nm: float, to_nm: float) -> Factor:
    """The factor of leakage power of a unit, assumed to be that of SRAM [A].

    Raises EnergyTableError for a pair of nodes whose factor is not known.
    """
    return _factor("leakage", from_nm, to_nm)


def voltage_factor(from_v: float, to_v: float) -> float:
    """The factor of dynamic energy from one voltage to another: (to_v / from_v)^2, for E = C V^2.

    Raises EnergyTableError unless both voltages are above 0.
    """
    if not (from_v > 0 and to_v > 0):
        raise EnergyTableError(at("scaling", "voltage", "volts above 0", f"{from_v:g} to {to_v:g}"))
    return (to_v / from_v) ** 2


def scale_table(table: EnergyTable, to_nm: float, sram: str, folder: Path = Path(), name: str = "") -> EnergyTable:
    """`table` at another node: prices of logic times the factors, and SRAM macros of the node `to_nm`.

    sram: name of an SRAM part, or its file, relative to `folder`. name: of the new table. The ranges low_pj to high_pj
    are widened by the factors' own ranges. Voltage and off-chip memory, which is another chip, stay as they are.
    Numbers are rounded to 6 significant digits. Raises EnergyTableError for a pair of nodes whose factor is not known,
    and for macros of another node.
    """
    energy, area = energy_factor(table.node_nm, to_nm), area_factor(table.node_nm, to_nm)
    leakage = leakage_factor(table.node_nm, to_nm)
    part = load_sram_part(sram, f"scale {table.name}", folder)
    if part.node_nm != to_nm:
        raise EnergyTableError(at(f"scale {table.name}", "sram", f"macros of {to_nm:g} nm", f"{part.node_nm:g} nm"))
    note = (
        f"scaled {table.node_nm:g} to {to_nm:g} nm: energy x {energy.value:g}, area x {area.value:g}, "
        f"leakage x {leakage.value:g} [A]"
    )
    factors = Factors(energy.value, area.value, leakage.value, energy.low, energy.high)
    scaled = multiplied(table.model_dump(), factors, note, with_sram=False)
    data = {key: _rounded(value) for key, value in scaled.items()}
    described = f"{table.name}: logic scaled from {table.node_nm:g} nm, SRAM native to {to_nm:g} nm, off chip as it was"
    macros = {field: getattr(part, field) for field in Sram.model_fields}
    new = {"name": name or f"{table.name}-to-{to_nm:g}nm", "node_nm": to_nm, "description": described, "sram": macros}
    return parse_energy_table({**data, **new}, f"scale {table.name}")


@cache
def rules() -> ScalingRules:
    """The shipped factors and checks. Raises EnergyTableError if their file is not as it should be."""
    data, path = read_mapping("energy table", parts_folder() / "scaling.yaml", EnergyTableError)
    try:
        return ScalingRules.model_validate(data)
    except ValidationError as error:
        raise EnergyTableError(*describe(error, ScalingRules, str(path))) from None


def _factor(quantity: Quantity, from_nm: float, to_nm: float) -> Factor:
    if from_nm == to_nm:
        same = {"condition": "same node", "method": "none", "source": "none"}
        return Factor(quantity=quantity, from_nm=from_nm, to_nm=to_nm, value=1.0, low=1.0, high=1.0, **same)
    known = [f for f in rules().factors if f.quantity == quantity]
    for factor in known:
        if (factor.from_nm, factor.to_nm) == (from_nm, to_nm):
            return factor
    pairs = ", ".join(f"{f.from_nm:g} to {f.to_nm:g}" for f in known)
    got = f"{from_nm:g} to {to_nm:g}"
    raise EnergyTableError(at("scaling", f"{quantity} between nodes", f"one of {pairs} nm", got))


def _rounded(value: object) -> object:
    """Plain data with every float rounded to 6 significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
