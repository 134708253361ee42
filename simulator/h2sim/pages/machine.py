"""Every parameter of a machine, with where its value comes from: given, derived, assumed, or changed by the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from h2sim.document.markup import element
from h2sim.document.page import Folded, PagePart, Picture, Prose, Section
from h2sim.document.values import Cell, Column, Number, Table
from h2sim.io import library
from h2sim.io.names import in_markdown
from h2sim.pages.view import ResultView
from h2sim.report.fields import file_fields
from h2sim.rivals.registry import load_machine

_MARK = re.compile(r"\[([GDA])\]\s*")
MARKS = {"G": "given", "D": "derived", "A": "assumed", "*": "changed"}


def machine_section(view: ResultView) -> Section:
    """A row a parameter; what differs from the shipped machine of this name is marked as changed."""
    arch = view.found.arch
    described = str(arch.parameters.get("description", ""))
    if not arch.parameters:
        told: tuple[PagePart, ...] = (Prose("This result holds no parameters: h2sim 0.2.0 and later write them."),)
        return Section("machine", "Machine", f"The machine {arch.name}", told)
    rows = list(_parameters(arch.machine, arch.parameters))
    columns = (Column("parameter"), Column("value", right=True), Column("from"), Column("meaning", prose=True, drop=1))
    table = Table("", columns, tuple(rows))
    head = Prose(
        "*given*: the source gives the value. *derived*: it follows from figures that the source gives. *assumed*: the "
        "source is silent. *changed*: it is not the value of the machine that h2sim ships under this name."
    )
    choice = Picture(element("div", data_filter="machine-parameters", data_column="2", data_words="Show", hidden=True))
    listed = Folded(f"All {len(rows)} parameters", (table,), key="machine-parameters")
    return Section(
        "machine", "Machine", f"The machine {arch.name}", (Prose(in_markdown(described)), head, choice, listed)
    )


def _parameters(kind: str, parameters: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    fields, shipped = file_fields().get(kind, {}), _shipped(kind, str(parameters.get("name", "")))
    for path, value in flat(parameters):
        if path in ("name", "description", "machine", "version"):
            continue
        meaning = fields.get(path, "")
        mark = _MARK.match(meaning)
        changed = path in shipped and shipped[path] != value
        origin = MARKS["*"] if changed else MARKS[mark.group(1)] if mark else "-"
        told = _MARK.sub("", meaning) + (f" ({_shown(path, shipped[path])} as shipped)" if changed else "")
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        yield path, Number(_shown(path, value), number) if number is not None else str(value), origin, told


def flat(parameters: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every parameter."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _shipped(kind: str, name: str) -> dict[str, Any]:
    """The parameters of the shipped machine of this name and kind; empty where there is none."""
    if name not in library.names("arch"):
        return {}
    machine = load_machine(name)
    if machine.machine != kind:
        return {}
    return dict(flat(machine.model_dump(mode="json")))


def _shown(path: str, value: Any) -> str:
    """A parameter's value with the unit of its name."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if path.endswith("_hz"):
        return f"{value / 1e6:g} MHz"
    if path.endswith("bytes_per_s"):
        return f"{value / 1e9:g} GB/s"
    if path.endswith("bytes") and value >= 1024:
        return f"{value / 1024:,g} KiB"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
