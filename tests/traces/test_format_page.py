"""The page on the trace format, followed by hand with numpy alone: its example, with the members it names, runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

import h2sim

PAGE = Path(__file__).parents[2] / "workloads" / "trace-format.md"


def written(path: Path, meta: dict, bits: dict[str, int], lead: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    members = {name: np.packbits(rng.integers(0, 2, (*lead, count), dtype=np.uint8), axis=-1)
               for name, count in bits.items()}  # fmt: skip
    np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **members)
    return path


def test_the_page_is_enough_to_write_a_trace(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    meta = json.loads(example)
    bits = {"input.spikes": 128, "conv1.spikes": 256, "conv1.window": 256, "conv1.grad": 256, "fc1.grad": 10}
    path = written(tmp_path / "mine.npz", meta, bits, (4, 2))
    assert h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(path)).activity.steady_cycles > 0


def test_and_so_for_version_2(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    meta = json.loads(example) | {"version": 2}
    conv, fc = meta["layers"]
    shape = {"in_shape": [4, 8, 8], "out_shape": [4, 4, 4], "kernel": [2, 2], "stride": [2, 2], "padding": [0, 0]}
    pool = {"name": "pool1", "kind": "pool", "mode": "max", "inputs": ["conv1"], **shape, "spiking": False}
    last = {**fc, "inputs": ["pool1"], "in_features": 64, "mean_over_time": True}
    meta["layers"] = [{**conv, "norm": {"kind": "batch"}}, pool, last]
    bits = {"input.spikes": 128, "conv1.spikes": 256, "conv1.window": 256, "conv1.grad": 256, "fc1.grad": 10}
    path = written(tmp_path / "mine.npz", meta, bits, (4, 2))
    assert h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace(path)).activity.steady_cycles > 0
