"""Published rows: what the source prints, what it must mean, and where each number stands."""

from __future__ import annotations

import pytest

from h2sim.compare.published import published_row, published_rows
from h2sim.errors import BaselineError
from h2sim.trace import load_network

ROWS = published_rows()


def test_rows_have_names_of_their_own_and_the_networks_exist():
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.workload or row.specs
        if row.workload:
            assert load_network(row.workload.network).name == row.workload.network


@pytest.mark.parametrize(
    ("name", "seconds", "energy_j"),
    [
        ("loihi-reported", 1.02e-3, 6.60e-5),
        ("h2learn-loihi-network", 1.15e-4, 3.33e-4),
        ("fpga-ju-2020", 6.11e-3, 3.00e-2),
        ("h2learn-fpga-network", 1.21e-4, 3.58e-4),
        ("h2learn-fpga-network-as-printed", 1.21e-2, 3.58e-4),
    ],
)
def test_a_reported_row_is_a_measurement_of_one_sample(name, seconds, energy_j):
    measured = published_row(name).measurement()
    assert (measured.kind, measured.samples, measured.phases, measured.parts) == ("published", 1, ("forward",), ())
    assert (measured.seconds_per_sample, measured.energy_j_per_sample) == (seconds, energy_j)
    assert measured.assumptions


def test_the_ratios_that_the_text_states_hold_but_for_the_misprint():
    loihi, ours = published_row("loihi-reported").measurement(), published_row("h2learn-loihi-network").measurement()
    assert loihi.seconds / ours.seconds == pytest.approx(8.87, abs=0.01)
    assert ours.energy_j / loihi.energy_j == pytest.approx(5.06, abs=0.02)
    fpga, other = published_row("fpga-ju-2020").measurement(), published_row("h2learn-fpga-network").measurement()
    assert fpga.seconds / other.seconds == pytest.approx(50.50, abs=0.01)
    assert fpga.energy_j / other.energy_j == pytest.approx(83.79, abs=0.02)
    printed = published_row("h2learn-fpga-network-as-printed")
    assert fpga.seconds / printed.measurement().seconds < 1
    assert "misprint" in printed.note


def test_the_fpgas_latency_is_that_of_its_throughput():
    row = published_row("fpga-ju-2020")
    assert row.measurement().seconds * row.spec("throughput").value == pytest.approx(1, abs=0.005)


def test_table_3_6_is_there_with_what_follows_from_it():
    ours, gpu = published_row("h2learn"), published_row("v100")
    assert gpu.area_mm2 / ours.area_mm2 == pytest.approx(7.38, abs=0.005)
    assert (gpu.spec("power").value, gpu.spec("bandwidth").value, gpu.spec("clock").value) == (300.0, 900.0, 1530.0)
    assert (ours.spec("power").value, ours.spec("peak").value, ours.spec("clock").value) == (20.57, 27.85, 800.0)


@pytest.mark.parametrize("name", ["v100", "a100", "h100", "h200"])
def test_gpu_rows_hold_specifications_only(name):
    row = published_row(name)
    assert row.area_mm2 > 800
    assert row.spec("bandwidth").unit == "GB/s"
    with pytest.raises(
        BaselineError, match=rf"^published row {name}: workload: expected a reported time .*; got none$"
    ):
        row.measurement()


def test_an_unknown_row_or_quantity_names_those_there_are():
    with pytest.raises(BaselineError, match=r"published.yaml: row: expected one of: h2learn, .*h200; got 'tpu'$"):
        published_row("tpu")
    with pytest.raises(BaselineError, match=r"row h200: quantity: expected one of: peak_fp16_tensor, .*; got 'peak'$"):
        published_row("h200").spec("peak")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: []", r"p.yaml: rows: expected Tuple should have at least 1 item"),
        ("rows: [{name: a, system: s}, {name: a, system: s}]", r"p.yaml: rows: expected each name once; got 'a' again"),
        ("rows: [{name: a}]", r"p.yaml: rows.0.system: missing field"),
        ("rows: [{name: a, system: s, area_mm2: 0.0}]", r"rows.0.area_mm2: expected greater than 0; got 0.0"),
        ("rows: [{name: a, system: s, areas: 1.0}]", r"rows.0.areas: unknown field"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(BaselineError, match=message):
        published_rows(tmp_path / "p.yaml")


def test_the_rows_quote_what_table_3_6_prints():
    rows = {row.name: row for row in published_rows()}
    assert (rows["h2learn"].area_mm2, rows["v100"].area_mm2) == (110.46, 815.0)
    specs = {("h2learn", "clock"): 800, ("h2learn", "peak"): 27.85, ("h2learn", "power"): 20.57,
             ("h2learn", "bandwidth"): 384, ("v100", "clock"): 1530, ("v100", "peak"): 15.7, ("v100", "power"): 300,
             ("v100", "bandwidth"): 900}  # fmt: skip
    assert {key: rows[key[0]].spec(key[1]).value for key in specs} == specs
