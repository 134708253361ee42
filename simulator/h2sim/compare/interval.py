"""The mean of a few measurements and how far it can be trusted: Student's t interval, 95 %, both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
NAME = f"Student t, {CONFIDENCE:.0%}"


@dataclass(frozen=True)
class Interval:
    """mean: of n values; low, high: the ends of its interval; deviation: of one value, with n - 1 below."""

    mean: float
    low: float
    high: float
    deviation: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """Plain data, without n, which is that of all quantities."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "deviation": self.deviation}


def interval(values: Sequence[float]) -> Interval:
    """The mean of at least two independent values, with its interval: mean +- t(n - 1) x deviation / sqrt(n)."""
    n = len(values)
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_t(n - 1) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, deviation, n)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t that a Student variable of `freedom` degrees stays within, either side, with this probability."""
    low, high = 0.0, math.pi / 2
    for _ in range(100):  # each halves the angle's interval: more than a float can tell apart
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|t| < tan(angle) x sqrt(freedom)), the finite series for whole degrees.

    Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    term, total = cosine if odd else 1.0, 0.0
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= cosine * cosine * (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
