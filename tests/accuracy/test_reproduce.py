"""The committed report: every number in it is what the simulator gives now."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.cli.reproduce import _write_page
from h2sim.errors import ReproductionError
from h2sim.reproduce import report
from h2sim.reproduce.lab import Lab
from h2sim.reproduce.sensitivity import VERDICTS
from h2sim.reproduce.setting import Setting

COMMITTED = Path(__file__).parents[2] / "reports" / "h2learn"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The whole report, regenerated."""
    folder = tmp_path_factory.mktemp("report")
    found = report.reproduce()
    report.write(found, folder)
    _write_page(found, folder)
    return folder


def test_the_report_has_the_committed_files(fresh):
    assert {p.name for p in fresh.iterdir()} == {p.name for p in COMMITTED.iterdir()}


@pytest.mark.parametrize("name", sorted(p.name for p in COMMITTED.glob("*.csv")))
def test_no_number_drifts_from_the_committed_one(fresh, name):
    now, then = pd.read_csv(fresh / name), pd.read_csv(COMMITTED / name)
    pd.testing.assert_frame_equal(now, then, rtol=1e-9, atol=0, check_exact=False)


def test_the_page_is_the_committed_one(fresh):
    assert (fresh / "README.md").read_text() == (COMMITTED / "README.md").read_text()


def test_every_row_says_what_it_thinks_of_the_difference(fresh):
    rows = pd.read_csv(fresh / "rows.csv")
    assert rows["verdict"].str.startswith(VERDICTS).all()
    assert rows["ours"].notna().all()
    # an error within the tolerance and the verdict say the same
    equal = rows[rows["relation"] == "equal"]
    assert ((equal["error"].abs() <= 0.05) == equal["verdict"].str.startswith("fits")).all()


def test_figures_are_real_pictures(fresh):
    for path in fresh.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 5000


def test_one_claim_alone_writes_no_report():
    found = CliRunner().invoke(main, ["reproduce", "peak", "fe-adders"])
    assert found.exit_code == 0, found.output
    assert "27.85" in found.stdout
    assert "Tests: 0; none." in found.stdout
    assert "2 numbers that ours was built from" in found.stdout
    found = CliRunner().invoke(main, ["reproduce", "peak", "-o", "somewhere"])
    assert found.exit_code == 2
    assert not Path("somewhere").exists()


def test_the_list_names_every_claim_and_assumption():
    found = CliRunner().invoke(main, ["reproduce", "--list"])
    assert found.exit_code == 0
    for name in report.MEASURES:
        assert name in found.stdout


def test_an_unknown_claim_is_refused_in_one_line():
    with pytest.raises(ReproductionError, match=r"^reproduce: claim: expected one of clock, .*; got 'peek'$"):
        report.reproduce(["peek"])


def test_a_file_in_the_way_of_the_report_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("x")
    found = CliRunner().invoke(main, ["reproduce", "-o", str(tmp_path / "file" / "report")])
    assert found.exit_code == 2
    assert "cannot be written: a file is in the way, expected a folder" in found.stderr


def test_a_setting_that_names_no_field_of_the_machine_is_refused():
    expected = r"^setting: arch of h2learn: tile\.depth: unknown field; did you mean .tile\.width.\?$"
    with Lab() as lab, pytest.raises(ReproductionError, match=expected):
        lab.arch(Setting(arch={"tile.depth": 1}))


def test_the_lab_makes_each_simulation_once_and_prices_it_anew():
    made = []
    with Lab(made.append) as lab:
        first = lab.layer_cost(lab.arch(Setting()), Setting(), "forward")
        runs = len([m for m in made if m.startswith("layer")])
        dearer = lab.layer_cost(lab.arch(Setting()), Setting(prices={"fp16_add": "high"}), "forward")
        assert len([m for m in made if m.startswith("layer")]) == runs == 1
    assert dearer[0] is first[0]
    assert dearer[1].energy_j > first[1].energy_j


def test_leakage_and_area_of_logic_are_scaled_each_alone():
    with Lab() as lab:
        plain, leaky, wide = (lab.table(s) for s in (Setting(), Setting(leakage_scale=0.5), Setting(area_scale=2.0)))
    for before, less, larger in zip(plain.luts, leaky.luts, wide.luts, strict=True):
        assert less == before.model_copy(update={"leakage_uw": 0.5 * before.leakage_uw})
        areas = {"area_1_port_um2": 2 * before.area_1_port_um2, "area_4_ports_um2": 2 * before.area_4_ports_um2}
        assert larger == before.model_copy(update=areas)
    assert leaky.actions.fp16_add.leakage_uw == 0.5 * plain.actions.fp16_add.leakage_uw
    assert (leaky.sram, wide.sram) == (plain.sram, plain.sram)


def test_buffers_that_grow_cost_area_and_leakage_and_no_cycles_more():
    with Lab() as lab:
        plain, grown = Setting(), Setting(buffer_scale=2)
        (a, cost), (b, more) = (lab.layer_cost(lab.arch(s), s, "forward") for s in (plain, grown))
        assert b.steady_cycles <= a.steady_cycles
        assert more.area.total_um2 > cost.area.total_um2
        glb = [sum(x.leakage_w for x in c.area.blocks if x.component == "glb") for c in (cost, more)]
        assert glb[1] == pytest.approx(2 * glb[0])
