"""Systems as published: rows of data with source and method, never simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from h2sim.errors import BaselineError, at
from h2sim.faults import describe
from h2sim.measurement import Measurement
from h2sim.yamlfile import read_mapping

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e12, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spec(_Strict):
    """One stated number, its unit beside it."""

    quantity: Text
    value: Positive
    unit: Text
    method: Text
    source: Text


class Workload(_Strict):
    """Inference of one sample of a network: seconds, and joules if they are known."""

    network: Text
    seconds: Positive
    energy_j: Positive | None = None
    method: Text
    source: Text


class PublishedRow(_Strict):
    """One system; workload: what it was reported to take, None for a row of specifications only."""

    name: Text
    system: Text
    node_nm: Positive | None = None
    area_mm2: Positive | None = None
    workload: Workload | None = None
    specs: tuple[Spec, ...] = ()
    note: str = ""

    def spec(self, quantity: str) -> Spec:
        """A stated number by name; BaselineError if the row has none."""
        found = next((spec for spec in self.specs if spec.quantity == quantity), None)
        if found is None:
            known = ", ".join(spec.quantity for spec in self.specs) or "none"
            raise BaselineError(at(f"published row {self.name}", "quantity", f"one of: {known}", repr(quantity)))
        return found

    def measurement(self) -> Measurement:
        """One sample's inference; BaselineError for a row without a reported time and energy."""
        if self.workload is None or self.workload.energy_j is None:
            raise BaselineError(at(f"published row {self.name}", "workload", "a reported time and energy", "none"))
        told = [f"{self.workload.method} ({self.workload.source})", self.note]
        return Measurement(
            self.system, "published", self.workload.network, 1, self.workload.seconds, self.workload.energy_j,
            self.area_mm2, self.node_nm, ("forward",), (), tuple(line for line in told if line),
        )  # fmt: skip


class _File(_Strict):
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]

    @field_validator("rows")
    @classmethod
    def _each_once(cls, value: tuple[PublishedRow, ...]) -> tuple[PublishedRow, ...]:
        names = [row.name for row in value]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise ValueError(f"expected each name once; got {twice!r} again")
        return value


def published_rows(name_or_path: str | Path = "published") -> tuple[PublishedRow, ...]:
    """The rows of the shipped file, or of another; BaselineError with one line per fault."""
    data, path = read_mapping("baseline", name_or_path, BaselineError)
    try:
        return _File.model_validate(data).rows
    except ValidationError as error:
        raise BaselineError("\n".join(describe(error, _File, str(path)))) from None


def published_row(name: str, name_or_path: str | Path = "published") -> PublishedRow:
    """One row by name; BaselineError if there is none."""
    rows = published_rows(name_or_path)
    for row in rows:
        if row.name == name:
            return row
    raise BaselineError(at(str(name_or_path), "row", f"one of: {', '.join(row.name for row in rows)}", repr(name)))
