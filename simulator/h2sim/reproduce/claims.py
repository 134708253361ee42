"""What the source reports, and the assumptions with their ranges: claims.yaml and assumptions.yaml beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from h2sim.errors import ReproductionError, at
from h2sim.io.faults import describe
from h2sim.io.strict import Strict
from h2sim.io.yamlfile import read_file
from h2sim.reproduce.setting import Setting

TOLERANCE = 0.05
Kind = Literal["range", "choice", "theirs", "theirs-choice", "bound", "reading"]


class Claim(Strict):
    """One number or sentence of the source.

    theirs: the printed number in `unit`, or the bound that a sentence names. relation: how ours is held against theirs
    (see `met`). kind: test; given, for a number that ours was built from; restated, for one that follows from other
    claims. hangs_on: names of assumptions. where: section, table or figure. withheld: what decides the number and the
    source does not give, so that nothing can be said of ours.
    """

    what: str
    theirs: float
    unit: str
    where: str
    kind: Literal["test", "given", "restated"] = "test"
    relation: Literal["equal", "below", "above", "about"] = "equal"
    tolerance: Annotated[float, Field(ge=0, lt=1)] = TOLERANCE
    hangs_on: tuple[str, ...] = ()
    note: str = ""
    withheld: str = ""

    def error(self, ours: float) -> float:
        """Relative difference, (ours - theirs) / theirs."""
        return (ours - self.theirs) / self.theirs

    def wants_more(self, ours: float) -> bool:
        """Whether ours would have to be larger to agree with theirs."""
        return self.relation == "above" or (self.relation != "below" and self.theirs > ours)

    def met(self, ours: float) -> bool:
        """Whether ours agrees with theirs.

        relation equal or about: |ours - theirs| <= tolerance x |theirs|. below: ours < theirs, or ours < theirs x
        (1 - tolerance) where the claim sets a tolerance. above: the mirror image.
        """
        margin = self.tolerance if "tolerance" in self.model_fields_set else 0.0
        if self.relation == "below":
            return ours < self.theirs * (1 - margin) if margin else ours < self.theirs
        if self.relation == "above":
            return ours > self.theirs * (1 + margin) if margin else ours > self.theirs
        return abs(self.error(ours)) <= self.tolerance


@dataclass(frozen=True)
class Point:
    """One value of an assumption other than its default. change: the fields of a Setting that it sets."""

    label: str
    change: dict[str, Any]


@dataclass(frozen=True)
class Assumption:
    """One assumption marked [A]: the default of the shipped files, and the points it is swept over, in order.

    kind: range, any value between two points is possible; choice, nothing lies between the values; theirs, a range
    taken from the source's own numbers, which can agree with them but explains nothing; theirs-choice, the same with
    nothing between its values; bound, which idealises the machine or changes what the source gives; reading, another
    reading of the source's words, which holds for all claims alike and so explains none alone. beside: what its values
    are called where they stand beside a number that fits; empty where they do not. against: claims that may contradict
    values which agree with theirs.
    """

    what: str
    default: str
    source: str
    kind: Kind
    points: tuple[Point, ...]
    beside: str = ""
    against: tuple[str, ...] = ()

    def point(self, label: str) -> Point:
        """The point with this label. Raises StopIteration if there is none."""
        return next(point for point in self.points if point.label == label)


@dataclass(frozen=True)
class Span:
    """A claim under every value of one assumption: (label, measured) of the default, then of each point in order."""

    assumption: str
    kind: Kind
    values: tuple[tuple[str, float], ...]

    @property
    def low(self) -> float:
        """The lowest measured value."""
        return min(value for _, value in self.values)

    @property
    def high(self) -> float:
        """The highest measured value."""
        return max(value for _, value in self.values)


class _Assumption(Strict):
    what: str
    default: str
    source: str
    kind: Kind = "range"
    beside: str = ""
    against: tuple[str, ...] = ()
    points: Annotated[list[dict[str, Any]], Field(min_length=1)]


class _Claims(Strict):
    claims: dict[str, Claim]


class _Assumptions(Strict):
    assumptions: dict[str, _Assumption]


Model = TypeVar("Model", bound=BaseModel)


def load_assumptions() -> dict[str, Assumption]:
    """All assumptions of assumptions.yaml by name.

    Raises ReproductionError with one line per fault; every point is applied to a Setting once, so that a wrong field
    shows here.
    """
    data, path = _read("assumptions")
    found = _checked(_Assumptions, data, str(path)).assumptions
    return {name: _assumption(name, entry, str(path)) for name, entry in found.items()}


def load_claims(assumptions: dict[str, Assumption]) -> dict[str, Claim]:
    """All claims of claims.yaml by name.

    Raises ReproductionError with one line per fault, and where hangs_on names no assumption, or against no claim.
    """
    data, path = _read("claims")
    claims = _checked(_Claims, data, str(path)).claims
    for name, claim in claims.items():
        for needed in claim.hangs_on:
            if needed not in assumptions:
                field = f"claims.{name}.hangs_on"
                raise ReproductionError(at(str(path), field, "names of assumptions.yaml", repr(needed)))
    for name, assumption in assumptions.items():
        for other in assumption.against:
            if other not in claims:
                field = f"assumptions.{name}.against"
                raise ReproductionError(at("assumptions.yaml", field, "names of claims.yaml", repr(other)))
    return claims


def _read(name: str) -> tuple[dict[str, Any], Path]:
    path = Path(__file__).with_name(f"{name}.yaml")
    return read_file(path, ReproductionError), path


def _checked(model: type[Model], data: dict[str, Any], where: str) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ReproductionError(*describe(error, model, where)) from None


def _assumption(name: str, entry: _Assumption, where: str) -> Assumption:
    points = []
    for index, given in enumerate(entry.points):
        change = {field: value for field, value in given.items() if field != "label"}
        field = f"assumptions.{name}.points.{index}"
        if "label" not in given or not change:
            raise ReproductionError(at(where, field, "a label and a change", list(given)))
        try:
            Setting().changed(change)
        except ValidationError as error:
            raise ReproductionError(*describe(error, Setting, f"{where}: {field}")) from None
        points.append(Point(str(given["label"]), change))
    return Assumption(entry.what, entry.default, entry.source, entry.kind, tuple(points), entry.beside, entry.against)
