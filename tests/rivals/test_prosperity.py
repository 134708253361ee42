"""Prosperity: the specification's tile and layer by hand, the stepped twin, bit sparsity beside product sparsity."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.energy import load_energy_table
from h2sim.errors import BaselineError
from h2sim.kernels import product_sparsity as kernel
from h2sim.rivals.prosperity.stepped import Tile, run
from h2sim.rivals.registry import run_rival
from tests.helpers.convs import any_shape, array_of, conv_trace, drawn, layer_x, plain_rows, row_of, shape_for

MACHINE, BIT, TABLE = h2sim.load_machine("prosperity"), h2sim.load_machine("bit-sparse-128"), load_energy_table("28nm")
TILE_A = ("1001", "1001", "0000", "1101", "0100", "1111", "0011", "1101")


def sized(machine=MACHINE, **changed):
    """The machine with other lanes or tiles."""
    return array_of(machine, **changed)


@pytest.fixture
def example(tmp_path):
    return layer_x(tmp_path / "x.npz")


def test_tile_a_is_counted_as_by_hand():
    words = np.array([[int(bits[::-1], 2)] for bits in TILE_A], np.uint16)
    (found,) = kernel.tile_counts(words, 8, True)[0]
    wanted = {"ONES": 17, "RESIDUALS": 7, "EXACT": 2, "PARTIAL": 2, "SEARCHED": 6, "ACTIVE": 7, "ROWS": 8}
    assert {name: found[getattr(kernel, name)] for name in wanted} == wanted
    tile = Tile([tuple(i for i, bit in enumerate(bits) if bit == "1") for bits in TILE_A], 8, product=True)
    assert (tile.adds, tile.finding) == (9, 7)


def test_layer_x_takes_what_the_specification_says(example):
    small = {"tile_rows": 8, "tile_columns": 6, "lanes": 4, "popcounts": 2, "lif_cycles": 0}
    row = row_of(sized(**small), example)
    assert row.operations["spike"] == 39
    assert (row.operations["weight_row"], row.operations["tcam_search"]) == (2 * 36, 2 * 4)
    assert row.operations["prefix_sum"] == 3 * 5
    assert (row.cycles.compute + row.cycles.fill, row.cycles.fill) == (81, 5)
    authors = row_of(sized(**small, overlap="layer"), example)
    assert authors.cycles.compute + authors.cycles.fill == 72  # finding takes 62
    bit = row_of(sized(BIT, **small), example)
    assert bit.cycles.compute + bit.cycles.fill == 39 * 2
    assert bit.operations["tcam_search"] == bit.operations["popcount"] == 0
    assert bit.operations["lane_add"] == 39 * 5


@settings(max_examples=40, deadline=None)
@given(
    any_shape(4),
    st.integers(2, 12),
    st.integers(1, 20),
    st.integers(1, 3),
    st.booleans(),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_the_fast_count_is_the_stepped_machine(shape, tile_rows, tile_columns, lanes, product, density, seed):
    spikes, window, grads = drawn(np.random.default_rng(seed), shape, density)
    machine = sized(
        MACHINE if product else BIT,
        tile_rows=tile_rows,
        tile_columns=tile_columns,
        lanes=lanes,
        popcounts=2,
        lif_cycles=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        row = row_of(machine, conv_trace(Path(folder) / "t.npz", shape, spikes, window, grads))
    tiles = [
        Tile([tuple(np.flatnonzero(bits[k : k + tile_columns])) for bits in rows[m : m + tile_rows]], 2, product)
        for rows in (np.concatenate(plain_rows(shape, spikes[:, n])) for n in range(shape.batch))
        for m in range(0, len(rows), tile_rows)
        for k in range(0, rows.shape[1], tile_columns)
    ]
    groups = -(-shape.out_channels // lanes)
    cycles, fill = run(tiles * groups)
    assert (row.cycles.compute + row.cycles.fill, row.cycles.fill) == (cycles, fill)
    assert row.operations["lane_add"] == sum(tile.residuals for tile in tiles) * shape.out_channels
    assert row.operations["prefix_sum"] == sum(tile.exact + tile.partial for tile in tiles) * shape.out_channels
    assert row.operations["tcam_search"] == sum(tile.searched for tile in tiles) * groups


def test_the_finder_is_listed_without_a_price_and_is_in_no_energy(example):
    result = run_rival(MACHINE, example, TABLE)
    assert {(u.component, u.action) for u in result.unpriced} == {("finder", "tcam_cell"), ("finder", "popcount")}
    assert all(u.number > 0 for u in result.unpriced)
    assert not any(line.component == "finder" for line in result.bill())
    assert result.published["energy_j"] == 0.4465 * result.seconds
    assert not any(u.number for u in run_rival(BIT, example, TABLE).unpriced)


def test_product_sparsity_never_adds_more_than_bit_sparsity(tmp_path):
    for density in (0.1, 0.5, 1.0):
        shape = shape_for(3, 1, (4, 6), (6, 6), 3, 1, 1)
        trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(1), shape, density))
        product, bit = (row_of(machine, trace).operations for machine in (MACHINE, BIT))
        assert product["spike"] == bit["spike"]
        assert product["lane_add"] < bit["lane_add"] == bit["spike"] * 6


def test_tiles_that_would_fill_the_memory_are_refused_in_one_line():
    trace = h2sim.load_trace("mnist-digits")
    tiny = sized(tile_rows=1, tile_columns=1, lanes=1)
    with pytest.raises(
        BaselineError, match=r"^Prosperity: array: expected tiles of which a layer has at most 2,000,000; got"
    ):
        run_rival(tiny, trace, TABLE)
