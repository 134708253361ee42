"""Variants of energy tables: what extends another says only what differs, and prices exactly so."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from h2sim.arch import load_arch
from h2sim.cli import main as h2sim_main
from h2sim.cli.support import Commands
from h2sim.cli.table import table as table_command
from h2sim.energy import area, load_energy_table, parse_energy_table, price, slow_buffers
from h2sim.energy.load import load_sram_part, part_names, parts_folder
from h2sim.errors import EnergyTableError
from h2sim.io import library
from h2sim.pipeline.step import simulate_step
from h2sim.trace import load_trace
from tests.cost.test_energy import formulas
from tests.helpers.traces import tiny_trace

ROOT = Path(__file__).parents[2]
MAIN = Commands("h2sim", commands={"table": table_command})
NAMES = library.names("energy table")
BASE = load_energy_table("28nm")
VARIANTS = [name for name in NAMES if name.startswith("28nm-")]  # one of 45 nm is tested by its hash


def table(*args: str | Path):
    return CliRunner().invoke(MAIN, ["table", *map(str, args)])


def good(*args: str | Path) -> str:
    result = table(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def bad(*args: str | Path) -> str:
    result = table(*args)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return result.stderr


def variant(folder: Path, name: str = "mine.yaml", **fields) -> Path:
    data = {"extends": "28nm", "name": "mine", **fields}
    (folder / name).write_text(yaml.safe_dump(data))
    return folder / name


# --- the shipped tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scaled", "sha256"),
    [
        ("28nm", "Logic is scaled from 45 nm; SRAM is CACTI at 28 nm",
         "88efef208b3287d39fe921f3268562fa8959de0aaa3173b56a380a0a612b0184"),
        ("45nm", "Native 45 nm", "aa3e8ff975fcdf6bbc62f69747151fe83e5d4fb55944a8bbf84fe642e4340df5"),
    ],
)  # fmt: skip
def test_at_360_k_the_first_tables_are_what_they_were(name, scaled, sha256):
    """The hashes are of the tables 28nm and 45nm of version 0.2.0, which had these names and descriptions."""
    described = (
        "Published FP16 adder and multiplier (Horowitz), synthesised small logic and register LUTs, CACTI SRAM, HBM2. "
        f"{scaled}. Nothing is fitted to H2Learn."
    )
    now = load_energy_table(f"{name}-hp360")
    assert now.model_copy(update={"name": name, "description": described}).sha256 == sha256


@pytest.mark.parametrize("name", ["28nm", "45nm"])
def test_the_default_has_one_temperature_and_one_class_of_transistors(name):
    table = load_energy_table(name)
    assert (table.sram.flavour, table.sram.temperature_k) == ("itrs-hp", 300)
    logic = [getattr(table.actions, action) for action in type(table.actions).model_fields] + list(table.luts)
    flow, same = "Nangate45, typical, 1.10 V, 25 C", "leakage: own synthesis as for register_access"  # 25 C is 298 K
    assert flow in table.actions.register_access.source
    assert all(flow in entry.source or same in entry.source for entry in logic)


@pytest.mark.parametrize(("nm", "share"), [(28, 2 / 7), (45, 0.436137)])
def test_from_360_to_300_k_leakage_falls_by_one_share_of_what_leaks_below_threshold(nm, share):
    """So the macros that CACTI was not run for at 300 K follow: leakage = below threshold x share + through gates."""
    hot, cool = (load_sram_part(f"sram-{nm}nm-itrs-hp-{k}k").macros for k in (360, 300))
    for before, after in zip(hot, cool, strict=True):
        assert before._replace(leakage_mw=0) == after._replace(leakage_mw=0)
        through_gates = (after.leakage_mw - share * before.leakage_mw) / (1 - share)
        assert 0.01 < through_gates / before.leakage_mw < 0.15


@pytest.mark.parametrize("place", ["name", "extends"])
def test_an_old_name_is_answered_with_the_new_one(tmp_path, place):
    said = "28nm-hp300: this energy table is called 28nm now"
    file = "28nm-hp300"
    if place == "extends":
        file = variant(tmp_path, extends="28nm-hp300")
        said = f"{file}: extends: expected 28nm, as that table is called now; got '28nm-hp300'"
    with pytest.raises(EnergyTableError, match=f"^{re.escape(said)}$"):
        load_energy_table(file)


def test_a_new_name_is_that_of_a_shipped_file():
    for kind, renamed in library.RENAMED.items():
        assert set(renamed.values()) <= set(library.names(kind))
        assert not set(renamed) & set(library.names(kind))


@pytest.mark.parametrize("name", ["28nm", "45nm"])
def test_the_first_tables_price_the_bundled_trace_end_to_end(name):
    result = CliRunner().invoke(h2sim_main, ["run", "h2learn", "mnist-digits", "--energy-table", name, "--json", "-"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["energy_table"]["name"] == name
    assert 1e6 * document["step"]["energy_j"] == pytest.approx({"28nm": 301.727, "45nm": 816.063}[name], abs=5e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_shipped_variant_differs_from_its_base_in_what_it_names_and_nowhere_else(name):
    loaded, raw = load_energy_table(name), yaml.safe_load(library.find("energy table", name).read_text())
    assert loaded.name == raw["name"] == name
    assert loaded.sha256 != BASE.sha256
    if "scale" in raw:
        return
    for action in type(BASE.actions).model_fields:
        same = getattr(loaded.actions, action) == getattr(BASE.actions, action)
        assert same == (action not in raw.get("actions", {}))
    changed = [lut.entries for lut, base in zip(loaded.luts, BASE.luts, strict=True) if lut != base]
    assert changed == [lut["entries"] for lut in raw.get("luts", [])]
    assert (loaded.sram == BASE.sram) == ("sram" not in raw)
    assert loaded.offchip == BASE.offchip


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "28nm-calibrated"])
def test_a_variant_costs_what_its_stated_formulas_give(name):
    loaded = load_energy_table(name)
    for action in type(BASE.actions).model_fields:
        entry = getattr(loaded.actions, action)
        told = formulas(entry.method)
        assert (entry.energy_pj, entry.area_um2, entry.leakage_uw) == pytest.approx(tuple(told.values()), rel=1e-5)
    for lut in loaded.luts:
        told = formulas(lut.method)
        shipped = (lut.read_pj, lut.write_pj, lut.area_1_port_um2, lut.area_4_ports_um2, lut.leakage_uw)
        assert shipped == pytest.approx(tuple(told.values()), rel=1e-5)


def test_presets_of_the_adder_are_the_published_and_the_synthesised_ones():
    torng, own, lut = (load_energy_table(f"28nm-{name}") for name in ("torng", "synthesised", "paper-lut"))
    assert torng.actions.fp16_add.energy_pj == pytest.approx(0.35, abs=0.005)
    assert torng.actions.fp16_multiply.energy_pj == pytest.approx(0.255, abs=0.0005)
    assert own.actions.fp16_add.energy_pj == pytest.approx(0.36, abs=0.0005)
    assert own.actions.fp16_multiply.energy_pj == pytest.approx(0.578, abs=0.0005)
    assert [round(entry.read_pj, 3) for entry in lut.luts] == [0.034, 0.069, 0.855]
    assert lut.kind == "derived"


def test_the_implied_lut_gives_back_the_sources_savings():
    """36 adds against 12 adds and 12 reads: 2.58; 32 against 8 and 8: 3.00 (section 3.3.2)."""
    implied, add = load_energy_table("28nm-paper-lut"), 0.208
    assert 36 * add / (12 * add + 12 * implied.lut_read_pj(8)) == pytest.approx(2.58, rel=1e-5)
    assert 32 * add / (8 * add + 8 * implied.lut_read_pj(16)) == pytest.approx(3.00, rel=1e-5)


# --- SRAM parts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "bytes_", "word_bits", "expected"),
    [
        ("sram-28nm-itrs-hp-360k", 8192, 64, (2.29709, 2.65744, 4.283875, 0.158931)),
        ("sram-28nm-itrs-hp-300k", 8192, 64, (2.29709, 2.65744, 1.352165, 0.158931)),
        ("sram-28nm-itrs-lop-360k", 4096, 256, (1.84865, 2.91272, 1.251617, 0.281196)),
        ("sram-28nm-itrs-lstp-360k", 8192, 256, (4.7174, 10.6028, 0.003546, 0.648689)),
        ("sram-28nm-itrs-lstp-hp-360k", 8192, 256, (6.41112, 8.65461, 0.894954, 0.297583)),
    ],
)
def test_macros_of_every_flavour_are_what_cacti_printed(part, bytes_, word_bits, expected):
    """CACTI 7.0 (HewlettPackard/cacti@1ffd8df): read and write pJ, leakage mW, cycle ns."""
    macro = next(m for m in load_sram_part(part).macros if (m.bytes, m.word_bits) == (bytes_, word_bits))
    assert (macro.read_pj, macro.write_pj, macro.leakage_mw, macro.cycle_ns) == expected


@pytest.mark.parametrize("name", part_names())
def test_a_part_says_its_node_flavour_and_temperature_in_its_name(name):
    part = load_sram_part(name)
    cells, *periphery = [re.sub(r"^itrs-(\w+).*", r"\1", text) for text in part.flavour.split(", ")]
    kinds = "-".join(dict.fromkeys([cells, *periphery]))
    assert name == f"sram-{part.node_nm:g}nm-itrs-{kinds}-{part.temperature_k:g}k"
    assert not re.search(r"\.csv|/work", (parts_folder() / f"{name}.yaml").read_text())


def test_flavours_leak_in_their_order_on_the_sources_machine():
    machine = load_arch("h2learn")
    leaks = [
        math.fsum(area(machine, load_energy_table(f"28nm{name}")).glb_leakage_w(e) for e in machine.engines.__dict__)
        for name in ("-lstp", "-mixed", "", "-lop", "-hp360")
    ]
    assert leaks == sorted(leaks)
    assert leaks[0] < 0.01 * leaks[-1]


@pytest.mark.parametrize("name", NAMES)
def test_no_flavour_is_too_slow_for_the_sources_clock(name):
    assert slow_buffers(load_arch("h2learn"), load_energy_table(name)) == ()


# --- the calibrated table --------------------------------------------------------------------------------------------


def test_the_calibrated_table_prices_everything_on_chip_by_its_two_factors(tmp_path):
    machine, fitted = load_arch("h2learn"), load_energy_table("28nm-calibrated")
    factors = yaml.safe_load(library.find("energy table", "28nm-calibrated").read_text())["scale"]
    energy, area_factor = factors["energy"], factors["area"]
    step = simulate_step(machine, load_trace(tiny_trace(tmp_path)))
    before, after = price(step, machine, BASE), price(step, machine, fitted)
    assert fitted.kind == "calibrated"
    assert after.energy_j == pytest.approx(energy * before.energy_j, rel=1e-12)
    assert after.leakage_w == pytest.approx(energy * before.leakage_w, rel=1e-12)
    for old, new in zip(before.charges, after.charges, strict=True):
        assert new.unit_pj == pytest.approx(energy * old.unit_pj, rel=1e-12)
    assert after.area.total_um2 == pytest.approx(area_factor * before.area.total_um2, rel=1e-12)
    assert after.offchip_pj == before.offchip_pj
    assert [m.cycle_ns for m in fitted.sram.macros] == [m.cycle_ns for m in BASE.sram.macros]


def test_the_factors_are_the_targets_over_our_own_committed_figures():
    scale = yaml.safe_load(library.find("energy table", "28nm-calibrated").read_text())["scale"]
    told = formulas(scale["method"])
    assert (scale["energy"], scale["area"]) == pytest.approx((told["energy"], told["area"]), rel=1e-5)
    rows = pd.read_csv(ROOT / "reports" / "h2learn" / "rows.csv").set_index("name")
    assert told["energy"] == pytest.approx(rows.theirs["power"] / rows.ours["power"], rel=1e-6)
    assert told["area"] == pytest.approx(rows.theirs["area"] / rows.ours["area"], rel=1e-6)


def test_calibration_is_never_the_default():
    from h2sim.facade import DEFAULT_TABLE

    assert load_energy_table(DEFAULT_TABLE).kind == "first-principles"
    assert [name for name in NAMES if load_energy_table(name).kind == "calibrated"] == ["28nm-calibrated"]


# --- extends ---------------------------------------------------------------------------------------------------------


def test_a_variant_of_a_variant_keeps_what_neither_names(tmp_path):
    mine = variant(tmp_path, extends="28nm-torng", sram={"part": "sram-28nm-itrs-lop-360k"})
    loaded, torng = load_energy_table(mine), load_energy_table("28nm-torng")
    assert loaded.actions == torng.actions
    assert loaded.sram == load_energy_table("28nm-lop").sram
    assert loaded.name == "mine"


def test_a_variant_may_extend_a_file_beside_it_and_add_a_lut(tmp_path):
    lut = {
        "entries": 32, "read_pj": 0.4, "write_pj": 0.07, "area_1_port_um2": 1650.0, "area_4_ports_um2": 2680.0,
        "leakage_uw": 55.0, "method": "assumed", "source": "nowhere",
    }  # fmt: skip
    variant(tmp_path, "base.yaml", luts=[lut])
    top = variant(tmp_path, "top.yaml", extends="base.yaml", luts=[{"entries": 32, "read_pj": 0.5, "method": "guess"}])
    assert load_energy_table(tmp_path / "base.yaml").lut_read_pj(32) == 0.4
    found = load_energy_table(top)
    assert [entry.entries for entry in found.luts] == [8, 16, 64, 32]
    assert (found.lut_read_pj(32), found.lut_write_pj(32), found.lut_read_pj(8)) == (0.5, 0.07, BASE.lut_read_pj(8))


def test_the_hash_is_of_the_resolved_table_not_of_its_spelling(tmp_path):
    resolved = good("show", "28nm-mixed", "--resolved")
    (tmp_path / "flat.yaml").write_text(resolved)
    assert "extends" not in resolved
    assert load_energy_table(tmp_path / "flat.yaml").sha256 == load_energy_table("28nm-mixed").sha256
    same = variant(tmp_path, name="x.yaml", **{"description": BASE.description})
    assert load_energy_table(same).sha256 != BASE.sha256  # only its name differs


def test_tables_that_extend_each_other_are_refused(tmp_path):
    a = variant(tmp_path, "a.yaml", extends="b.yaml")
    variant(tmp_path, "b.yaml", extends="a.yaml")
    circle = r"b\.yaml: extends: expected a table that does not extend this one; got a\.yaml -> b\.yaml -> a\.yaml$"
    with pytest.raises(EnergyTableError, match=circle):
        load_energy_table(a)
    itself = variant(tmp_path, "c.yaml", extends="c.yaml")
    with pytest.raises(EnergyTableError, match=r"c\.yaml: extends: .*; got c\.yaml -> c\.yaml$"):
        load_energy_table(itself)
    into = variant(tmp_path, "d.yaml", extends="a.yaml")  # leads to the circle and is no part of it
    with pytest.raises(EnergyTableError, match=r"b\.yaml: extends: .*; got a\.yaml -> b\.yaml -> a\.yaml$"):
        load_energy_table(into)


def test_a_variant_may_name_a_part_that_lies_beside_it(tmp_path):
    part = yaml.safe_load((parts_folder() / "sram-28nm-itrs-hp-360k.yaml").read_text())
    (tmp_path / "mine-sram.yaml").write_text(yaml.safe_dump({**part, "flavour": "mine"}))
    assert load_energy_table(variant(tmp_path, sram={"part": "mine-sram.yaml"})).sram.flavour == "mine"
    assert load_sram_part("mine-sram.yaml", folder=tmp_path).flavour == "mine"


def test_prose_alone_needs_no_new_method_but_a_bound_is_a_number(tmp_path):
    told = load_energy_table(variant(tmp_path, actions={"fp16_add": {"source": "another page"}}))
    assert told.actions.fp16_add == BASE.actions.fp16_add.model_copy(update={"source": "another page"})
    with pytest.raises(EnergyTableError, match=r"actions\.fp16_add\.method: expected how the overriding numbers came"):
        load_energy_table(variant(tmp_path, actions={"fp16_add": {"low_pj": 0.001}}))


def test_every_field_of_a_variant_reaches_the_table(tmp_path):
    found = load_energy_table(variant(tmp_path, voltage_v=0.7, description="cool", kind="derived"))
    assert (found.voltage_v, found.description, found.kind) == (0.7, "cool", "derived")
    assert found.sha256 != BASE.sha256


def test_luts_without_a_size_are_each_told(tmp_path):
    lut = {k: v for k, v in BASE.luts[0].model_dump(exclude_none=True).items() if k != "entries"}
    with pytest.raises(EnergyTableError, match="lacks an entry") as caught:
        load_energy_table(variant(tmp_path, luts=[lut, lut]))
    assert [line.split("luts.")[1] for line in str(caught.value).splitlines()] == [
        f"{index}: lacks an entry for 'entries'" for index in (3, 4)
    ]


@pytest.mark.parametrize("entries", [8, 32])
def test_a_lut_that_a_variant_names_twice_is_refused(tmp_path, entries):
    lut = {**BASE.luts[0].model_dump(exclude_none=True), "entries": entries}
    message = rf"mine\.yaml: luts\.1\.entries: expected each number of entries once; got {entries}$"
    with pytest.raises(EnergyTableError, match=message):
        load_energy_table(variant(tmp_path, luts=[lut, {**lut, "read_pj": 99.0}]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extends": "7nm"}, r"extends: expected one of 28nm, .*45nm-hp360, or a file; got '7nm'"),
        ({"extends": 28}, r"extends: expected the name or file of an energy table; got 28"),
        ({"extend": "28nm"}, r"extend: unknown field"),
        ({"actions": {"fp16_ad": {"energy_pj": 1.0}}}, r"actions\.fp16_ad: unknown field; did you mean 'fp16_add'\?"),
        ({"actions": {"fp16_add": {"enrgy_pj": 1.0, "method": "x"}}},
         r"actions\.fp16_add\.enrgy_pj: unknown field; did you mean 'energy_pj'\?"),
        ({"actions": {"fp16_add": {"energy_pj": 0.3}}},
         r"actions\.fp16_add\.method: expected how the overriding numbers came about; got nothing"),
        ({"luts": [{"entries": 8, "read_pj": 0.05}]},
         r"luts\.0\.method: expected how the overriding numbers came about; got nothing"),
        ({"luts": [{"entries": 32, "read_pj": 0.05}]}, r"luts\.3: lacks an entry for 'method'"),
        ({"offchip": {"energy_pj_per_bit": 50.0, "method": "x"}},
         r"offchip: expected low <= value <= high; got 3\.9, 50"),
        ({"sram": {"part": "sram-28nm-none"}},
         r"sram\.part: expected one of sram-28nm-.*, or a file; got 'sram-28nm-none'"),
        ({"sram": {"part": "sram-45nm-itrs-hp-360k"}},
         r"sram\.part: expected macros of 28 nm; got sram-45nm-itrs-hp-360k of 45 nm"),
        ({"sram": {"part": "sram-28nm-itrs-hp-300k", "temperature_k": 300.0}},
         r"sram: expected a part's name alone, or all fields of the macros; got \['part', 'temperature_k'\]"),
        ({"sram": {"temperature_k": 300.0}},
         r"sram\.method: expected how the overriding numbers came about; got nothing"),
        ({"scale": {"energy": 2.0, "area": 1.0, "method": "x", "source": "y"}},
         r"scale: expected a table of kind calibrated; got first-principles"),
        ({"kind": "calibrated", "scale": 2}, r"scale: expected a mapping of fields; got 2"),
        ({"kind": "calibrated", "scale": {"energy": -1.0, "area": 1.0, "method": "x", "source": "y"}},
         r"scale\.energy: expected greater than or equal to 0\.0*1; got -1\.0"),
        ({"kind": "calibrated", "scale": {"energy": 1e12, "area": 1.0, "method": "x", "source": "y"}},
         r"scale: expected factors that leave each price and area in its range; got scaled: .* less than or equal to"),
        ({"kind": "calibrated", "scale": {"energy": 1.0, "area": 1.0, "source": "y"}},
         r"scale: lacks an entry for 'method'"),
    ],
)  # fmt: skip
def test_a_wrong_variant_is_refused_in_one_line(tmp_path, fields, message):
    data = {"extends": "28nm", "name": "mine", **fields}
    if "extend" in data:
        del data["extends"]
    with pytest.raises(EnergyTableError, match=re.compile(rf"^{tmp_path}/my\.yaml: {message}", re.MULTILINE)):
        parse_energy_table(data, str(tmp_path / "my.yaml"))


def test_a_variant_without_a_name_of_its_own_is_refused():
    with pytest.raises(EnergyTableError, match=r"^my\.yaml: top level: lacks an entry for 'name'$"):
        parse_energy_table({"extends": "28nm"}, "my.yaml")


def test_a_fault_in_the_base_is_told_of_the_base(tmp_path):
    variant(tmp_path, "base.yaml", actions={"fp16_add": {"energy_pj": -1.0, "method": "x"}})
    top = variant(tmp_path, "top.yaml", extends="base.yaml")
    with pytest.raises(EnergyTableError, match=r"/base\.yaml: actions\.fp16_add\.energy_pj: expected .*; got -1\.0$"):
        load_energy_table(top)


# --- the command -----------------------------------------------------------------------------------------------------


def test_list_shows_every_shipped_table_with_its_kind_and_sram():
    lines = {line.split()[0]: line for line in good("list").splitlines()[4:-1]}
    assert list(lines) == NAMES
    assert "calibrated" in lines["28nm-calibrated"]
    assert "itrs-lstp cells, itrs-hp periphery" in lines["28nm-mixed"]
    assert (lines["28nm"].split()[-5], lines["28nm-hp360"].split()[-5]) == ("300", "360")
    assert good("list", "--parts").splitlines()[1:] == part_names()


def test_show_prints_the_file_as_it_stands():
    assert good("show", "28nm-torng") == library.find("energy table", "28nm-torng").read_text()
    assert "no such energy table file" in bad("show", "7nm")


def test_check_tells_every_fault_of_every_file(tmp_path):
    wrong = variant(tmp_path, actions={"fp16_add": {"energy_pj": 0.3}})
    assert good("check", "28nm-lop") == "28nm-lop: ok: 28nm-lop, first-principles, 28 nm, SRAM itrs-lop at 360 K\n"
    text = bad("check", wrong, "28nm", "7nm")
    assert "mine.yaml: actions.fp16_add.method" in text
    assert "7nm: no such energy table file" in text


def test_scale_writes_a_table_that_runs_and_prices_the_logic_as_28nm(tmp_path):
    out = tmp_path / "mine.yaml"
    good("scale", "45nm", "--to", 28, "--sram", "sram-28nm-itrs-hp-300k", "--name", "mine", "-o", out)
    scaled, machine = load_energy_table(out), load_arch("h2learn")
    step = simulate_step(machine, load_trace(tiny_trace(tmp_path)))
    assert scaled.name == "mine"
    assert price(step, machine, scaled).energy_j == pytest.approx(price(step, machine, BASE).energy_j, rel=1e-5)
    again = good("scale", "45nm", "--to", 28, "--sram", "sram-28nm-itrs-hp-300k", "--name", "mine")
    assert again == out.read_text()


def test_scale_refuses_in_one_line(tmp_path):
    hp = "sram-28nm-itrs-hp-360k"
    assert "got 45 to 14" in bad("scale", "45nm", "--to", 14, "--sram", hp)
    assert "sram: expected macros of 32 nm; got 28 nm" in bad("scale", "45nm", "--to", 32, "--sram", hp)
    gone = tmp_path / "no" / "x"
    assert "cannot be written: no folder" in bad("scale", "45nm", "--to", 28, "--sram", hp, "-o", gone)
    named = bad("scale", "45nm", "--to", 28, "--sram", hp, "--name", "a\nb", "-o", tmp_path / "x")
    assert named.startswith("h2sim: scale 45nm: name: expected one line of printable text")
    assert not (tmp_path / "x").exists()
