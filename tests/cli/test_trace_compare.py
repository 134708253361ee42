"""Traces side by side on one machine: what is printed and written is what simulate and numpy say."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from h2sim import load_arch, simulate
from h2sim.report.trace_compare import compared
from h2sim.report.trace_compare_tables import tables
from h2sim.trace import Sparsity, load_network, load_trace, synthesise, write_trace
from tests.helpers.look import RESIDUAL, bad, bits_of, good, h2sim, inference_trace, written
from tests.helpers.traces import NOTATION, SHAPE, parts, tiny_trace


@pytest.fixture
def trace(tmp_path) -> Path:
    return tiny_trace(tmp_path)


def numbers_of(path: Path) -> dict[str, float]:
    """What compare shows of a trace, from the result document."""
    data = simulate(load_arch("h2learn"), load_trace(path)).to_dict()
    cycles = {engine: data["engines"][engine]["compute_cycles"] for engine in data["engines"]}
    return {**cycles, "steady": data["step"]["steady_cycles"],
            "energy": data["step"]["energy_j"] * 1e6 / data["step"]["samples"]}  # fmt: skip


def independent(trace, seed, structure):
    """A stand-in for h2sim.trace.like: independent bits, with its arguments in the metadata."""
    network = load_network(NOTATION, SHAPE)
    share = 0.2 if structure is None else 0.9
    meta, members = synthesise(network, 3, 2, Sparsity(share, share, share), seed)
    meta["source"]["asked"] = [trace.path.name, seed, structure]
    return meta, members


@pytest.fixture
def other(tmp_path) -> Path:
    network = load_network(NOTATION, SHAPE)
    write_trace(tmp_path / "other.npz", *synthesise(network, 3, 2, Sparsity(0.2, 0.2, 0.2), 5))
    return tmp_path / "other.npz"


def test_compare_writes_every_number_of_simulate_and_its_ratio_to_the_first(tmp_path, trace, other):
    good("compare", trace, other, "--csv", tmp_path / "c.csv")
    rows = pd.read_csv(tmp_path / "c.csv")
    first, second = numbers_of(trace), numbers_of(other)
    for name, numbers in (("tiny", first), ("other", second)):
        mine = rows[rows.trace == name]
        assert set(mine.source) == {"synthetic"}
        whole = mine[mine.layer.isna()]
        for engine in ("forward", "weight_update", "backward"):
            (row,) = whole[whole.engine == engine].itertuples()
            assert (row.quantity, row.value) == ("compute_cycles", numbers[engine])
            assert row.ratio_to_first == pytest.approx(numbers[engine] / first[engine])
        value = whole.set_index("quantity").value
        assert value["steady_cycles"] == numbers["steady"]
        assert value["energy_per_sample_uj"] == pytest.approx(numbers["energy"])
    assert first["backward"] < second["backward"]


def test_compare_counts_masks_as_numpy_does(tmp_path, trace, other):
    good("compare", trace, other, "--csv", tmp_path / "c.csv")
    rows = pd.read_csv(tmp_path / "c.csv")
    for path in (trace, other):
        opened = load_trace(path)
        kinds = {"spike_rate": "spikes", "output_sparsity": "window", "input_sparsity": "grad"}
        value = rows[(rows.trace == path.stem) & rows.layer.isna()].set_index("quantity").value
        for name, kind in kinds.items():
            share = np.concatenate([bits_of(opened, la.name, kind).ravel() for la in opened.meta.layers]).mean()
            assert value[name] == pytest.approx(share if kind == "spikes" else 1 - share)
        assert (value["timesteps"], value["samples"], value["samples_without_gradient"]) == (3, 2, 0)


def test_compare_has_a_line_per_layer_and_phase_with_the_runs_cycles(tmp_path, trace, other):
    good("compare", trace, other, "--csv", tmp_path / "c.csv")
    rows = pd.read_csv(tmp_path / "c.csv")
    mine = rows[(rows.trace == "other") & rows.layer.notna() & rows.phase.notna()]
    run, base = (simulate(load_arch("h2learn"), load_trace(p)).activity.layers for p in (other, trace))
    assert len(mine) == len(run)
    for line, row, reference in zip(mine.itertuples(), run, base, strict=True):
        assert (line.layer, line.phase, line.engine) == (row.layer, row.phase, row.engine)
        assert line.value == row.compute_cycles
        expected = row.compute_cycles / reference.compute_cycles if reference.compute_cycles else math.nan
        assert line.ratio_to_first == pytest.approx(expected, nan_ok=True)


def test_compare_prints_the_same_numbers(trace, other):
    text = good("compare", trace, other)
    second, first = numbers_of(other), numbers_of(trace)
    (line,) = (line.split() for line in text.splitlines() if line.startswith("2  other") and "." in line.split()[3])
    assert line[2:4] == [f"{second['forward']:,}", f"{second['forward'] / first['forward']:.3f}"]
    assert line[6:8] == [f"{second['backward']:,}", f"{second['backward'] / first['backward']:.3f}"]
    assert line[10] == f"{second['energy']:,.2f}"
    assert text.count("SYNTHETIC") == 3  # both traces, and the sentence that stands first
    assert "conv2  backward" in text


def test_traces_of_other_networks_stand_in_the_first_tables_only(tmp_path, trace):
    small = tiny_trace(tmp_path, "small.npz", notation="6C3-10FC")
    text = good("compare", trace, small, trace)
    assert "note: not in the table of layers, other layer names than #1: 2" in text
    rates, header = (line.split() for line in text.splitlines() if line.startswith("layer"))
    assert rates == ["layer", "#1", "rate", "#1", "out", "#1", "in", "#3", "rate", "#3", "out", "#3", "in"]
    assert header == ["layer", "phase", "engine", "#1", "#3", "x"]
    good("compare", trace, small, "--csv", tmp_path / "c.csv")
    rows = pd.read_csv(tmp_path / "c.csv")
    layers = rows[(rows.trace == "small") & rows.layer.notna()]
    assert set(layers.layer) == {"conv1", "fc1"}
    assert layers.ratio_to_first.isna().all()


def test_many_traces_are_split_into_tables_that_fit(trace):
    opened = load_trace(trace)
    row = compared("t", opened, simulate(load_arch("h2learn"), opened))
    again = [compared("t", opened, row.result) for _ in range(7)]
    shown = tables([row, *again])
    layers, rates = ([t for t in shown if t.title.startswith(what)] for what in ("Compute cycles", "Spike rate"))
    assert [len(table.columns) for table in rates] == [13, 13]
    assert [[column.name for column in table.columns[3:]] for table in layers] == [
        ["#1", "#2", "x", "#3", "x", "#4", "x", "#5", "x", "#6", "x"], ["#1", "#7", "x", "#8", "x"],
    ]  # fmt: skip


def test_an_inference_trace_has_dashes_where_the_first_has_nothing(tmp_path, trace):
    text = good("compare", inference_trace(tmp_path), trace)
    lines = [line.split() for line in text.splitlines() if line.startswith(("1  inference", "2  tiny"))]
    assert lines[0][-2:] == ["-", "-"]
    backward = lines[3]
    assert backward[6] == f"{numbers_of(trace)['backward']:,}"
    assert backward[7] == "-"


def test_files_of_one_name_are_told_apart_by_what_was_typed(tmp_path, trace):
    (tmp_path / "b").mkdir()
    second = tiny_trace(tmp_path / "b")
    good("compare", trace, second, RESIDUAL, RESIDUAL, "--csv", tmp_path / "c.csv")
    names = pd.read_csv(tmp_path / "c.csv").trace.drop_duplicates().tolist()
    assert names == [str(trace), str(second), "encode-residual"]


def test_twins_follow_their_originals_with_the_seed_and_structure_asked_for(tmp_path, trace, monkeypatch):
    asked = []

    def like(*arguments):
        meta, members = independent(*arguments)
        asked.append(meta["source"]["asked"])
        return meta, members

    monkeypatch.setattr("h2sim.trace.like", like, raising=False)
    text = good("compare", trace, "--twins", "both", "--seed", "7", "--csv", tmp_path / "c.csv")
    assert asked == [["tiny.npz", 7, None], ["tiny.npz", 7, "measured"]]
    rows = pd.read_csv(tmp_path / "c.csv")
    names = ["tiny", "tiny, independent twin", "tiny, structured twin"]
    assert rows.trace.drop_duplicates().tolist() == names
    write_trace(tmp_path / "twin.npz", *independent(load_trace(trace), 7, None))
    expected, original = numbers_of(tmp_path / "twin.npz"), numbers_of(trace)
    row = rows[(rows.trace == names[1]) & rows.layer.isna() & (rows.engine == "backward")].iloc[0]
    assert row.value == expected["backward"]
    table = text.split("Synthetic twins")[1].splitlines()
    line = next(line.split() for line in table if line.startswith("2  tiny, independent twin"))
    ratios = [expected[name] / original[name] for name in ("forward", "weight_update", "backward", "steady", "energy")]
    assert line[5:] == [f"{ratio:.3f}" for ratio in ratios]


def test_the_ratio_of_a_twin_is_to_its_own_original(tmp_path, trace, other, monkeypatch):
    monkeypatch.setattr("h2sim.trace.like", independent, raising=False)
    text = good("compare", trace, other, "--twins", "independent")
    table = text.split("Synthetic twins")[1].splitlines()
    originals = [line.split()[4] for line in table if "independent twin" in line]
    assert originals == ["1", "3"]
    write_trace(tmp_path / "twin.npz", *independent(load_trace(other), 0, None))
    ratio = numbers_of(tmp_path / "twin.npz")["backward"] / numbers_of(other)["backward"]
    assert [line.split()[7] for line in table if line.startswith("4  other")] == [f"{ratio:.3f}"]


def test_markdown_starts_with_the_command_as_it_was_typed_and_holds_the_tables(tmp_path, trace, other):
    target = tmp_path / "my report.md"
    good("compare", trace, other, "--energy-table", "45nm", "--markdown", target)
    text = target.read_text()
    command = f"h2sim trace compare {trace} {other} --energy-table 45nm --markdown '{target}'"
    assert text.startswith(f"```sh\n{command}\n```\n")
    for path in (trace, other):
        assert load_trace(path).sha256[:12] in text
    tables = [block for block in text.split("\n## ")[1:]]
    assert [block.splitlines()[0].split(":")[0].split(";")[0] for block in tables] == [
        "Masks", "One steady sub-batch", "Spike rate, output sparsity, input sparsity", "Compute cycles",
    ]  # fmt: skip
    for block in tables:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
    assert f"{numbers_of(other)['backward']:,}" in tables[1]


def test_the_same_comparison_gives_the_same_bytes_and_keeps_standard_output_clean(trace, other):
    first = good("compare", trace, other, "--csv", "-")
    assert first == good("compare", trace, other, "--csv", "-")
    assert list(pd.read_csv(io.StringIO(first)).columns[:2]) == ["trace", "network"]
    assert good("compare", trace, "--markdown", "-").startswith("```sh\nh2sim trace compare ")


def test_names_with_markup_or_bars_do_not_break_the_tables(tmp_path):
    meta, members = parts()
    meta["network"] = "a|b [red]c[/red]"
    path = written(tmp_path, "t.npz", meta, members)
    assert "a|b [red]c[/red]" in good("compare", path)
    assert "a\\|b [red]c[/red]" in good("compare", path, "--markdown", "-")
    assert "a|b [red]c[/red]" in h2sim("diff", path, tiny_trace(tmp_path)).stdout


def test_compare_refuses_wrong_input_in_one_line(tmp_path, trace):
    assert "no such trace file" in bad("compare", trace, tmp_path / "none.npz")
    assert "nowhere" in bad("compare", trace, "--arch", "nowhere")
    assert "nowhere" in bad("compare", trace, "--energy-table", "nowhere")
    assert "no folder" in bad("compare", trace, "--csv", tmp_path / "no" / "c.csv")
    assert "no folder" in bad("compare", trace, "--markdown", tmp_path / "no" / "c.md")
    assert "Missing argument 'TRACES...'" in bad("compare")
    assert "'none' is not one of 'independent', 'structured', 'both'" in bad("compare", trace, "--twins", "none")


def test_a_folder_stands_for_the_mean_of_its_traces(tmp_path, trace, other):
    group = tmp_path / "group"
    group.mkdir()
    for path in (trace, other):
        (group / path.name).write_bytes(path.read_bytes())
    good("compare", trace, other, group, "--csv", tmp_path / "c.csv", "--markdown", tmp_path / "c.md")
    rows = pd.read_csv(tmp_path / "c.csv", keep_default_na=False)
    keys = ["layer", "phase", "engine", "quantity"]
    one, two, mean = (
        rows[rows.trace == name].set_index(keys).value for name in ("tiny", "other", f"{group}, mean of 2")
    )
    assert len(mean) == len(one) == len(two)
    for key in mean.index:
        pair = float(one[key]), float(two[key])
        wanted = sum(pair) if key[3].startswith("samples") else sum(pair) / 2
        assert float(mean[key]) == pytest.approx(wanted), key
    assert f"{group}, mean of 2 (sha256 " in (tmp_path / "c.md").read_text()


def test_a_folder_of_nothing_or_of_different_networks_is_refused(tmp_path, trace):
    (tmp_path / "none").mkdir()
    assert "none: expected a folder of traces (.npz); got none in it" in bad("compare", tmp_path / "none")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.npz").write_bytes(trace.read_bytes())
    (tmp_path / "mixed" / "b.npz").write_bytes(RESIDUAL.read_bytes())
    assert "expected traces of one network and T; got a and b" in bad("compare", tmp_path / "mixed")


def test_compare_gives_each_layers_rates_as_numpy_counts_them(tmp_path, trace, other):
    text = good("compare", trace, other, "--csv", tmp_path / "c.csv")
    rows, opened = pd.read_csv(tmp_path / "c.csv"), load_trace(other)
    kinds = {"spike_rate": "spikes", "output_sparsity": "window", "input_sparsity": "grad"}
    line = next(line.split() for line in text.splitlines() if line.startswith("conv2") and "%" in line)
    for place, (name, kind) in enumerate(kinds.items()):
        share = bits_of(opened, "conv2", kind).mean()
        wanted = share if kind == "spikes" else 1 - share
        (found,) = rows[(rows.trace == "other") & (rows.layer == "conv2") & (rows.quantity == name)].value
        assert found == pytest.approx(wanted)
        assert line[4 + place] == f"{wanted:.2%}"
