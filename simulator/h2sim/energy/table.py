"""Energy tables: prices of events, areas and leakage of units, and SRAM macros, each with its method and source."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from h2sim.errors import EnergyTableError, at
from h2sim.io.kept import cached_property
from h2sim.io.strict import Name, Strict, Text
from h2sim.io.units import read_number


def _whole(value: Any) -> Any:
    return read_number(value, "", int)


LEAST, MOST = 1e-12, 1e12  # of any number in a table, in its unit
Amount = Annotated[float, Field(strict=True, ge=0, le=MOST, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, ge=LEAST, le=MOST, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=1, le=1 << 40)]


class _Sourced(Strict):
    """An entry that says where its numbers come from.

    method: how they came about (published, measured, derived or scaled), with the formula; source: where the numbers
    that they are based on stand.
    """

    method: Text = Field(
        description="how the numbers came about: published, measured, derived or scaled, with the formula"
    )
    source: Text = Field(description="where the numbers that they are based on stand")


def _in_range(low: float | None, value: float, high: float | None) -> None:
    if (low is not None and low > value) or (high is not None and high < value):
        raise ValueError(f"expected low <= value <= high; got {low}, {value}, {high}")


class ActionPrice(_Sourced):
    """The price of one event on one unit (pJ), and the unit's area (um2) and leakage (uW).

    low_pj to high_pj is the range that other sources give for the energy.
    """

    energy_pj: Amount = Field(description="energy of one event, pJ")
    area_um2: Amount = Field(description="area of one unit, um2")
    leakage_uw: Amount = Field(description="leakage power of one unit, uW")
    low_pj: Amount | None = Field(None, description="lowest energy that other sources give, pJ")
    high_pj: Amount | None = Field(None, description="highest energy that other sources give, pJ")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_range(self.low_pj, self.energy_pj, self.high_pj)
        return self

    def __repr__(self) -> str:
        return f"ActionPrice({self.energy_pj:g} pJ, {self.area_um2:g} um2, {self.leakage_uw:g} uW)"

    __str__ = __repr__


class ActionPrices(Strict):
    """The prices of all events of h2sim.activity.Actions but those of LUTs."""

    fp16_add: ActionPrice = Field(description="an FP16 addition, and its adder")
    fp16_multiply: ActionPrice = Field(description="an FP16 multiplication, and its multiplier")
    register_access: ActionPrice = Field(description="reading or writing a 16-bit register")
    priority_encode: ActionPrice = Field(description="a Conv ID or empty tag out of a priority encoder")
    soma_element: ActionPrice = Field(description="the update of one neuron in Soma, and its unit")
    grad_element: ActionPrice = Field(description="the update of one neuron in Grad, and its unit")

    def __repr__(self) -> str:
        prices = ", ".join(f"{name} {getattr(self, name).energy_pj:g}" for name in type(self).model_fields)
        return f"ActionPrices({prices} pJ)"

    __str__ = __repr__


class LutPrice(_Sourced):
    """A LUT of `entries` 16-bit words in registers, with one write port.

    read_pj and write_pj: energy of one word through one port; area_1_port_um2 and area_4_ports_um2: area with one
    and with four read ports; leakage_uw: with four. low_pj to high_pj: range that other sources give for read_pj.
    """

    entries: Annotated[int, Field(strict=True, ge=2, le=1 << 20)] = Field(description="16-bit words of the LUT")
    read_pj: Positive = Field(description="energy of reading one word, pJ")
    write_pj: Positive = Field(description="energy of writing one word, pJ")
    area_1_port_um2: Positive = Field(description="area with one read port, um2")
    area_4_ports_um2: Positive = Field(description="area with four read ports, um2")
    leakage_uw: Positive = Field(description="leakage power with four read ports, uW")
    low_pj: Amount | None = Field(None, description="lowest read_pj that other sources give, pJ")
    high_pj: Amount | None = Field(None, description="highest read_pj that other sources give, pJ")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_range(self.low_pj, self.read_pj, self.high_pj)
        return self

    def __repr__(self) -> str:
        return f"LutPrice({self.entries} entries: read {self.read_pj:g} pJ, write {self.write_pj:g} pJ)"

    __str__ = __repr__


class Offchip(_Sourced):
    """External memory: energy of one bit, and the range that other sources give for it."""

    energy_pj_per_bit: Amount = Field(description="energy of one bit from or to external memory, pJ")
    low_pj_per_bit: Amount | None = Field(None, description="lowest energy of a bit that other sources give, pJ")
    high_pj_per_bit: Amount | None = Field(None, description="highest energy of a bit that other sources give, pJ")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_range(self.low_pj_per_bit, self.energy_pj_per_bit, self.high_pj_per_bit)
        return self


class Macro(NamedTuple):
    """One SRAM macro of one bank: read_pj and write_pj are the energies of one word."""

    bytes: Count
    word_bits: Count
    read_pj: Positive
    write_pj: Positive
    leakage_mw: Amount
    area_um2: Positive
    cycle_ns: Positive


MACRO_COLUMNS = Macro._fields


class Sram(_Sourced):
    """SRAM macros of one flavour at one temperature; `macros` are rows whose columns are MACRO_COLUMNS."""

    flavour: Text = Field(description="transistors that the macros are made of")
    temperature_k: Positive = Field(description="temperature that leakage is given at, K")
    columns: tuple[str, ...] = Field(description="names of the columns of macros")
    macros: Annotated[tuple[Macro, ...], Field(min_length=1)] = Field(
        description="a row per SRAM macro of one bank: bytes, bits of a word, energies, leakage, area, cycle time"
    )

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.flavour} at {self.temperature_k:g} K: {len(self.macros)} macros)"

    __str__ = __repr__


class SramPart(Sram):
    """A file of energy_tables/parts: the macros of one node, which any table of that node can take."""

    node_nm: Positive


class Scale(_Sourced):
    """Factors on a whole calibrated table: `energy` on on-chip energies and leakage, `area` on areas.

    method says what they were fitted to.
    """

    energy: Positive
    area: Positive


def _once(keys: Sequence[object], what: str) -> None:
    twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
    if twice is not None:
        raise ValueError(f"expected each {what} once; got {twice} again")


class EnergyTable(Strict):
    """The prices of everything that a machine does, at one technology node and voltage.

    kind: 'first-principles' (all prices are published, measured or scaled by a published rule), 'derived' (some prices
    follow from what the source claims of itself) or 'calibrated' (prices are fitted to the source's totals). luts: the
    sizes that were measured; prices of other sizes are interpolated.
    """

    name: Name = Field(description="name that results carry")
    kind: Literal["first-principles", "derived", "calibrated"] = Field(
        description="first-principles, derived (in part from the source's claims) or calibrated (to its totals)"
    )
    node_nm: Positive = Field(description="technology, nm")
    voltage_v: Positive = Field(description="supply voltage, V")
    description: str = Field("", description="what the table is, in a sentence")
    actions: ActionPrices = Field(description="prices of events")
    luts: Annotated[tuple[LutPrice, ...], Field(min_length=1)] = Field(
        description="prices of LUTs, of the sizes that were measured; those of other sizes are interpolated"
    )
    offchip: Offchip = Field(description="external memory")
    sram: Sram = Field(description="SRAM macros that buffers are made of")

    @field_validator("luts")
    @classmethod
    def _each_lut_once(cls, value: tuple[LutPrice, ...]) -> tuple[LutPrice, ...]:
        _once([lut.entries for lut in value], "number of entries")
        return value

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the table as it is used; how its file is written does not matter."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @cached_property
    def prices_sha256(self) -> str:
        """The same without its name and description: two tables that say the same of all prices are alike."""
        return hashlib.sha256(self.model_dump_json(exclude={"name", "description"}).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"EnergyTable({self.name!r}: {self.kind}, {self.node_nm:g} nm, {self.voltage_v:g} V)"

    __str__ = __repr__

    def lut_read_pj(self, entries: int) -> float:
        """Energy in pJ of reading one word of a LUT of `entries` words."""
        return self._between(entries, "read_pj")

    def lut_write_pj(self, entries: int) -> float:
        """Energy in pJ of writing one word of a LUT of `entries` words."""
        return self._between(entries, "write_pj")

    def lut_leakage_uw(self, entries: int) -> float:
        """Leakage power in uW of a LUT of `entries` words."""
        return self._between(entries, "leakage_uw")

    def lut_source(self, entries: int) -> str:
        """The source of the prices of a LUT of `entries` words."""
        measured = {lut.entries: lut.source for lut in self.luts}
        if entries in measured:
            return measured[entries]
        return f"interpolated or extrapolated [A]; {self.luts[0].source}"

    def lut_area_um2(self, entries: int, read_ports: int) -> float:
        """Area in um2 of a LUT of `entries` words: a straight line through its areas with 1 and 4 read ports [A]."""
        one, four = self._between(entries, "area_1_port_um2"), self._between(entries, "area_4_ports_um2")
        return self._reached(entries, f"area with {read_ports} ports", one + (four - one) * (read_ports - 1) / 3)

    def _between(self, entries: int, field: str) -> float:
        """A field's value for a LUT of `entries` words: that of a measured LUT, or interpolated [A].

        Between measured sizes, and beyond them, log(value) is a straight line in log(entries) through the two nearest.
        With one measured size the value is proportional to `entries`. Raises EnergyTableError where that line leaves
        the range of prices.
        """
        points = sorted((lut.entries, float(getattr(lut, field))) for lut in self.luts)
        for size, value in points:
            if size == entries:
                return value
        if len(points) == 1:
            return self._reached(entries, field, points[0][1] * entries / points[0][0])
        above = next((i for i, (size, _) in enumerate(points) if size > entries), len(points) - 1)
        (x0, y0), (x1, y1) = points[max(above, 1) - 1], points[max(above, 1)]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        try:
            value = y0 * math.pow(entries / x0, slope)
        except OverflowError:
            value = math.inf
        return self._reached(entries, field, value)

    def _reached(self, entries: int, field: str, value: float) -> float:
        """A value that was interpolated, if a table might state it."""
        if LEAST <= value <= MOST:
            return value
        wanted = f"measured sizes from which a LUT of {entries} entries has {field} from {LEAST:g} to {MOST:g}"
        raise EnergyTableError(at(f"energy table {self.name}", "luts", wanted, f"{value:g}"))
