"""The front and its volume against definitions: every pair compared, every cell of a grid counted, points thrown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from h2sim.sweeps.pareto import BOX, LiveFront, front, hypervolume, relative

CASES = settings(max_examples=80, deadline=None)


@st.composite
def points(draw, least=0, most=30, dimensions=(1, 2, 3, 4, 5), high=6):
    """Points with small whole coordinates, so that many are equal or share a coordinate."""
    d = draw(st.sampled_from(dimensions))
    rows = draw(st.lists(st.tuples(*[st.integers(0, high)] * d), min_size=least, max_size=most))
    return np.array(rows, float).reshape(-1, d)


def by_pairs(values):
    return [
        i
        for i, mine in enumerate(values)
        if not any((other <= mine).all() and (other < mine).any() for other in values)
    ]


def by_cells(values, reference):
    """Cells of side 1 below the reference of which some point lies at or below the lower corner."""
    cells = np.stack(np.meshgrid(*[np.arange(r) for r in reference], indexing="ij"), -1).reshape(-1, len(reference))
    return sum(bool((values <= cell).all(axis=1).any()) for cell in cells)


@CASES
@given(points())
def test_the_front_is_what_no_other_point_dominates(values):
    assert front(values).tolist() == by_pairs(values)


@CASES
@given(points(dimensions=(2, 3, 4)), st.data())
def test_a_maximized_objective_is_a_negated_one(values, data):
    d = values.shape[1]
    directions = data.draw(st.lists(st.sampled_from(["minimize", "maximize"]), min_size=d, max_size=d))
    signs = np.where(np.array(directions) == "maximize", -1, 1)
    assert front(values, directions).tolist() == by_pairs(values * signs)


@CASES
@given(points(dimensions=(1, 2, 3, 4), most=12, high=5))
def test_the_volume_is_the_number_of_unit_cells(values):
    reference = [5] * values.shape[1]
    assert hypervolume(values, reference) == pytest.approx(by_cells(values, reference))


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_the_volume_is_what_thrown_points_say(d, seed):
    rng = np.random.default_rng(seed)
    values = rng.random((25, d))
    thrown = rng.random((20_000, d))
    hit = np.zeros(len(thrown), bool)
    for value in values:
        hit |= (value <= thrown).all(axis=1)
    assert hypervolume(values, [1.0] * d) == pytest.approx(hit.mean(), abs=0.02)


@CASES
@given(points(least=1, dimensions=(2, 3)), st.randoms(use_true_random=False))
def test_no_order_of_the_points_changes_front_or_volume(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    assert sorted(order[i] for i in front(values[order])) == front(values).tolist()
    far = [7.0] * values.shape[1]
    assert hypervolume(values[order], far) == pytest.approx(hypervolume(values, far))


@CASES
@given(points(least=1, dimensions=(2, 3)), st.integers(1, 7))
def test_a_front_that_grows_point_by_point_is_the_front_of_all(values, at_once):
    directions = ["minimize"] * values.shape[1]
    base = [3.0] * values.shape[1]
    live, before = LiveFront(directions, base), 0.0
    for start in range(0, len(values), at_once):
        live.add(values[start : start + at_once].tolist())
        assert live.hypervolume is not None
        assert live.hypervolume >= before - 1e-12
        before = live.hypervolume
    assert live.size == len(front(values))
    whole = hypervolume(values / 3.0, [BOX] * values.shape[1]) / BOX ** values.shape[1]
    assert before == pytest.approx(whole)


def test_equal_points_are_all_on_the_front():
    assert front([[1, 2], [2, 1], [1, 2], [2, 2]]).tolist() == [0, 1, 2]


def test_points_with_an_unknown_objective_are_left_out():
    assert front([[np.nan, 0], [1, 1], [2, 2]]).tolist() == [1]
    assert hypervolume([[np.nan, 0], [1, 1]], [2, 2]) == 1
    live = LiveFront(["minimize", "minimize"], [1, 1])
    assert not live.add([(None, 1.0)])
    assert live.size == 0


def test_no_points_have_no_front_and_no_volume():
    assert front(np.empty((0, 3))).tolist() == []
    assert hypervolume(np.empty((0, 3)), [1, 1, 1]) == 0
    assert hypervolume([[2, 2, 2]], [1, 1, 1]) == 0


def test_a_direction_too_few_is_refused():
    with pytest.raises(ValueError, match=r"a direction per objective; got 1 for 2"):
        front([[1, 2]], ["minimize"])


def test_the_base_alone_dominates_half_of_the_box_in_each_objective():
    live = LiveFront(["minimize", "maximize", "minimize"], [0.5, 300.0, 80.0])
    assert live.hypervolume == 0
    assert live.add([(0.5, 300.0, 80.0)])
    assert live.hypervolume == pytest.approx(0.125)


def test_twice_as_much_of_what_is_maximized_is_half_of_the_box():
    assert relative([[10.0, 600.0]], [10.0, 300.0], ["minimize", "maximize"]).tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("base", [None, (1.0, None), (1.0, 0.0)])
def test_without_a_base_there_is_no_hypervolume(base):
    live = LiveFront(["minimize", "minimize"], base)
    live.add([(1.0, 1.0)])
    assert live.hypervolume is None


def test_a_hundred_thousand_points_are_swept_and_not_paired():
    values = np.random.default_rng(0).random((100_000, 3))
    on_front = front(values)
    assert 50 < len(on_front) < 2_000
    sample = values[:: 100_000 // 200]
    chosen = values[on_front]
    assert all((chosen <= point).all(axis=1).any() for point in sample)
