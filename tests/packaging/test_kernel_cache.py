"""Where compiled kernels are kept: in the user's cache folder, never beside the code, and nowhere if that cannot be."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from h2sim import __version__
from h2sim.kernels import jit

HERE = Path(__file__).parent
compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT=1: nothing is compiled")


def plus(a, b):
    return a + b


def kernel():
    """A new kernel of one addition: what a module of h2sim.kernels gets from its decorator."""
    return jit.njit()(plus)


def called(folder):
    """How often numba found the addition in the folder: 1 in a process that comes second."""
    os.environ["XDG_CACHE_HOME"] = str(folder)
    add = kernel()
    assert add(1, 2) == 3
    return sum(add.stats.cache_hits.values())


def kept_beside_the_code():
    return [*HERE.rglob("*.nb[ic]"), *Path(jit.__file__).parent.rglob("*.nb[ic]")]


@pytest.fixture
def user(tmp_path, monkeypatch):
    """The user's cache folder, an empty one."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@compiled_only
def test_compiled_code_lies_in_the_users_cache_folder_per_version(user):
    assert kernel()(1, 2) == 3
    (index,) = user.rglob("*.nbi")
    name, version, *_ = index.relative_to(user).parts
    assert name == "h2sim"
    assert version.startswith(f"{__version__}-")
    assert not kept_beside_the_code()


@compiled_only
def test_every_shipped_kernel_is_kept_there(tmp_path):
    script = """if True:
        from h2sim.kernels import backward, backward_lanes, bits, datapath, lanes, lif, path, schedule
        for module in (backward, backward_lanes, bits, datapath, lanes, lif, path, schedule):
            kernels = [f for f in vars(module).values() if hasattr(f, "py_func")]
            assert kernels, module
            for f in kernels:
                print(f.stats.cache_path)
    """
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert {Path(line).parents[1] for line in done.stdout.split()} == {tmp_path / "h2sim"}


@compiled_only
def test_the_users_own_numba_folder_goes_first(user, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "mine"))
    assert kernel()(1, 2) == 3
    assert list((tmp_path / "mine").rglob("*.nbi"))
    assert not user.exists()


@compiled_only
def test_other_peoples_compiled_functions_stay_where_numba_keeps_them(user):
    kernel()
    assert numba.config.CACHE_DIR == ""


@compiled_only
@pytest.mark.parametrize("broken", ["the cache folder", "numba's folder in it"])
def test_a_folder_that_cannot_be_used_means_no_cache_and_no_error(user, broken):
    if broken == "the cache folder":
        user.write_text("a file where a folder should be")
    else:
        folder = Path(kernel().stats.cache_path)
        shutil.rmtree(folder)
        folder.write_text("a file where a folder should be")
    add = kernel()
    assert add.stats.cache_path is None
    assert add(1, 2) == 3
    assert not kept_beside_the_code()


@compiled_only
def test_a_folder_that_goes_bad_later_means_no_cache_and_no_error(user):
    add = kernel()
    shutil.rmtree(user)
    user.write_text("a file where a folder should be")
    assert add(1, 2) == 3


@compiled_only
@pytest.mark.parametrize("left", [b"", b"no index"], ids=["empty", "garbage"])
def test_a_file_that_was_cut_short_is_compiled_anew_and_kept(user, left):
    kernel()(1, 2)
    for file in user.rglob("*.nb[ic]"):
        file.write_bytes(left)
    assert kernel()(1, 2) == 3
    assert called(user) == 1


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert jit.cache_folder() is None
    assert kernel()(1, 2) == 3


def test_a_relative_cache_folder_is_ignored_as_the_xdg_specification_asks(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setattr(sys, "platform", "linux")
    assert jit.user_cache_folder() == Path.home() / ".cache"


@compiled_only
@pytest.mark.parametrize("start", [s for s in ("fork", "spawn") if s in multiprocessing.get_all_start_methods()])
def test_workers_find_what_was_compiled_before(user, start):
    kernel()(1, 2)
    with multiprocessing.get_context(start).Pool(1) as pool:
        assert pool.apply(called, (user,)) == 1


def test_without_compilation_a_kernel_is_the_plain_function(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert kernel() is plus
