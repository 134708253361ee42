"""Finds the files that ship with h2sim by name: arch files, energy tables, networks and traces.

In a checkout they are read in place from the top-level folders; a wheel carries copies in h2sim/data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["arch", "energy table", "network", "trace", "sparsity", "GPU trace", "sub-batches", "sweep"]

RENAMED: dict[Kind, dict[str, str]] = {"energy table": {"28nm-hp300": "28nm"}}  # old name -> what it is called now

PACKAGE = Path(__file__).parents[1]
_FOLDERS: dict[Kind, tuple[str, str]] = {
    "arch": ("archconfigs", ".yaml"),
    "energy table": ("energy_tables", ".yaml"),
    "network": ("workloads/networks", ".yaml"),
    "trace": ("workloads/traces", ".npz"),
    "sparsity": ("workloads", ".yaml"),
    "GPU trace": ("workloads/gpu", ".json"),
    "sub-batches": ("workloads/sub-batches", ".csv"),
    "sweep": ("workloads/sweeps", ".yaml"),
}


def data_root() -> Path:
    """The folder that holds archconfigs, energy_tables and workloads: a checkout's top, or h2sim/data of a wheel."""
    checkout = PACKAGE.parents[1]
    in_place = PACKAGE.parent.name == "simulator" and (checkout / "archconfigs").is_dir()
    return checkout if in_place else PACKAGE / "data"


def folder(kind: Kind) -> Path:
    """The folder of the shipped files of a kind."""
    return data_root() / _FOLDERS[kind][0]


def names(kind: Kind) -> list[str]:
    """The names of the shipped files of a kind, sorted."""
    return sorted(p.stem for p in folder(kind).glob(f"*{_FOLDERS[kind][1]}"))


def unknown(kind: Kind, name: str) -> str:
    """What to say of a name that no file has: its new name where it had one, else the shipped names. One line."""
    if name in RENAMED.get(kind, {}):
        return f"{name}: this {kind} is called {RENAMED[kind][name]} now"
    return f"{name}: no such {kind} file; shipped {kind} files: {', '.join(names(kind))}"


def find(kind: Kind, name_or_path: str) -> Path:
    """The path of the shipped file of that name; any other text is taken as a path, which may not exist.

    A file of that name in the working folder comes before a shipped one.
    """
    shipped = folder(kind) / f"{name_or_path}{_FOLDERS[kind][1]}"
    if "/" not in name_or_path and shipped.is_file() and not Path(name_or_path).is_file():
        return shipped
    return Path(name_or_path)
