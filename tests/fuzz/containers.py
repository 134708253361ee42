"""Changes inside files of files: zip with .npy members, gzip, SQLite, HDF5, pickles and torch's checkpoints."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tests.fuzz.mutate import EDGES, Rng, change_bytes, change_text, change_tree, pick, to_json

Members = dict[str, bytes]
HEADER_TOKENS = (
    "(3,)", "()", "(-1, 2)", "(1000000000, 9)", "(2, 1, 2),", "'|u1'", "'<f4'", "'>f2'", "'|O'", "'<i8'", "'<U9'",
    "True,", "[('a', '|u1')],", "None", "{", "}", "'shape':", "10**9", "1L", "nan",
)  # fmt: skip
BOMB_BYTES, BOMB_MEMBERS = 1 << 26, 72  # 4.5 GiB unpacked


def unzip(data: bytes) -> Members:
    """The members of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of members, some of which may have the same name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name or "x", (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, content, method)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    """An array as an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def change_npz(rng: Rng, data: bytes) -> bytes:
    """A mutant of a trace: bytes anywhere, the directory, members, headers, metadata, and mostly members' bits."""
    way = rng.random()
    if way < 0.12:
        return change_bytes(rng, data)
    if way < 0.22:
        return _change_directory(rng, data)
    members = unzip(data)
    name = pick(rng, list(members))
    if way < 0.5:
        _change_array(rng, members)
    elif way < 0.75:
        meta = members["meta.npy"]
        start = meta.index(b"\n") + 1
        text = to_json(change_tree(rng, json.loads(meta[start:])))
        members["meta.npy"] = npy(np.frombuffer(text, np.uint8))
    elif way < 0.88:
        members[name] = _change_header(rng, members[name])
    else:
        return _change_members(rng, members, name)
    return rezip(list(members.items()), pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _change_array(rng: Rng, members: Members) -> None:
    """Changes values of one array but not its shape: a whole trace, of other numbers."""
    name = pick(rng, [n for n in members if n != "meta.npy"])
    array = np.load(io.BytesIO(members[name]), allow_pickle=False)
    raw = bytearray(array.tobytes())
    for _ in range(1 + int(rng.integers(6))):
        raw[int(rng.integers(len(raw)))] = pick(rng, (0, 0xFF, int(rng.integers(256))))
    members[name] = npy(np.frombuffer(bytes(raw), array.dtype).reshape(array.shape))


def _change_header(rng: Rng, member: bytes) -> bytes:
    """Another .npy header: its text, its declared length or its version."""
    way = rng.random()
    if way < 0.3:
        head = bytearray(member[:12])
        head[int(rng.integers(12))] = int(rng.integers(256))
        return bytes(head) + member[12:]
    end = member.index(b"\n") + 1
    text = change_text(rng, member[10:end].decode().strip(), HEADER_TOKENS).strip()
    text += " " * (-(10 + len(text) + 1) % 64) + "\n"
    return member[:8] + len(text.encode()).to_bytes(2, "little") + text.encode() + member[end:]


def _change_members(rng: Rng, members: Members, name: str) -> bytes:
    """Members left out, doubled, renamed or swapped, or packed in another way."""
    pairs, way = list(members.items()), int(rng.integers(6))
    other = pick(rng, list(members))
    if way == 0:
        pairs = [(n, c) for n, c in pairs if n != name]
    elif way == 1:
        pairs.append((name, members[other]))
    elif way == 2:
        new = pick(rng, ("x.npy", "", "../x.npy", f"{name}.npy", name.upper(), "fc9.spikes.npy", "input.analog.npy"))
        pairs = [(new if n == name else n, c) for n, c in pairs]
    elif way == 3:
        members[name], members[other] = members[other], members[name]
        pairs = list(members.items())
    elif way == 4:
        pairs.append(("notes/readme.txt", b"x" * int(rng.integers(100))))
    else:
        return rezip(pairs, pick(rng, (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    return rezip(pairs)


def _change_directory(rng: Rng, data: bytes) -> bytes:
    """A field of the zip directory, of a local header, or of the directory's end gets another value."""
    changed = bytearray(data)
    mark, fields = pick(
        rng,
        (
            (b"PK\x01\x02", ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4))),
            (b"PK\x03\x04", ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))),
            (b"PK\x05\x06", ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
        ),
    )
    starts = [i for i in range(len(data)) if data.startswith(mark, i)]
    if not starts:
        return change_bytes(rng, data)
    (offset, width), start = pick(rng, fields), pick(rng, starts)
    value = pick(rng, EDGES) if rng.random() < 0.5 else int(rng.integers(1 << 16))
    changed[start + offset : start + offset + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    return bytes(changed)


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES), 1, mtime=0) * BOMB_MEMBERS


def gzipped(change: Callable[[Rng, bytes], bytes]) -> Callable[[Rng, bytes], bytes]:
    """Mutants of a gzip file: of what is in it, of the file itself, and rarely one that unpacks to 4.5 GiB."""

    def changed(rng: Rng, data: bytes) -> bytes:
        way = rng.random()
        if way < 0.001:
            return _bomb()
        if way < 0.7:
            return gzip.compress(change(rng, gzip.decompress(data)), 1, mtime=0)
        return change_bytes(rng, data)

    return changed


def change_sqlite(rng: Rng, data: bytes) -> bytes:
    """A mutant of a database: bytes, values of any type in any place, rows, columns and tables."""
    if rng.random() < 0.3:
        return change_bytes(rng, data)
    database = sqlite3.connect(":memory:")
    database.deserialize(data)
    for _ in range(1 + int(rng.integers(2))):
        try:
            _change_table(rng, database)
        except sqlite3.Error:  # the change does not fit this table
            continue
    database.commit()
    changed = database.serialize()
    database.close()
    return changed


SQL_VALUES: tuple[Any, ...] = (
    None, 0, -1, 1, 2**31, 2**62, -(2**63), 1.5, 1e300, float("inf"), "", "x", "9" * 30, "conv1", "ProfilerStep#3",
    b"", b"\xff", b"x" * 2000, "\x1b[31m", "fc1:backward", "h2sim:loss", "x" * 3000,
)  # fmt: skip


def _change_table(rng: Rng, database: sqlite3.Connection) -> None:
    tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    if not tables:
        return
    table = pick(rng, tables)
    columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
    rows = [row[0] for row in database.execute(f'SELECT rowid FROM "{table}"')]
    column, row, way = pick(rng, columns), pick(rng, rows) if rows else 0, rng.random()
    if way < 0.5:
        database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (pick(rng, SQL_VALUES), row))
    elif way < 0.6:
        where, many = "rowid = ?" if rng.random() < 0.7 else "rowid >= ?", (row,)
        database.execute(f'DELETE FROM "{table}" WHERE {where}', many)
    elif way < 0.7:
        listed = ", ".join(f'"{name}"' for name in columns if name != "id")
        database.execute(f'INSERT INTO "{table}" ({listed}) SELECT {listed} FROM "{table}" WHERE rowid = ?', (row,))
    elif way < 0.78:
        database.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "{pick(rng, (column + "x", "x", "END"))}"')
    elif way < 0.84:
        database.execute(f'ALTER TABLE "{table}" RENAME TO "{table}{pick(rng, ("x", "_V2"))}"')
    elif way < 0.9:
        database.execute(f'DROP TABLE "{table}"')
    elif way < 0.95:
        database.execute(f'UPDATE "{table}" SET "{column}" = CAST("{column}" AS {pick(rng, ("TEXT", "REAL", "BLOB"))})')
    else:
        database.execute(f'ALTER TABLE "{table}" RENAME TO kept')
        database.execute(f'CREATE VIEW "{table}" AS SELECT * FROM kept')


def change_hdf5(rng: Rng, data: bytes) -> bytes:
    """A mutant of a NIR graph: bytes, values, shapes and types of data sets, names, links and groups."""
    import h5py

    if rng.random() < 0.25:
        return change_bytes(rng, data)
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as tree:
        found: list[str] = []
        tree.visit(found.append)
        for _ in range(1 + int(rng.integers(2))):
            try:
                _change_entry(rng, tree, pick(rng, found), found)
            except (
                KeyError,
                OSError,
                RuntimeError,
                ValueError,
                TypeError,
                AttributeError,
            ):  # a link that leads nowhere
                continue
    return file.getvalue()


HDF5_VALUES: tuple[Any, ...] = (
    0, -1, 1, 2, 1.5, float("nan"), 2**40, 2**63 - 1, "Conv2d", "LIF", "same", "valid", "", "\u00e9", b"\xff",
    [0, 0], [1, 1], [-1, 2], [2, 3], [1, 2, 3], [[1.0, 2.0]], [], [1.5, 0.5],
)  # fmt: skip


def _change_entry(rng: Rng, tree: Any, name: str, found: list[str]) -> None:
    way, holder, parent = rng.random(), tree[name], name.rpartition("/")[0]
    if way < 0.6 and not hasattr(holder, "keys"):
        shape, kind = holder.shape, holder.dtype
        del tree[name]
        if rng.random() < 0.3 and kind.kind in "fiu":
            size = tuple(int(n) for n in rng.integers(0, 5, len(shape)))
            tree.create_dataset(name, data=rng.random(size).astype(pick(rng, ("f4", "f8", "i8", "u1", "f2"))))
        elif rng.random() < 0.1:
            tree.create_dataset(name, (1 << 20, 1 << 20), "f8", chunks=(64, 64))  # sparse: 8 TiB declared
        else:
            tree[name] = pick(rng, HDF5_VALUES)
    elif way < 0.75:
        del tree[name]
    elif way < 0.85:
        new = f"{parent}/{pick(rng, ('x', 'input', 'a/b', 'output', 'type'))}"
        if new not in tree:
            tree.move(name, new)
    else:
        import h5py

        del tree[name]
        tree[name] = pick(rng, (h5py.SoftLink(f"/{pick(rng, found)}"), h5py.SoftLink("/"), h5py.ExternalLink("x", "/")))


def change_pickle(rng: Rng, data: bytes) -> bytes:
    """A mutant of a pickle of plain data and numpy arrays: values, opcodes, lengths, protocols."""
    way = rng.random()
    if way < 0.5:
        return change_bytes(rng, data)
    if way < 0.6:
        length = pick(rng, EDGES) & 0xFFFFFFFF
        return pick(rng, (b"r", b"B", b"X", b"T", b"\x8e")) + struct.pack("<I", length) + pick(rng, (b"", b".", data))
    tree = change_tree(rng, pickle.loads(data, encoding="bytes"))
    return pickle.dumps(tree, pick(rng, (0, 1, 2, 3, 4, 5)))


def change_checkpoint(rng: Rng, data: bytes) -> bytes:
    """A mutant of torch.save's file: bytes, zip fields, and values of the state behind it."""
    import torch

    way = rng.random()
    if way < 0.2:
        return change_bytes(rng, data)
    if way < 0.3:
        return _change_directory(rng, data)
    state = torch.load(io.BytesIO(data), weights_only=True)
    file = io.BytesIO()
    torch.save(_change_tensor(rng, state) if way < 0.5 else change_tree(rng, state), file)
    return file.getvalue()


def _change_tensor(rng: Rng, state: Any) -> Any:
    """The state with one tensor of another shape, another type, or other values."""
    import torch

    from tests.fuzz.mutate import places

    held = [(holder, key) for holder, key in places(state) if isinstance(holder[key], torch.Tensor)]
    holder, key = pick(rng, held)
    tensor = holder[key]
    changes = (
        tensor.flatten(), tensor[..., :0] if tensor.ndim else tensor[None],
        tensor.to(torch.float16), tensor.to(torch.int64),
        tensor * float("nan"), torch.zeros(3), tensor.reshape(1, *tensor.shape), tensor.to(torch.bool),
    )  # fmt: skip
    holder[key] = pick(rng, changes)
    return state
