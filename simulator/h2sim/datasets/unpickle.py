"""Unpickles byte arrays and plain containers, nothing else: a pickle from elsewhere could otherwise run any program.

Even numpy's own callables are not handed out: a forged dtype can make numpy write where it should not. Stand-ins record
what an array's pickle says, and the array is made of that.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.errors import DatasetError, at


def read_plain_pickle(path: Path) -> Any:
    """What a pickle holds: a dict with uint8 arrays among its values, or anything plain; Python 2's strings are bytes.

    Raises DatasetError if it is damaged or names anything but arrays.
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

    def values(self) -> np.ndarray:
        _, shape, dtype, fortran_order, data = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise ValueError("an array without a type or without bytes")
        return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran_order else "C")


class _Dtype:
    """uint8, whose state (byte order, flags) says nothing."""

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
    """How a Python 3 pickle of protocol 2 spells bytes; other codecs are not looked up."""

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
