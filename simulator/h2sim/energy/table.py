"""Energy tables: prices per event, areas and leakage per unit, SRAM macros; each with its method and source."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from h2sim.io.strict import Name, Strict, Text
from h2sim.io.units import read_number


def _whole(value: Any) -> Any:
    return read_number(value, "", int)


Amount = Annotated[float, Field(strict=True, ge=0, le=1e12, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=1, le=1 << 40)]


class _Sourced(Strict):
    """method: published, measured, derived or scaled, with the formula; source: where the base numbers stand."""

    method: Text
    source: Text


def _in_range(low: float | None, value: float, high: float | None) -> None:
    if (low is not None and low > value) or (high is not None and high < value):
        raise ValueError(f"expected low <= value <= high; got {low}, {value}, {high}")


class ActionPrice(_Sourced):
    """One event on one unit; low and high span what other sources give."""

    energy_pj: Amount
    area_um2: Amount
    leakage_uw: Amount
    low_pj: Amount | None = None
    high_pj: Amount | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_range(self.low_pj, self.energy_pj, self.high_pj)
        return self


class ActionPrices(Strict):
    """The units that every machine needs: the events of h2sim.activity.Actions but those of the LUTs."""

    fp16_add: ActionPrice
    fp16_multiply: ActionPrice
    register_access: ActionPrice
    priority_encode: ActionPrice
    soma_element: ActionPrice
    grad_element: ActionPrice


class LutPrice(_Sourced):
    """A register LUT of 16-bit words, one write port; energies per word and port, leakage with 4 read ports."""

    entries: Annotated[int, Field(strict=True, ge=2, le=1 << 20)]
    read_pj: Positive
    write_pj: Positive
    area_1_port_um2: Positive
    area_4_ports_um2: Positive
    leakage_uw: Positive
    low_pj: Amount | None = None
    high_pj: Amount | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_range(self.low_pj, self.read_pj, self.high_pj)
        return self


class Offchip(_Sourced):
    """External memory; low and high span what other sources give."""

    energy_pj_per_bit: Amount
    low_pj_per_bit: Amount | None = None
    high_pj_per_bit: Amount | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_range(self.low_pj_per_bit, self.energy_pj_per_bit, self.high_pj_per_bit)
        return self


class Macro(NamedTuple):
    """One SRAM macro of one bank; energies per word."""

    bytes: Count
    word_bits: Count
    read_pj: Positive
    write_pj: Positive
    leakage_mw: Amount
    area_um2: Positive
    cycle_ns: Positive


MACRO_COLUMNS = Macro._fields


class Sram(_Sourced):
    """SRAM macros, rows of MACRO_COLUMNS; energies per word."""

    flavour: Text
    temperature_k: Positive
    columns: tuple[str, ...]
    macros: Annotated[tuple[Macro, ...], Field(min_length=1)]

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != MACRO_COLUMNS:
            raise ValueError(f"expected {list(MACRO_COLUMNS)}; got {list(value)}")
        return value

    @field_validator("macros")
    @classmethod
    def _each_once(cls, value: tuple[Macro, ...]) -> tuple[Macro, ...]:
        _once([(m.bytes, m.word_bits) for m in value], "(bytes, word_bits)")
        return value


class SramPart(Sram):
    """A file of energy_tables/parts: macros of one node, which tables of that node may take."""

    node_nm: Positive


class Scale(_Sourced):
    """One factor per quantity on a whole table: on-chip energy with leakage, and area. method says what was fitted."""

    energy: Positive
    area: Positive


def _once(keys: list, what: str) -> None:
    twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
    if twice is not None:
        raise ValueError(f"expected each {what} once; got {twice} again")


class EnergyTable(Strict):
    """A whole table.

    kind: first-principles (published, measured, scaled by a published rule), derived (some prices follow from what the
    source claims of itself) or calibrated (fitted to the source's totals).
    """

    name: Name
    kind: Literal["first-principles", "derived", "calibrated"]
    node_nm: Positive
    voltage_v: Positive
    description: str = ""
    actions: ActionPrices
    luts: Annotated[tuple[LutPrice, ...], Field(min_length=1)]
    offchip: Offchip
    sram: Sram

    @field_validator("luts")
    @classmethod
    def _each_lut_once(cls, value: tuple[LutPrice, ...]) -> tuple[LutPrice, ...]:
        _once([lut.entries for lut in value], "number of entries")
        return value

    @cached_property
    def sha256(self) -> str:
        """Hash of the table as priced, not of the file's spelling."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def lut_read_pj(self, entries: int) -> float:
        """One word of a LUT of `entries` words."""
        return self._between(entries, "read_pj")

    def lut_write_pj(self, entries: int) -> float:
        """One word into a LUT of `entries` words."""
        return self._between(entries, "write_pj")

    def lut_leakage_uw(self, entries: int) -> float:
        """One LUT of `entries` words."""
        return self._between(entries, "leakage_uw")

    def lut_source(self, entries: int) -> str:
        """Where the price of a LUT of `entries` words comes from."""
        measured = {lut.entries: lut.source for lut in self.luts}
        if entries in measured:
            return measured[entries]
        return f"interpolated or extrapolated [A]; {self.luts[0].source}"

    def lut_area_um2(self, entries: int, read_ports: int) -> float:
        """One LUT of `entries` words with `read_ports` ports: a straight line through 1 and 4 ports [A]."""
        one, four = self._between(entries, "area_1_port_um2"), self._between(entries, "area_4_ports_um2")
        return one + (four - one) * (read_ports - 1) / 3

    def _between(self, entries: int, field: str) -> float:
        """A measured LUT's value, or a straight line in logarithms through the two nearest sizes [A]."""
        points = sorted((lut.entries, float(getattr(lut, field))) for lut in self.luts)
        for size, value in points:
            if size == entries:
                return value
        if len(points) == 1:
            return points[0][1] * entries / points[0][0]
        above = next((i for i, (size, _) in enumerate(points) if size > entries), len(points) - 1)
        (x0, y0), (x1, y1) = points[max(above, 1) - 1], points[max(above, 1)]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        return y0 * (entries / x0) ** slope
