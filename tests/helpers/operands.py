"""Random networks of maps, each as a trace and as the same maps in torch, for the tests of operands."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.trace import Trace, load_trace, write_trace
from h2sim.trace.bits import pack
from h2sim.trace.windows import pool_size

NEURON = {"threshold": 0.5, "decay": 0.25, "window": [0.0, 1.0]}
T, N = 2, 2


@dataclass
class Drawn:
    """A random network: its layers, members and, by name, what its maps are.

    values: (T, N, C, H, W), what leaf maps hold. masks: needed of leaf maps.
    """

    rng: np.random.Generator
    layers: list[dict[str, Any]] = field(default_factory=list)
    members: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    binary: set[str] = field(default_factory=set)
    analog: set[str] = field(default_factory=set)
    most: int = 1

    def pick(self, names: Any) -> str:
        """One of some names."""
        return str(self.rng.choice(sorted(names)))

    def add(self, entry: dict[str, Any], shape: tuple[int, int, int], *, binary: bool = False) -> str:
        """Adds a layer and returns its name."""
        name = f"{entry['kind']}{len(self.layers)}"
        self.layers.append({"name": name, **entry})
        self.shapes[name] = shape
        if binary:
            self.binary.add(name)
        if entry["inputs"][0] in self.analog or any(each in self.analog for each in entry["inputs"]):
            self.analog.add(name)
        return name

    def meta(self) -> dict[str, Any]:
        """The trace's metadata."""
        data: dict[str, Any] = {
            "format": "h2sim-trace", "version": 2, "network": "random", "dataset": "", "timesteps": T, "batch": N,
            "phases": ["forward", "backward", "weight_update"], "neuron": NEURON, "source": {"kind": "synthetic"},
            "layers": self.layers,
        }  # fmt: skip
        if self.most > 1:
            data["input"] = {"kind": "counts", "most": self.most}
        return data

    def trace(self, folder: Path) -> Trace:
        """The trace, written and opened."""
        write_trace(folder / "t.npz", self.meta(), self.members)
        return load_trace(folder / "t.npz")


def draw(seed: int, steps: int = 6) -> Drawn:
    """A network of 1 to 3 leaf maps of neurons and the input, `steps` maps made of them, and a read-out of each."""
    rng = np.random.default_rng(seed)
    drawn = Drawn(rng, most=int(rng.choice([1, 1, 3, 6])))
    chw = int(rng.integers(1, 3)), int(rng.integers(3, 7)), int(rng.integers(3, 7))
    _input(drawn, chw)
    for _ in range(rng.integers(1, 4)):
        _neurons(drawn, chw, spiking=bool(rng.random() < 0.8))
    for _ in range(steps):
        step = MAKERS[int(rng.integers(len(MAKERS)))]
        step(drawn)
    for name in list(drawn.shapes):
        if name != "input":
            _read_out(drawn, name)
    return drawn


def _input(drawn: Drawn, chw: tuple[int, int, int]) -> None:
    shape = (T, N, *chw)
    values = drawn.rng.integers(0, drawn.most + 1, shape)
    drawn.shapes["input"], drawn.values["input"] = chw, values
    drawn.masks["input"] = np.zeros(shape, bool)
    if drawn.most > 1:
        drawn.members["input.counts"] = values.astype(np.uint8)
    else:
        drawn.members["input.spikes"] = pack(values.reshape(T, N, -1))
        drawn.binary.add("input")


def _neurons(drawn: Drawn, chw: tuple[int, int, int], spiking: bool) -> None:
    """A convolution of the input that keeps its size: a leaf, whose spikes or current are random."""
    entry = {"kind": "conv", "inputs": ["input"], "in_shape": list(chw), "out_shape": list(chw), "kernel": [3, 3],
             "stride": [1, 1], "padding": [1, 1], "spiking": spiking}  # fmt: skip
    name = drawn.add(entry, chw, binary=spiking)
    shape = (T, N, *chw)
    if spiking:
        bits, window = (drawn.rng.integers(0, 2, shape) for _ in range(2))
        drawn.members[f"{name}.spikes"], drawn.members[f"{name}.window"] = (
            pack(each.reshape(T, N, -1)) for each in (bits, window)
        )
        drawn.values[name], drawn.masks[name] = bits, window.astype(bool)
    else:
        drawn.analog.add(name)
        drawn.values[name], drawn.masks[name] = drawn.rng.normal(size=shape), np.ones(shape, bool)
    drawn.members[f"{name}.grad"] = pack(drawn.rng.integers(0, 2, (T, N, int(np.prod(chw)))))


def _read_out(drawn: Drawn, name: str) -> None:
    size = int(np.prod(drawn.shapes[name]))
    entry = {"kind": "fc", "inputs": [name], "in_features": size, "out_features": 2, "spiking": False}
    made = drawn.add(entry, (2, 1, 1))
    drawn.members[f"{made}.grad"] = pack(np.ones((T, N, 2)))
    del drawn.shapes[made]  # nothing reads it


def _pool(drawn: Drawn) -> None:
    name = drawn.pick(drawn.shapes)
    shape, rng = drawn.shapes[name], drawn.rng
    mode = "max" if rng.random() < 0.4 else rng.choice(["average", "sum"])
    if mode == "max" and name in drawn.analog:
        mode = "average"  # their route would be a member of its own
    entry: dict[str, Any] = {"kind": "pool", "inputs": [name], "in_shape": list(shape), "mode": str(mode),
                             "spiking": False}  # fmt: skip
    if rng.random() < 0.3:
        out = [int(rng.integers(1, n + 1)) for n in shape[1:]]
        entry |= {"adaptive": True, "out_shape": [shape[0], *out]}
    else:
        kernel = [int(rng.integers(1, min(3, n) + 1)) for n in shape[1:]]
        entry |= {
            "kernel": kernel, "stride": [int(rng.integers(1, 4)) for _ in kernel],
            "padding": [int(rng.integers(0, k // 2 + 1)) for k in kernel], "ceil_mode": bool(rng.random() < 0.5),
        }  # fmt: skip
        if mode == "average":
            entry |= {"count_include_pad": bool(rng.random() < 0.5)}
            if entry["count_include_pad"] and rng.random() < 0.3:
                entry |= {"divisor": int(rng.integers(1, 7))}
        from h2sim.trace.model import Layer

        size = pool_size(Layer.model_validate({"name": "p", **entry, "out_shape": [1, 1, 1], "neuron": NEURON}))
        entry["out_shape"] = [shape[0], *size]
    made = drawn.add(entry, tuple(entry["out_shape"]), binary=mode == "max" and name in drawn.binary)
    if mode == "max":
        drawn.values.setdefault(made, np.zeros(0))


def _gate(drawn: Drawn) -> None:
    name = drawn.pick(drawn.shapes)
    shape, once = drawn.shapes[name], drawn.rng.random() < 0.5
    entry = {"kind": "gate", "inputs": [name], "in_shape": list(shape), "out_shape": list(shape), "scale": [5, 4]}
    made = drawn.add(entry, shape, binary=name in drawn.binary)
    drawn.members[f"{made}.kept"] = pack(drawn.rng.integers(0, 2, (1 if once else T, N, int(np.prod(shape)))))


def _sum(drawn: Drawn) -> None:
    name = drawn.pick(drawn.shapes)
    alike = [other for other, shape in drawn.shapes.items() if shape == drawn.shapes[name]]
    inputs = [name, *(drawn.pick(alike) for _ in range(int(drawn.rng.integers(1, 3))))]
    _several(drawn, "add", inputs, drawn.shapes[name], drawn.shapes[name])


def _concat(drawn: Drawn) -> None:
    name = drawn.pick(drawn.shapes)
    channels, height, width = drawn.shapes[name]
    alike = [other for other, shape in drawn.shapes.items() if shape[1:] == (height, width)]
    other = drawn.pick(alike)
    shape = (channels + drawn.shapes[other][0], height, width)
    if shape[0] <= 6:
        _several(drawn, "concat", [name, other], drawn.shapes[name], shape)


def _several(drawn: Drawn, kind: str, inputs: list[str], in_shape: Any, out_shape: Any) -> None:
    entry = {"kind": kind, "inputs": inputs, "in_shape": list(in_shape), "out_shape": list(out_shape), "spiking": False}
    binary = kind == "concat" and all(each in drawn.binary for each in inputs)
    drawn.add(entry, tuple(out_shape), binary=binary)


def _product(drawn: Drawn) -> None:
    """Of two leaves: those of maps that share a neuron could cancel."""
    leaves = [name for name in drawn.binary if name in drawn.values and drawn.values[name].size]
    if len(leaves) < 2:
        return
    a, b = (str(name) for name in drawn.rng.choice(sorted(leaves), 2, replace=False))
    op = str(drawn.rng.choice(["and", "and_not"]))
    shape = drawn.shapes[a]
    entry = {"kind": "add", "op": op, "inputs": [a, b], "in_shape": list(shape), "out_shape": list(shape),
             "spiking": False}  # fmt: skip
    drawn.add(entry, shape, binary=True)


def _upsample(drawn: Drawn) -> None:
    name = drawn.pick(drawn.shapes)
    channels, height, width = drawn.shapes[name]
    factor = [int(n) for n in drawn.rng.integers(1, 3, 2)]
    shape = (channels, height * factor[0], width * factor[1])
    if max(shape) <= 12:
        entry = {"kind": "upsample", "inputs": [name], "in_shape": [channels, height, width], "out_shape": list(shape),
                 "factor": factor}  # fmt: skip
        drawn.add(entry, shape, binary=name in drawn.binary)


def _relu(drawn: Drawn) -> None:
    if not drawn.analog:
        return
    name = drawn.pick(drawn.analog)
    if name not in drawn.shapes:
        return
    shape = drawn.shapes[name]
    made = drawn.add({"kind": "relu", "inputs": [name], "in_shape": list(shape), "out_shape": list(shape)}, shape)
    drawn.members[f"{made}.window"] = pack(drawn.rng.integers(0, 2, (T, N, int(np.prod(shape)))))


MAKERS = (_pool, _pool, _pool, _gate, _sum, _concat, _product, _upsample, _relu)


def in_torch(drawn: Drawn) -> tuple[dict[str, Any], dict[str, Any]]:
    """The maps in torch, float64 (T, N, C, H, W), and the leaves that their gradients end at.

    A leaf's value is fixed and its derivative is 1 where its mask is set. A relu lets through what its member says.
    """
    import torch

    leaves = {name: torch.zeros(drawn.values[name].shape, dtype=torch.float64, requires_grad=True)
              for name in drawn.masks if name != "input"}  # fmt: skip
    maps = {"input": torch.tensor(drawn.values["input"], dtype=torch.float64)}
    for name, leaf in leaves.items():
        maps[name] = torch.tensor(drawn.values[name], dtype=torch.float64) + leaf * torch.tensor(drawn.masks[name])
    for entry in drawn.layers:
        if entry["name"] not in maps and entry["kind"] != "fc":
            reads = [maps[each] for each in entry["inputs"]]
            maps[entry["name"]] = made_of(drawn, entry, reads)
    return maps, leaves


def made_of(drawn: Drawn, entry: dict[str, Any], reads: list[Any]) -> Any:
    """What a map makes of its inputs, in torch."""
    import torch
    from torch.nn import functional

    kind, x = entry["kind"], reads[0]
    if kind == "add":
        a, b = reads[0], reads[-1]
        by_op = {"sum": sum(reads), "and": a * b, "and_not": a * (1 - b)}
        return by_op[entry.get("op", "sum")]
    if kind == "concat":
        return torch.cat(reads, dim=2)
    flat = x.flatten(0, 1)
    if kind in ("gate", "relu"):
        member = drawn.members[f"{entry['name']}.{'kept' if kind == 'gate' else 'window'}"]
        bits = np.unpackbits(member, axis=-1, count=int(np.prod(x.shape[2:])))
        mask = torch.tensor(np.broadcast_to(bits, (T, *bits.shape[1:])).reshape(x.shape).astype(float))
        return x * mask * (1.25 if kind == "gate" else 1)
    if kind == "upsample":
        made = functional.interpolate(flat, scale_factor=tuple(map(float, entry["factor"])), mode="nearest")
    else:
        made = _pooled(entry, flat)
    return made.reshape(T, N, *made.shape[1:])


def _pooled(entry: dict[str, Any], flat: Any) -> Any:
    from torch.nn import functional

    size = tuple(entry["out_shape"][1:])
    if entry.get("adaptive") and entry["mode"] == "sum":
        return _adaptive_sum(flat, size)
    if entry.get("adaptive"):
        pool = functional.adaptive_max_pool2d if entry["mode"] == "max" else functional.adaptive_avg_pool2d
        return pool(flat, size)
    kernel, stride, padding = (tuple(entry[field]) for field in ("kernel", "stride", "padding"))
    if entry["mode"] == "max":
        return functional.max_pool2d(flat, kernel, stride, padding, ceil_mode=entry["ceil_mode"])
    divisor = 1 if entry["mode"] == "sum" else entry.get("divisor")
    padded = entry.get("count_include_pad", True)
    return functional.avg_pool2d(flat, kernel, stride, padding, entry["ceil_mode"], padded, divisor)


def _adaptive_sum(flat: Any, size: tuple[int, ...]) -> Any:
    import torch

    height, width = flat.shape[-2:]
    rows = [
        [
            flat[..., floor(y * height / size[0]) : ceil((y + 1) * height / size[0]),
                 floor(x * width / size[1]) : ceil((x + 1) * width / size[1])].sum(dim=(-2, -1))
            for x in range(size[1])
        ]
        for y in range(size[0])
    ]  # fmt: skip
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
