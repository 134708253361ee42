"""Unpickles byte arrays and plain containers, and nothing else: any other pickle could run any program.

Even numpy's own callables are not used, because a forged dtype can make numpy write where it should not. Instead
stand-ins record what the pickle of an array says, and the array is made from that.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.arrays import Bytes
from h2sim.datasets.files import MOST_ARRAY_BYTES, data_bytes
from h2sim.errors import DatasetError, at
from h2sim.io.faults import show

MOST_TUPLES = 1000  # arrays need a dozen; Python's hash of tuples in tuples has no limit of its own
# What arrays, lists, dicts, numbers and strings are made of. Others can allocate a length that they only declare
# (BYTEARRAY8), look a class up, or make a value that holds itself many times over (DUP).
_PLAIN_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
    *("LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_LEAVE_THE_STACK = (*_PUTS, "PROTO", "FRAME")


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds: a dict, among whose values may be uint8 arrays, or any plain value.

    Strings that Python 2 pickled are given as bytes. Raises DatasetError if the pickle is damaged, and if it names
    anything but arrays.
    """
    try:
        data = data_bytes(path, MOST_ARRAY_BYTES)
        if not data:
            raise EOFError("no bytes")
        _check(data)
        held = _Plain(io.BytesIO(data), path).load()
        return {key: _value(value) for key, value in held.items()} if isinstance(held, dict) else held
    except DatasetError:
        raise
    except Exception as error:  # a damaged pickle can raise any built-in exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DatasetError(at(str(path), "content", "a whole pickle of byte arrays", reason)) from None


def _check(data: bytes) -> None:
    """Raises ValueError unless loading takes memory and time as the file is long. Looks at the opcodes, loads nothing.

    A memo's place is one that a pickler would give, for the unpickler makes room for all places below it. A tuple is
    not used twice, for hashing tuples in tuples in tuples then takes for ever.
    """
    puts, n_tuples, tuples, on_tuple = set[int](), 0, set[int](), False
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name not in _PLAIN_OPCODES:
            raise ValueError(f"the opcode {name}")
        if name in _PUTS:
            place = len(puts) if argument is None else int(argument)
            if not 0 <= place <= len(puts) + 1:
                raise ValueError(f"memo place {place} after {len(puts)} others")
            puts.add(place)
            (tuples.add if on_tuple else tuples.discard)(place)
        elif name in ("GET", "BINGET", "LONG_BINGET") and argument in tuples:
            raise ValueError("a tuple that is used twice")
        elif name.startswith("TUPLE"):
            n_tuples += 1
            if n_tuples > MOST_TUPLES:
                raise ValueError(f"more than {MOST_TUPLES} tuples")
        if name not in _LEAVE_THE_STACK:
            on_tuple = name.startswith("TUPLE")


class _Plain(pickle.Unpickler):
    """Gives out a stand-in for each of the few callables that an array's pickle names."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            wanted = "a pickle of byte arrays, lists, dicts, numbers and strings"
            raise DatasetError(at(str(self.path), "content", wanted, f"one that names {module}.{name}; refused"))
        return _STAND_INS[module, name]


# The stand-ins are instances without a __dict__, so that a pickle can neither construct nor change them.


class _Array:
    """An array as its pickle builds it: empty first, then given its state."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def values(self) -> Bytes:
        _, shape, dtype, fortran_order, data = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise ValueError("an array without a type or without bytes")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran_order else "C")


class _Dtype:
    """The dtype uint8; its state (byte order, flags) is not needed."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Reconstruct:
    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _MakeDtype:
    __slots__ = ()

    def __call__(self, spec: Any, *_: Any) -> _Dtype:
        if spec not in ("u1", b"u1", "|u1", b"|u1"):
            raise ValueError(f"an array of {show(spec)}")
        return _Dtype()


class _Encode:
    """Makes bytes of text, which is how Python 3 pickles bytes in protocol 2; no codec but latin1 is allowed."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in {encoding if isinstance(encoding, str) else show(encoding)}")
        return text.encode("latin1")


def _value(value: Any) -> Any:
    return value.values() if isinstance(value, _Array) else value


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): _MakeDtype(),
    ("_codecs", "encode"): _Encode(),
}
