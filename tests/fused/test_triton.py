"""The Triton kernels, without a GPU: right under the interpreter, and compiled for three kinds of GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]


def python(module: str, **variables: str) -> str:
    """What a module of the tests prints; it ends with status 0."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kernels_agree_with_the_reference_and_plain_torch_under_the_interpreter():
    said = python("tests.fused.interpreted", TRITON_INTERPRET="1")
    assert int(said.split()[0]) >= 25


def test_kernels_compile_without_spills_and_without_fused_multiply_adds(tmp_path):
    pytest.importorskip("triton.backends.nvidia.compiler")
    said = python("tests.fused.cubins", TRITON_CACHE_DIR=str(tmp_path))
    assert said.split()[0] == "54"
