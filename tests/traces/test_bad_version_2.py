"""Wrong traces of version 2, and every command of `h2sim trace` on random right ones: one line each, no traceback."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from h2sim.cli import main
from h2sim.trace import load_trace, parse_meta
from tests.helpers.gated import gated
from tests.helpers.look import h2sim
from tests.helpers.operands import draw
from tests.helpers.traces import parts, raw_trace

COMMANDS = ("check", "info", "plot", "diff", "compare", "synth", "upgrade")


def opened(path):
    members = dict(np.load(path))
    return json.loads(bytes(members.pop("meta"))), members


def called(command, path, folder):
    """A command on a trace, with what else it needs."""
    more = {
        "plot": ("-o", folder / "plots"), "diff": (path,), "synth": ("-o", folder / "twin.npz"),
        "upgrade": (folder / "new.npz",),
    }.get(command, ())  # fmt: skip
    first = ("--like", path) if command == "synth" else (path,)
    return h2sim(command, *first, *more)


def one_line(result, said):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert said in lines[0]
    assert lines[0].startswith("h2sim: ")


def layer(meta, name):
    return next(each for each in meta["layers"] if each["name"] == name)


def grouped(meta, members):
    layer(meta, "conv1")["groups"] = 3


def divided(meta, members):
    layer(meta, "pool1").update(divisor=3, count_include_pad=False)


def divided_adaptively(meta, members):
    pool = layer(meta, "pool1")
    for key in ("kernel", "stride", "padding"):
        del pool[key]
    pool.update(divisor=3, adaptive=True)


def summed(meta, members):
    layer(meta, "pool1").update(divisor=3, mode="sum")


def kept_too_long(meta, members):
    members["gate1.kept"] = np.repeat(members["gate1.kept"], 2, axis=0)


def kept_missing(meta, members):
    del members["gate1.kept"]


def too_wide(meta, members):
    members["input.counts"] = members["input.counts"].astype(np.uint32)


def unknown(meta, members):
    layer(meta, "pool1")["smoothing"] = 3


def misplaced(meta, members):
    layer(meta, "fc1")["mode"] = "max"


def fired(meta, members):
    layer(meta, "gate1")["spiking"] = True


def scaled(meta, members):
    layer(meta, "gate1")["scale"] = [0, 4]


def both(meta, members):
    members["input.spikes"] = np.zeros((3, 2, 2), np.uint8)


WRONG = [
    (grouped, "layers.0: groups: expected a divisor of 1 and 1 channels; got 3"),
    (divided, "layers.pool1: divisor: expected none beside count_include_pad, which divides otherwise; got 3"),
    (divided_adaptively, "layers.pool1: divisor: expected none beside adaptive, which divides otherwise; got 3"),
    (summed, "layers.pool1: divisor: expected none beside mode, which divides otherwise; got 3"),
    (kept_too_long, "gate1.kept: expected uint8 (1, 2, 1); got uint8 (2, 2, 1)"),
    (kept_missing, "gate1.kept: expected uint8 (1, 2, 1); got no such member"),
    (too_wide, "input.counts: expected uint8 or uint16 (3, 2, 1, 4, 4); got uint32 (3, 2, 1, 4, 4)"),
    (unknown, "layers.pool1.smoothing: expected a field of version 2; got none of that name"),
    (misplaced, "layers.fc1.mode: expected a layer of kind pool; got 'fc'"),
    (fired, "layers.2: spiking: expected false for kind 'gate', which has no neuron; got true"),
    (scaled, "layers.2.scale: expected a number above 0, or two integers whose quotient is; got [0, 4]"),
    (both, "input: expected exactly one of input.spikes and input.counts; got both"),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("change", "said"), WRONG, ids=[change.__name__ for change, _ in WRONG])
def test_what_is_wrong_is_one_line_of_every_command(tmp_path, change, said, command):
    meta, members = opened(gated(tmp_path))
    change(meta, members)
    path = raw_trace(tmp_path / "bad.npz", meta, members)
    one_line(called(command, path, tmp_path), f"bad.npz: {'meta: ' if 'layers.' in said else ''}{said}")
    assert not (tmp_path / "new.npz").exists()
    assert not (tmp_path / "twin.npz").exists()


@pytest.mark.parametrize("command", ["check", "info", "plot", "diff", "synth"])
def test_a_count_above_the_most_is_one_line(tmp_path, command):
    meta, members = opened(gated(tmp_path))
    members["input.counts"][1, 1, 0, 2, 2] = 301
    path = raw_trace(tmp_path / "bad.npz", meta, members)
    one_line(called(command, path, tmp_path), "bad.npz: input.counts: expected integers from 0 to 300; got 301")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("key", "value"),
    [("mode", "max"), ("groups", 2), ("ceil_mode", True), ("norm", {"kind": "batch"}), ("mean_over_time", True)],
)
def test_a_key_of_version_2_in_a_file_of_version_1_is_one_line(tmp_path, key, value, command):
    meta, members = parts()
    meta["layers"][1][key] = value
    path = raw_trace(tmp_path / "old.npz", meta, members)
    said = f"old.npz: meta: layers.pool1.{key}: expected a file of version 2, which knows it; got 1"
    one_line(called(command, path, tmp_path), said)


def test_a_dump_of_metadata_of_version_1_reads_as_what_was_dumped():
    meta = parse_meta(parts()[0], "x")
    assert parse_meta(json.loads(meta.model_dump_json()), "x") == meta


def test_an_input_in_a_file_of_version_1_is_one_line(tmp_path):
    meta, members = parts()
    path = raw_trace(tmp_path / "old.npz", {**meta, "input": {"kind": "spikes"}}, members)
    one_line(h2sim("check", path), "old.npz: meta: input: expected a file of version 2, which knows it; got 1")


@pytest.mark.parametrize("seed", range(60))
def test_every_command_takes_every_network_of_maps(tmp_path, seed):
    drawn = draw(seed)
    path = drawn.trace(tmp_path).path
    for command in ("check", "info", "diff"):
        result = called(command, path, tmp_path)
        assert result.exit_code == 0, result.output
    if seed % 3 == 0:  # pictures take long
        masked = sorted({name.rpartition(".")[0] for name in drawn.members} - {"input"})
        picked = masked[seed % len(masked)]
        assert h2sim("plot", path, "-o", tmp_path / "plots", "--layer", picked, "--sample", "1").exit_code == 0
    for structure in ((), ("--structure", "measured"), ("--structure", "cluster=2,shared=0.2")):
        result = h2sim("synth", "--like", path, *structure, "-o", tmp_path / "twin.npz")
        assert result.exit_code == 0, result.output
        load_trace(tmp_path / "twin.npz").check()
    one_line(called("upgrade", path, tmp_path), "version: expected 1, to be written as 2; got 2")
    ran_or_told(h2sim("compare", path, "--twins", "both"))
    ran_or_told(CliRunner().invoke(main, ["estimate", str(path)]))


def ran_or_told(result):
    """It ran, or one line says why no machine runs it yet; never a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    if result.exit_code:
        one_line(result, "which the engines run")
