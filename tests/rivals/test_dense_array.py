"""The dense array: the specification's examples, the stepped twin that multiplies, and bytes by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h2sim
from h2sim.energy import load_energy_table
from h2sim.rivals.dense_array import RIVAL
from h2sim.rivals.dense_array.jobs import matrices
from h2sim.rivals.dense_array.stepped import multiply
from h2sim.rivals.registry import run_rival
from tests.helpers.convs import NAME, conv_trace, drawn, shape_for

MACHINE, TABLE = h2sim.load_machine("dense-array"), load_energy_table("28nm")
PHASES = ("forward", "backward", "weight_update")


def sized(rows, columns, overlap_skew=False):
    """The machine with another array."""
    changed = {"rows": rows, "columns": columns, "overlap_skew": overlap_skew, "neuron_cycles": 0}
    return MACHINE.model_copy(update={"array": MACHINE.array.model_copy(update=changed)})


def rows_of(machine, folder, shape, seed=1):
    """Rows of a layer of that shape, by phase."""
    trace = conv_trace(folder / "t.npz", shape, *drawn(np.random.default_rng(seed), shape, 0.3))
    return {row.phase: row for row in run_rival(machine, trace, TABLE).to_rows() if row.layer == NAME}


@pytest.mark.parametrize(
    ("size", "shape", "cycles"),
    [
        ((4, 2), shape_for(2, 1, (2, 5), (3, 3), 3, 1, 1), 330),  # m 18, k 18, n 5
        ((8, 16), shape_for(1, 1, (3, 64), (30, 30), 3, 1, 1), 22148),  # m 900, k 27, n 64
        ((8, 16), shape_for(1, 1, (1024, 10), (1, 1), 1, 1, 0), 1046),  # m 1, k 1024, n 10
    ],
)
def test_the_examples_take_the_cycles_of_the_specification(size, shape, cycles, tmp_path):
    assert rows_of(sized(*size), tmp_path, shape)["forward"].cycles.compute == cycles


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7), st.integers(1, 6), st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_the_stepped_array_multiplies_in_the_cycles_of_the_formula(m, k, n, rows, columns, overlap_skew, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
    product, cycles, macs = multiply(left, right, rows, columns, overlap_skew)
    folds, skew = -(-m // rows) * -(-n // columns), rows + columns - 2
    assert (product == left @ right).all()
    assert macs == m * k * n
    assert cycles == (folds * k + skew if overlap_skew else folds * (k + skew))


@pytest.mark.parametrize("overlap_skew", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_every_phase_takes_what_the_stepped_array_takes(overlap_skew, seed, tmp_path):
    rng = np.random.default_rng(seed)
    shape = shape_for(
        int(rng.integers(1, 4)), int(rng.integers(1, 3)), (int(rng.integers(1, 4)), int(rng.integers(1, 6))),
        (int(rng.integers(3, 6)), int(rng.integers(3, 6))), int(rng.choice([1, 3])), int(rng.integers(1, 3)),
        int(rng.integers(0, 2)),
    )  # fmt: skip
    size = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    found = rows_of(sized(*size, overlap_skew), tmp_path, shape, seed)
    for phase in PHASES:
        m, k, n = matrices(shape, phase)
        _, cycles, macs = multiply(np.ones((m, k), np.int64), np.ones((k, n), np.int64), *size, overlap_skew)
        assert found[phase].cycles.compute + found[phase].cycles.fill == cycles
        assert found[phase].operations["multiply_accumulate"] == macs
        assert found[phase].operations["register_access"] == 4 * macs


def test_bits_do_not_matter(tmp_path):
    shape = shape_for(2, 2, (2, 3), (4, 4), 3, 1, 1)
    found = []
    for density in (0.0, 0.5, 1.0):
        trace = conv_trace(tmp_path / "t.npz", shape, *drawn(np.random.default_rng(2), shape, density))
        found.append(run_rival(MACHINE, trace, TABLE).to_rows())
    assert found[0] == found[1] == found[2]


def test_bytes_of_a_layer_by_hand(tmp_path):
    shape = shape_for(2, 1, (2, 5), (3, 3), 3, 1, 1)
    found = rows_of(sized(9, 8), tmp_path, shape)  # a fold is an image
    weights, image = 18 * 5 * 2, -(-18 // 8)
    assert found["forward"].offchip_read_bytes == weights + 2 * image
    assert found["forward"].offchip_write_bytes == 90 * 2 + 2 * 2 * -(-45 // 8)  # membranes; spikes and window
    # two images of 9 positions x 2 channels: membranes of 2 bytes, and two masks; gradients stay on chip
    assert found["backward"].offchip_read_bytes == weights + 2 * (18 * 2 + 2 * -(-18 // 8))
    assert found["backward"].offchip_write_bytes == 0
    # weight rows 0 to 8 read channel 0, 9 to 17 channel 1: 9 positions of 2 timesteps each
    assert found["weight_update"].offchip_read_bytes == 2 * -(-18 // 8)
    assert found["weight_update"].offchip_write_bytes == weights


def test_a_fold_across_images_reads_the_end_of_one_and_the_start_of_the_next(tmp_path):
    shape = shape_for(2, 1, (8, 1), (2, 2), 1, 1, 0)  # 8 positions in folds of 3, 3 and 2, 8 channels: a byte each
    found = rows_of(sized(3, 1), tmp_path, shape)
    # 0-2 in two rows: 4 positions; 3 | 0 1: 1 + 2; 2 3: 2
    assert found["forward"].offchip_read_bytes == 8 * 2 + 4 + 3 + 2


def test_the_second_preset_is_as_large_as_h2learn_and_no_sensible_size_is_nearer():
    h2learn = h2sim.simulate(h2sim.load_arch("h2learn"), h2sim.load_trace("mnist-digits"), TABLE)
    ours = h2learn.to_dict()["area_um2"]["total"]
    large = h2sim.load_machine("dense-array-37mm2")

    def area_of(rows, columns):
        array = large.array.model_copy(update={"rows": rows, "columns": columns, "neuron_lanes": columns})
        return sum(RIVAL.prices(large.model_copy(update={"array": array}), TABLE).area_um2.values())

    sizes = [(r, c) for r in range(64, 200, 8) for c in range(r, 3 * r // 2 + 1, 8)]
    nearest = min(sizes, key=lambda size: abs(area_of(*size) - ours))
    assert nearest == (large.array.rows, large.array.columns)
    assert area_of(*nearest) == pytest.approx(ours, rel=0.01)
    assert large.array.neuron_lanes == large.array.columns
    same = {"machine", "node_nm", "clock_hz", "buffers", "memory"}
    assert large.model_dump(include=same) == MACHINE.model_dump(include=same)
