"""A tiny task and a network of every layer kind for the trainer's tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from h2sim.datasets import Dataset, Split
from h2sim.datasets.base import Kind
from h2sim.train.network import Layer
from h2sim.train.objective import Objective
from h2sim.train.settings import Settings
from h2sim.train.trainer import Trainer


def window(
    name: str,
    kind: str,
    source: str,
    in_shape: Sequence[int],
    channels: int,
    kernel: int,
    stride: int = 1,
    **extra: Any,
) -> Layer:
    """A conv, encode or pool layer; convolutions keep the size but for their stride."""
    pad = 0 if kind == "pool" else kernel // 2
    out = [channels, *((n + 2 * pad - kernel) // stride + 1 for n in in_shape[1:])]
    return {
        "name": name, "kind": kind, "inputs": [source], "in_shape": list(in_shape), "out_shape": out,
        "kernel": [kernel] * 2, "stride": [stride] * 2, "padding": [pad] * 2, **extra,
    }  # fmt: skip


def tiny_layers() -> list[Layer]:
    """Every layer kind on 1 x 6 x 6 analog images, two classes."""
    return [
        window("encode", "encode", "input", (1, 6, 6), 3, 3),
        window("block", "conv", "encode", (3, 6, 6), 3, 5, spiking=False),
        {"name": "join", "kind": "add", "inputs": ["block", "encode"], "in_shape": [3, 6, 6], "out_shape": [3, 6, 6]},
        window("down", "conv", "join", (3, 6, 6), 4, 3, 2),
        window("shrink", "pool", "down", (4, 3, 3), 4, 2, 2, neuron={"threshold": 0.2}),
        {"name": "out", "kind": "fc", "inputs": ["shrink"], "in_features": 4, "out_features": 2, "spiking": False},
    ]


def binary_layers() -> list[Layer]:
    """A network that reads spikes."""
    first = window("first", "conv", "input", (1, 6, 6), 4, 3)
    return [first, {"name": "out", "kind": "fc", "inputs": ["first"], "in_features": 144, "out_features": 2}]


def halves(n_samples: int = 40, kind: Kind = "images", timesteps: int = 4) -> Dataset:
    """Images bright in the upper half (class 0) or the lower half (class 1), with noise; or such frames."""
    rng = np.random.default_rng(3)
    labels = np.arange(n_samples) % 2
    images = 0.3 * rng.random((n_samples, 1, 6, 6), dtype=np.float32)
    images[labels == 0, :, :3] += 0.7
    images[labels == 1, :, 3:] += 0.7
    if kind == "events":
        images = (rng.random((n_samples, timesteps, 1, 6, 6)) < images[:, None]).astype(np.float32)
    split = Split(labels, np.arange(n_samples), images.clip(0, 1).__getitem__)
    return Dataset(name="halves", kind=kind, shape=(1, 6, 6), classes=2, train=split, test=split)


def settings(**changes: Any) -> Settings:
    """A short run of the tiny network."""
    objective = Objective(**changes.pop("objective", {}))
    base = Settings(
        network="tiny", dataset="halves", epochs=4, batch=8, learning_rate=1e-2, timesteps=4, objective=objective
    )
    return replace(base, **changes)


def tiny_trainer(layers: list[Layer] | None = None, dataset: Dataset | None = None, **changes: Any) -> Trainer:
    """A trainer of the tiny network, before its first step."""
    return Trainer(settings(**changes), layers or tiny_layers(), dataset or halves())


def stepped(trainer: Trainer, steps: int) -> tuple[Trainer, list[float]]:
    """The trainer after so many steps, and their losses."""
    return trainer, [trainer.step() for _ in range(steps)]
