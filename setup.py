"""The build step that pyproject.toml cannot say: a wheel carries the top-level data folders as h2sim/data."""

from pathlib import Path
from shutil import copyfile, rmtree

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = {
    "archconfigs": ["*.yaml"],
    "energy_tables": ["**/*.yaml"],
    "workloads": ["**/*.yaml", "**/*.npz", "**/*.json", "**/*.csv"],
}


class BuildWithData(build_py):
    """Copies the data that a checkout reads in place; an editable install needs no copy."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib) / "h2sim"
        rmtree(package, ignore_errors=True)  # an earlier build's files, else a deleted module would be shipped
        super().run()
        for folder, patterns in DATA.items():
            for file in sorted({file for pattern in patterns for file in Path(folder).glob(pattern)}):
                place = package / "data" / file
                self.mkpath(str(place.parent))
                copyfile(file, place)


setup(cmdclass={"build_py": BuildWithData})
