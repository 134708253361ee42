"""One thread for torch in every test here: numba's thread pool changes OpenMP's count, and two threads only spin."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
