"""Pictures of sweeps: which there are, that they are the same each time, and that many points stay readable files."""

from __future__ import annotations

import re

import numpy as np
import pytest

from h2sim.document.pictures import Plots
from h2sim.document.style import FORMATS
from h2sim.errors import SweepError
from h2sim.report.sweep_axes import ParameterAxis, ResultAxis
from h2sim.report.sweep_plots import draw_sweep
from h2sim.sweeps.findings import Findings
from tests.helpers.sweeps import stored

ROWS, COLUMNS, BANDWIDTH = "engines.backward.rows", "engines.backward.columns", "memory.bandwidth_bytes_per_s"
SPEC = {
    "traces": ["mnist-digits"],
    "parameters": {
        ROWS: [8, 16, 32],
        COLUMNS: [32, 64],
        BANDWIDTH: [32e9, 128e9],
        "tile": {"values": [[8, 8], [4, 8]]},
    },
}


def results(parameters):
    rows, columns = parameters[ROWS], parameters[COLUMNS]
    seconds = 1e-3 / rows + 1e6 / parameters[BANDWIDTH]
    return {"seconds": seconds, "energy_j": 2e-4 / columns + seconds / 10, "area_mm2": 20.0 + rows * columns / 100}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    plan, store = stored(SPEC, tmp_path_factory.mktemp("swept"), results, base=(1.2e-4, 2e-5, 30.0))
    with store:
        yield plan, store


def test_every_picture_is_there_in_every_format_of_the_width_and_the_same_again(tmp_path):
    spec = {**SPEC, "parameters": {ROWS: [8, 16, 32], COLUMNS: [32, 64]}}
    spec["objectives"] = {"seconds": "minimize", "area_mm2": "minimize"}
    plan, store = stored(spec, tmp_path / "sweep", lambda found: results({**found, BANDWIDTH: 128e9}))
    drawn = []
    for name in ("once", "again"):
        folder = tmp_path / name
        folder.mkdir()
        paths = draw_sweep(plan, store, folder, Plots(FORMATS, 88), slices=[("rows",), ("rows", "columns")])
        assert sorted(folder.iterdir()) == sorted(paths)
        drawn.append({path.name: path.read_bytes() for path in paths})
    assert drawn[0] == drawn[1]
    names = ["pareto", "parallel", "slices-seconds", "slices-area_mm2", "map-rows-columns", "importance"]
    store.__exit__()
    assert set(drawn[0]) == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")}
    for name, content in drawn[0].items():
        if name.endswith("svg"):
            width = re.search(rb'<svg [^>]*width="([\d.]+)pt"', content)
            assert float(width[1]) == pytest.approx(88 / 25.4 * 72, abs=0.1)
            assert not re.search(rb"<dc:date>|matplotlib\.org", content)
        assert b"CreationDate" not in content


def test_one_table_of_several_is_named_in_its_files(tmp_path):
    two = {"seconds": "minimize", "area_mm2": "minimize"}
    plan, store = stored({**SPEC, "energy_tables": ["28nm", "45nm"], "objectives": two}, tmp_path / "sweep", results)
    with store:
        paths = draw_sweep(plan, store, tmp_path, slices=[("rows",), ("tile", "columns")])
    names = {path.name for path in paths}
    assert {"pareto-28nm.png", "pareto-45nm.png", "map-tile-columns-28nm.png"} <= names
    assert not any("map-rows" in name for name in names)


@pytest.mark.parametrize(("slices", "wrong"), [
    ([("rws",)], r"^rws: unknown column; did you mean 'rows'\?$"),
    ([("seconds",)], r"^slice: expected one parameter or two different ones; got the result seconds$"),
    ([("rows", "rows")], r"^slice: expected one parameter or two different ones; got rows, rows$"),
    ([("rows", "columns", "tile")], r"^slice: expected one parameter or two different ones; got rows, columns, tile$"),
    ([()], r"^slice: expected one parameter or two different ones; got none$"),
])  # fmt: skip
def test_a_slice_along_no_parameter_is_refused_before_anything_is_drawn(swept, tmp_path, slices, wrong):
    with pytest.raises(SweepError, match=wrong):
        draw_sweep(*swept, tmp_path, slices=slices)
    assert not list(tmp_path.iterdir())


def test_a_sweep_without_valid_machines_has_no_pictures(tmp_path):
    plan, store = stored({**SPEC, "constraints": ["area_mm2 < 1"]}, tmp_path / "sweep", results)
    with store, pytest.raises(SweepError, match=r"expected a sweep with valid machines to draw; got none"):
        draw_sweep(plan, store, tmp_path)


@pytest.mark.parametrize("objectives", [
    {"seconds": "minimize"},
    {"samples_per_second": "maximize", "area_mm2": "minimize"},
    {"seconds": "minimize", "energy_j": "minimize", "area_mm2": "minimize", "backward_utilization": "maximize"},
])  # fmt: skip
def test_any_number_of_objectives_and_either_direction_can_be_drawn(tmp_path, objectives):
    def more(parameters):
        found = results(parameters)
        return {**found, "samples_per_second": 4 / found["seconds"], "backward_utilization": 1 / parameters[ROWS]}

    plan, store = stored({**SPEC, "objectives": objectives}, tmp_path / "sweep", more)
    with store:
        names = {path.name for path in draw_sweep(plan, store, tmp_path, slices=[("rows",)])}
    assert ("pareto.png" in names) == (len(objectives) > 1)


@pytest.mark.parametrize("parameters", [{ROWS: [8]}, {ROWS: [8, 16]}, {"power_gating": ["none", "engine"]}])
def test_few_machines_can_be_drawn_too(tmp_path, parameters):
    def flat(parameters):
        return {"seconds": 1e-4 * parameters.get(ROWS, 8), "energy_j": 1e-4, "area_mm2": 30.0}

    spec = {**SPEC, "parameters": parameters, "objectives": {"seconds": "minimize", "energy_j": "minimize"}}
    plan, store = stored(spec, tmp_path / "sweep", flat)
    with store:
        assert draw_sweep(plan, store, tmp_path)


def test_clouds_of_many_points_are_pixels_in_vector_formats(tmp_path):
    spec = {**SPEC, "parameters": {ROWS: list(range(1, 31)), COLUMNS: list(range(1, 21))}}

    def of_two(parameters):
        return results({**parameters, BANDWIDTH: 128e9})

    spec["objectives"] = {"seconds": "minimize"}
    plan, store = stored(spec, tmp_path / "sweep", of_two)
    with store:
        paths = draw_sweep(plan, store, tmp_path, Plots(("svg",), 88), slices=[("rows",)])
    (slices,) = [path for path in paths if path.name == "slices-seconds.svg"]
    assert b"data:image/png" in slices.read_bytes()
    assert slices.stat().st_size < 300_000


def test_results_have_the_prefix_that_fits():
    assert ResultAxis.of("seconds", np.array([5e-5, 2e-4])).label == "time of a sub-batch (\u00b5s)"
    assert ResultAxis.of("energy_j", np.array([2e-3, np.nan])).label == "energy of a sub-batch (mJ)"
    assert ResultAxis.of("area_mm2", np.array([36.0])).label == "area (mm\u00b2)"
    assert ResultAxis.of("samples_per_second", np.array([1e6])).scale == 1
    assert ResultAxis.of("seconds[a]", np.array([1e-3])).label == "time of a sub-batch (a) (ms)"
    assert [ResultAxis.of("seconds", np.array(v)).is_log for v in ([1.0, 30.0], [1.0, 3.0])] == [True, False]


def test_parameters_stand_in_order_with_their_unit(swept):
    findings = Findings.of(*swept)
    rows = findings.ok("28nm")
    bandwidth = ParameterAxis.of(findings, BANDWIDTH, rows)
    assert (bandwidth.label, bandwidth.text) == ("bandwidth (GB/s)", ("32", "128"))
    assert bandwidth.where(findings, findings.bases["28nm"]) == 1
    tile = ParameterAxis.of(findings, "tile", rows)
    assert tile.text == ("[8, 8]", "[4, 8]")  # as the spec lists them
    assert ParameterAxis.of(findings, COLUMNS, rows).where(findings, findings.bases["28nm"]) == 1
