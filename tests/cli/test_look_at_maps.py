"""Pictures, differences and comparisons of traces with gates, relus and counts, against numpy's own counts."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

import h2sim as package
from h2sim.report import trace_plots
from h2sim.report.count_plots import MOST_BARS, count_shares
from h2sim.report.trace_compare import compare_csv, compared, mean_of
from h2sim.report.trace_compare_tables import compare_document
from h2sim.report.trace_diff import diff_traces
from h2sim.report.trace_plots import draw_trace, rates_by_layer
from h2sim.trace import load_trace, write_trace
from h2sim.trace.summary import summarise, trace_counts
from tests.helpers.gated import gated
from tests.helpers.look import drawn_into, good, h2sim
from tests.helpers.operands import draw
from tests.helpers.traces import tiny_trace


@pytest.fixture
def figures(monkeypatch):
    """The figures that draw_trace makes, by file name, before they are files."""
    kept = {}
    monkeypatch.setattr(trace_plots, "draw_picture", partial(drawn_into, kept))
    return kept


def changed(path, name, **arrays):
    """The trace with some arrays replaced, under another name."""
    members = dict(np.load(path))
    meta = json.loads(bytes(members.pop("meta")))
    write_trace(path.with_name(name), meta, {**members, **arrays})
    return path.with_name(name)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_gates_have_bars_of_their_own_and_a_network_without_them_has_none(tmp_path, figures):
    draw_trace(load_trace(gated(tmp_path)), str(tmp_path))
    bars = figures["rates.png"].axes[0].containers
    assert [group.get_label() for group in bars] == ["spike rate", "output sparsity", "input sparsity", "kept"]
    assert [bar.get_width() for bar in bars[3]] == pytest.approx([np.nan, np.nan, 0.75, np.nan], nan_ok=True)
    assert len([axis for axis in figures["timesteps.png"].axes if axis.images]) == 4
    trace = load_trace(tiny_trace(tmp_path))
    assert "kept" not in rates_by_layer(trace, trace_counts(trace), (0, 1))


def test_a_mask_that_all_timesteps_share_is_drawn_at_each(tmp_path, figures):
    draw_trace(load_trace(gated(tmp_path)), str(tmp_path), layers=["gate1", "fc1"])
    gate = figures["layer-gate1.png"]
    shown = np.asarray(gate.axes[0].images[0].get_array())
    assert shown.tolist() == [[3.0, 1.5], [3.0, 1.5]]  # of 3 timesteps, the mean of 2 samples
    assert [axis.get_title(loc="left") for axis in gate.axes[:2]] == ["kept", "0 of 1 channels\nnever kept (red)"]
    assert np.asarray(figures["layer-fc1.png"].axes[1].images[0].get_array()).shape == (3, 3)


def test_a_relu_shows_where_its_input_is_above_zero(tmp_path, figures):
    drawn = draw(5)
    name = next(entry["name"] for entry in drawn.layers if entry["kind"] == "relu")
    draw_trace(drawn.trace(tmp_path), str(tmp_path), layers=[name])
    titles = [axis.get_title(loc="left") for axis in figures[f"layer-{name}.png"].axes]
    assert titles[0] == "x above 0"
    assert "never above 0" in titles[1]


def test_a_layer_that_only_makes_a_map_has_no_masks_to_draw(tmp_path):
    result = h2sim("plot", gated(tmp_path), "-o", tmp_path / "p", "--layer", "pool1")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--layer: expected a layer that has masks; got 'pool1', which has none" in result.stderr


def test_the_inputs_counts_are_drawn_as_shares_and_means(tmp_path, figures):
    path = gated(tmp_path)
    draw_trace(load_trace(path), str(tmp_path))
    counts = np.load(path)["input.counts"]
    shares, means = figures["input.png"].axes
    assert sum(bar.get_height() for bar in shares.patches) == pytest.approx(1)
    assert len(shares.patches) <= MOST_BARS
    assert means.lines[0].get_ydata() == pytest.approx(counts.mean(axis=(1, 2, 3, 4)))


@pytest.mark.parametrize("most", [2, 63, 64, 300, 65535])
def test_every_count_is_in_exactly_one_bar(most):
    counts = np.random.default_rng(0).integers(0, most + 1, 500)
    counts[:2] = 0, most
    edges, shares = count_shares(counts, most)
    assert shares.sum() == pytest.approx(1)
    assert len(shares) <= MOST_BARS
    if most < MOST_BARS:
        assert shares == pytest.approx(np.bincount(counts, minlength=most + 1) / 500)
    inside = (counts[:, None] > edges[:-1]) & (counts[:, None] < edges[1:])
    assert (inside.sum(axis=1) == 1).all()


def test_pictures_of_the_same_trace_are_the_same_bytes(tmp_path):
    path = gated(tmp_path)
    for folder in ("a", "b"):
        good("plot", path, "-o", tmp_path / folder)
    for name in ("rates.png", "input.png", "timesteps.png", "samples.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# --- differences -----------------------------------------------------------------------------------------------------


def test_kept_masks_and_counts_are_compared_bit_by_bit_and_number_by_number(tmp_path):
    path = gated(tmp_path)
    counts, kept = np.load(path)["input.counts"], np.load(path)["gate1.kept"]
    other = counts.copy()
    other[0, 0, 0, 0, 0] = 300 if counts[0, 0, 0, 0, 0] < 150 else 0
    flipped = kept.copy()
    flipped[0, 1, 0] ^= 0b1001_0000  # two bits of sample 1
    b = changed(path, "b.npz", **{"input.counts": other, "gate1.kept": flipped})
    found = diff_traces(load_trace(path), load_trace(b))
    masks = {row.member: row for row in found.masks}
    assert [name for name, row in masks.items() if row.differ] == ["gate1.kept"]
    assert (masks["gate1.kept"].bits, masks["gate1.kept"].differ) == (8, 2)
    assert masks["fc1.grad"].bits == 6
    (row,) = found.values
    gap = abs(int(other[0, 0, 0, 0, 0]) - int(counts[0, 0, 0, 0, 0]))
    assert (row.member, row.differ, row.max_absolute) == ("input.counts", 1, gap)


def test_a_mask_once_a_sample_and_one_at_every_timestep_differ_in_shape_alone(tmp_path):
    path = gated(tmp_path, mean=False)
    b = changed(path, "b.npz", **{"gate1.kept": np.repeat(np.load(path)["gate1.kept"], 3, axis=0)})
    row = next(row for row in diff_traces(load_trace(path), load_trace(b)).masks if row.member == "gate1.kept")
    assert (row.differ, row.rate_a, row.rate_b) == (None, 0.75, 0.75)
    assert "shapes differ" in h2sim("diff", path, b).stdout


# --- side by side ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """What some run made, whatever of: the masks beside it are what is looked at."""
    trace = load_trace(tiny_trace(tmp_path_factory.mktemp("run")))
    return package.simulate(package.load_arch("h2learn"), trace)


def test_kept_shares_and_mean_counts_stand_beside_the_other_rates(tmp_path, result):
    path = gated(tmp_path)
    rows = [compared("a", load_trace(path), result), compared("b", load_trace(tiny_trace(tmp_path)), result)]
    masks, *_ = compare_document(rows).tables
    assert [column.name for column in masks.columns][-2:] == ["kept", "mean count"]
    mean = np.load(path)["input.counts"].mean()
    assert [row[-2:] for row in masks.texts()] == [["75.00%", f"{mean:.0f}"], ["-", "-"]]
    lines = compare_csv(rows).splitlines()
    assert sum(",kept," in line for line in lines) == 2  # of the trace, and of its gate
    assert sum(",mean_count," in line for line in lines) == 1
    rates = next(table for table in compare_document(rows).tables if "kept share" in table.title)
    assert [row[-1] for row in rates.texts()] == ["-", "-", "75.00%", "-"]


def test_a_comparison_without_gates_and_counts_has_no_such_column(tmp_path, result):
    rows = [compared("b", load_trace(tiny_trace(tmp_path)), result)]
    document = compare_document(rows)
    assert not any(column.name in ("kept", "mean count") for table in document.tables for column in table.columns)
    assert "kept" not in compare_csv(rows)


def test_the_mean_of_several_traces_is_that_of_their_shares_and_counts(tmp_path, result):
    paths = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        paths.append(gated(tmp_path / str(seed), seed=seed))
    rows = [compared(path.parent.name, load_trace(path), result) for path in paths]
    both = mean_of("both", rows)
    means = [np.load(path)["input.counts"].mean() for path in paths]
    assert means[0] != means[1]
    assert both.mean_count == pytest.approx(np.mean(means))
    assert both.masks.kept == 0.75


def test_the_summary_weighs_gates_by_their_size(tmp_path):
    drawn = next(d for d in map(draw, range(60)) if sum(e["kind"] == "gate" for e in d.layers) > 1)
    rows = trace_counts(drawn.trace(tmp_path))
    bits = []
    for entry in (entry for entry in drawn.layers if entry["kind"] == "gate"):
        size = int(np.prod(entry["out_shape"]))
        unpacked = np.unpackbits(drawn.members[f"{entry['name']}.kept"], axis=-1, count=size)
        bits.append(np.broadcast_to(unpacked, (2, *unpacked.shape[1:])).ravel())
    assert summarise(rows).kept == pytest.approx(np.concatenate(bits).mean())
