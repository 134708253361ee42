"""Writes traces: to a temporary file that is then renamed. The same content gives the same bytes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from h2sim.arrays import Array, Bytes
from h2sim.errors import TraceError
from h2sim.io.files import replacing
from h2sim.trace.members import Expected, known_members, presence_faults
from h2sim.trace.parse import parse_meta, refuse

Members = Mapping[str, Array] | Iterable[tuple[str, Array]]


def write_trace(
    path: str | Path, meta: dict[str, Any], members: Members, compress: bool = True, level: int | None = None
) -> None:
    """Writes a trace to `path`. Members may be a generator, so that only one array at a time is in memory.

    `level` is that of deflate, from 1 to 9; None is its default, 6. On masks, level 1 takes a quarter of the time and
    makes a tenth more bytes. A member that the format does not know is written as it is. Raises TraceError if the
    metadata or a member is not what the format asks, and OutputError if the file cannot be written. In either case a
    file that stood at `path` stays as it was.

    >>> import tempfile
    >>> from h2sim.trace import Sparsity, load_network, load_trace, synthesise
    >>> network = load_network("8C3-AP2-10FC", (1, 12, 12))
    >>> meta, members = synthesise(network, timesteps=4, batch=2, sparsity=Sparsity(0.9, 0.8, 0.7), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_trace(f"{folder}/small.npz", meta, members)
    ...     print(load_trace(f"{folder}/small.npz"))
    Trace('small.npz': 8C3-AP2-10FC on none, T=4, batch 2, 3 layers)
    """
    checked = parse_meta(meta, str(path))
    known = dict(known_members(checked))
    pairs = cast("Iterable[tuple[str, Array]]", members.items() if isinstance(members, Mapping) else members)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    text, written = _json(meta, path), {"meta"}
    with replacing(Path(path)) as aside, zipfile.ZipFile(aside, "w", method) as archive:
        _add(archive, "meta", text, level)
        for name, array in pairs:
            fault = "expected once; got it again" if name in written else _fault(known.get(name), array)
            if fault:
                raise TraceError(f"{path}: {name}: {fault}")
            written.add(name)
            _add(archive, name, array, level)
        faults = [f"{path}: {fault}" for fault in presence_faults(checked, written)]
        if faults:
            refuse(faults)


def _json(meta: dict[str, Any], path: str | Path) -> Bytes:
    """The metadata as JSON text, uint8 (bytes,)."""
    try:
        text = json.dumps(meta, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TraceError(f"{path}: meta: expected what JSON can hold; got {error}") from None
    return np.frombuffer(text.encode(), np.uint8)


def _fault(expected: Expected | None, array: Array) -> str | None:
    if expected is None:
        return "expected numbers; got objects" if array.dtype.hasobject else None
    return expected.header_fault(array.dtype, array.shape) or expected.content_fault(array)


def _add(archive: zipfile.ZipFile, name: str, array: Array, level: int | None) -> None:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # no time of day: same content, same bytes
    info.compress_type = archive.compression
    setattr(info, "compress_level" if hasattr(info, "compress_level") else "_compresslevel", level)  # public from 3.13
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, wherever it is written
    with archive.open(info, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
