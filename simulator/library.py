"""Finds the files that ship with h2sim by name: arch files, energy tables, networks and traces."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

_FOLDERS = {
    "arch": ("h2sim.archconfigs", "", ".yaml"),
    "energy table": ("h2sim.energy_tables", "", ".yaml"),
    "network": ("h2sim.workloads", "networks", ".yaml"),
    "trace": ("h2sim.workloads", "traces", ".npz"),
    "sparsity": ("h2sim.workloads", "", ".yaml"),
    "baseline": ("h2sim.baselines_data", "", ".yaml"),
    "GPU trace": ("h2sim.baselines_data", "gpu", ".json"),
}


def _folder(kind: str) -> tuple[Path, str]:
    package, sub, suffix = _FOLDERS[kind]
    return Path(str(files(package))) / sub, suffix


def names(kind: str) -> list[str]:
    """The names of the shipped files of a kind ('arch', 'energy table', 'network', 'trace'), sorted."""
    folder, suffix = _folder(kind)
    return sorted(p.stem for p in folder.glob(f"*{suffix}"))


def find(kind: str, name_or_path: str) -> Path:
    """The path of a shipped file by its name; anything else is taken as a path (which may not exist)."""
    folder, suffix = _folder(kind)
    shipped = folder / f"{name_or_path}{suffix}"
    if "/" not in name_or_path and shipped.is_file() and not Path(name_or_path).is_file():
        return shipped
    return Path(name_or_path)
