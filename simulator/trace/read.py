"""Reads traces: one member at a time, every header checked against the metadata before any of its data is read."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from h2sim import library
from h2sim.errors import TraceError
from h2sim.trace.bits import packed_bytes, padding_is_zero
from h2sim.trace.model import Layer, TraceMeta, parse_meta

MOST_META_BYTES = 1 << 24
MASKS = ("spikes", "window", "grad")
VALUES = ("membrane", "grad_membrane", "weight", "bias", "weight_grad")
_MASK_TYPES, _VALUE_TYPES = ("uint8",), ("float16", "float32")
_DAMAGE = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError, OSError, ValueError)


@dataclass(frozen=True)
class Expected:
    """What a member must be: one of the dtypes and one of the shapes; required or optional."""

    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    required: bool


class Trace:
    """An open trace: metadata now, masks and values when asked, nothing kept. Raises TraceError for damage."""

    def __init__(self, path: Path, meta: TraceMeta, members: dict[str, Expected]) -> None:
        self.path = path
        self.meta = meta
        self._members = members

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def has(self, member: str) -> bool:
        """Whether the file carries a member such as 'conv1.weight'."""
        return member in self._members

    @property
    def has_values(self) -> bool:
        """Whether any layer carries values to verify."""
        return any(name.rpartition(".")[2] in VALUES for name in self._members)

    @property
    def analog_steps(self) -> int:
        """Timesteps of the analog input: T, 1 for a static one or none."""
        return self._members["input.analog"].shapes[0][0] if self.has("input.analog") else 1

    def mask(self, layer: str, kind: str) -> np.ndarray:
        """Packed uint8 (T, N, bytes) of a layer: kind 'spikes', 'window' or 'grad'; padding bits are 0."""
        return self._bits(f"{layer}.{kind}", self.meta.layer(layer).neurons)

    def input_spikes(self) -> np.ndarray:
        """Packed uint8 (T, N, bytes) of the binary network input."""
        return self._bits("input.spikes", math.prod(self.meta.input_shape))

    def input_analog(self) -> np.ndarray:
        """Analog network input (T or 1, N, C, H, W), finite."""
        return self._numbers("input.analog")

    def values(self, layer: str, kind: str) -> np.ndarray:
        """Recorded values of a layer as stored: 'membrane', 'grad_membrane', 'weight', 'bias', 'weight_grad'; finite."""
        return self._numbers(f"{layer}.{kind}")

    def check(self) -> None:
        """Reads every known member; raises TraceError with all faults, one line each."""
        faults = []
        for name in self._members:
            layer, _, kind = name.rpartition(".")
            try:
                if name == "input.spikes":
                    self.input_spikes()
                elif kind in MASKS:
                    self.mask(layer, kind)
                else:
                    self._numbers(name)
            except TraceError as error:
                faults.append(str(error))
        if faults:
            raise TraceError("\n".join(faults))

    def _bits(self, name: str, neurons: int) -> np.ndarray:
        packed = self._array(name)
        if not padding_is_zero(packed, neurons):
            raise TraceError(f"{self.path}: {name}: expected padding bits of 0 behind {neurons} neurons; got others")
        return packed

    def _numbers(self, name: str) -> np.ndarray:
        array = self._array(name)
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise TraceError(f"{self.path}: {name}: expected finite numbers; got {array[where]} at {list(where)}")
        return array

    def _array(self, name: str) -> np.ndarray:
        if name not in self._members:
            raise TraceError(f"{self.path}: {name}: missing member")
        with _damage(self.path, name), zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            shape, fortran, dtype = _header(file)
            data = file.read(math.prod(shape) * dtype.itemsize)
            if len(data) != math.prod(shape) * dtype.itemsize or file.read(1):
                raise EOFError(f"data of {name} ends early or late")
        flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
        return flat.reshape(shape, order="F" if fortran else "C")


def load_trace(name_or_path: str | Path) -> Trace:
    """A shipped trace by name (`mnist-digits`) or a trace file. Reads the metadata and all headers, no data.

    Raises TraceError: a line per fault that names file, member, what was expected and what was found.
    """
    path = library.find("trace", str(name_or_path))
    if not path.is_file():
        known = ", ".join(library.names("trace"))
        raise TraceError(f"{path}: no such trace file; shipped traces: {known}")
    with _damage(path, "file"), zipfile.ZipFile(path) as archive:
        present = {info.filename: info for info in archive.infolist()}
        meta = _meta(path, archive, present)
        members, faults = {}, []
        for name, expected in known_members(meta):
            info = present.get(f"{name}.npy")
            if info is None:
                faults += [f"{path}: {name}: missing member"] if expected.required else []
                continue
            with _damage(path, name):
                found = _checked(path, name, expected, archive, info)
            if isinstance(found, str):
                faults.append(found)
            else:
                members[name] = found
        faults += _input_faults(path, meta, members)
    if faults:
        raise TraceError("\n".join(faults))
    return Trace(path, meta, members)


def known_members(meta: TraceMeta) -> Iterator[tuple[str, Expected]]:
    """Every member that version 1 knows for this network, and what it must be."""
    lead = (meta.timesteps, meta.batch)
    chw = meta.input_shape
    yield "input.spikes", Expected(_MASK_TYPES, ((*lead, packed_bytes(math.prod(chw))),), not meta.analog)
    yield "input.analog", Expected(_VALUE_TYPES, ((*lead, *chw), (1, meta.batch, *chw)), meta.analog)
    for layer in meta.layers:
        bits = Expected(_MASK_TYPES, ((*lead, packed_bytes(layer.neurons)),), layer.spiking)
        if layer.spiking:
            yield f"{layer.name}.spikes", bits
            yield f"{layer.name}.window", bits
        yield f"{layer.name}.grad", Expected(_MASK_TYPES, bits.shapes, "backward" in meta.phases)
        neurons = ((*lead, layer.neurons),) if layer.kind == "fc" else ((*lead, *layer.out_chw),)
        yield f"{layer.name}.membrane", Expected(_VALUE_TYPES, neurons, False)
        yield f"{layer.name}.grad_membrane", Expected(_VALUE_TYPES, neurons, False)
        weight = _weight_shape(layer)
        if weight:
            yield f"{layer.name}.weight", Expected(_VALUE_TYPES, (weight,), False)
            yield f"{layer.name}.bias", Expected(_VALUE_TYPES, (weight[:1],), False)
            yield f"{layer.name}.weight_grad", Expected(_VALUE_TYPES, (weight,), False)


def _weight_shape(layer: Layer) -> tuple[int, ...] | None:
    if layer.kind == "fc":
        return (layer.out_features, layer.in_features)  # type: ignore[return-value]
    if layer.kind in ("conv", "encode"):
        return (layer.out_chw[0], layer.in_shape[0], *layer.kernel)  # type: ignore[index, misc]
    return None


def _meta(path: Path, archive: zipfile.ZipFile, present: dict[str, zipfile.ZipInfo]) -> TraceMeta:
    info = present.get("meta.npy")
    if info is None:
        raise TraceError(f"{path}: meta: missing member; is this an h2sim trace?")
    if info.file_size > MOST_META_BYTES:
        raise TraceError(f"{path}: meta: expected at most {MOST_META_BYTES} bytes; got {info.file_size} declared")
    with archive.open(info) as file:
        shape, _, dtype = _header(file)
        if dtype != np.uint8 or len(shape) != 1:
            raise TraceError(f"{path}: meta: expected uint8 (bytes,); got {dtype} {shape}")
        text = file.read(MOST_META_BYTES)
    try:
        data = json.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TraceError(f"{path}: meta: expected JSON in UTF-8; got {str(error)[:80]}") from None
    return parse_meta(data, str(path))


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of an .npy member; the file then stands at its data. Never unpickles."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"npy version {version}")
    return read(file)


def _checked(
    path: Path, name: str, expected: Expected, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Expected | str:
    """The member's actual type and shape, or the line that says what is wrong with it."""
    with archive.open(info) as file:
        shape, _, dtype = _header(file)
        header_bytes = file.tell()
    if dtype.hasobject:
        return f"{path}: {name}: expected {' or '.join(expected.dtypes)}; got pickled objects, which are never read"
    if dtype.name not in expected.dtypes or shape not in expected.shapes:
        wanted = " or ".join(str(s) for s in expected.shapes)
        return f"{path}: {name}: expected {' or '.join(expected.dtypes)} {wanted}; got {dtype.name} {shape}"
    n_bytes = header_bytes + math.prod(shape) * dtype.itemsize
    if info.file_size != n_bytes:
        return f"{path}: {name}: expected {n_bytes} bytes; got {info.file_size} declared"
    return Expected((dtype.name,), (shape,), expected.required)


def _input_faults(path: Path, meta: TraceMeta, members: dict[str, Expected]) -> list[str]:
    if "input.spikes" in members and "input.analog" in members:
        return [f"{path}: input: expected exactly one of input.spikes and input.analog; got both"]
    return []


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    """Turns what a damaged file makes zipfile, zlib and numpy raise into one TraceError line."""
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TraceError(f"{path}: {what}: expected an intact .npz; got damage: {reason}") from None
