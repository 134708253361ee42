"""The tables of an SQLite file that may come from anyone: only plain tables, every value checked, bounded work."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from h2sim.errors import GpuTraceError, at
from h2sim.io.reading import check_file

MOST_FILE_BYTES = 64 << 30
MOST_VALUE_BYTES = 1 << 24
STEPS_A_CALL, MOST_STEPS = 1_000_000, 20_000_000_000  # of SQLite's machine; a row of a table takes some tens
MOST_TABLES = 10_000
MOST_ROWS = 50_000_000  # of all tables, kept or not
TEXTS = {"value", "text", "name", "uuid"}
REQUIRED = {"id", "start", "cudaId"}  # what no row may lack; an end may be missing only in NVTX_EVENTS
NVTX = "NVTX_EVENTS"
_VERSION = re.compile(r"(?P<table>.+?)_V\d+", re.IGNORECASE)


@contextmanager
def opened_tables(path: Path) -> Iterator[Tables]:
    """The tables of a file, which is opened for reading alone and must not change. Raises GpuTraceError."""
    try:
        check_file(path, MOST_FILE_BYTES)
        address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_VALUE_BYTES)
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            budget = iter(range(MOST_STEPS // STEPS_A_CALL))
            database.set_progress_handler(lambda: int(next(budget, None) is None), STEPS_A_CALL)
            yield Tables(database, str(path))
    except FileNotFoundError:
        raise GpuTraceError(f"{path}: no such file") from None
    except OSError as fault:
        raise GpuTraceError(f"{path}: cannot be read: {str(fault.strerror or fault)[:100]}") from None
    except sqlite3.OperationalError as fault:
        why = f"more than {MOST_STEPS:,} steps of work" if "interrupt" in str(fault) else str(fault)
        raise GpuTraceError(f"{path}: not a readable SQLite file: {why[:200]}") from None
    except (sqlite3.Error, ValueError, OverflowError) as fault:
        raise GpuTraceError(f"{path}: not a readable SQLite file: {str(fault)[:200]}") from None


@dataclass
class Tables:
    """The tables of an open file. Newer exports may write `_V2`, `_V3`... behind a table's name."""

    database: sqlite3.Connection
    where: str
    _made: dict[str, tuple[str, str]] = field(init=False)  # by name: what it is, and the text that made it

    def __post_init__(self) -> None:
        listed = self.database.execute("SELECT name, type, sql, tbl_name FROM sqlite_master LIMIT ?", (MOST_TABLES,))
        self._made, self._n_rows = {}, 0
        self._triggered: set[str] = set()
        for name, kind, sql, table in listed:
            if kind == "trigger":
                self._triggered.add(str(table))
            elif kind in ("table", "view"):
                self._made[str(name)] = (kind, str(sql))

    def has(self, table: str) -> bool:
        """Whether the file has the table in any version. Raises GpuTraceError if it is anything but a plain table."""
        return bool(self._versions(table))

    def columns(self, table: str) -> set[str]:
        """The columns that all versions of a table together have."""
        return {column for name in self._versions(table) for column in self._columns(name)}

    def need(self, table: str, *columns: str) -> None:
        """Raises GpuTraceError if the table is missing, or a version of it lacks one of the columns."""
        versions = self._versions(table)
        if not versions:
            raise GpuTraceError(at(self.where, "tables", f"a table {table} (nsys export --type sqlite)", "none"))
        for name in versions:
            there = self._columns(name)
            missing = [column for column in columns if column not in there]
            if missing:
                got = ", ".join(sorted(there))[:80]
                raise GpuTraceError(at(self.where, name, f"a column {missing[0]}", got))

    def rows(self, table: str, needed: tuple[str, ...], wanted: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """The rows of all versions of a table, each as {column: value}; None for columns of `wanted` that are missing.

        A row that two versions hold is one row. Raises GpuTraceError if the table or a needed column is missing, or a
        value is of a wrong type.
        """
        self.need(table, *needed)
        versions = self._versions(table)
        seen: set[tuple[object, ...]] = set()
        for place, name in enumerate(versions):
            for row in self._rows_of(name, table, (*needed, *wanted)):
                if len(versions) > 1:
                    values = tuple(row.values())
                    if place and values in seen:
                        continue
                    if place < len(versions) - 1:
                        seen.add(values)
                yield row

    def _rows_of(self, name: str, table: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        there = self._columns(name)
        listed = ", ".join(f'"{column}"' if column in there else "NULL" for column in columns)
        for values in self.database.execute(f'SELECT {listed} FROM "{name}" NOT INDEXED'):
            self._n_rows += 1
            if self._n_rows > MOST_ROWS:
                raise GpuTraceError(at(self.where, name, f"at most {MOST_ROWS:,} rows (profile fewer steps)", "more"))
            row = dict(zip(columns, values, strict=True))
            self._check(row, name, table)
            yield row

    def _check(self, row: dict[str, Any], name: str, table: str) -> None:
        for column, value in row.items():
            wanted = str if column in TEXTS else int
            required = column in REQUIRED or (column == "end" and table != NVTX)
            if type(value) is not wanted and (value is not None or required):
                expected = "an integer" if wanted is int else "text"
                raise GpuTraceError(at(self.where, f"{name}.{column}", expected, repr(value)[:40]))

    def _versions(self, table: str) -> list[str]:
        found = []
        for name, (kind, sql) in self._made.items():
            version = _VERSION.fullmatch(name)
            if table != name and (version is None or version["table"] != table):
                continue
            words = sql.lower().split("(")[0].split()
            got = "a view" if kind == "view" else "a virtual table" if "virtual" in words[:3] else ""
            got = got or ("a table with a trigger" if name in self._triggered else "")
            if got:
                wanted = f"a table {name} (nsys export --type sqlite)"
                raise GpuTraceError(at(self.where, "tables", wanted, got))
            found.append(name)
        return sorted(found, key=lambda name: (len(name), name))

    def _columns(self, name: str) -> set[str]:
        quoted = name.replace('"', '""')
        return {row[1] for row in self.database.execute(f'PRAGMA table_info("{quoted}")')}
