"""Small traces for tests: written through the format's own writer, then damaged on purpose."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from h2sim.arch import Arch, load_arch, parse_arch
from h2sim.trace import Sparsity, load_network, synthesise, write_trace

NOTATION = "4C3-AP2-6C3-10FC"
SHAPE = (2, 9, 9)
Members = dict[str, npt.NDArray[Any]]  # a trace's arrays by name


def parts(
    notation: str = NOTATION, shape: tuple[int, int, int] = SHAPE, timesteps: int = 3, batch: int = 2
) -> tuple[dict[str, Any], Members]:
    """Metadata (a fresh dict) and members of a small synthetic trace."""
    network = load_network(notation, shape)
    meta, members = synthesise(network, timesteps, batch, Sparsity(0.7, 0.5, 0.6), seed=1)
    return json.loads(json.dumps(meta)), dict(members)


def tiny_trace(folder: Path, name: str = "tiny.npz", **kwargs: Any) -> Path:
    """A valid small trace file."""
    meta, members = parts(**kwargs)
    write_trace(folder / name, meta, members)
    return folder / name


def raw_trace(path: Path, meta: object, members: Members) -> Path:
    """A trace file written without any check, as a foreign tool would (numpy.savez_compressed)."""
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    arrays: dict[str, Any] = {"meta": np.frombuffer(text, np.uint8), **members}
    np.savez_compressed(path, **arrays)
    return path


def declare(path: Path, member: str, shape: tuple[int, ...]) -> None:
    """Rewrites a member so that its header declares `shape` while it holds next to nothing: a bomb's header."""
    header = np.lib.format.magic(1, 0)
    text = str({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    text += b" " * (64 - (len(header) + 2 + len(text) + 1) % 64) + b"\n"
    blob = header + len(text).to_bytes(2, "little") + text + b"\0" * 16
    with zipfile.ZipFile(path) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if n != f"{member}.npy"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**kept, f"{member}.npy": blob}.items():
            archive.writestr(name, data)


def changed(path: str, value: Any) -> Arch:
    """h2learn with one field, named by its dotted path, set to another value."""
    data = load_arch("h2learn").model_dump()
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place[part]
    place[last] = value
    return parse_arch(data, "changed")
