"""Numbers for people: written out, three or four significant digits, a prefix that fits."""

from __future__ import annotations

import pytest

from h2sim.document import amount, counted, percent, significant, size, times


@pytest.mark.parametrize(
    ("value", "text"),
    [(2239.6, "2,240x"), (1.3301, "1.33x"), (9.996, "10.0x"), (999.6, "1,000x"), (0.01234, "0.0123x"), (0, "0x"),
     (123456, "123,000x"), (None, "-"), (1, "1.00x")],
)  # fmt: skip
def test_ratios_are_written_out(value, text):
    assert times(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(24.1e-6, "s", "24.10 us"), (85.04e-6, "J", "85.04 uJ"), (0.0035, "J", "3.500 mJ"), (1234.5, "s", "1,234 s"),
     (0.99999, "s", "1.000 s"), (0.0, "W", "0 W"), (None, "J", "-"), (3.2e-13, "J", "0.3200 pJ")],
)  # fmt: skip
def test_quantities_get_the_prefix_that_keeps_them_above_one(value, unit, text):
    assert amount(value, unit) == text


def test_sizes_shares_counts_and_tiny_numbers():
    assert [size(n) for n in (999, 1_490_000, 2e9)] == ["999 B", "1.49 MB", "2.00 GB"]
    assert [percent(0.12345), percent(0.5, 0), percent(None)] == ["12.35%", "50%", "-"]
    assert [counted(1, "layer"), counted(2000, "layer")] == ["1 layer", "2,000 layers"]
    assert significant(1.234e-7) == "1.23e-07"
    assert significant(float("inf")) == "inf"
