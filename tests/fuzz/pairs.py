"""Random pairs of a machine and a trace, small enough that thousands of steps are counted in minutes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from h2sim.activity import Activity
from h2sim.arch import Arch, load_arch, parse_arch
from h2sim.arrays import Array
from h2sim.facade import count
from h2sim.trace import Network, Sparsity, Trace, check_layers, load_network, load_trace, synthesise, write_trace
from tests.fuzz.mutate import Rng, pick

DENSITIES = (0.0, 0.1, 0.4, 0.7, 0.95, 1.0)


@dataclass(frozen=True)
class Pair:
    """A machine and a trace's content; folder: where its file goes, one at a time."""

    arch: Arch
    meta: Mapping[str, Any]
    members: Mapping[str, Array]
    folder: Path

    def trace(self) -> Trace:
        """The trace, written and opened."""
        path = self.folder / "t.npz"
        write_trace(path, copy.deepcopy(dict(self.meta)), dict(self.members), level=1)
        return load_trace(path)

    def activity(self, **options: Any) -> Activity:
        """What the step counts; options as for h2sim.facade.count."""
        return count(self.arch, self.trace(), **options).activity

    @cached_property
    def counted(self) -> Activity:
        """What the step counts without options, counted once."""
        return self.activity()

    def on(self, **fields: Any) -> Pair:
        """The pair with other fields of the machine, by dotted path with __ for the dots."""
        return replace(self, arch=self.arch.with_({name.replace("__", "."): value for name, value in fields.items()}))

    def masked(self, kind: str, change: Any) -> Pair:
        """The pair with every mask of a kind changed: change(mask) of packed uint8 (T, N, bytes)."""
        members = {name: change(a) if name.endswith(f".{kind}") else a for name, a in self.members.items()}
        return replace(self, members=members)

    def sampled(self, order: Any) -> Pair:
        """The pair with these samples of the batch, in this order; one may come more than once."""
        chosen = np.asarray(order)
        members = {name: np.ascontiguousarray(array[:, chosen]) for name, array in self.members.items()}
        return replace(self, meta={**self.meta, "batch": len(chosen)}, members=members)

    @property
    def batch(self) -> int:
        """Samples of the trace."""
        return int(self.meta["batch"])


def draw_pair(rng: Rng, folder: Path) -> Pair:
    """A pair of random sizes, modes, layers and densities."""
    meta, members = synthesise(
        _network(rng),
        timesteps=int(rng.integers(1, 4)),
        batch=int(rng.integers(1, 4)),
        sparsity=Sparsity(*(1 - pick(rng, DENSITIES) for _ in range(3))),
        seed=int(rng.integers(1 << 30)),
    )
    return Pair(_arch(rng), copy.deepcopy(meta), dict(members), folder)


def _arch(rng: Rng) -> Arch:
    data = load_arch("h2learn").model_dump()
    data["tile"] = {"height": int(rng.integers(1, 7)), "width": int(rng.integers(1, 7))}
    for name in ("forward", "weight_update", "backward"):
        sizes = zip(("rows", "columns", "parallelism"), rng.integers(1, 6, 3).tolist(), strict=True)
        data["engines"][name] |= dict(sizes)
    for name in ("forward", "weight_update"):
        luts = {"sub_luts": int(rng.integers(1, 4)), "sub_lut_size": pick(rng, (2, 4, 8, 16))}
        data["engines"][name] |= luts | {"lut": rng.random() < 0.8, "lut_double_buffered": rng.random() < 0.5}
    data["engines"]["backward"] |= {
        "mode": pick(rng, ("dense", "input_only", "output_only", "dual", "dual")),
        "empty_window_cycles": int(rng.integers(0, 4)),
        "tile_sync_cycles": int(rng.integers(0, 6)),
        "dm_compressed": rng.random() < 0.3,
        "encode_once": rng.random() < 0.3,
    }
    data["memory"]["bandwidth_bytes_per_s"] = int(data["clock_hz"] * pick(rng, (1, 4, 160)))
    data["memory"]["first_access_cycles"] = pick(rng, (0, 0, 5))
    data["pipeline"]["sub_batches_per_batch"] = int(rng.integers(1, 9))
    return parse_arch(data, "drawn")


def _network(rng: Rng) -> Network:
    """A chain of layers in the source's notation, or a residual block."""
    shape = (int(rng.integers(1, 4)), int(rng.integers(4, 9)), int(rng.integers(4, 9)))
    if rng.random() < 0.25:
        return _residual(rng, shape)
    parts, (_, height, width) = [], shape
    for place in range(int(rng.integers(1, 4))):
        kernel, stride = int(rng.integers(1, 4)), pick(rng, (1, 1, 2))
        encode = "(Encoding)" if place == 0 and rng.random() < 0.3 else ""
        parts.append(f"{int(rng.integers(1, 6))}C{kernel}S{stride}{encode}")
        height, width = ((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in (height, width))
        if min(height, width) >= 4 and rng.random() < 0.4:
            parts.append("AP2")
            height, width = height // 2, width // 2
    parts += [f"{int(rng.integers(1, 9))}FC" for _ in range(int(rng.integers(1, 3)))]
    return load_network("-".join(parts), shape)


def _residual(rng: Rng, shape: tuple[int, int, int]) -> Network:
    """conv, conv without neurons, their sum, and a read-out."""
    channels, (_, height, width) = int(rng.integers(1, 5)), shape
    middle = [channels, height, width]

    def conv(name: str, source: str, in_shape: list[int], **more: Any) -> dict[str, Any]:
        size = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1]}
        return {
            "name": name,
            "kind": "conv",
            "inputs": [source],
            "in_shape": in_shape,
            "out_shape": middle,
            **size,
            **more,
        }

    layers = (
        conv("a", "input", list(shape)),
        conv("b", "a", middle, spiking=False),
        {"name": "c", "kind": "add", "inputs": ["b", "a"], "in_shape": middle, "out_shape": middle},
        {"name": "d", "kind": "fc", "inputs": ["c"], "in_features": channels * height * width, "out_features": 3},
    )
    check_layers(list(layers), "residual")
    return Network(name="residual", input_shape=shape, input_kind="spikes", timesteps=2, layers=layers)
