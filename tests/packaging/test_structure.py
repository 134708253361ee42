"""Structure: imports go one way, the package list is the tree, the wheel carries the data."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "simulator" / "h2sim"

# who may import whom, inside h2sim; nobody imports anything that is not listed beside it, but for `arrays`, which holds
# names of types only
ALLOWED = {
    "_version": set(),
    "__main__": {"cli"},
    "arrays": set(),
    "errors": set(),
    "activity": set(),
    "shapes": set(),
    "io": {"_version", "io", "errors"},
    "kernels": {"_version", "kernels"},
    "neuron": {"errors"},
    "fused": {"fused", "kernels", "neuron"},
    "arch": {"arch", "io", "errors", "shapes"},
    "trace": {"trace", "io", "errors", "shapes", "activity", "kernels"},
    "energy": {"energy", "io", "activity", "arch", "errors", "shapes"},
    "engines": {"engines", "activity", "arch", "kernels", "shapes", "trace"},
    "reference": {"reference", "activity", "arch", "shapes"},
    "memory": {"memory", "activity", "arch", "errors", "kernels", "shapes"},
    "pipeline": {"pipeline", "io", "activity", "errors", "arch", "engines", "memory", "shapes", "trace"},
    "result": {"_version", "activity", "arch", "energy", "io", "memory", "pipeline", "trace"},
    "cautions": {"arch", "energy", "trace"},
    "facade": {
        "activity", "arch", "cautions", "energy", "errors", "io", "memory", "pipeline", "result", "rivals", "trace",
    },
    "verify": {"verify", "io", "arch", "engines", "errors", "kernels", "pipeline", "shapes", "trace"},
    "compare": {"compare", "io", "activity", "arch", "energy", "errors", "result", "shapes", "trace"},
    "rivals": {
        "rivals", "_version", "io", "activity", "arch", "compare", "document", "energy", "errors", "kernels", "memory",
        "result", "shapes", "trace",
    },
    "gpu": {"gpu", "_version", "activity", "compare", "errors", "export", "io", "trace", "train"},
    "reproduce": {
        "reproduce", "io", "activity", "arch", "rivals", "compare", "document", "energy", "errors", "gpu",
        "pipeline", "result", "facade", "sweeps", "trace",
    },
    "document": {"document", "io", "errors"},
    "report": {
        "report", "activity", "arch", "rivals", "compare", "datasets", "document", "energy", "errors", "gpu", "io",
        "memory", "pipeline", "reproduce", "result", "rtl", "shapes", "trace", "verify", "_version", "facade", "sweeps",
    },
    "pages": {
        "pages", "compare", "document", "errors", "io", "memory", "report", "reproduce", "rivals", "sweeps", "trace",
    },
    "sweeps": {
        "sweeps", "_version", "activity", "arch", "energy", "errors", "io", "pipeline", "result", "rivals", "trace",
    },
    "rtl": {"rtl", "io", "_version", "arch", "engines", "errors", "reference", "shapes"},
    "datasets": {"datasets", "errors", "io"},
    "export": {"export", "io", "activity", "document", "errors", "shapes", "trace"},
    "train": {"train", "datasets", "errors", "export", "fused", "io", "kernels", "neuron", "trace"},
    "attacks": {"attacks", "errors", "export", "train"},
    "certify": {"certify", "errors", "export", "trace", "train"},
    "evolve": {"evolve", "arch", "energy", "errors", "export", "facade", "io", "trace", "train"},
    "algorithms": {"algorithms", "certify", "datasets", "errors", "export", "io", "trace", "train"},
    "cli": {
        "cli", "_version", "activity", "algorithms", "arch", "attacks", "cautions", "certify", "rivals", "compare",
        "datasets", "document", "energy", "errors", "evolve", "export", "gpu", "io", "pages", "report", "reproduce",
        "result", "rtl", "facade", "sweeps", "trace", "train", "verify",
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
    assert imported(path) - {"arrays"} <= ALLOWED[place], f"{place} may import {sorted(ALLOWED[place])}"


def test_nothing_imports_the_package_by_its_folder_name():
    for path in [*modules(), *(ROOT / "tests").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "simulator" for name in names), path


def test_every_folder_with_code_is_a_package():
    folders = {p.parent for p in SOURCE.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_version_is_written_once_for_people_and_once_for_pip():
    from h2sim import __version__

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_shipped_files_are_found_by_name():
    from h2sim.io import library

    assert "h2learn" in library.names("arch")
    assert {"28nm", "45nm"} <= set(library.names("energy table"))
    assert {"cifar10", "imagenet", "mnist"} <= set(library.names("network"))
    assert "mnist-digits" in library.names("trace")
    assert library.find("arch", "h2learn").is_file()
    assert library.find("arch", "some/h2learn") == Path("some/h2learn")


def test_no_module_shares_the_name_of_a_public_function():
    import h2sim

    modules_of = {path.stem for path in SOURCE.glob("*.py")} | {path.name for path in SOURCE.iterdir() if path.is_dir()}
    assert not modules_of & set(h2sim.__all__)  # importing the module would put it in the function's place


def test_public_names_are_there_and_are_listed_once():
    import h2sim

    assert len(set(h2sim.__all__)) == len(h2sim.__all__)
    for name in h2sim.__all__:
        assert getattr(h2sim, name) is not None
    assert set(h2sim.__all__) <= set(dir(h2sim))
    assert callable(h2sim.simulate)
