"""Is every picture readable: in every format, as wide as a page and as a column, with many and with long names?"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import h2sim
from h2sim.compare.ratios import compare, measurement_of
from h2sim.document import style
from h2sim.document.drawing import one_look
from h2sim.document.pictures import Plots, draw_picture
from h2sim.report import chips, compare_plots, plots, trace_plots, training
from h2sim.report.sweep_plots import draw_sweep
from h2sim.reproduce import figures
from h2sim.reproduce.claims import Span, load_assumptions, load_claims
from h2sim.reproduce.report import FIGURES
from h2sim.reproduce.sensitivity import Row
from h2sim.trace import Sparsity, load_network, synthesise, write_trace
from h2sim.trace.synth import Counts
from tests.helpers.pictures import faults, watched
from tests.helpers.sweeps import stored

ARCH = h2sim.load_arch("h2learn")
WAYS = {"page": Plots(("png", "pdf"), style.PAGE_MM), "column": Plots(("svg",), style.COLUMN_MM)}
LONG = "a_name_of_a_system_that_goes_on_and_on_to_forty"


@pytest.fixture(params=WAYS)
def drawn(request, monkeypatch):
    """Calls a drawing function with one way of writing, and holds every file to the rules."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(Figure, "savefig", watched(found))

    def check(draw):
        paths = draw(WAYS[request.param])
        assert paths
        assert Counter(found) == {}
        for path in paths:
            content = path.read_bytes()
            assert not re.search(rb"<dc:date>|matplotlib\.org|CreationDate|Matplotlib v", content), path
            if path.suffix == ".svg":
                width = re.search(rb'<svg [^>]*width="([\d.]+)pt"', content)
                assert float(width[1]) == pytest.approx(WAYS[request.param].width_mm / 25.4 * 72, abs=0.1)
        return {path.name: path.read_bytes() for path in paths}

    return check


def trace_of(name, folder, timesteps=4, long=False, **options):
    network = load_network(name)
    if long:
        network = replace(network, layers=tuple(_renamed(dict(entry)) for entry in network.layers))
    meta, members = synthesise(network, timesteps, 2, Sparsity(0.9, 0.8, 0.9), 0, **options)
    path = folder / "t.npz"
    write_trace(path, meta, members)
    return h2sim.load_trace(path)


def _renamed(entry):
    entry["name"] = f"{entry['name']}_{LONG}"
    if "inputs" in entry:
        entry["inputs"] = [name if name == "input" else f"{name}_{LONG}" for name in entry["inputs"]]
    return entry


@pytest.mark.parametrize(("name", "long"), [("mnist-small", False), ("mnist-small", True), ("vgg11", False)])
def test_a_results_and_a_traces_pictures_are_readable(name, long, tmp_path, drawn):
    trace = trace_of(name, tmp_path, 2, long)
    result = h2sim.simulate(ARCH, trace)
    drawn(lambda ways: plots.draw(result, str(tmp_path / "run"), ways))
    layers = [layer.name for layer in trace.meta.layers]
    asked = [layers[0], layers[2], layers[-1]]
    drawn(lambda ways: trace_plots.draw_trace(trace, str(tmp_path / "trace"), layers=asked, plots=ways))


def test_counts_of_an_input_are_readable(tmp_path, drawn):
    trace = trace_of("mnist-small", tmp_path, counts=Counts(7, 0.9))
    paths = drawn(lambda ways: trace_plots.draw_trace(trace, str(tmp_path / "trace"), plots=ways))
    assert any(path.startswith("input.") for path in paths)


@pytest.mark.parametrize("n_chips", [1, 3, 16, 300])
def test_chips_stand_at_powers_of_two(n_chips, tmp_path, drawn):
    result = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"), chips=n_chips)
    drawn(lambda ways: chips.draw_scaling(result, str(tmp_path), ways))
    with one_look():
        figure = chips._scaling(result.chips, style.COLUMN_MM)
        figure.draw_without_rendering()
    said = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert said[0] == "1"
    assert all(int(text) & (int(text) - 1) == 0 for text in said)


def rivals(ours, n, name, known=("seconds", "energy_j", "area_mm2")):
    for number in range(n):
        factor = 10 ** (4 * np.sin(number))
        rival = replace(ours, system=f"{name}{number}", kind="published", seconds=ours.seconds * factor,
                        energy_j=ours.energy_j / factor if "energy_j" in known else None,
                        area_mm2=ours.area_mm2 * factor if "area_mm2" in known else None)  # fmt: skip
        yield compare(ours, replace(rival, parts=tuple(replace(p, seconds=p.seconds * factor) for p in ours.parts)))


@pytest.fixture(scope="module")
def ours():
    result = h2sim.simulate(ARCH, h2sim.load_trace("mnist-digits"))
    return measurement_of(result.to_dict("h2sim"), "ours")


@pytest.mark.parametrize(("n", "name"), [(1, "r"), (20, LONG)])
def test_comparisons_are_readable_with_one_rival_and_with_twenty(ours, n, name, tmp_path, drawn):
    paths = drawn(lambda ways: compare_plots.draw(list(rivals(ours, n, name)), str(tmp_path), ways))
    assert {path.split(".")[0] for path in paths} == {"step", "layers"}


@pytest.mark.parametrize(("known", "n_panels"), [((), 1), (("energy_j",), 2), (("area_mm2",), 2)])
def test_what_no_rival_has_gets_no_panel(ours, known, n_panels, tmp_path, drawn):
    found = list(rivals(ours, 2, "r", known))
    drawn(lambda ways: compare_plots.draw(found, str(tmp_path), ways))
    assert len(compare_plots._step(found, style.PAGE_MM).axes) == n_panels


@pytest.mark.parametrize("epochs", [1, 4, 200])
def test_a_trainings_log_is_readable(epochs, tmp_path, drawn):
    rows = [{"epoch": i, "loss": 2 / i if i else None, "accuracy": 1 - 0.6 ** (i + 1)} for i in range(epochs)]
    drawn(lambda ways: training.draw_log(rows, tmp_path / "training", ways))


ROWS, COLUMNS, BANDWIDTH = "engines.backward.rows", "engines.backward.columns", "memory.bandwidth_bytes_per_s"


def swept(parameters):
    rows, columns = parameters.get(ROWS, 16), parameters.get(COLUMNS, 32)
    seconds = 1e-3 / rows + 1e6 / parameters.get(BANDWIDTH, 128e9)
    energy = 2e-4 / columns + seconds / 10
    return {"seconds": seconds, "energy_j": energy, "area_mm2": 20.0 + rows * columns / 100}


@pytest.mark.parametrize("parameters", [
    {ROWS: [8, 16, 32]},
    {ROWS: [8, 16, 32], COLUMNS: [32, 64], BANDWIDTH: [32e9, 128e9], "tile": {"values": [[8, 8], [4, 8], [16, 16]]}},
    {ROWS: list(range(1, 31)), COLUMNS: list(range(1, 21)), "power_gating": ["none", "engine", "buffer"]},
])  # fmt: skip
@pytest.mark.parametrize("n_objectives", [1, 3])
def test_sweeps_are_readable(parameters, n_objectives, tmp_path, drawn):
    objectives = dict.fromkeys(("seconds", "energy_j", "area_mm2")[:n_objectives], "minimize")
    spec = {"traces": ["mnist-digits"], "parameters": parameters, "objectives": objectives}
    plan, store = stored(spec, tmp_path / "sweep", swept, base=(1.2e-4, 2e-5, 30.0))
    with store:
        drawn(lambda ways: draw_sweep(plan, store, tmp_path, ways))


REPORT = Path(__file__).parents[2] / "reports" / "h2learn"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.stem)
def test_figures_of_the_reproduction_are_readable(figure, tmp_path, drawn):
    frame = pd.read_csv(REPORT / f"{figure.stem}.csv")
    theirs = {name: claim.theirs for name, claim in load_claims(load_assumptions()).items()}
    drawn(
        lambda ways: draw_picture(partial(figure.plot, frame, theirs), tmp_path / figure.stem, ways, title=figure.title)
    )


def test_the_claims_are_readable(tmp_path, drawn):
    claims, ours = load_claims(load_assumptions()), pd.read_csv(REPORT / "rows.csv").set_index("name")["ours"]
    spans: dict[str, list[Span]] = {}
    for (name, assumption, kind), found in pd.read_csv(REPORT / "spans.csv").groupby(["name", "assumption", "kind"]):
        values = tuple(zip(found["value"], found["ours"], strict=True))
        spans.setdefault(str(name), []).append(Span(str(assumption), kind, values))
    assert len(spans) > 10
    rows = [Row(name, claim, float(ours[name]), tuple(spans.get(name, ())), "fits") for name, claim in claims.items()]
    drawn(lambda ways: draw_picture(partial(figures.claims, rows), tmp_path / "claims", ways, title="Claims"))


def test_the_rules_find_what_is_wrong():
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots(1, 2)
    axes[0].plot([1, 2, 3], [1, 2, 3], label="line")
    axes[0].legend()
    axes[0].set_xticks([1.0, 1.05], ["one long label", "another one"], fontsize=4)
    axes[0].annotate("outside", (3, 3), (40, 0), textcoords="offset points", rotation=30)
    figure.suptitle("A title that is much longer than the figure is wide, so that its ends cannot be seen")
    said = " ".join(faults(figure, is_vector=True))
    for fault in ("a legend over data", "overlap: 'one long label'", "4.0 pt", "aslant: 'outside'", "cut: 'A title",
                  "no data: panel 1", "a title: "):  # fmt: skip
        assert fault in said, said


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(linear):
    """CIE L*a*b* of linear RGB, in which a distance of 2 is just seen."""
    x, y, z = np.cbrt(np.maximum(XYZ @ np.clip(linear, 0, 1) / [0.9505, 1, 1.089], 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


LOOKS = {name: table for name in ("ENGINES", "CYCLES", "COMPONENTS", "RATES", "SCALING", "LOG")
         for table in [getattr(style, name)]}  # fmt: skip
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
SEEN = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("colour", [style.BLUE, style.SKY, style.GREEN, style.GOLD, style.RED, style.PURPLE, style.GREY,
                                    style.INK, style.CLOUD])  # fmt: skip
def test_every_colour_stands_out_from_white(colour):
    contrast = 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05)
    assert contrast >= 3


@pytest.mark.parametrize("meaning", LOOKS)
def test_two_meanings_of_one_picture_stay_apart_for_whoever_does_not_see_all_colours(meaning):
    different = {look for look in LOOKS[meaning].values()}  # soma and grad are drawn as one
    for a, b in combinations(different, 2):
        assert (a.hatch, a.marker, a.dash) != (b.hatch, b.marker, b.dash)
        for seen in SEEN.values():
            apart = np.linalg.norm(lab(np.array(seen) @ linear(a.colour)) - lab(np.array(seen) @ linear(b.colour)))
            assert apart > 8, (a, b)


def test_the_pages_can_have_the_colours_without_matplotlib():
    code = "import sys, h2sim.document.style; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_same_input_gives_the_same_bytes_in_every_format_whatever_the_users_settings(tmp_path, drawn):
    rows = [{"epoch": i, "loss": 2 / (i + 1), "accuracy": 1 - 0.6 ** (i + 1)} for i in range(5)]
    first = drawn(lambda ways: training.draw_log(rows, tmp_path / "a", ways))
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "lines.linewidth": 5}):
        again = drawn(lambda ways: training.draw_log(rows, tmp_path / "a", ways))
    assert first == again
