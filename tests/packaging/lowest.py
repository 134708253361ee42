"""Prints the lowest version of every package that pyproject.toml allows, one `name==version` a line, for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(\[[\w,]+\])?(>=|==)(?P<version>[\w.]+)(; platform_system == 'Linux')?")


def requirements(pyproject: Path = PYPROJECT) -> list[str]:
    """Everything that building, running and testing h2sim asks for, as written."""
    table = tomllib.loads(pyproject.read_text())
    project = table["project"]
    extras = project["optional-dependencies"].values()
    return [*table["build-system"]["requires"], *project["dependencies"], *(r for extra in extras for r in extra)]


def lowest(wanted: list[str]) -> dict[str, str]:
    """The lowest version of each package; raises ValueError for one without a bound, or with two different ones."""
    found: dict[str, str] = {}
    for requirement in wanted:
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement}: expected name>=version or name==version")
        name, version = match["name"], match["version"]
        if found.setdefault(name, version) != version:
            raise ValueError(f"pyproject.toml: {name}: expected one lower bound; got {found[name]} and {version}")
    return found


if __name__ == "__main__":
    for name, version in lowest(requirements()).items():
        print(f"{name}=={version}")
