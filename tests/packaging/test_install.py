"""What installing does: a wheel, a wheel from a source archive, an editable install, and one after the other."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.helpers.houses import ROOT, clone, environment, pip

SETUPTOOLS = tuple(int(part) for part in importlib.metadata.version("setuptools").split(".")[:2])
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the environments are laid out as on Linux and macOS"),
    pytest.mark.skipif(SETUPTOOLS < (77, 0), reason="a wheel needs setuptools 77 (a licence as PEP 639 writes it)"),
]
DATA = {"archconfigs", "energy_tables", "workloads"}
READ_BY_CODE = {".yaml", ".npz", ".json", ".csv"}
IN_THE_PACKAGE = {".py", ".yaml", ".cpp", ".css", ".js", ".typed"}


def shipped() -> set[str]:
    """The files that the checkout shows, as a wheel names them."""
    package = ROOT / "simulator"
    code = {f.relative_to(package).as_posix() for f in package.rglob("*") if f.suffix in IN_THE_PACKAGE}
    code |= {"h2sim/py.typed"}
    data = (f for folder in DATA for f in (ROOT / folder).rglob("*") if f.suffix in READ_BY_CODE)
    return code | {f"h2sim/data/{f.relative_to(ROOT).as_posix()}" for f in data}


def wheel_of(source: Path, place: Path) -> set[str]:
    """Builds a wheel of a folder or an archive; the names of the files in it, but for its own metadata."""
    pip(sys.executable, "wheel", "--wheel-dir", place, source)
    (wheel,) = place.glob("h2sim-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}


def source_archive(house: Path, place: Path) -> Path:
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(place)!r}))"
    place.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=house, check=True, capture_output=True)
    (archive,) = place.glob("h2sim-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("house"))


def test_a_wheel_holds_what_the_checkout_shows(house, tmp_path):
    expected = shipped()
    assert {"h2sim/py.typed", "h2sim/rtl/harness.cpp", "h2sim/reproduce/claims.yaml"} <= expected
    assert {"h2sim/data/archconfigs/h2learn.yaml", "h2sim/data/workloads/traces/mnist-digits.npz"} <= expected
    assert wheel_of(house, tmp_path) == expected


def test_what_an_earlier_build_left_is_not_shipped(house, tmp_path):
    left = house / "build" / "lib" / "h2sim" / "deleted.py"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert "h2sim/deleted.py" not in wheel_of(house, tmp_path)


def test_a_wheel_made_from_the_source_archive_holds_the_same_files(house, tmp_path):
    archive = source_archive(house, tmp_path / "archive")
    assert wheel_of(archive, tmp_path / "wheel") == shipped()


def test_the_source_archive_holds_the_tests(house, tmp_path):
    with tarfile.open(source_archive(house, tmp_path / "archive")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {f.relative_to(ROOT).as_posix() for f in (ROOT / "tests").rglob("*.py")}
    assert {"tests/run.sh", "tests/data/encode-residual.npz", "setup.py", "LICENSE", *tests} <= names


def test_wheel_then_run_then_editable_then_import(house, tmp_path):
    """The README's two commands in order: numba left files in site-packages that hid the editable install."""
    env = environment(tmp_path / "env")
    env.install(house)
    assert "samples/s" in env.call("h2sim", "run", "h2learn", "mnist-digits")
    installed = env.packages / "h2sim"
    assert not [*installed.rglob("*.nb[ic]")]
    assert [*env.cache.rglob("*.nbi")]

    left_by_0_1 = installed / "kernels" / "__pycache__" / "lif.forward-13.py311.nbi"
    left_by_0_1.touch()
    env.install("--editable", house)
    assert left_by_0_1.exists(), "pip has learnt to remove what numba left: this test can go"
    where = env.call("python", "-c", "import h2sim.kernels.lif; print(h2sim.__file__)")
    assert Path(where.strip()) == house / "simulator" / "h2sim" / "__init__.py"
    assert env.call("h2sim", "arch", "show", "h2learn") == (house / "archconfigs" / "h2learn.yaml").read_text()


def test_an_editable_install_then_a_wheel_reads_the_wheels_own_data(house, tmp_path):
    env = environment(tmp_path / "env")
    env.install("--editable", house)
    env.install(house)
    where = env.call("python", "-c", "import h2sim.io.library as l; print(l.find('arch', 'h2learn'))")
    assert Path(where.strip()) == env.packages / "h2sim" / "data" / "archconfigs" / "h2learn.yaml"
