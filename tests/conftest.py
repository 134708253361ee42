"""For all tests: hypothesis asserts no wall-clock times, for the machines that run these are noisy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("h2sim", deadline=None)
settings.load_profile("h2sim")
