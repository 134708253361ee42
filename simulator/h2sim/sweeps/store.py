"""The folder of a sweep: its spec as resolved, and every point that was found, whatever became of the processes.

`points.sqlite` is in WAL mode and has one writer, the coordinator; anybody may read meanwhile. A design and its points
are written in one transaction, so that a process killed at any moment leaves whole points or none.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from h2sim._version import MODEL_VERSION, __version__
from h2sim.errors import SweepError, at
from h2sim.io.files import write_text
from h2sim.sweeps.session import Found

STORE, SPEC = "points.sqlite", "sweep.yaml"
FORMAT = 1
_TABLES = """
create table if not exists facts (name text primary key, value text not null) without rowid;
create table if not exists files (sha256 text primary key, kind text not null, content text not null) without rowid;
create table if not exists designs (
    id text primary key, number integer not null, model integer not null, machine text not null, tables text not null,
    parameters text not null, arch text not null, energy text not null
) without rowid;
create table if not exists points (
    id text primary key, design text not null, trace text not null, status text not null, error text,
    numbers text not null
) without rowid;
create index if not exists points_of_design on points (design);
create index if not exists designs_in_order on designs (model, number, id);
"""


_DESIGN = "designs.id, number, machine, tables, parameters, arch, energy"
_N_DESIGN = len(_DESIGN.split(", "))
_POINT = "points.id, points.design, trace, status, error, numbers"


@dataclass(frozen=True)
class Stored:
    """A design as stored. number: in the order of its spec. base and table: hashes of the files
    (`Store.file`) that arch and energy change; tables: the energy table's name in the spec."""

    id: str
    number: int
    base: str
    table: str
    energy_table: str
    parameters: Mapping[str, Any]
    arch: Mapping[str, Any]
    energy: Mapping[str, Any]


class Store:
    """The points of a sweep's folder. Raises SweepError for a folder that is none, or of another format."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder = folder
        if write:
            _make(folder)
        elif not (folder / STORE).is_file():
            raise SweepError(f"{folder}: expected a sweep's folder, with {STORE}; got none")
        self._db = _opened(folder / STORE, write)
        try:
            if write:
                self._db.executescript(_TABLES)
            known = self._facts()
            if write and "format" not in known:
                self.tell(format=FORMAT)
            elif known.get("format") != FORMAT:
                raise SweepError(
                    at(str(folder / STORE), "format", f"{FORMAT}, which this h2sim reads", known.get("format"))
                )
        except sqlite3.DatabaseError as error:
            raise SweepError(f"{folder / STORE}: cannot be read: {error}") from None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Raises SweepError where it cannot be written, on a full disk say: then nothing of it is."""
        try:
            with self._db:
                yield self._db
        except sqlite3.Error as error:
            raise SweepError(f"{self.folder / STORE}: cannot be written: {error}") from None

    def _read(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows of a query."""
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise SweepError(f"{self.folder / STORE}: cannot be read: {error}") from None

    def tell(self, **facts: Any) -> None:
        """Writes facts about the sweep, in place of earlier ones of these names."""
        with self._written() as db:
            db.executemany(
                "insert or replace into facts values (?, ?)", [(name, json.dumps(v)) for name, v in facts.items()]
            )

    def _facts(self) -> dict[str, Any]:
        return {name: json.loads(value) for name, value in self._read("select name, value from facts")}

    @property
    def facts(self) -> dict[str, Any]:
        """What was told, by name."""
        return self._facts()

    def keep_file(self, kind: str, sha256: str, content: str) -> None:
        """Keeps the text of a machine's or a table's file, so that its points can be built again."""
        with self._written() as db:
            db.execute("insert or ignore into files values (?, ?, ?)", (sha256, kind, content))

    def file(self, sha256: str) -> str:
        """The text of a file that was kept."""
        row = next(self._read("select content from files where sha256 = ?", sha256), None)
        if row is None:
            raise SweepError(f"{self.folder / STORE}: expected the file of hash {sha256[:12]}; got none")
        return str(row[0])

    def add(self, designs: Iterable[Stored], found: Sequence[Found], *, again: bool = False) -> None:
        """Adds designs and what was found of their points, all or nothing.

        What is there already stays. again: points are written over what is there.
        """
        how = "replace" if again else "ignore"
        with self._written() as db:
            db.executemany(
                "insert or ignore into designs values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (d.id, d.number, MODEL_VERSION, d.base, json.dumps([d.table, d.energy_table]),
                     json.dumps(d.parameters), json.dumps(d.arch), json.dumps(d.energy))
                    for d in designs
                ],
            )  # fmt: skip
            db.executemany(
                f"insert or {how} into points values (?, ?, ?, ?, ?, ?)",
                [(f.point, f.design, f.trace, f.status, f.error, json.dumps(f.numbers)) for f in found],
            )

    def statuses(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """(status, numbers as JSON) of the points that are there among those asked for; at most 500 of them."""
        marks = ",".join("?" * len(ids))
        rows = self._read(f"select id, status, numbers from points where id in ({marks})", *ids)
        return {point: (status, numbers) for point, status, numbers in rows}

    def counts(self) -> dict[str, int]:
        """How many points there are of each status, of this version of the model."""
        rows = self._read(
            "select points.status, count(*) from points join designs on designs.id = points.design"
            " where designs.model = ? group by points.status", MODEL_VERSION
        )  # fmt: skip
        return {status: int(count) for status, count in rows}

    def other_models(self) -> int:
        """How many designs are of another version of the model: nothing shows them."""
        ((count,),) = self._read("select count(*) from designs where model != ?", MODEL_VERSION)
        return int(count)

    def designs(self, start: str = "") -> Iterator[Stored]:
        """The designs of this version of the model whose id begins with `start`, in the order of their numbers."""
        rows = self._read(
            f"select {_DESIGN} from designs where model = ? and id >= ? and id < ? order by number, id",
            MODEL_VERSION,
            start,
            start + "~",
        )
        return map(_stored, rows)

    def designs_with_points(self) -> Iterator[tuple[Stored, list[Found]]]:
        """The designs of this version of the model in the order of their numbers, each with its points."""
        rows = self._read(
            f"select {_DESIGN}, {_POINT} from designs cross join points on points.design = designs.id"
            " where model = ? order by number, designs.id",
            MODEL_VERSION,
        )
        for _, group in groupby(rows, key=lambda row: row[0]):
            several = list(group)
            yield _stored(several[0]), [_found(row[_N_DESIGN:]) for row in several]

    def points(self) -> Iterator[Found]:
        """Every point, those of a design one after the other."""
        return map(_found, self._read(f"select {_POINT} from points order by design, trace"))

    def points_of(self, design: str) -> Iterator[Found]:
        """The points of one design."""
        return map(_found, self._read(f"select {_POINT} from points where design = ? order by trace", design))

    def write_spec(self, resolved: Mapping[str, Any]) -> None:
        """Writes sweep.yaml, the spec as resolved."""
        text = yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=110)
        head = f"# the spec of this sweep as resolved, by h2sim {__version__}; points.sqlite holds what was found\n"
        write_text(self.folder / SPEC, head + text)

    @property
    def spec_path(self) -> Path:
        """sweep.yaml."""
        return self.folder / SPEC


def _stored(row: tuple[Any, ...]) -> Stored:
    """A design, of the columns _DESIGN."""
    key, number, base, tables, parameters, arch, energy = row[:_N_DESIGN]
    table, name = json.loads(tables)
    return Stored(key, number, base, table, name, json.loads(parameters), json.loads(arch), json.loads(energy))


def _found(row: tuple[Any, ...]) -> Found:
    """A point, of the columns _POINT."""
    key, design, trace, status, error, numbers = row
    return Found(key, design, trace, status, json.loads(numbers), error)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"{folder}: cannot be made: {error.strerror}") from None


def _opened(path: Path, write: bool) -> sqlite3.Connection:
    try:
        if not write:
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
            return db
        db = sqlite3.connect(path, timeout=60)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = normal")
        return db
    except (sqlite3.Error, OSError) as error:
        raise SweepError(f"{path}: cannot be opened: {error}") from None


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """A block in which no other process runs this sweep. Raises SweepError where one does; a killed one does not."""
    import fcntl

    _make(folder)
    try:
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SweepError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SweepError(f"{folder}: another h2sim sweep is running there; wait for it or end it") from None
        except OSError as error:
            raise SweepError(f"{folder}: cannot be locked: {error.strerror}") from None
        yield
    finally:
        os.close(handle)
