"""Networks without data: the source's notation and YAML files, turned into a trace's list of layers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from h2sim import library
from h2sim.errors import NetworkError, at

Chw = tuple[int, int, int]
_CONV = re.compile(r"(?P<out>\d+)C(?P<kernel>\d+)(?:S(?P<stride>\d+))?(?P<encode>\(Encoding\))?")
_POOL = re.compile(r"AP(?P<kernel>\d+)")
_FC = re.compile(r"(?P<out>\d+)FC")


@dataclass(frozen=True)
class Network:
    """A network and its input; layers are the entries of a trace's `layers`."""

    name: str
    input_shape: Chw
    input_kind: Literal["spikes", "analog"]
    timesteps: int
    layers: tuple[dict[str, Any], ...]


def load_network(name_or_path: str, input_shape: Chw | None = None) -> Network:
    """A shipped network by name, a network file, or the notation itself (`32C3-AP2-10FC`) with an input shape.

    Raises NetworkError naming the file or the part of the notation that is wrong.
    """
    path = library.find("network", name_or_path)
    if path.is_file():
        return _from_file(path, input_shape)
    if not re.fullmatch(r"[0-9A-Za-z()\-]+", name_or_path) or not re.match(r"\d+(C|FC)", name_or_path):
        known = ", ".join(library.names("network"))
        raise NetworkError(f"{name_or_path}: no such network; shipped: {known}; or a notation such as 32C3-AP2-10FC")
    if input_shape is None:
        raise NetworkError(at(name_or_path, "input shape", "C,H,W beside a notation", "nothing"))
    layers = parse_notation(name_or_path, input_shape)
    kind: Literal["spikes", "analog"] = "analog" if layers[0]["kind"] == "encode" else "spikes"
    return Network(name_or_path, input_shape, kind, 10, tuple(layers))


def _from_file(path: Path, input_shape: Chw | None) -> Network:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        chw = input_shape or tuple(int(v) for v in data["input"]["shape"])
        given = data["layers"]
        layers = parse_notation(given, chw) if isinstance(given, str) else list(given)
        return Network(data["name"], chw, data["input"]["kind"], int(data["timesteps"]), tuple(layers))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NetworkError(at(str(path), "network", "name, timesteps, input {shape, kind}, layers", reason)) from None


def parse_notation(notation: str, input_shape: Chw) -> list[dict[str, Any]]:
    """Layers of `64C3S2(Encoding)-128C3-AP2-512FC-10FC`: kC = channels and kernel (padding k//2), S stride, AP pool.

    Layers are named conv1.., pool1.., fc1..; the first fc flattens (C, H, W).
    """
    layers: list[dict[str, Any]] = []
    shape, counts, before = tuple(input_shape), {"conv": 0, "pool": 0, "fc": 0}, "input"
    for part in notation.split("-"):
        layer = _layer(notation, part, shape, before, counts)
        layers.append(layer)
        before = layer["name"]
        shape = tuple(layer["out_shape"]) if "out_shape" in layer else (layer["out_features"], 1, 1)
        if min(shape) < 1:
            raise NetworkError(at(notation, part, "at least one position left", list(shape)))
    return layers


def _layer(notation: str, part: str, shape: tuple[int, ...], before: str, counts: dict[str, int]) -> dict[str, Any]:
    conv, pool, fc = _CONV.fullmatch(part), _POOL.fullmatch(part), _FC.fullmatch(part)
    if not (conv or pool or fc):
        raise NetworkError(at(notation, "layer", "such as 64C3, 64C3S2, 64C3(Encoding), AP2 or 512FC", repr(part)))
    family = "conv" if conv else "pool" if pool else "fc"
    counts[family] += 1
    head = {"name": f"{family}{counts[family]}", "inputs": [before]}
    if fc:
        return {**head, "kind": "fc", "in_features": math.prod(shape), "out_features": int(fc["out"])}
    if conv:
        kernel, stride = int(conv["kernel"]), int(conv["stride"] or 1)
        padding, channels, kind = kernel // 2, int(conv["out"]), "encode" if conv["encode"] else "conv"
    else:
        kernel = stride = int(pool["kernel"])  # type: ignore[index]
        padding, channels, kind = 0, shape[0], "pool"
    if min(kernel, stride) < 1:
        raise NetworkError(at(notation, part, "a kernel and stride of at least 1", kernel))
    out = [(size + 2 * padding - kernel) // stride + 1 for size in shape[1:]]
    return {
        **head, "kind": kind, "in_shape": list(shape), "out_shape": [channels, *out], "kernel": [kernel] * 2,
        "stride": [stride] * 2, "padding": [padding] * 2,
    }  # fmt: skip
