"""GPU traces in files: JSON, or a CSV that a person writes by hand. Both hold the same fields."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from h2sim.errors import GpuTraceError, at
from h2sim.gpu.trace import GpuTrace, parse_gpu_trace
from h2sim.io import library
from h2sim.io.files import write_text
from h2sim.io.jsonfile import each_key_once
from h2sim.io.names import from_csv as from_csv_cell
from h2sim.io.names import in_csv
from h2sim.io.reading import check_file, read_text

GROUPS = ("device", "step", "energy", "conditions", "values", "software", "sources")
NUMBERS = ("seconds", "lower_quartile_seconds", "upper_quartile_seconds", "kernels", "energy_j", "flops", "bytes")
COLUMNS = ("layer", "phase", *NUMBERS)
MOST_BYTES = 1 << 26
_FORMULA = re.compile(r"([,;]\s*)([=+\-@])")  # within a line that a spreadsheet splits at commas


def load_gpu_trace(name_or_path: str | Path) -> GpuTrace:
    """A shipped GPU trace by name (`v100-cifar10`), or one from a .json or .csv file.

    Raises GpuTraceError, a line per fault.
    """
    path = library.find("GPU trace", str(name_or_path))
    try:
        if path.stat().st_size > MOST_BYTES:
            raise GpuTraceError(at(str(path), "file", f"at most {MOST_BYTES} bytes", path.stat().st_size))
        check_file(path, MOST_BYTES)  # no device that never ends, and no pipe
        text = read_text(path, MOST_BYTES)
    except FileNotFoundError:
        known = ", ".join(library.names("GPU trace"))
        raise GpuTraceError(f"{name_or_path}: no such GPU trace file; shipped GPU traces: {known}") from None
    except OSError as fault:
        raise GpuTraceError(f"{path}: cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise GpuTraceError(f"{path}: cannot be read: not UTF-8 text") from None
    return from_csv(text, str(path)) if path.suffix.lower() == ".csv" else from_json(text, str(path))


def write_gpu_trace(path: Path, trace: GpuTrace) -> None:
    """Writes a trace: CSV if the name ends in .csv, else JSON. Raises OutputError, and then writes nothing."""
    write_text(path, to_csv(trace) if path.suffix.lower() == ".csv" else to_json(trace))


def to_json(trace: GpuTrace) -> str:
    """The trace as JSON text, one field per line."""
    return json.dumps(trace.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, where: str) -> GpuTrace:
    """The trace in a JSON text. Raises GpuTraceError, whose lines begin with `where`."""
    try:
        data = json.loads(text, object_pairs_hook=each_key_once)
    except json.JSONDecodeError as fault:
        raise GpuTraceError(f"{where}: not valid JSON at line {fault.lineno}: {fault.msg}") from None
    except (ValueError, RecursionError) as fault:
        raise GpuTraceError(f"{where}: not valid JSON: {str(fault)[:100] or 'nested too deeply'}") from None
    return parse_gpu_trace(data, where)


def to_csv(trace: GpuTrace) -> str:
    """The trace as CSV text.

    First one line `# key: value` per field (`# device.name: ...` for a field of a group), then the rows. Columns
    without any value are left out.
    """
    data = trace.to_dict()
    rows = data.pop("rows", [])
    out = io.StringIO()
    for key, value in data.items():
        for name, field in [(f"{key}.{k}", v) for k, v in value.items()] if key in GROUPS else [(key, value)]:
            out.write(f"# {name}: {_show(field)}\n")
    columns = [c for c in COLUMNS if c in ("layer", "phase", "seconds") or any(c in row for row in rows)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else in_csv(value) if isinstance(value, str) else repr(value)


def _show(value: Any) -> str:
    """A string as it stands, if reading it as JSON would not change it; else JSON."""
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    plain = isinstance(value, str) and value.isprintable() and value.strip() == value and _value(value) == value
    return value if plain and not _FORMULA.search(value) else _json(value)


def _json(value: Any) -> str:
    """JSON in which no string begins a formula behind a comma, for a spreadsheet splits the line there."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return _FORMULA.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", text) if isinstance(value, str) else text


def _value(text: str) -> Any:
    """A number, list or quoted string as JSON reads it. Any other text is a string as it stands."""
    try:
        return json.loads(text, parse_constant=lambda name: _refuse(name))
    except (ValueError, RecursionError):
        return text


def _refuse(name: str) -> None:
    raise ValueError(name)


def from_csv(text: str, where: str) -> GpuTrace:
    """The trace in a CSV text. Raises GpuTraceError, which names `where` and the line."""
    lines = text.removeprefix("\ufeff").splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    data = _header(lines[:start], where)
    reader = csv.reader(lines[start:], strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        _check_columns(columns, f"{where}: line {start + 1}")
        rows = [_row(cells, columns, f"{where}: line {start + reader.line_num}") for cells in reader if any(cells)]
    except csv.Error as fault:
        raise GpuTraceError(f"{where}: line {start + reader.line_num}: not valid CSV: {fault}") from None
    return parse_gpu_trace({**data, "rows": rows}, where)


def _check_columns(columns: list[str], where: str) -> None:
    wanted = f"layer, phase, seconds, and of {', '.join(NUMBERS[1:])} what is known"
    once = len(set(columns)) == len(columns)
    if not {"layer", "phase", "seconds"} <= set(columns) <= set(COLUMNS) or not once:
        raise GpuTraceError(at(where, "columns", wanted, ",".join(columns)[:80] or "none"))


def _header(lines: list[str], where: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.strip() == "#":
            continue
        key, colon, text = line[1:].partition(":")
        group, dot, field = key.strip().partition(".")
        if not colon or (dot and group not in GROUPS) or (group in GROUPS and not field):
            raise GpuTraceError(
                at(where, f"line {number}", "`# key: value` or `# device.name: value`", repr(line[:60]))
            )
        held = data.setdefault(group, {}) if dot else data
        name = field if dot else group
        if name in held:
            raise GpuTraceError(at(where, f"line {number}", f"key {key.strip()!r} once", "it again"))
        held[name] = _value(text.strip())
    return data


def _row(cells: list[str], columns: list[str], where: str) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise GpuTraceError(at(where, "row", f"{len(columns)} columns", len(cells)))
    row: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if column in NUMBERS:
            if cell.strip():
                row[column] = _number(cell.strip(), f"{where}: {column}")
        else:
            row[column] = from_csv_cell(cell.strip())
    return row


def _number(text: str, where: str) -> int | float:
    value = _value(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise GpuTraceError(f"{where}: expected a number; got {text[:40]!r}")
    return value
