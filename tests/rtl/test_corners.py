"""The corners of the random layers: which layer lies in which, and that they are drawn often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from h2sim.arch import load_arch
from h2sim.rtl import corners
from h2sim.rtl.corners import (
    BATCH_BELOW_P,
    CORNERS,
    COUNTS,
    PARTIAL_COLUMNS,
    PARTIAL_LANES,
    PARTIAL_ROWS,
    SAMPLES_BELOW_P,
    STRIDE_2,
    corners_drawn,
    corners_of,
)
from h2sim.rtl.draw import conv_shape, fc_shape
from h2sim.rtl.mutations import MUTATIONS
from h2sim.shapes import ConvShape, FcShape

SMALL = load_arch("h2learn").with_({f"engines.backward.{n}": 2 for n in ("rows", "columns", "parallelism")})
ENGINE = SMALL.engines.backward
DRAWN = 2000


def conv(samples=(1, 2), channels=(2, 2), stride=(1, 1)) -> ConvShape:
    return ConvShape.of(samples, (channels[0], 8, 8), (channels[1], 6, 6), (3, 3), stride)


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        ("backward_conv", conv(), ()),
        ("backward_conv", conv((1, 1)), (BATCH_BELOW_P, SAMPLES_BELOW_P)),
        ("backward_conv", conv((2, 1)), (BATCH_BELOW_P,)),
        ("backward_conv", conv(channels=(3, 2)), (PARTIAL_LANES, PARTIAL_COLUMNS)),
        ("backward_conv", conv(channels=(2, 3)), (PARTIAL_ROWS,)),
        ("encode_forward", conv(channels=(3, 2)), (PARTIAL_LANES, PARTIAL_ROWS)),
        ("forward_conv", conv(channels=(2, 3)), (PARTIAL_COLUMNS,)),
        ("weight_update_conv", conv(stride=(2, 2)), (STRIDE_2,)),
        ("backward_conv", conv(stride=(2, 1)), ()),
        ("backward_fc", FcShape(1, 1, 4, 3), (BATCH_BELOW_P, SAMPLES_BELOW_P, PARTIAL_ROWS)),
    ],
)
def test_a_layer_lies_in_the_corners_of_its_sizes(kind, shape, expected):
    assert set(corners_of(kind, shape, ENGINE, 1)) == set(expected)
    assert set(corners_of(kind, shape, ENGINE, 2)) == {*expected, COUNTS}


def drawn() -> Counter[str]:
    """How many of DRAWN convolutions and as many FC layers lie in each corner."""
    found: Counter[str] = Counter()
    for seed in range(DRAWN):
        rng = np.random.default_rng(seed)
        found.update(corners_of("backward_conv", conv_shape(rng, (3, 3), 1000, ENGINE), ENGINE, 1))
        found.update(corners_of("backward_fc", fc_shape(rng, 12, ENGINE), ENGINE, 1))
    return found


def test_every_corner_is_drawn_often_and_more_often_than_by_chance(monkeypatch):
    on_purpose = drawn()
    assert min(on_purpose[corner] for corner in corners_drawn(1)) > DRAWN // 8
    monkeypatch.setattr(corners, "OFTEN", 0.0)
    by_chance = drawn()
    for corner in (BATCH_BELOW_P, PARTIAL_LANES, STRIDE_2):
        assert on_purpose[corner] > 1.15 * by_chance[corner], corner


def test_every_corner_has_a_mutation_that_its_layers_must_notice():
    assert {mutation.corner for mutation in MUTATIONS} - {None} == set(CORNERS)
