"""A NIR graph from its HDF5 file, by the shapes of its arrays: no more is read than names, sizes, edges and factors.

HDF5 lets a small file declare arrays of terabytes, hold itself, and name other files. `nir.read` follows all of it, so
the file is walked here, within bounds, and nir's own classes are made of what was found.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import h5py
import nir
import numpy as np

from h2sim.arrays import Array
from h2sim.export.nirgraph import MOST_NESTED
from h2sim.io.faults import show
from h2sim.io.reading import GIB, MIB, check_file

MOST_FILE_BYTES = 8 * GIB
MOST_GROUPS_DEEP = 2 * MOST_NESTED + 2
MOST_OBJECTS = 100_000
MOST_READ_BYTES = 16 * MIB  # of the sizes, names, edges and factors together
MOST_WEIGHTS = 1 << 36  # whose values are not read, as in a trace
MOST_PARAMETERS = 1 << 24  # of neurons, for each of which nir makes more of them
MOST_READ_VALUES = 64  # of an array of numbers; a longer one is known by its shape, but for factors
ROWS_AT_ONCE = 16  # of strings, each of which may name the same megabytes
PAIRS = {"Conv2d": ("stride", "padding", "dilation"), "AvgPool2d": ("kernel_size", "stride", "padding")}
PAIRS["SumPool2d"] = PAIRS["AvgPool2d"]


def read_graph(path: str | Path) -> nir.NIRGraph:
    """The graph, not checked. Arrays of more than 64 numbers, but for a Scale's, have their shape and no values.

    Raises OSError for a file that is none, and whatever nir and h5py raise for one that is damaged.
    """
    check_file(path, MOST_FILE_BYTES)
    with h5py.File(path, "r") as file:
        node = file.get("node") if file.get("node", getlink=True, default=None) is not None else None
        if not isinstance(node, h5py.Group):
            raise ValueError("no group 'node'")
        held = _Walk().group(node, 0)
    if held.get("type") != "NIRGraph":
        raise ValueError(f"a {show(held.get('type'))} where a NIRGraph is expected")
    return _graph(held)


def _graph(held: dict[str, Any]) -> nir.NIRGraph:
    nodes = held.get("nodes")
    if not isinstance(nodes, dict):
        raise ValueError("no group 'nodes'")
    return nir.NIRGraph({key: _node(key, entry) for key, entry in nodes.items()}, _edges(held), type_check=False)


def _edges(held: dict[str, Any]) -> list[tuple[str, str]]:
    edges = held.get("edges")
    if not isinstance(edges, np.ndarray) or (edges.size and (edges.ndim != 2 or edges.shape[1] != 2)):
        raise ValueError("edges that are no pairs of names")
    if not all(isinstance(name, bytes | str) for name in edges.flat):
        raise ValueError("edges that are no pairs of names")
    return [(_text(start), _text(end)) for start, end in edges.reshape(-1, 2)]


def _text(value: bytes | str) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _node(key: str, entry: Any) -> nir.NIRNode:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise ValueError(f"node {show(key)} without a type")
    if entry["type"] == "NIRGraph":
        try:
            return _graph(entry)
        except ValueError as error:
            raise ValueError(f"in {show(key)}: {error}") from None
    for field in PAIRS.get(entry["type"], ()):
        value = entry.get(field)
        if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iu":
            entry[field] = np.repeat(value.reshape(1), 2)
    try:
        with np.errstate(all="ignore"):
            if entry["type"] not in ("Conv1d", "Conv2d"):
                return cast(nir.NIRNode, nir.ir.dict2NIRNode(entry))
            node = nir.ir.dict2NIRNode({**entry, "input_shape": None})  # nir would divide by any stride at once
            node.input_shape = entry.get("input_shape")
            return node
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200] or f"a type or values that nir does not know ({entry['type']})"
        raise ValueError(f"node {show(key)}: {reason}") from None


class _Walk:
    """Reads groups within the bounds. Every method raises ValueError for what is beyond them."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()
        self.left_bytes = MOST_READ_BYTES

    def group(self, group: h5py.Group, depth: int) -> dict[str, Any]:
        """What a group holds, as nir's own reader gives it. Metadata is left out."""
        self._once(group)
        if depth > MOST_GROUPS_DEEP:
            raise ValueError(f"groups more than {MOST_GROUPS_DEEP} deep")
        held: dict[str, Any] = {}
        for key in group:
            if key == "metadata":
                continue
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{show(key)} is a link, to another place or file")
            item = group[key]
            if isinstance(item, h5py.Group):
                held[key] = self.group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                held[key] = self.values(key, item)
        return held

    def _once(self, item: h5py.Group | h5py.Dataset) -> None:
        info = h5py.h5o.get_info(item.id)
        place = (info.fileno, info.addr)
        if place in self.seen:
            raise ValueError(f"{show(item.name)} stands in the file twice, or holds itself")
        self.seen.add(place)
        if len(self.seen) > MOST_OBJECTS:
            raise ValueError(f"more than {MOST_OBJECTS} groups and arrays")

    def values(self, key: str, data: h5py.Dataset) -> Any:
        """The text, number or array of numbers of a data set."""
        self._once(data)
        if data.shape is None or data.external or data.is_virtual:
            raise ValueError(f"{show(key)} has no values of its own in this file")
        if h5py.check_string_dtype(data.dtype) is not None:
            return self._strings(key, data)
        if data.dtype.kind not in "iufb":
            raise ValueError(f"{show(key)} is neither numbers nor text ({show(str(data.dtype))})")
        n_values, most = math.prod(data.shape), MOST_WEIGHTS if key == "weight" else MOST_PARAMETERS
        if n_values > most:
            raise ValueError(f"{show(key)} declares {n_values} values, where at most {most} are known")
        if n_values > MOST_READ_VALUES and key != "scale":
            return np.broadcast_to(np.zeros((), data.dtype), data.shape)
        self._spend(key, data)
        return np.asarray(data[()])

    def _strings(self, key: str, data: h5py.Dataset) -> Any:
        self._spend(key, data)
        if data.shape == ():
            return self._weighed(key, np.array([data[()]], object))[0]
        parts = [data[start : start + ROWS_AT_ONCE] for start in range(0, data.shape[0], ROWS_AT_ONCE)]
        return np.concatenate([self._weighed(key, part.astype(object)) for part in parts]) if parts else data[()]

    def _weighed(self, key: str, strings: Array) -> Array:
        self._take(key, sum(len(text) for text in strings.flat))
        return np.array([_text(text) for text in strings.flat], object).reshape(strings.shape)

    def _spend(self, key: str, data: h5py.Dataset) -> None:
        """Before the values are read: what they take as declared, and what a block takes that is unpacked for them."""
        block = math.prod(data.chunks) * data.dtype.itemsize if data.chunks else 0
        self._take(key, math.prod(data.shape) * data.dtype.itemsize)
        if block > MOST_READ_BYTES:
            raise ValueError(f"{show(key)} lies in blocks of {block} bytes, where at most {MOST_READ_BYTES} are read")

    def _take(self, key: str, n_bytes: int) -> None:
        self.left_bytes -= n_bytes
        if self.left_bytes < 0:
            raise ValueError(f"{show(key)} and what stands before it have more than {MOST_READ_BYTES} bytes to read")
