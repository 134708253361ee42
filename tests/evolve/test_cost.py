"""The cost, the search and the measures of neuroevolution: unit cases of the specification, then properties."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from hypothesis import given
from hypothesis import strategies as st

from h2sim.errors import TrainingError
from h2sim.evolve.cost import Weights, cost, steepest, steps_to
from h2sim.evolve.search import Search, Tried, best_scale, evolve, settings_of_search
from h2sim.evolve.significance import components, eigenvalues, noise_sensitivity, significance

CURVE = (0.10, 0.12, 0.50, 0.80, 0.90, 0.91, 0.91)


def test_the_cost_of_a_curve_worked_out_by_hand():
    assert steepest(CURVE, 0.1) == (3, pytest.approx(0.38))
    assert cost(CURVE, 0.1, Weights(1, 10, 500)) == pytest.approx(54.2)
    assert cost(CURVE, 0.1, Weights(1, 10, 500), lambda t: 10.0 * t) == pytest.approx(81.2)
    assert steepest((0.25, 0.5, 0.75), 0.0)[0] == 1  # of equal ones the first


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_from_the_steps_on_accuracy_stays(curve, wanted):
    found = steps_to(curve, wanted)
    if found is None:
        assert curve[-1] < wanted
    else:
        assert all(value >= wanted for value in curve[found - 1 :])
        assert found == 1 or curve[found - 2] < wanted


def bowl(best):
    """Accuracies that are the higher the nearer thresholds are to `best`."""

    def tries(rows):
        for row in rows:
            distance = float(np.abs(np.array(row) / best - 1).sum())
            yield tuple(1 - min(1.0, distance / 10 + 1 / (t + 1)) for t in range(1, 6))

    return tries


HOW = Search(population=16, generations=60, seed=3, tolerance=0.0)
BEST = np.array([0.8, 1.2, 0.4])


def test_evolution_comes_near_the_best_thresholds_and_the_best_scale_does_not():
    found = evolve([1.0, 1.0, 1.0], bowl(BEST), HOW, 0.1, Tried(None, {}))
    assert np.abs(np.array(found.thresholds) / BEST - 1).max() < 0.1
    assert found.nfe == HOW.population * (len(found.by_generation) + 1)
    assert len(found.by_generation) == HOW.generations
    assert list(found.by_generation) == sorted(found.by_generation, reverse=True)
    scale, control = best_scale([1.0, 1.0, 1.0], [0.4, 0.6, 0.8, 1.0], bowl(BEST), HOW, 0.1, Tried(None, {}))
    assert control.cost > found.cost
    assert control.thresholds == pytest.approx([scale] * 3)


def test_thresholds_stay_within_their_bounds():
    seen = []

    def tries(rows):
        rows = list(rows)
        seen.extend(rows)
        return bowl(BEST)(rows)

    evolve([1.0, 0.5, 2.0], tries, Search(population=6, generations=10, bounds=(0.7, 1.1)), 0.1, Tried(None, {}))
    share = np.array(seen) / [1.0, 0.5, 2.0]
    assert share.min() >= 0.7 - 1e-12
    assert share.max() <= 1.1 + 1e-12
    assert seen[0] == (1.0, 0.5, 2.0)  # TH itself is the first


class Killed(Exception):
    """Stands for the kill."""


@pytest.mark.parametrize("after", [1, 20, 100])
def test_a_search_that_was_killed_ends_where_it_would_have_ended(tmp_path, after):
    whole = evolve([1.0, 1.0, 1.0], bowl(BEST), HOW, 0.1, Tried(None, {}))
    n_tried = 0

    def dying(rows):
        nonlocal n_tried
        for found in bowl(BEST)(rows):
            n_tried += 1
            if n_tried > after:
                raise Killed
            yield found

    head = settings_of_search(HOW, network="n")
    with pytest.raises(Killed):
        evolve([1.0, 1.0, 1.0], dying, HOW, 0.1, Tried(tmp_path / "tried.jsonl", head))
    with (tmp_path / "tried.jsonl").open("a") as file:
        file.write('["0x1.0p+0", [0.')  # cut off amid a line
    again = 0

    def counted(rows):
        nonlocal again
        for found in bowl(BEST)(rows):
            again += 1
            yield found

    resumed = evolve([1.0, 1.0, 1.0], counted, HOW, 0.1, Tried(tmp_path / "tried.jsonl", head))
    assert resumed == whole
    assert again <= whole.nfe - after
    with pytest.raises(TrainingError, match=r"tried\.jsonl: settings: expected those of this search; got others"):
        Tried(tmp_path / "tried.jsonl", {**head, "network": "m"})


@pytest.mark.parametrize("damage", [b"{}", b"[1]", b'["0x1p0", ["a"]]', b"\xff", b"no"])
def test_a_damaged_file_of_what_was_tried_is_one_line(tmp_path, damage):
    Tried(tmp_path / "tried.jsonl", {})
    with (tmp_path / "tried.jsonl").open("ab") as file:
        file.write(damage + b"\nrest")
    with pytest.raises(TrainingError, match=r"tried\.jsonl: (line 2: expected thresholds|cannot be read)"):
        Tried(tmp_path / "tried.jsonl", {})


def test_other_seeds_find_other_thresholds():
    found = {evolve([1.0] * 3, bowl(BEST), Search(population=6, generations=2, seed=s), 0.1, Tried(None, {})).thresholds
             for s in range(3)}  # fmt: skip
    assert len(found) == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"population": 4}, "population: expected at least 5"),
        ({"bounds": (0.0, 1.0)}, "bounds: expected 0 < low < high"),
    ],
)
def test_a_search_that_cannot_be_is_refused(fields, said):
    with pytest.raises(TrainingError, match=said):
        Search(**fields)
    with pytest.raises(TrainingError, match="thresholds: expected numbers above 0"):
        evolve([1.0, 0.0], bowl(np.array([1.0, 1.0])), HOW, 0.1, Tried(None, {}))


def test_principal_components_by_both_readings():
    values = np.array([9, 4, 1, 0.01])
    assert components(values) == 3
    assert components(values, reading="squared") == 3
    assert components(values, 0.98) == 3
    assert components(values, 0.98, "squared") == 2
    assert components(np.zeros(3)) == 0
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, 3)) @ np.diag([3.0, 2.0, 1.0]) + 5
    np.testing.assert_allclose(eigenvalues(rows), [9, 4, 1], rtol=0.1)
    assert significance([6, 12, 15])[1:] == [1.0, 0.25]


def test_noise_sensitivity_by_hand():
    clean, attacked = np.array([[3.0, 4.0, 0.0]]), np.array([[3.0, 5.0, 1.0]])
    assert noise_sensitivity(clean, attacked) == pytest.approx(0.2828427125)
    silent = np.vstack([clean, 0 * clean]), np.vstack([attacked, attacked])
    assert noise_sensitivity(*silent) == pytest.approx(0.2828427125)
    assert noise_sensitivity(0 * clean, attacked) == 0
