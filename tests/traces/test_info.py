"""`h2sim trace info` of networks of maps: operands, maps and members against what the network was drawn with."""

from __future__ import annotations

import json

import numpy as np
import pytest

from h2sim.cautions import trace_cautions
from h2sim.trace import load_trace, write_trace
from h2sim.trace.derived import Derived
from h2sim.trace.laws import broken_laws
from h2sim.trace.reads import made_of
from h2sim.trace.summary import trace_counts
from tests.helpers.gated import gated
from tests.helpers.look import good, h2sim
from tests.helpers.operands import draw
from tests.helpers.traces import parts, tiny_trace


def info(path) -> dict:
    return json.loads(good("info", path, "--json", "-"))


@pytest.mark.parametrize("seed", range(20))
def test_the_json_says_of_every_map_what_it_was_drawn_with(tmp_path, seed):
    drawn = draw(seed)
    trace = drawn.trace(tmp_path)
    derived, layers = Derived(trace), {row["layer"]: row for row in info(trace.path)["layers"]}
    for entry in drawn.layers:
        row = layers[entry["name"]]
        assert (row["kind"], [read["map"] for read in row["reads"]]) == (entry["kind"], entry["inputs"])
        assert (row["gives"]["operand"] == "analog") == (entry["name"] in drawn.analog or entry["kind"] == "fc")
        assert row["members"] == [
            kind for kind in ("spikes", "window", "grad", "kept") if f"{entry['name']}.{kind}" in drawn.members
        ]
        for read in row["reads"]:
            operand = derived.operands[read["map"]]
            shown = (read["operand"], read["planes"] or 0, read["scales"] or [])
            runs = [[[s.numerator, s.denominator], n] for s, n in operand.runs] if operand.kind != "analog" else []
            assert shown == (operand.kind, operand.planes, runs)
            if operand.kind != "analog":
                assert read["most"] == operand.most
                assert read["planes"] == len(bin(operand.most)) - 2


def test_what_a_map_is_made_of_are_the_layers_whose_change_changes_it(tmp_path):
    for seed in range(12):
        drawn = draw(seed)
        made = made_of(drawn.trace(tmp_path).meta)
        reads = {entry["name"]: entry["inputs"] for entry in drawn.layers}

        def below(name, reads=reads, drawn=drawn):
            ends = name in drawn.masks or name.startswith("fc")
            return {name} if ends else set().union(*(below(each, reads, drawn) for each in reads[name]))

        for name in reads:
            assert set(made[name].sources) == below(name)


def test_the_tables_name_kind_largest_count_planes_scale_and_members(tmp_path):
    text = good("info", gated(tmp_path))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "conv1 conv input input counts 300 9 1" in rows
    assert "fc1 fc gate1 conv1 counts 4 3 5/16" in rows
    assert "pool1 average 2x2 conv1 - counts 4 3 1/4" in rows
    assert "gate1 gate x 5/4 pool1 kept counts 4 3 5/16" in rows
    counts = np.load(tmp_path / "gated.npz")["input.counts"]
    zeros = 100 * (counts == 0).mean()
    assert f"input: counts of 0 to 300, {counts.mean():.0f} in the mean, {zeros:.1f}% of them 0" in text
    assert "gate1 gate 1x2x2 4 - - - - 75.00%" in rows


def test_a_mask_that_all_timesteps_share_counts_at_each_of_them(tmp_path):
    rows = {row.layer.name: row for row in trace_counts(load_trace(gated(tmp_path)))}
    assert rows["gate1"].set_bits["kept"].tolist() == [[3, 3]] * 3
    assert rows["fc1"].set_bits["grad"].tolist() == [[2, 0]] * 3
    assert rows["gate1"].share("kept", 1).tolist() == [0.75] * 3


def test_an_inference_trace_without_windows_is_shown(tmp_path):
    text = good("info", gated(tmp_path, phases=("forward",)))
    row = next(line.split() for line in text.splitlines() if line.startswith("conv1"))
    assert row[-4:] == ["-", "-", "-", "-"]


def test_a_trace_of_version_1_has_no_table_of_operands_but_the_same_keys(tmp_path):
    path = tiny_trace(tmp_path)
    assert "Operands" not in good("info", path)
    old, new = info(path), info(gated(tmp_path))
    assert old.keys() == new.keys()
    assert {tuple(row) for row in old["layers"]} == {tuple(row) for row in new["layers"]}
    assert [row["reads"][0]["operand"] for row in old["layers"]] == ["spikes"] * 4


def test_json_over_the_trace_itself_is_refused(tmp_path):
    path = tiny_trace(tmp_path)
    before = path.read_bytes()
    result = h2sim("info", path, "--json", path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "it is read by the same command" in result.stderr
    assert path.read_bytes() == before


def test_batch_norm_that_the_layers_state_is_no_caution(tmp_path):
    def told(entry):
        meta, members = parts()
        meta["source"] = {"kind": "training", "batch_norm": True}
        meta["version"] = 2
        meta["layers"][0] |= entry
        write_trace(tmp_path / "t.npz", meta, members)
        return load_trace(tmp_path / "t.npz")

    assert any("has batch norm" in line for line in trace_cautions(told({})))
    stated = told({"norm": {"kind": "batch"}})
    assert not any("has batch norm" in line for line in trace_cautions(stated))
    (law,) = (line for line in broken_laws(stated) if line.startswith("gradients that no training has"))
    assert "conv2" in law
    assert "conv1" not in law


def test_an_input_of_nothing_but_zeros_is_a_caution(tmp_path):
    path = gated(tmp_path)
    assert not any("counts of 0" in line for line in trace_cautions(load_trace(path)))
    members = dict(np.load(path))
    meta = json.loads(bytes(members.pop("meta")))
    members["input.counts"] *= 0
    write_trace(path, meta, members)
    assert any("nothing but counts of 0" in line for line in trace_cautions(load_trace(path)))
