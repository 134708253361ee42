"""Hostile names, files that carry them, and what no output may do with them."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from h2sim.io.library import find
from tests.helpers.gpu_made import cuda_step, fields
from tests.helpers.traces import parts, raw_trace

HOSTILE = {
    "mathematics": "$x^$",
    "an escape": "\x1b[2J\x1b]0;title\x07",
    "a forged line": "a\nh2sim: run.json: forged",
    "a carriage return": "a\rforged",
    "a formula": "=1+1",
    "a command": "@SUM(1+1)*cmd|' /C calc'!A0",
    "a sign": "-2+3",
    "a quoted formula": "'=1+1",
    "other letters": "l\u00e4yer \u5c64 \U0001f9e0",
    "another direction": "\u202egnp.exe\u2066",
    "no width": "a\u200bb\ufeff\u2028c",
    "half a pair": "\udc80",
    "a length": "n" * 10_000,
    "a table's cell": "a|b`c`*d*_e_[f](http://g)",
    "HTML": "<script>alert(1)</script>&lt;",
    "a path": "../../etc/x",
    "braces": "{x} %s [bold]y[/bold]",
}


def quoted(text: str) -> str:
    """A text as YAML writes it."""
    return yaml.safe_dump([text], default_flow_style=True, width=100_000).strip()[1:-1]


def yaml_of(kind: str, shipped: str, **changes: str) -> str:
    """A shipped file with some top-level texts changed."""
    lines = find(kind, shipped).read_text(encoding="utf-8").splitlines()
    for field, value in changes.items():
        lines = [f"{field}: {quoted(value)}" if line.startswith(f"{field}:") else line for line in lines]
    return "\n".join(lines) + "\n"


def machine(folder: Path, name: str) -> Path:
    path = folder / "machine.yaml"
    path.write_text(yaml_of("arch", "h2learn", name=name), encoding="utf-8")
    return path


def table(folder: Path, name: str) -> Path:
    path = folder / "table.yaml"
    path.write_text(yaml_of("energy table", "28nm", name=name), encoding="utf-8")
    return path


def trace(folder: Path, name: str, *places: str, file: str = "t.npz") -> Path:
    """A small trace whose layers, network, dataset or origin are called so; another file is another sub-batch."""
    meta, members = parts()
    if file != "t.npz":
        members["conv1.spikes"] = members["conv1.spikes"].copy()
        members["conv1.spikes"][0, 0, 0] ^= 0x80
    if "layers" in places:
        named = {layer["name"]: f"{name}{n or ''}" for n, layer in enumerate(meta["layers"])}
        for layer in meta["layers"]:
            layer["inputs"] = [named.get(source, source) for source in layer["inputs"]]
            layer["name"] = named[layer["name"]]
        renamed = ((key.rpartition("."), value) for key, value in members.items())
        members = {f"{named.get(layer, layer)}.{kind}": value for (layer, _, kind), value in renamed}
    for place in places:
        if place in ("network", "dataset"):
            meta[place] = name
        elif place != "layers":
            meta["source"][place] = name
    return raw_trace(folder / file, meta, members)


def network(folder: Path, name: str, *places: str) -> Path:
    text = find("network", "mnist-small").read_text(encoding="utf-8")
    said = text.splitlines()
    if "name" in places:
        said = [f"name: {quoted(name)}" if line.startswith("name:") else line for line in said]
    path = folder / "network.yaml"
    path.write_text("\n".join(said).replace("conv1", quoted(name)) if "layers" in places else "\n".join(said))
    return path


def gpu(folder: Path, name: str, *places: str) -> Path:
    """A GPU trace for people to compare with, JSON, or CSV by its name."""
    data = fields(network="4C3-AP2-6C3-10FC", command=name if "command" in places else "made")
    for place in ("network", "dataset", "implementation"):
        if place in places:
            data[place] = name
    if "device" in places:
        data["device"]["name"] = name
    if "rows" in places:
        data["rows"][2]["layer"] = name
    path = folder / "gpu.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def profile(folder: Path, name: str) -> Path:
    """A Chrome trace whose device, kernels and ranges are called so."""
    path = cuda_step().write(folder / "profile.json")
    data = json.loads(path.read_text())
    data["deviceProperties"][0]["name"] = name
    for event in data["traceEvents"]:
        if event.get("cat") == "kernel" or event.get("name") == "h2sim:loss":
            event["name"] = name if event.get("cat") == "kernel" else f"h2sim:{name}"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def renamed(value: Any, name: str, keys: tuple[str, ...]) -> Any:
    """A document whose texts under `keys`, at any depth, are all called so."""
    if isinstance(value, dict):
        return {k: name if k in keys and isinstance(v, str) else renamed(v, name, keys) for k, v in value.items()}
    return [renamed(v, name, keys) for v in value] if isinstance(value, list) else value


# errors, warnings, notes, and what click says of wrong words
SAID = ("h2sim: ", "note: ", "Usage: h2sim", "Try 'h2sim", "Error: ")


# --- what outputs may hold -------------------------------------------------------------------------------------------


def raw_characters(text: str) -> set[str]:
    """Characters that act in a terminal: controls but the end of a line, directions, no width, halves of pairs."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def active_cells(text: str) -> list[str]:
    """Cells of a CSV that a spreadsheet takes for a formula."""
    found = []
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            bare = cell.strip()
            if len(bare) > 1 and bare[0] in "=+-@\t\r\uff1d\uff0b\uff0d\uff20" and not _number(bare):
                found.append(cell)
    return found


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def faults(stdout: str, stderr: str, status: int) -> list[str]:
    """What is wrong with what a command printed."""
    found = [f"raw characters: {sorted(raw)!r}" for raw in (raw_characters(stdout + stderr),) if raw]
    lines = [line for line in stderr.splitlines() if line]
    if "Traceback" in stderr or not all(line.startswith(SAID) for line in lines):
        found.append(f"lines on standard error that are no error or warning: {stderr[:300]!r}")
    if any(len(line) > 2600 for line in lines):
        found.append("a line that is too long to be read")
    if any(line.startswith("h2sim: run.json: forged") for line in stderr.splitlines() + stdout.splitlines()):
        found.append("a forged line")
    if status == 2 and not lines:
        found.append("a refusal without a word")
    return found
