"""Expressions of a spec: what they come to, and that nothing but the grammar is ever taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2sim.errors import SweepError
from h2sim.sweeps.expressions import parse_expression

FIELDS = {"engines.backward.rows": 16, "engines.backward.mode": "dual", "tile.height": 8, "factor": 0.5,
          "seconds[mnist-table34]": 2.0, "seconds[my.npz]": 3.0, "lut": True}  # fmt: skip


def value(text):
    return parse_expression(text, "spec").value(FIELDS.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024 // engines.backward.rows", 64),
        ("-engines.backward.rows + 2 * 3", -10),
        ("2 ** ceil(9 / 2)", 32),
        ("max(1, round(engines.backward.rows * factor))", 8),
        ("8 <= engines.backward.rows < 32", True),
        ("engines.backward.mode == 'dual' and not lut", False),
        ("3 if engines.backward.mode == 'dense' else 4", 4),
        ("lut == true or false", True),
        ("seconds[mnist-table34] / seconds[my.npz]", 2 / 3),
        ("floor(7.9) % 4", 3),
        ("log2(engines.backward.rows)", 4.0),
    ],
)
def test_an_expression_comes_to_what_it_says(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "open('/etc/passwd')", "(lambda: 1)()", "[1, 2]", "{1: 2}", "f'{1}'",
        "a := 1", "x.y()", "min(1)", "abs(1, 2)", "min(a=1, b=2)", "1 if", "", " ", "a" * 1001, "1\n2", "x is y",
        "x in y", "1 << 3", "~1", "*x", "yield", "'a' 'b' @ 2", "(" * 300 + "1" + ")" * 300, "1 +" * 300 + "1",
        "b'x'", "1j", "...", "None.x[0](1)", "seconds[1][2]",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_in_one_line(text):
    with pytest.raises(SweepError, match=r"^spec") as error:
        parse_expression(text, "spec")
    assert len(error.value.lines) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 // 0", "division"), ("factor ** 1000", "exponent"), ("10 ** 200", "too large"), ("no.where", "no value"),
        ("engines.backward.mode + 1", "text and numbers"), ("'a' < 1", "text and numbers"), ("log2(0)", "log2"),
        ("(-1) ** 0.5", "too large"), ("1e200 * 1e200", "too large"), ("'a' * 1000000000", "text and numbers"),
    ],
)  # fmt: skip
def test_what_has_no_value_says_why_in_one_line(text, said):
    with pytest.raises(SweepError, match=said) as error:
        value(text)
    assert len(error.value.lines) == 1


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_clear_line(text):
    try:
        found = value(text)
    except SweepError as error:
        found = error.lines
    assert isinstance(found, int | float | str | bool) or len(found) == 1


numbers = st.integers(-50, 50)


@given(st.recursive(numbers.map(str), lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
    lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"), max_leaves=12))  # fmt: skip
def test_arithmetic_is_that_of_python(text):
    expected = eval(text)
    if abs(expected) < 1e30:
        assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("area_mm2 < 120", ("area_mm2", "<", 120.0)), ("5 <= seconds", ("seconds", ">=", 5.0)),
        ("area_mm2 + 1 < 120", None), ("a < b", None), ("1 < a < 2", None), ("mode == 'dual'", None),
    ],
)  # fmt: skip
def test_a_plain_bound_is_known_as_such(text, bound):
    assert parse_expression(text, "spec").bound() == bound
