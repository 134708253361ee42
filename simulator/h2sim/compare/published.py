"""Systems as others publish them: rows of data, each with source and method. Nothing here is simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from h2sim.compare.measurement import Measurement
from h2sim.errors import BaselineError, at
from h2sim.io.faults import describe
from h2sim.io.strict import Strict, Text
from h2sim.io.yamlfile import read_file

SHIPPED = Path(__file__).with_name("published.yaml")
Positive = Annotated[float, Field(strict=True, gt=0, le=1e12, allow_inf_nan=False)]


class Spec(Strict):
    """One published number with its unit, method and source."""

    quantity: Text
    value: Positive
    unit: Text
    method: Text
    source: Text


class Workload(Strict):
    """Published time, and energy if known, of the inference of one sample."""

    network: Text
    seconds: Positive
    energy_j: Positive | None = None
    method: Text
    source: Text


class PublishedRow(Strict):
    """One published system. workload: its reported time and energy; None for a row that holds specifications only."""

    name: Text
    system: Text
    node_nm: Positive | None = None
    area_mm2: Positive | None = None
    workload: Workload | None = None
    specs: tuple[Spec, ...] = ()
    note: str = ""

    def spec(self, quantity: str) -> Spec:
        """A published number by name. Raises BaselineError if the row does not have it."""
        found = next((spec for spec in self.specs if spec.quantity == quantity), None)
        if found is None:
            known = ", ".join(spec.quantity for spec in self.specs) or "none"
            raise BaselineError(at(f"published row {self.name}", "quantity", f"one of: {known}", repr(quantity)))
        return found

    def measurement(self) -> Measurement:
        """Inference of one sample as a Measurement. Raises BaselineError if the row reports no time or no energy."""
        if self.workload is None or self.workload.energy_j is None:
            raise BaselineError(at(f"published row {self.name}", "workload", "a reported time and energy", "none"))
        told = [f"{self.workload.method} ({self.workload.source})", self.note]
        return Measurement(
            system=self.system,
            kind="published",
            network=self.workload.network,
            samples=1,
            seconds=self.workload.seconds,
            energy_j=self.workload.energy_j,
            area_mm2=self.area_mm2,
            node_nm=self.node_nm,
            phases=("forward",),
            parts=(),
            assumptions=tuple(line for line in told if line),
        )


class _File(Strict):
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]

    @field_validator("rows")
    @classmethod
    def _each_once(cls, value: tuple[PublishedRow, ...]) -> tuple[PublishedRow, ...]:
        names = [row.name for row in value]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise ValueError(f"expected each name once; got {twice!r} again")
        return value


def published_rows(path: str | Path = SHIPPED) -> tuple[PublishedRow, ...]:
    """All rows of a file, by default the shipped one. Raises BaselineError with one line per fault."""
    data = read_file(Path(path), BaselineError)
    try:
        return _File.model_validate(data).rows
    except ValidationError as error:
        raise BaselineError(*describe(error, _File, str(path))) from None


def published_row(name: str, path: str | Path = SHIPPED) -> PublishedRow:
    """One row by name. Raises BaselineError if there is none."""
    rows = published_rows(path)
    for row in rows:
        if row.name == name:
            return row
    raise BaselineError(at(str(path), "row", f"one of: {', '.join(row.name for row in rows)}", repr(name)))
