"""Shares of the variance on functions whose shares are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.sweeps.importance import ESTIMATED, EXACT, importance


def grid(**axes):
    rows = list(itertools.product(*axes.values()))
    return {name: [row[i] for row in rows] for i, name in enumerate(axes)}


def shares(found):
    return {effect.parameter: effect.share for effect in found.effects}


def test_shares_of_a_sum_are_the_variances_of_its_terms():
    columns = grid(a=[-1, 1], b=[-1, 0, 1], c=["x", "y"])
    values = [3 * a + 2 * b for a, b in zip(columns["a"], columns["b"], strict=True)]
    found = importance(columns, values, "seconds")
    of_a, of_b = 9.0, 4 * 2 / 3
    assert (found.method, found.n, found.warnings) == (EXACT, 12, ())
    assert shares(found) == pytest.approx({"a": of_a / (of_a + of_b), "b": of_b / (of_a + of_b), "c": 0})
    assert found.rest == pytest.approx(0)
    assert found.ranked == ["a", "b"]


def test_a_product_around_0_is_all_interaction():
    columns = grid(a=[-1, 1], b=[-1, 1])
    found = importance(columns, [a * b for a, b in zip(columns["a"], columns["b"], strict=True)])
    assert shares(found) == {"a": 0, "b": 0}
    assert found.rest == pytest.approx(1)


def test_the_ishigami_function_has_its_published_shares():
    # Saltelli et al., Global Sensitivity Analysis (2008): S1 = 0.3139, S2 = 0.4424, S3 = 0 with a = 7, b = 0.1
    axis = -np.pi + 2 * np.pi * (np.arange(40) + 0.5) / 40
    columns = grid(x1=axis.tolist(), x2=axis.tolist(), x3=axis.tolist())
    x1, x2, x3 = (np.array(columns[name]) for name in columns)
    found = importance(columns, (np.sin(x1) + 7 * np.sin(x2) ** 2 + 0.1 * x3**4 * np.sin(x1)).tolist())
    assert shares(found) == pytest.approx({"x1": 0.3139, "x2": 0.4424, "x3": 0}, abs=0.005)
    assert found.rest == pytest.approx(0.2437, abs=0.005)


def test_off_the_grid_shares_of_continuous_parameters_are_near_the_true_ones():
    rng = np.random.default_rng(1)
    x = rng.random((2000, 3))
    names = ["a", "b", "nothing"]
    columns = {name: x[:, i].tolist() for i, name in enumerate(names)}
    found = importance(columns, (2 * x[:, 0] + x[:, 1]).tolist())
    assert found.method == ESTIMATED
    assert found.rest is None
    assert shares(found) == pytest.approx({"a": 0.8, "b": 0.2, "nothing": 0}, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 60))
def test_shares_lie_between_0_and_1_and_do_not_hang_on_units_or_order(seed, n):
    rng = np.random.default_rng(seed)
    columns = {
        "a": rng.integers(0, 4, n).tolist(),
        "b": rng.random(n).tolist(),
        "c": rng.choice(["x", "y"], n).tolist(),
    }
    y = rng.random(n)
    found = shares(importance(columns, y.tolist()))
    assert all(share is None or 0 <= share <= 1 for share in found.values())
    order = rng.permutation(n)
    mixed = {name: [column[i] for i in order] for name, column in columns.items()}
    assert shares(importance(mixed, (1000 * y[order] + 5).tolist())) == pytest.approx(found, abs=1e-9)


def test_noise_alone_explains_next_to_nothing():
    rng = np.random.default_rng(0)
    found = [
        shares(importance({"a": rng.integers(0, 8, 100).tolist()}, rng.random(100).tolist()))["a"] for _ in range(50)
    ]
    assert np.mean(found) < 0.04  # means of 8 groups of 100 explain 0.07 of anything


def test_a_grid_with_holes_is_no_grid():
    columns = grid(a=[1, 2, 3], b=[1, 2, 3])
    held = {name: column[:-1] for name, column in columns.items()}
    assert importance(columns, list(range(9))).method == EXACT
    assert importance(held, list(range(8))).method == ESTIMATED


def test_a_parameter_of_one_value_is_warned_of():
    found = importance({"a": [1, 2], "b": ["dual", "dual"]}, [1.0, 2.0])
    assert found.warnings == ("b takes one value: nothing is known of it",)
    assert shares(found) == {"a": 1.0, "b": None}


def test_an_objective_of_one_value_has_no_shares():
    found = importance({"a": [1, 2]}, [5.0, 5.0], "area_mm2")
    assert found.warnings == ("area_mm2 takes one value: there is no variance to explain",)
    assert shares(found) == {"a": None}


def test_parameters_that_change_together_are_warned_of():
    a = [1, 2, 3, 1, 2, 3]
    found = importance({"a": a, "twice": [2 * v for v in a]}, a)
    assert found.warnings == ("a and twice change together: their shares are the same effect",)


def test_as_many_values_as_machines_say_nothing():
    found = importance({"a": ["p", "q", "r"], "b": [1, 1, 2]}, [1.0, 2.0, 3.0])
    assert shares(found)["a"] is None
    assert "a: too few machines for its 3 values" in found.warnings


def test_lists_are_values_too_and_1_and_true_are_two():
    found = importance({"tile": [[8, 8], [4, 8], [8, 8], [4, 8]], "m": [1, 1, True, True]}, [1.0, 2.0, 1.0, 2.0])
    assert shares(found) == {"tile": 1.0, "m": 0.0}


def test_no_machines_have_no_shares():
    assert shares(importance({"a": []}, [])) == {"a": None}
