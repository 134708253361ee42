"""Numbers as people read them: thousands apart, a few significant digits, a unit with the prefix that fits."""

from __future__ import annotations

import math

PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))
BYTE_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
TINY = 1e-4  # below this, zeros after the point are harder to count than an exponent


def significant(value: float, digits: int = 3) -> str:
    """A number of so many significant digits, written out: 2,240 and 0.0123, never 2.24e+03."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < TINY:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    # 9.996 becomes 10.0: one place fewer than it needed before
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, places)}f}"


def times(ratio: float | None) -> str:
    """A ratio in three significant digits, '2,240x'; '-' where there is none."""
    return "-" if ratio is None else f"{significant(ratio)}x"


def amount(value: float | None, unit: str, digits: int = 4) -> str:
    """A quantity with the prefix (none, m, u, n, p) that leaves a number of at least 1, '24.10 us'; '-' for None."""
    if value is None:
        return "-"
    if value == 0:
        return f"0 {unit}"
    for factor, prefix in PREFIXES:
        if abs(value) >= factor * (1 - 0.5 * 10.0**-digits):  # what rounds to 1 is 1
            return f"{significant(value / factor, digits)} {prefix}{unit}"
    return f"{significant(value / PREFIXES[-1][0], digits)} p{unit}"


def size(n_bytes: float) -> str:
    """Bytes with a decimal prefix: '1.49 MB'."""
    for factor, prefix in BYTE_PREFIXES:
        if n_bytes >= factor:
            return f"{significant(n_bytes / factor)} {prefix}B"
    return f"{n_bytes:,.0f} B"


def percent(value: float | None, places: int = 2) -> str:
    """A share as a percentage; '-' where there is none."""
    return "-" if value is None else f"{value:.{places}%}"


def counted(n: int, what: str, many: str = "") -> str:
    """'1 layer', '2,000 layers': a count with its noun; `many` is a plural that does not just take an s."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {many or what + 's'}"
