"""Functional truth: a trace's values recomputed through the engines' own data paths."""

from h2sim.verify.report import VerifyReport, VerifyRow
from h2sim.verify.verify import verify_trace

__all__ = ["VerifyReport", "VerifyRow", "verify_trace"]
