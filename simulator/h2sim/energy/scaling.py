"""Scaling between nodes: one explicit function per quantity, each factor with its range and source.

The factors stand in energy_tables/parts/scaling.yaml and hold for logic at one voltage. SRAM is not scaled: a table
takes native macros of its node.
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
    """What a quantity is multiplied by from one node to another; low and high span what the sources give."""

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
    """What another source gives for the same step."""

    quantity: Quantity
    from_nm: Positive
    to_nm: Positive
    value: Positive
    source: str


class ScalingRules(Strict):
    """All factors that are known, and the checks that bound them."""

    factors: tuple[Factor, ...]
    checks: tuple[Check, ...]


def energy_factor(from_nm: float, to_nm: float) -> Factor:
    """Dynamic energy of one operation of logic at the same voltage. Raises EnergyTableError for an unknown pair."""
    return _factor("energy", from_nm, to_nm)


def area_factor(from_nm: float, to_nm: float) -> Factor:
    """Area of logic. Raises EnergyTableError for an unknown pair."""
    return _factor("area", from_nm, to_nm)


def delay_factor(from_nm: float, to_nm: float) -> Factor:
    """Delay of logic. Raises EnergyTableError for an unknown pair."""
    return _factor("delay", from_nm, to_nm)


def leakage_factor(from_nm: float, to_nm: float) -> Factor:
    """Leakage power of a unit of logic, taken to follow SRAM's [A]. Raises EnergyTableError for an unknown pair."""
    return _factor("leakage", from_nm, to_nm)


def voltage_factor(from_v: float, to_v: float) -> float:
    """Dynamic energy at another voltage: E = C V^2, so (to / from)^2. Raises EnergyTableError for voltages <= 0."""
    if not (from_v > 0 and to_v > 0):
        raise EnergyTableError(at("scaling", "voltage", "volts above 0", f"{from_v:g} to {to_v:g}"))
    return (to_v / from_v) ** 2


def scale_table(table: EnergyTable, to_nm: float, sram: str, folder: Path = Path(), name: str = "") -> EnergyTable:
    """`table` at another node: its logic times the factors, ranges widened by theirs, native macros of `to_nm`.

    sram: name of an SRAM part (or its file, relative to `folder`). The voltage stays; off-chip memory is another chip.
    Numbers are rounded to 6 digits. Raises EnergyTableError for an unknown pair of nodes or macros of another node.
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
    data = _rounded(multiplied(table.model_dump(), factors, note, with_sram=False))
    described = f"{table.name}: logic scaled from {table.node_nm:g} nm, SRAM native to {to_nm:g} nm, off chip as it was"
    macros = {field: getattr(part, field) for field in Sram.model_fields}
    new = {"name": name or f"{table.name}-to-{to_nm:g}nm", "node_nm": to_nm, "description": described, "sram": macros}
    return parse_energy_table({**data, **new}, f"scale {table.name}")


@cache
def rules() -> ScalingRules:
    """The shipped factors and checks."""
    data, path = read_mapping("energy table", parts_folder() / "scaling.yaml", EnergyTableError)
    try:
        return ScalingRules.model_validate(data)
    except ValidationError as error:
        raise EnergyTableError("\n".join(describe(error, ScalingRules, str(path)))) from None


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


def _rounded(value):
    """Plain data with every float at 6 significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
