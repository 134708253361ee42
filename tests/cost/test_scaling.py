"""Between nodes: factors inside the ranges that their checks span, and a scaled table that is the shipped one."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from h2sim.energy import load_energy_table
from h2sim.energy.scaling import (
    Factor,
    area_factor,
    delay_factor,
    energy_factor,
    leakage_factor,
    rules,
    scale_table,
    voltage_factor,
)
from h2sim.energy.transform import Factors, multiplied
from h2sim.errors import EnergyTableError
from h2sim.report.table import table_yaml

T28, T45 = load_energy_table("28nm"), load_energy_table("45nm")
HP28 = "sram-28nm-itrs-hp-300k"
FUNCTIONS = {"energy": energy_factor, "area": area_factor, "delay": delay_factor, "leakage": leakage_factor}


@pytest.mark.parametrize(
    ("function", "from_nm", "to_nm", "expected"),
    [
        (energy_factor, 45, 28, (0.52, 0.45, 0.62)),
        (energy_factor, 40, 28, (0.6, 0.5, 0.7)),
        (energy_factor, 32, 28, (0.79, 0.72, 0.875)),
        (area_factor, 45, 28, (0.387, 0.369, 0.46)),
        (area_factor, 40, 28, (0.49, 0.482, 0.55)),
        (delay_factor, 45, 28, (0.58, 0.52, 0.73)),
        (leakage_factor, 45, 28, (0.414, 0.402, 0.428)),
    ],
)
def test_a_factor_is_the_recommended_one_with_its_range(function, from_nm, to_nm, expected):
    found = function(from_nm, to_nm)
    assert (found.value, found.low, found.high) == expected
    assert len(found.source) > 20


@pytest.mark.parametrize("factor", rules().factors, ids=lambda f: f"{f.quantity}-{f.from_nm:g}-{f.to_nm:g}")
def test_every_factor_says_where_it_comes_from_and_is_found_by_its_function(factor):
    assert factor.source
    assert factor.method
    assert FUNCTIONS[factor.quantity](factor.from_nm, factor.to_nm) == factor


@pytest.mark.parametrize("check", rules().checks, ids=lambda c: f"{c.quantity}-{c.from_nm:g}-{c.value:g}")
def test_what_other_sources_give_lies_inside_the_range(check):
    factor = FUNCTIONS[check.quantity](check.from_nm, check.to_nm)
    assert factor.low <= check.value <= factor.high


@pytest.mark.parametrize(("nm", "shrink"), [(45, 0.387), (40, 0.49), (32, 0.766)])
def test_area_is_the_square_of_the_length(nm, shrink):
    assert area_factor(nm, 28).value == shrink == pytest.approx((28 / nm) ** 2, rel=2e-3)


@given(st.sampled_from(sorted(FUNCTIONS)), st.sampled_from([14, 28, 40, 45]))
def test_a_node_is_not_scaled_to_itself(quantity, nm):
    found = FUNCTIONS[quantity](nm, nm)
    assert (found.low, found.value, found.high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("function", "pair", "message"),
    [
        (energy_factor, (45, 14), "energy between nodes: expected one of 45 to 28, .* nm; got 45 to 14"),
        (energy_factor, (28, 45), "energy between nodes: expected one of .*; got 28 to 45"),
        (area_factor, (45, 7), "area between nodes: expected one of 45 to 28, .*; got 45 to 7"),
        (delay_factor, (32, 28), "delay between nodes: expected one of 45 to 28, 40 to 28, 45 to 32 nm; got 32 to 28"),
        (leakage_factor, (65, 28), "leakage between nodes: expected one of .*; got 65 to 28"),
    ],
)
def test_a_pair_without_a_source_is_refused_with_those_that_have_one(function, pair, message):
    with pytest.raises(EnergyTableError, match=f"^scaling: {message}$"):
        function(*pair)


def test_energy_goes_with_the_square_of_the_voltage():
    assert voltage_factor(1.1, 0.9) == pytest.approx(0.6694, rel=1e-4)
    assert voltage_factor(0.9, 0.9) == 1
    assert voltage_factor(1.1, 0.9) * voltage_factor(0.9, 1.1) == pytest.approx(1)
    with pytest.raises(EnergyTableError, match=r"^scaling: voltage: expected volts above 0; got 0 to 0\.9$"):
        voltage_factor(0, 0.9)
    with pytest.raises(EnergyTableError, match=r"^scaling: voltage: expected volts above 0; got 0\.9 to -1$"):
        voltage_factor(0.9, -1)
    with pytest.raises(EnergyTableError, match=r"^scaling: voltage: expected volts above 0; got 0\.9 to nan$"):
        voltage_factor(0.9, float("nan"))


def test_a_factor_outside_its_own_range_is_refused():
    plain = energy_factor(45, 28).model_dump()
    with pytest.raises(ValueError, match=r"expected low <= value <= high; got 0\.6, 0\.52, 0\.62"):
        Factor(**(plain | {"low": 0.6}))
    with pytest.raises(ValueError, match=r"expected low <= value <= high; got 0\.45, 0\.52, 0\.5"):
        Factor(**(plain | {"high": 0.5}))


def test_the_28_nm_table_is_the_45_nm_one_scaled_so_that_the_two_cannot_drift():
    scaled = scale_table(T45, 28, HP28)
    assert (scaled.node_nm, scaled.voltage_v, scaled.kind, scaled.name) == (28, 0.9, T45.kind, "45nm-to-28nm")
    for name in type(T28.actions).model_fields:
        ours, shipped = getattr(scaled.actions, name), getattr(T28.actions, name)
        assert ours.energy_pj == pytest.approx(shipped.energy_pj, rel=1e-5)
        assert ours.area_um2 == pytest.approx(shipped.area_um2, rel=1e-5)
        assert ours.leakage_uw == pytest.approx(shipped.leakage_uw, rel=1e-5)
        assert "scaled" in shipped.method
    for ours, shipped in zip(scaled.luts, T28.luts, strict=True):
        for field in ("read_pj", "write_pj", "area_1_port_um2", "area_4_ports_um2", "leakage_uw"):
            assert getattr(ours, field) == pytest.approx(getattr(shipped, field), rel=1e-5)
        assert "scaled" in shipped.method
    assert scaled.sram == T28.sram
    assert scaled.offchip == T45.offchip


def test_scaling_widens_the_ranges_and_says_what_it_did():
    before, after = T45.actions.fp16_add, scale_table(T45, 28, HP28).actions.fp16_add
    assert after.low_pj == pytest.approx(before.low_pj * 0.45)
    assert after.high_pj == pytest.approx(before.high_pj * 0.62)
    assert after.method.startswith("scaled 45 to 28 nm: energy x 0.52, area x 0.387, leakage x 0.414 [A]; before: ")
    assert after.method.endswith(before.method)
    encoder = scale_table(T45, 28, HP28).actions.priority_encode
    assert encoder.low_pj == pytest.approx(T45.actions.priority_encode.energy_pj * 0.45, rel=1e-5)


def test_sram_is_not_scaled_and_macros_of_another_node_are_refused():
    with pytest.raises(EnergyTableError, match=r"^scale 45nm: sram: expected macros of 28 nm; got 45 nm$"):
        scale_table(T45, 28, "sram-45nm-itrs-hp-360k")
    with pytest.raises(EnergyTableError, match=r"^scale 45nm: sram\.part: expected one of .*, or a file; got 'none'$"):
        scale_table(T45, 28, "none")
    with pytest.raises(EnergyTableError, match=r"^scaling: energy between nodes: .*; got 28 to 14$"):
        scale_table(T28, 14, HP28)


@pytest.mark.parametrize("part", [HP28, None])
def test_a_scaled_table_written_as_yaml_reads_back_the_same(tmp_path, part):
    scaled = scale_table(T45, 28, HP28, name="mine")
    (tmp_path / "mine.yaml").write_text(table_yaml(scaled, part))
    assert load_energy_table(tmp_path / "mine.yaml").sha256 == scaled.sha256
    assert (yaml.safe_load((tmp_path / "mine.yaml").read_text())["sram"] == {"part": HP28}) == (part is not None)
    assert not re.search(r"\d\.\d{9}", table_yaml(scaled, HP28).split("sram:")[0].replace("before:", ""))


def test_macros_are_multiplied_only_where_that_is_asked_for():
    plain, factors = T28.model_dump(), Factors(2.0, 3.0, 5.0)
    assert multiplied(plain, factors, "m", with_sram=False)["sram"] == plain["sram"]
    before, after = T28.sram.macros[0], multiplied(plain, factors, "m", with_sram=True)["sram"]["macros"][0]
    assert (after.read_pj, after.write_pj) == (2 * before.read_pj, 2 * before.write_pj)
    assert (after.area_um2, after.leakage_mw) == (3 * before.area_um2, 5 * before.leakage_mw)


@pytest.mark.parametrize("name", ["a\nb", " ", "\x1b[1m", "x" * 2001])
def test_a_name_that_no_line_can_hold_is_refused(name):
    with pytest.raises(EnergyTableError, match=r"^scale 45nm: name: expected .*; got "):
        scale_table(T45, 28, HP28, name=name)
