"""The mean of a few values and its interval, against published quantiles of Student's t."""

from __future__ import annotations

import math

import pytest

from h2sim.compare.interval import interval, student_t

# both sides, 95 %: any table of Student's t (Abramowitz and Stegun, table 26.10)
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 8: 2.306, 15: 2.131, 30: 2.042, 60: 2.000, 120: 1.980}


@pytest.mark.parametrize(("freedom", "t"), QUANTILES.items())
def test_the_quantiles_are_those_of_the_tables(freedom, t):
    assert student_t(freedom) == pytest.approx(t, abs=6e-4)


def test_another_confidence_has_another_quantile():
    assert student_t(7, 0.99) == pytest.approx(3.499, abs=6e-4)
    assert student_t(8, 0.9) == pytest.approx(1.860, abs=6e-4)


def test_an_interval_by_hand():
    found = interval([1.0, 2.0, 3.0, 6.0])
    assert (found.mean, found.n) == (3.0, 4)
    assert found.deviation == pytest.approx(math.sqrt(14 / 3))
    assert found.high - found.mean == pytest.approx(3.182 * math.sqrt(14 / 3) / 2, rel=1e-3)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_equal_values_have_no_spread():
    found = interval([5.0] * 8)
    assert (found.low, found.mean, found.high) == (5.0, 5.0, 5.0)
