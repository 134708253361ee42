"""For all tests: no wall-clock limits (the machines are noisy), and torch draws the same whatever ran before."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

settings.register_profile("h2sim", deadline=None)
settings.load_profile("h2sim")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before every test and its fixtures: a test may not hang on which tests its process ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
