"""Reads energy tables: whole ones, and variants, which name another table and only what they change of it.

`extends: 28nm` takes another table, by the name of a shipped one or a file beside this one, and puts this file's fields
over it: mappings merge field by field, LUTs by their `entries`, and any other list is replaced. `sram: {part: NAME}`
takes the macros of a file in energy_tables/parts. `scale`, for calibrated tables only, multiplies what came out. Hashes
and prices are those of the table that results.
"""

from __future__ import annotations

import marshal
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from h2sim.energy.table import MACRO_COLUMNS, EnergyTable, Scale, Sram, SramPart
from h2sim.energy.transform import Factors, multiplied
from h2sim.errors import EnergyTableError, at
from h2sim.io import library
from h2sim.io.faults import describe, faults_of, show
from h2sim.io.yamlfile import read_mapping

KIND: library.Kind = "energy table"
Model = TypeVar("Model", bound=BaseModel)
PROSE = {"method", "source", "entries"}
MOST_MODELS = 64  # tables and parts that are remembered


def load_energy_table(name_or_path: str | Path) -> EnergyTable:
    """The energy table of a file, given by its path or, for a shipped one, by its name (`28nm`, `45nm`, ...).

    Raises EnergyTableError with one line per fault.

    >>> import h2sim
    >>> h2sim.load_energy_table("28nm").actions.fp16_add
    ActionPrice(0.208 pJ, 526.32 um2, 6.61916 uW)
    """
    data, path = read_mapping(KIND, name_or_path, EnergyTableError)
    return _resolve(data, str(path), (path.resolve(),))


def parse_energy_table(data: object, where: str) -> EnergyTable:
    """A checked energy table from plain data. Raises EnergyTableError with one line per fault, each naming `where`."""
    if not isinstance(data, dict):
        raise EnergyTableError(f"{where}: expected a mapping of fields; got {type(data).__name__}")
    return _resolve(data, where, (Path(where).resolve(),))


def parts_folder() -> Path:
    """The folder of the SRAM parts that ship with h2sim."""
    return library.folder(KIND) / "parts"


def part_names() -> list[str]:
    """The names of the SRAM parts that ship with h2sim, sorted."""
    return sorted(path.stem for path in parts_folder().glob("sram-*.yaml"))


def load_sram_part(name: str, where: str = "h2sim", folder: Path = Path()) -> SramPart:
    """The macros of an SRAM part, given by the name of a shipped one or by its file, relative to `folder`.

    Raises EnergyTableError if there is no such part or its file is wrong; `where` names the table that asks for it.
    """
    path = _beside(folder, name) or parts_folder() / f"{name}.yaml"
    if not path.is_file():
        raise EnergyTableError(at(where, "sram.part", f"one of {', '.join(part_names())}, or a file", show(name)))
    data, _ = read_mapping(KIND, path, EnergyTableError)
    return _validated(SramPart, data, str(path))


def _resolve(data: dict[str, Any], where: str, chain: tuple[Path, ...]) -> EnergyTable:
    """The table that `data` describes; chain: the files that extend each other down to this one, which is last."""
    own = dict(data)
    base = own.pop("extends", None)
    scale = own.pop("scale", None)
    merged = own if base is None else _merge(_base(base, where, chain).model_dump(), _checked(own, where), where)
    part = merged.get("sram")
    if isinstance(part, dict) and "part" in part:
        merged = {**merged, "sram": _expand(part, merged.get("node_nm"), where, chain[-1].parent)}
    table = _validated(EnergyTable, merged, where)
    return table if scale is None else _scaled(table, scale, where)


def _base(name: Any, where: str, chain: tuple[Path, ...]) -> EnergyTable:
    if not isinstance(name, str):
        raise EnergyTableError(at(where, "extends", "the name or file of an energy table", show(name)))
    path = _beside(chain[-1].parent, name) or library.find(KIND, name)
    if not path.is_file():
        renamed, known = library.RENAMED[KIND].get(name), ", ".join(library.names(KIND))
        wanted = f"{renamed}, as that table is called now" if renamed else f"one of {known}, or a file"
        raise EnergyTableError(at(where, "extends", wanted, show(name)))
    path = path.resolve()
    if path in chain:
        circle = " -> ".join(p.name for p in (*chain[chain.index(path) :], path))
        raise EnergyTableError(at(where, "extends", "a table that does not extend this one", circle))
    data, _ = read_mapping(KIND, path, EnergyTableError)
    return _resolve(data, str(path), (*chain, path))


def _beside(folder: Path, name: str) -> Path | None:
    """A file of that name relative to a folder; None if there is none."""
    path = folder / name
    return path if path.is_file() else None


def _checked(own: dict[str, Any], where: str) -> dict[str, Any]:
    """A variant's fields. It must have a name of its own, or its results could not be told from those of its base."""
    if "name" not in own:
        raise EnergyTableError(f"{where}: top level: lacks an entry for 'name'")
    return own


def _merge(base: dict[str, Any], own: dict[str, Any], where: str, inside: str = "") -> dict[str, Any]:
    """`own` merged over `base`, field by field.

    Raises EnergyTableError where an entry changes numbers without a method: the base's method would no longer be true.
    """
    if inside and "part" in own:
        return own
    merged = dict(base)
    for key, value in own.items():
        before, field = base.get(key), f"{inside}{key}"
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merge(before, value, where, f"{field}.")
        elif key == "luts" and isinstance(value, list):
            merged[key] = _merge_luts(before or (), value, where)
        else:
            merged[key] = value
    if "method" in base and "method" not in own and not own.keys() <= PROSE:
        raise EnergyTableError(f"{where}: {inside}method: expected how the overriding numbers came about; got nothing")
    return merged


def _merge_luts(base: Any, own: list[Any], where: str) -> list[Any]:
    merged = {lut["entries"]: lut for lut in base}
    for index, lut in enumerate(own):
        entries = lut.get("entries") if isinstance(lut, dict) else None
        if any(entries is not None and isinstance(e, dict) and e.get("entries") == entries for e in own[:index]):
            raise EnergyTableError(at(where, f"luts.{index}.entries", "each number of entries once", show(entries)))
        before = merged.get(entries) if isinstance(entries, int | float) else None
        merged[entries if before else f"new {index}"] = _merge(before, lut, where, f"luts.{index}.") if before else lut
    return list(merged.values())


def _expand(entry: dict[str, Any], node_nm: Any, where: str, folder: Path) -> dict[str, Any]:
    """The fields of the SRAM part that `sram: {part: NAME}` names; it must be of the table's node."""
    if len(entry) > 1 or not isinstance(entry["part"], str):
        raise EnergyTableError(at(where, "sram", "a part's name alone, or all fields of the macros", sorted(entry)))
    part = load_sram_part(entry["part"], where, folder)
    if part.node_nm != node_nm:
        wanted = f"macros of {node_nm:g} nm" if isinstance(node_nm, int | float) else "a table with node_nm"
        raise EnergyTableError(at(where, "sram.part", wanted, f"{entry['part']} of {part.node_nm:g} nm"))
    return {name: getattr(part, name) for name in Sram.model_fields}


def _scaled(table: EnergyTable, data: Any, where: str) -> EnergyTable:
    """The table with every on-chip energy, leakage and area times the factors of its `scale`; off-chip stays."""
    if table.kind != "calibrated":
        raise EnergyTableError(at(where, "scale", "a table of kind calibrated", table.kind))
    if not isinstance(data, dict):
        raise EnergyTableError(at(where, "scale", "a mapping of fields", show(data)))
    scale = _validated(Scale, data, where, "scale.")
    factors = Factors(scale.energy, scale.area, scale.energy)
    note = f"calibrated: energy and leakage x {scale.energy:g}, area x {scale.area:g} ({scale.method})"
    try:
        return EnergyTable.model_validate(multiplied(table.model_dump(), factors, note, with_sram=True))
    except ValidationError as error:
        first = describe(error, EnergyTable, "scaled")[0]
        raise EnergyTableError(
            at(where, "scale", "factors that leave each price and area in its range", first)
        ) from None


def _validated(model: type[Model], data: dict[str, Any], where: str, inside: str = "") -> Model:
    try:
        return _validated_once(model, data)
    except ValidationError as error:
        raise EnergyTableError(*_faults(error, model, where, inside)) from None


def _validated_once(model: type[Model], data: dict[str, Any]) -> Model:
    """The model of the data; the same frozen object for data that were seen before."""
    try:
        plain = marshal.dumps(data, 2)
    except ValueError:  # not only plain values: nothing that came from a file
        return model.model_validate(data)
    found: Model = _of_bytes(model, plain)
    return found


@lru_cache(maxsize=MOST_MODELS)
def _of_bytes(model: type[Any], plain: bytes) -> Any:
    return model.model_validate(marshal.loads(plain))


def _faults(error: ValidationError, model: type[BaseModel], where: str, inside: str) -> list[str]:
    """One line per fault; a missing price reads `28nm.yaml: actions: lacks an entry for 'fp16_add'`."""
    lines = describe(error, model, where)
    for index, fault in enumerate(faults_of(error, model)):
        if fault["type"] in ("missing", "missing_argument"):  # the second before pydantic 2.14
            *holder, name = fault["loc"]
            place = inside + ".".join(str(part) for part in holder) or "top level"
            lacking = MACRO_COLUMNS[name] if isinstance(name, int) else name
            lines[index] = f"{where}: {place.rstrip('.')}: lacks an entry for {lacking!r}"
        elif inside:
            lines[index] = lines[index].replace(f"{where}: ", f"{where}: {inside}", 1)
    return lines
