"""Writes traces: aside and then renamed, with the same bytes for the same content."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.files import replacing
from h2sim.trace.model import parse_meta


def write_trace(
    path: str | Path,
    meta: dict[str, Any],
    members: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]],
    compress: bool = True,
) -> None:
    """Writes a trace; members may be a generator, so that one array at a time is in memory.

    Raises TraceError if the metadata is wrong, OutputError if the file cannot be written; then nothing is left.
    """
    parse_meta(meta, str(path))
    pairs = members.items() if isinstance(members, Mapping) else members
    text = np.frombuffer(json.dumps(meta, indent=1).encode(), np.uint8)
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with replacing(Path(path)) as aside, zipfile.ZipFile(aside, "w", method) as archive:
        _add(archive, "meta", text)
        for name, array in pairs:
            _add(archive, name, array)


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # no time of day: same content, same bytes
    info.compress_type = archive.compression
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
