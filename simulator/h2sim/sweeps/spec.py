"""The sweep spec: the file that says which machines are tried on which traces, and what is best.

Every fault of a spec is found before the first point is simulated, and says file, line and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from h2sim.activity import Phase
from h2sim.errors import SweepError
from h2sim.io.faults import describe, on_line
from h2sim.io.strict import Strict, Text, Version
from h2sim.io.yamlfile import lines_of, read_file, read_value
from h2sim.sweeps.expressions import Expression, parse_expression

Method = Literal["grid", "random", "latin-hypercube", "nsga2", "tpe", "list"]
Direction = Literal["minimize", "maximize"]
Mean = Literal["geometric", "arithmetic"]
GUIDED: tuple[Method, ...] = ("nsga2", "tpe")
DRAWN: tuple[Method, ...] = ("random", "latin-hypercube")
DEFAULT_BUDGET = 1000
BUFFERS = "buffers"  # the parameter that sizes all global buffers by a rule
MOST_VALUES = 10_000  # of one axis
MOST_BUDGET = 10_000_000
Number = int | float


class Axis(Strict):
    """One parameter: the values that it takes. Exactly one of the first seven fields.

    values: these. log2: from the first to the second, each twice the one before, both included. range: from the first
    to the second in steps of the third (1), both included. uniform and log_uniform: any number between, for drawn and
    guided methods. value: one. derive: an expression of other fields. when: a condition on other fields; where it does
    not hold the machine keeps the value of its file.
    """

    values: Annotated[list[Any], Field(min_length=1, max_length=MOST_VALUES)] | None = None
    log2: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    range: Annotated[list[Number], Field(min_length=2, max_length=3)] | None = None
    uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    log_uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    value: Any = None
    derive: str | int | float | None = None
    when: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ("values", "log2", "range", "uniform", "log_uniform", "value", "derive")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(kinds)}; got {', '.join(given) or 'none'}")
        self.choices()
        return self

    @property
    def is_continuous(self) -> bool:
        """Whether it takes any number between two."""
        return self.uniform is not None or self.log_uniform is not None

    @property
    def bounds(self) -> tuple[float, float]:
        """(lowest, highest) of a continuous axis."""
        low, high = self.uniform or self.log_uniform or [0.0, 0.0]
        return low, high

    def choices(self) -> list[Any]:
        """The values of an axis that has a list of them, in order and each once. Raises ValueError for an empty one."""
        if self.values is not None:
            kept: list[Any] = []
            for value in self.values:
                if not any(value == other and type(value) is type(other) for other in kept):
                    kept.append(value)
            return kept
        if self.value is not None:
            return [self.value]
        if self.log2 is not None:
            return _doubled(*self.log2)
        if self.range is not None:
            return _stepped(*self.range)
        if self.is_continuous:
            low, high = self.bounds
            if not low < high or (self.log_uniform is not None and low <= 0):
                above = "above 0, " if self.log_uniform is not None else ""
                raise ValueError(f"expected two numbers {above}the first below the second; got [{low:g}, {high:g}]")
        return []


def _doubled(low: Number, high: Number) -> list[Number]:
    found: list[Number] = [low]
    if low <= 0 or high < low:
        raise ValueError(f"log2: expected two numbers above 0, the second not below the first; got [{low}, {high}]")
    while found[-1] < high and len(found) < 200:
        found.append(found[-1] * 2)
    if found[-1] != high:
        raise ValueError(f"log2: expected the second to be the first times a power of two; got [{low}, {high}]")
    return found


def _stepped(start: Number, stop: Number, step: Number = 1) -> list[Number]:
    if step == 0 or (stop - start) / step < 0:
        raise ValueError(
            f"range: expected a step that leads from the first to the second; got [{start}, {stop}, {step}]"
        )
    count = int((stop - start) / step + 1e-9) + 1
    if count > MOST_VALUES:
        raise ValueError(f"range: expected at most {MOST_VALUES} values; got {count}")
    return [start + i * step for i in range(count)]


class Options(Strict):
    """How every point is simulated.

    ideal_memory: transfers take no time. layer and phase: one layer in one phase, alone on its engine and with the
    memories to itself, in place of the whole step.
    """

    ideal_memory: bool = False
    layer: Text | None = None
    phase: Phase | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.layer is None) != (self.phase is None):
            raise ValueError("expected layer and phase together; got one of them")
        return self


class Synthetic(Strict):
    """A trace of synthetic masks, drawn before the sweep begins: what `h2sim trace synth` draws.

    sparsity: one number for all masks, or table-3.2, what the source reports of its networks.
    """

    network: Text
    sparsity: Annotated[float, Field(ge=0, le=1)] | Literal["table-3.2"]
    name: Text | None = None
    batch: Annotated[int, Field(strict=True, ge=1, le=65536)] = 4
    timesteps: Annotated[int, Field(strict=True, ge=1, le=65536)] | None = None
    seed: Annotated[int, Field(strict=True, ge=0)] = 0

    @property
    def label(self) -> str:
        """Its name in columns."""
        return self.name or f"synthetic {self.network}"


class Spec(Strict):
    """A sweep: machines (arch and parameters) x traces x energy tables, how points are chosen, and what is best.

    arch and energy_tables: names or files. traces: names or files; of several, each objective is their mean. budget:
    distinct machines, for the drawn and guided methods. points: for method list, the fields that each sets.
    """

    version: Version = Field(1, description="version of the file's format")
    description: str = Field("", description="what is asked, in a sentence")
    arch: Text = Field("h2learn", description="machine that parameters change: the name or file of an arch file")
    traces: Annotated[list[Text | Synthetic], Field(min_length=1)] = Field(
        description="names or files of traces, or what synthetic ones are drawn from"
    )
    mean: Mean = Field("geometric", description="mean of an objective over several traces")
    energy_tables: Annotated[list[Text], Field(min_length=1)] = Field(
        ["28nm"], description="names or files; the first one guides a search"
    )
    options: Options = Field(default_factory=Options, description="how every point is simulated")
    method: Method = Field("grid", description="how points are chosen")
    seed: Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)] = Field(0, description="of drawn and guided methods")
    budget: Annotated[int, Field(strict=True, ge=1, le=MOST_BUDGET)] | None = Field(
        None, description="distinct machines that are tried"
    )
    variables: dict[str, Axis] = Field(default={}, description="axes that are no field: for derive, when, constraints")
    parameters: dict[str, Axis] = Field(default={}, description="axes by dotted path of an arch or energy-table field")
    points: list[dict[str, Any]] = Field(default=[], description="method list: the fields of each point")
    constraints: list[str] = Field(default=[], description="expressions that hold for every point")
    objectives: Annotated[dict[str, Direction], Field(min_length=1)] = Field(
        default={"seconds": "minimize", "energy_j": "minimize", "area_mm2": "minimize"},
        description="results that are to be small or large",
    )

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, data: Any) -> Any:
        """Lists and numbers in place of an axis, one name in place of a list of names."""
        if not isinstance(data, dict):
            return data
        found = dict(data)
        for name in ("traces", "energy_tables", "constraints"):
            if isinstance(found.get(name), str):
                found[name] = [found[name]]
        if isinstance(found.get("traces"), dict):
            found["traces"] = [found["traces"]]
        if isinstance(found.get("variables"), dict):
            found["variables"] = {name: _axis(name, axis) for name, axis in found["variables"].items()}
        axes = dict(found["parameters"]) if isinstance(found.get("parameters"), dict) else {}
        if BUFFERS in found:
            axes.setdefault(BUFFERS, found.pop(BUFFERS))
        if axes:
            found["parameters"] = {path: _axis(path, axis) for path, axis in axes.items()}
        return found

    @model_validator(mode="after")
    def _fits_method(self) -> Self:
        if self.method == "list":
            if not self.points:
                raise ValueError("points: expected at least one for method list; got none")
        elif self.points:
            raise ValueError(f"points: expected none for method {self.method}; got {len(self.points)}")
        if self.method in ("grid", "list"):
            if self.budget is not None and self.method == "list":
                raise ValueError("budget: expected none for method list; got one")
            wide = [path for path, axis in self.axes.items() if axis.is_continuous]
            if wide:
                raise ValueError(
                    f"parameters.{wide[0]}: expected values for method {self.method}; got a range of numbers"
                )
        return self

    @property
    def axes(self) -> dict[str, Axis]:
        """Variables and parameters by name."""
        return {**self.variables, **self.parameters}

    @property
    def trace_names(self) -> list[str]:
        """The traces as columns name them."""
        return [trace if isinstance(trace, str) else trace.label for trace in self.traces]

    @property
    def is_guided(self) -> bool:
        """Whether points are chosen by what was found of those before."""
        return self.method in GUIDED


def _axis(path: str, axis: Any) -> Any:
    """An axis as a mapping: `[8, 16]` are values, a tile's `[8, 8]` and anything that is no list are one value."""
    if isinstance(axis, dict) and any(get_close_matches(str(key), list(Axis.model_fields)) for key in axis):
        return axis
    if isinstance(axis, list) and not _is_tile(path, axis):
        return {"values": axis}
    return {"value": axis}


def _is_tile(path: str, axis: list[Any]) -> bool:
    return path == "tile" and len(axis) == 2 and all(isinstance(side, int) for side in axis)


@dataclass(frozen=True)
class Written:
    """A checked spec with its file's name and lines, for messages. constraints and conditions are parsed."""

    spec: Spec
    where: str
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False)
    folder: Path = Path()

    def at(self, *path: str) -> str:
        """`file: line N: path`, for a message about a field."""
        return f"{on_line(self.where, self.lines, path)}: {'.'.join(path)}"

    def constraints(self) -> list[Expression]:
        """The constraints, parsed. Raises SweepError."""
        return [
            parse_expression(text, self.at("constraints", str(index)))
            for index, text in enumerate(self.spec.constraints)
        ]


def load_spec(path: str | Path, overrides: tuple[str, ...] = ()) -> Written:
    """The spec of a file, with axes of the command line put over its own: `engines.backward.rows=8,16`.

    Raises SweepError with one line per fault.
    """
    file = Path(path)
    data = read_file(file, SweepError)
    return parse_spec(data, str(path), lines_of(file), overrides, file.parent)


def parse_spec(
    data: Mapping[str, Any],
    where: str = "spec",
    lines: Mapping[tuple[str, ...], int] | None = None,
    overrides: tuple[str, ...] = (),
    folder: Path = Path(),
) -> Written:
    """A spec from plain data, checked as a file is. folder: where files that it names are looked for first."""
    changed = dict(data)
    for text in overrides:
        name, value = _override(text)
        if name in Spec.model_fields and name not in ("parameters", "variables"):
            changed[name] = value
        elif isinstance(changed.get("variables"), dict) and name in changed["variables"]:
            changed["variables"] = {**changed["variables"], name: value}
        else:
            before = changed.get("parameters")
            changed["parameters"] = {**(before if isinstance(before, dict) else {}), name: value}
    try:
        spec = Spec.model_validate(changed)
    except ValidationError as error:
        raise SweepError(*describe(error, Spec, where, lines)) from None
    return Written(spec, where, lines or {}, folder)


def _override(text: str) -> tuple[str, Any]:
    """`engines.backward.rows=8,16` as a path and its values; one value is one value, and so is `tile=[8, 8]`."""
    path, equals, value = (part.strip() for part in text.partition("="))
    if not (path and equals and value):
        raise SweepError(
            f"{text[:60]!r}: expected FIELD=VALUE,VALUE, such as engines.backward.rows=8,16; got no such text"
        )
    parts = [read_value(part, path, SweepError) for part in _split(value)]
    return path, parts if len(parts) > 1 else parts[0]


def _split(text: str) -> list[str]:
    """Cuts a text at the commas that stand in no bracket: `8,16`, `[8, 8],[4, 8]`."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
