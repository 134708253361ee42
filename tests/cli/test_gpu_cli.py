"""`h2sim gpu` as a user meets it: files, lines, exit statuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from h2sim.cli.gpu import gpu
from h2sim.cli.support import Commands
from h2sim.gpu import load_gpu_trace
from h2sim.io import library
from h2sim.trace import load_network, load_trace
from tests.helpers.gpu_made import cuda_step, fields
from tests.helpers.houses import ROOT


@click.group(cls=Commands)
def h2sim() -> None:
    """As the whole command holds it."""


h2sim.add_command(gpu)
ENCODE_RESIDUAL = ROOT / "tests/data/encode-residual.npz"
NOTATION = ["--input-shape", "1,6,6"]


def call(*arguments, status=0):
    done = CliRunner().invoke(h2sim, ["gpu", *map(str, arguments)], prog_name="h2sim")
    assert done.exit_code == status, done.output
    return done


def test_list_names_every_shipped_trace():
    text = call("list").stdout
    assert all(name in text for name in library.names("GPU trace"))
    assert "2.941 ms" in text  # 147.07 s over 50,000 samples


def test_show_prints_the_published_epoch_with_its_sources():
    text = call("show", "v100-cifar10").stdout
    for said in ("published on NVIDIA V100", "147.070 s", "table 3.1", "[A] energy: 28.6 W", "815"):
        assert said in text


def test_record_on_the_processor_writes_a_trace_that_show_and_check_read(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "mine.csv"
    small = ["--device", "cpu", "--batch", 2, "--timesteps", 2, "--warm-up", 1, "--repeats", 2, "--area", 100]
    done = call("record", "4C3-AP2-10FC", *NOTATION, *small, "-o", out)
    assert done.stdout.startswith(f"{out}: measured, 4C3-AP2-10FC, ")
    assert "marked steps 2 of 2" in done.stderr
    trace = load_gpu_trace(out)
    assert (trace.device.area_mm2, trace.timesteps, trace.samples) == (100.0, 2, 2)
    assert trace.command == (
        f"h2sim gpu record 4C3-AP2-10FC -o {out} --batch 2 --timesteps 2 --warm-up 1 --repeats 2 "
        "--device cpu --input-shape 1,6,6 --area 100.0"
    )
    text = call("show", out).stdout
    assert "with marks" in text
    assert "conv1" in text
    checked = call("check", out, *NOTATION).stdout
    assert "well formed; 11 rows, 3 of 3 layers of 4C3-AP2-10FC" in checked


SMALL = [*NOTATION, "--device", "cpu", "--batch", 2, "--timesteps", 2, "--warm-up", 0, "--repeats", 1]


def test_several_implementations_go_into_a_file_each(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "mine.json"
    call("record", "4C3-AP2-10FC", *SMALL, "--implementation", "layerwise, chapter4,checkpoint", "-o", out)
    names = ["mine-chapter4.json", "mine-checkpoint.json", "mine-layerwise.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for path in tmp_path.iterdir():
        trace = load_gpu_trace(path)
        assert path.name == f"mine-{trace.implementation}.json"
        assert trace.values.equal
        assert "--implementation layerwise,chapter4,checkpoint" in trace.command
    shown = call("show", tmp_path / "mine-chapter4.json").stdout
    assert "values: " in shown
    assert " layerwise's" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--implementation", "vanilla,fast"], "expected some of vanilla, layerwise, compiled, "),
        (
            ["--implementation", "vanilla,graph"],
            "gpu record: --implementation graph: expected --device cuda; got cpu\n",
        ),
        (
            ["--implementation", "vanilla,layerwise", "-o", "-"],
            "expected one implementation, for standard output holds",
        ),
    ],
)
def test_implementations_that_cannot_be_recorded_are_refused_before_the_work(tmp_path, monkeypatch, options, said):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    done = call("record", "10FC", *SMALL, "-o", "x.json", *options, status=2)
    assert said in done.stderr
    assert "steps" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_network_of_a_trace_is_recorded_with_the_traces_samples(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "again.json"
    quick = ["--device", "cpu", "--warm-up", 0, "--repeats", 1]
    call("record", ENCODE_RESIDUAL, *quick, "-o", out)
    trace, meta = load_gpu_trace(out), load_trace(ENCODE_RESIDUAL).meta
    assert (trace.network, trace.samples, trace.timesteps) == (meta.network, meta.batch, meta.timesteps)
    call("record", ENCODE_RESIDUAL, *quick, "--batch", 3, "-o", out)
    assert load_gpu_trace(out).samples == 3


@pytest.mark.parametrize("option", [["--timesteps", 2], ["--input-shape", "1,2,3"], ["--implementation", "layerwise"]])
def test_what_a_trace_says_itself_is_no_option_of_its_recording(tmp_path, option):
    done = call("record", ENCODE_RESIDUAL, "--device", "cpu", *option, "-o", tmp_path / "x.json", status=2)
    assert f"Error: {option[0]}: expected a network; a trace says it itself, and runs layer by layer\n" in done.stderr


def test_record_without_a_gpu_is_one_line_and_status_2(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = call("record", "mnist-small", "-o", tmp_path / "x.json", status=2)
    assert done.stderr == (
        "h2sim: device: expected a CUDA GPU, and a torch built for it; got none "
        "(device cpu times this machine's processor instead)\n"
    )
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path):
    said = call("record", "mnist-small", "--device", "cpu", "-o", tmp_path / "no" / "x.json", status=2).stderr
    assert "cannot be written: no folder" in said
    assert "warm-up" not in said


def test_import_reads_a_profile_and_says_what_it_could_not_map(tmp_path):
    profile, out = cuda_step().write(tmp_path / "p.json"), tmp_path / "mine.json"
    network = tmp_path / "three.yaml"
    network.write_text("name: three\ntimesteps: 3\ninput: {shape: [1, 6, 6], kind: spikes}\nlayers: 4C3-4C3-10FC\n")
    done = call("import", profile, "--network", network, "--batch", 4, "-o", out, "--power", 300, "--device-name", "V")
    assert done.stdout == f"{out}: imported, three, 0.9000 ms a step of 4\n"
    assert "note: unmapped: 4.4% of the time; the largest: Memcpy HtoD 0.016 ms" in done.stderr
    trace = load_gpu_trace(out)
    assert (trace.timesteps, trace.device.name, trace.device.power_w) == (3, "V", 300.0)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{kernel: Memcpy, layer: data, phase: other}]\n")
    again = call("import", profile, "--network", network, "--batch", 4, "-o", out, "--map", rules, "--steps", 2)
    assert "unmapped" not in again.stderr
    assert "3 of 3 layers of three" in call("check", out, "--network", network).stdout


def test_check_says_which_layers_the_network_does_not_have(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(fields(network="mnist-small")))
    text = call("check", path).stdout
    assert "3 rows, 1 of 8 layers of mnist-small" in text
    assert "without a row: pool1, conv2" in text
    path.write_text(json.dumps(fields(rows=[{"layer": "conv7", "phase": "forward", "seconds": 1}])))
    done = call("check", path, "--network", "mnist-small", status=1)
    assert "rows.layer: expected a layer of the network (conv1, pool1, conv2" in done.stdout
    assert "got conv7" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nothing"], "no such GPU trace file"),
        (["check", "v100-cifar10", "--network", "nothing"], "no such network"),
        (["import", "none.json", "--network", "mnist", "--batch", 1, "-o", "x.json"], "none.json: no such file"),
        (["record", "mnist", "--batch", 0, "-o", "x.json"], "Invalid value for '--batch'"),
        (["record", "nothing", "-o", "x.json"], "nothing: no such network"),
    ],
)
def test_wrong_use_is_status_2_without_a_traceback(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments, status=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [None, *gpu.commands])
def test_every_command_has_an_example(name):
    path = [] if name is None else [name]
    text = call(*path, "--help").stdout
    assert "Examples:" in text
    assert f"h2sim gpu {name or 'list'}" in text


DEVICE = [
    (["--power", "1e300"], "device: power_w: expected less than or equal to 1000000000000000; got 1e+300"),
    (["--device-name", ""], "device: name: expected one line of printable text; got ''"),
    (["--device-name", "a\nb"], r"device: name: expected one line of printable text; got 'a\nb'"),
]


@pytest.mark.parametrize(("options", "said"), DEVICE)
def test_a_device_that_cannot_be_is_refused_before_the_work(tmp_path, options, said):
    pytest.importorskip("torch")
    small = ["--device", "cpu", "--batch", 1, "--timesteps", 1, "--warm-up", 0, "--repeats", 1]
    done = call("record", "10FC", "--input-shape", "1,2,2", *small, *options, "-o", tmp_path / "x.json", status=2)
    said = said.replace("without .*; got", "without spaces around it; got")
    assert done.stderr == f"h2sim: gpu record: {said}\n"
    profile = cuda_step().write(tmp_path / "p.json")
    named = ["--network", "mnist-small", "--batch", 4, "-o", tmp_path / "x.json"]
    done = call("import", profile, *named, *options, status=2)
    assert done.stderr == f"h2sim: {profile}: {said}\n"
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dataset", ""], "dataset: expected one line of printable text"),
        (["--implementation", "a\tb"], "implementation: expected one line of printable text"),
        (["--steps", 10**30], "Invalid value for '--steps'"),
        (["--batch", 10**30], "Invalid value for '--batch'"),
    ],
)
def test_words_and_numbers_that_no_trace_holds_are_refused_by_import(tmp_path, options, said):
    profile = cuda_step().write(tmp_path / "p.json")
    named = ["--network", "mnist-small", "--batch", 4, "-o", tmp_path / "x.json"]
    assert said in call("import", profile, *named, *options, status=2).stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed", 1 << 63], "Invalid value for '--seed'"),
        (["--threads", 100_000], "Invalid value for '--threads'"),
        (["--energy-seconds", "nan"], "Invalid value for '--energy-seconds': expected a finite number; got nan"),
        (["--energy-seconds", "inf"], "Invalid value for '--energy-seconds': expected a finite number; got inf"),
        (["--energy-seconds", "1e9"], "record: energy_seconds: expected above 0, at most 86400; got 1000000000.0"),
        (["--area", "nan"], "Invalid value for '--area': expected a finite number; got nan"),
        (["--power", "inf"], "Invalid value for '--power': expected a finite number; got inf"),
    ],
)
def test_numbers_that_torch_cannot_take_are_refused_by_record(tmp_path, options, said):
    pytest.importorskip("torch")
    done = call("record", "10FC", *NOTATION, "--device", "cpu", *options, "-o", tmp_path / "x.json", status=2)
    assert said in done.stderr
    assert "warm-up" not in done.stderr


def test_a_layers_name_that_no_trace_holds_is_refused_before_the_work(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    network = load_network("10FC", (1, 2, 2))
    layers = tuple({**layer, "name": "fc\n1"} for layer in network.layers)
    command = sys.modules["h2sim.cli.gpu_record"]
    monkeypatch.setattr(command, "find_network", lambda *_: replace(network, layers=layers))
    done = call("record", "mine", "--device", "cpu", "--warm-up", 1, "-o", tmp_path / "x.json", status=2)
    assert done.stderr.startswith("h2sim: gpu record: layer: expected one line of printable text")
    assert "warm-up" not in done.stderr


def test_dash_is_standard_output_and_nothing_but_the_trace_stands_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    profile = cuda_step().write(tmp_path / "p.json")
    arguments = ["import", profile, "--network", "mnist-small", "--batch", 4, "-o"]
    done = call(*arguments, "-")
    assert json.loads(done.stdout)["origin"] == "imported"
    assert "-: imported, mnist-small" in done.stderr
    assert not (tmp_path / "-").exists()
    call(*arguments, "x.json")
    assert (tmp_path / "x.json").read_text() == done.stdout.replace(" -o -", " -o x.json")


def test_a_profile_is_not_overwritten_by_what_is_read_from_it(tmp_path):
    profile = cuda_step().write(tmp_path / "p.json")
    before = profile.read_bytes()
    said = call("import", profile, "--network", "mnist-small", "--batch", 4, "-o", profile, status=2).stderr
    assert said == f"h2sim: {profile}: cannot be written: it is read by the same command\n"
    assert profile.read_bytes() == before


def test_foreign_names_are_kept_in_one_line(tmp_path):
    profile = tmp_path / "a\nb.json"
    data = json.loads(cuda_step().write(tmp_path / "p.json").read_text())
    data["deviceProperties"] = [{"name": "GPU\n\x1b[1m"}]
    for event in data["traceEvents"]:
        if event.get("name") == "h2sim:loss":
            event["name"] = "h2sim: loss\u2028 "
    profile.write_text(json.dumps(data))
    out = tmp_path / "x.json"
    call("import", profile, "--network", "mnist-small", "--batch", 4, "-o", out)
    trace = load_gpu_trace(out)
    assert trace.device.name == "GPU??[1m"
    assert trace.command.startswith(f"h2sim gpu import $'{tmp_path}/a\\nb.json' --network mnist-small")
    assert trace.sources["rows"].startswith("a?b.json, sha256 ")
    assert "loss?" in {row.layer for row in trace.rows}


def test_a_command_too_long_for_a_trace_is_left_out(tmp_path):
    profile = cuda_step().write(tmp_path / "p.json")
    given = ["--dataset", "d" * 1990]
    call("import", profile, "--network", "mnist-small", "--batch", 4, *given, "-o", tmp_path / "x.json")
    assert load_gpu_trace(tmp_path / "x.json").command is None
