"""A user's type checker finds h2sim, in a wheel and in an editable install, and says so when a call is wrong."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.helpers.houses import clone, environment

WRONG = "import h2sim\n\narch = h2sim.load_arch(3.5)\nreveal_type(h2sim.simulate)\n"
RIGHT = 'import h2sim\n\nname: str = h2sim.load_arch("h2learn").name\n'
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the environments are laid out as on Linux and macOS")


def needs(checker):
    return pytest.mark.skipif(find_spec(checker) is None, reason=f"{checker} is not installed (extra dev)")


@pytest.fixture(scope="module", params=["wheel", "editable"])
def python(request, tmp_path_factory):
    """The Python of an environment that h2sim is installed in."""
    env = environment(tmp_path_factory.mktemp("env") / "env")
    house = clone(tmp_path_factory.mktemp("house"))
    env.install(house) if request.param == "wheel" else env.install("--editable", house)
    return env.python


def said(folder, code, *checker):
    """Exit status and output of a checker for one file of code."""
    (folder / "probe.py").write_text(code)
    done = subprocess.run([sys.executable, "-m", *checker, "probe.py"], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@needs("mypy")
def test_mypy_finds_a_wrong_call(python, tmp_path):
    mypy = "mypy", "--config-file=", "--python-executable", str(python), "--follow-imports=silent"
    status, output = said(tmp_path, WRONG, *mypy)
    assert 'Argument 1 to "load_arch" has incompatible type "float"' in output
    assert "EnergyTable" in output
    assert status == 1
    assert said(tmp_path, RIGHT, *mypy)[0] == 0


@needs("pyright")
def test_pyright_finds_a_wrong_call(python, tmp_path):
    status, output = said(tmp_path, WRONG, "pyright", "--pythonpath", str(python))
    assert '"float" cannot be assigned to parameter' in output
    assert "EnergyTable" in output
    assert "could not be resolved" not in output
    assert status == 1
    assert said(tmp_path, RIGHT, "pyright", "--pythonpath", str(python))[0] == 0
