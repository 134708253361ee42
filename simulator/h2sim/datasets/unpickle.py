"""Unpickles byte arrays and plain containers, and nothing else: any other pickle could run any program.

Even numpy's own callables are not used, because a forged dtype can make numpy write where it should not. Instead
stand-ins record what the pickle of an array says, and the array is made from that.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.arrays import Bytes
from h2sim.errors import DatasetError, at


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds: a dict, among whose values may be uint8 arrays, or any plain value.

    Strings that Python 2 pickled are given as bytes. Raises DatasetError if the pickle is damaged, and if it names
    anything but arrays.
    """
    try:
        with path.open("rb") as file:
            held = _Plain(file, path).load()
        return {key: _value(value) for key, value in held.items()} if isinstance(held, dict) else held
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(at(str(path), "file", "a readable one", error.strerror)) from None
    except Exception as error:  # a damaged pickle can raise any built-in exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DatasetError(at(str(path), "content", "a whole pickle of byte arrays", reason)) from None


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
            raise ValueError(f"an array of {spec!r}")
        return _Dtype()


class _Encode:
    """Makes bytes of text, which is how Python 3 pickles bytes in protocol 2; no codec but latin1 is allowed."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in {encoding}")
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
