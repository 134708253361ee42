"""Structure: imports go one way, the package list is the tree, the wheel carries the data."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "simulator"

# who may import whom, inside h2sim; nobody imports anything that is not listed beside it
ALLOWED = {
    "_version": set(),
    "errors": set(),
    "activity": set(),
    "shapes": set(),
    "files": {"errors"},
    "faults": set(),
    "library": set(),
    "yamlfile": {"errors", "library"},
    "kernels": {"kernels"},
    "arch": {"arch", "yamlfile", "errors", "faults", "library", "shapes"},
    "trace": {"trace", "yamlfile", "errors", "faults", "library", "shapes", "activity", "files"},
    "energy": {"energy", "yamlfile", "activity", "arch", "errors", "faults", "library", "shapes"},
    "engines": {"engines", "activity", "arch", "kernels", "shapes", "trace"},
    "reference": {"reference", "activity", "arch", "shapes"},
    "memory": {"memory", "activity", "arch", "shapes"},
    "pipeline": {"pipeline", "activity", "errors", "arch", "engines", "kernels", "memory", "shapes", "trace"},
    "measurement": {"activity"},
    "result": {"_version", "activity", "arch", "energy", "pipeline"},
    "simulate": {"arch", "energy", "errors", "pipeline", "result", "trace"},
    "verify": {"verify", "arch", "engines", "errors", "kernels", "pipeline", "shapes", "trace"},
    "baselines": {
        "baselines", "activity", "arch", "energy", "engines", "errors", "faults", "library", "measurement", "memory",
        "pipeline", "shapes", "trace", "yamlfile",
    },
    "gpu": {
        "gpu", "_version", "activity", "errors", "export", "faults", "files", "library", "measurement", "trace",
        "train", "yamlfile",
    },
    "estimate": {"activity", "energy", "errors", "faults", "library", "result", "shapes", "trace", "yamlfile"},
    "compare": {"activity", "errors", "faults", "measurement"},
    "reproduce": {
        "reproduce", "activity", "arch", "baselines", "compare", "energy", "errors", "faults", "files", "gpu",
        "measurement", "pipeline", "result", "simulate", "trace", "yamlfile",
    },
    "report": {
        "report", "activity", "arch", "baselines", "compare", "datasets", "energy", "errors", "estimate", "files",
        "gpu", "measurement", "pipeline", "reproduce", "result", "rtl", "shapes", "trace", "verify",
    },
    "rtl": {"rtl", "_version", "arch", "engines", "errors", "reference", "shapes"},
    "datasets": {"datasets", "errors"},
    "export": {"export", "errors", "shapes", "trace"},
    "train": {"train", "datasets", "errors", "export", "files", "kernels", "trace"},
    "cli": {
        "cli", "_version", "activity", "arch", "baselines", "compare", "datasets", "energy", "errors", "estimate",
        "export", "files", "gpu", "library", "measurement", "report", "reproduce", "result", "rtl", "simulate", "trace",
        "train", "verify",
    },
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


def imported(path: Path) -> set[str]:
    """First names below h2sim that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "h2sim":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("h2sim.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_module_imports_only_what_lies_below_it(path):
    place = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert imported(path) <= ALLOWED[place], f"{place} may import {sorted(ALLOWED[place])}"


def test_nothing_imports_the_package_by_its_folder_name():
    for path in [*modules(), *(ROOT / "tests").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "simulator" for name in names), path


def test_the_package_list_names_every_folder_that_holds_code():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {p.parent for p in SOURCE.rglob("__init__.py")}
    tree = {".".join(("h2sim", *f.relative_to(SOURCE).parts)) for f in folders}
    assert listed == tree | {"h2sim.archconfigs", "h2sim.baselines_data", "h2sim.energy_tables", "h2sim.workloads"}


def test_the_version_is_written_once_for_people_and_once_for_pip():
    from h2sim import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_shipped_files_are_found_by_name():
    from h2sim import library

    assert "h2learn" in library.names("arch")
    assert {"28nm", "45nm"} <= set(library.names("energy table"))
    assert {"cifar10", "imagenet", "mnist"} <= set(library.names("network"))
    assert "mnist-digits" in library.names("trace")
    assert library.find("arch", "h2learn").is_file()
    assert library.find("arch", "some/h2learn") == Path("some/h2learn")


def test_every_data_file_is_covered_by_the_wheels_package_data():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, folder in (
        ("archconfigs", "archconfigs"),
        ("baselines_data", "baselines"),
        ("energy_tables", "energy_tables"),
        ("workloads", "workloads"),
    ):
        covered = {p for pattern in data[f"h2sim.{package}"] for p in (ROOT / folder).glob(pattern)}
        files = {p for suffix in ("*.yaml", "*.npz", "*.json") for p in (ROOT / folder).rglob(suffix)}
        assert files == covered
