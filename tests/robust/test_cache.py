"""Damaged files of compiled kernels: never a crash, and always the same results."""

from __future__ import annotations

import os
import random
import shutil

import numba
import numpy as np
import pytest

from h2sim.kernels import jit

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT=1: nothing is compiled")


def plus(a, b):
    return a + b


def times(a, b):
    return a * b


def called(function=plus):
    """What a new process's kernel returns for two kinds of arguments."""
    kernel = jit.njit()(function)
    return kernel(3, 4), kernel(0.5, 0.25), kernel(np.arange(3), 1).tolist()


PLUS, TIMES = (7, 0.75, [1, 2, 3]), (12, 0.125, [0, 1, 2])


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files of both kernels, whole."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert (called(), called(times)) == (PLUS, TIMES)
    found = sorted(tmp_path.rglob("*.nb[ic]"))
    assert len(found) == 8
    return found


def cut(path, rng, files):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def emptied(path, rng, files):
    path.write_bytes(b"")


def a_bit_flipped(path, rng, files):
    blob = bytearray(path.read_bytes())
    blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
    path.write_bytes(blob)


def longer(path, rng, files):
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 100)))


def of_zeros(path, rng, files):
    path.write_bytes(bytes(path.stat().st_size))


def noise(path, rng, files):
    path.write_bytes(rng.randbytes(path.stat().st_size))


def another_s(path, rng, files):
    path.write_bytes(rng.choice(files).read_bytes())


def unreadable(path, rng, files):
    path.chmod(0)


def a_folder(path, rng, files):
    path.unlink()
    path.mkdir()


def a_link_to_itself(path, rng, files):
    path.unlink()
    path.symlink_to(path)


def gone(path, rng, files):
    path.unlink()


def of_numba_itself(path, rng, files):
    import pickle

    path.write_bytes(pickle.dumps(numba.__version__) + pickle.dumps((("stamp",), {})))


DAMAGES = (
    cut, emptied, a_bit_flipped, longer, of_zeros, noise, another_s, unreadable, a_folder, a_link_to_itself, gone,
    of_numba_itself,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_file_counts_as_missing(damage, kind, files):
    rng = random.Random(f"{damage.__name__} {kind}")
    for path in files:
        if path.suffix == f".{kind}":
            damage(path, rng, files)
    for _ in range(2):
        assert (called(), called(times)) == (PLUS, TIMES)
    for path in files:
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_to_any_files_changes_no_result(seed, files):
    rng = random.Random(seed)
    for path in rng.sample(files, 4):
        rng.choice(DAMAGES)(path, rng, files)
    assert (called(), called(times)) == (PLUS, TIMES)


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may all")
def test_a_folder_that_may_not_be_read_or_written_means_no_cache(files):
    folder = files[0].parent
    folder.chmod(0)
    try:
        assert called() == PLUS
    finally:
        folder.chmod(0o700)


def test_a_folder_that_is_gone_amid_a_process_is_no_error(files):
    kernel = jit.njit()(plus)
    assert kernel(1, 2) == 3
    shutil.rmtree(files[0].parent)
    assert kernel(0.5, 0.5) == 1.0
