"""`h2sim train` as a user meets it: files, lines, exit statuses."""

from __future__ import annotations

import builtins
import json
import signal
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend")

from click.testing import CliRunner  # noqa: E402

from h2sim.cli import main  # noqa: E402
from h2sim.trace import load_trace  # noqa: E402

SHORT = ["--epochs", "1", "--batch", "8", "--train-samples", "24", "--test-samples", "10", "--timesteps", "2"]
NOTATION = "4C3S2-AP2-10FC"


def invoke(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_training_real_digits_leaves_a_folder_that_the_other_commands_read(tmp_path):
    run = tmp_path / "run"
    done = invoke(NOTATION, "mnist-5k", *SHORT, "--trace-epochs", "0,last", "--trace-values", "-o", run)
    assert done.exit_code == 0, done.output
    assert "epoch 1 of 1, loss" in done.output
    assert {p.name for p in run.iterdir()} == {"run.json", "log.csv", "checkpoint.pt", "training.png", "traces"}
    trace = load_trace(run / "traces" / "epoch-001" / "batch-00.npz")
    assert trace.meta.dataset.startswith("mnist-5k")
    assert trace.meta.source["loss"] == "cross-entropy"
    assert CliRunner().invoke(main, ["verify", "h2learn", str(trace.path)]).exit_code == 0
    assert CliRunner().invoke(main, ["run", "h2learn", str(trace.path)]).exit_code == 0


def test_options_reach_the_settings_and_the_trace(tmp_path):
    objective = ["--loss", "mse", "--readout", "rate", "--reduction", "sum", "--loss-scale", "64", "--gradient-dtype"]
    neuron = ["--threshold", "0.25", "--decay", "0.5", "--window", "0,0.5", "--surrogate-scale", "2", "--detach-reset"]
    done = invoke(NOTATION, "mnist-5k", *SHORT, *objective, "float16", *neuron, "--size", "14,14", "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    meta = load_trace(tmp_path / "r" / "traces" / "epoch-001" / "batch-00.npz").meta
    assert (meta.neuron.threshold, meta.neuron.decay, meta.neuron.window) == (0.25, 0.5, (0.0, 0.5))
    assert (meta.neuron.surrogate_scale, meta.neuron.detach_reset) == (2.0, True)
    assert meta.source["loss_reduction"] == "sum over 8"
    assert (meta.source["loss_scale"], meta.source["gradient_dtype"]) == (64.0, "float16")
    assert meta.input_shape == (1, 14, 14)
    assert meta.layers[-1].spiking
    assert json.loads((tmp_path / "r" / "run.json").read_text())["objective"]["loss"] == "mse"


def test_both_backends_end_in_the_same_weights_and_only_fused_is_named(tmp_path):
    kept = {}
    for backend in ("plain", "fused"):
        done = invoke(NOTATION, "mnist-5k", *SHORT, "--backend", backend, "-o", tmp_path / backend)
        assert done.exit_code == 0, done.output
        kept[backend] = torch.load(tmp_path / backend / "checkpoint.pt")["trainer"]["network"]
        run = json.loads((tmp_path / backend / "run.json").read_text())
        assert run.get("backend") == (backend if backend == "fused" else None)
    assert all(torch.equal(kept["plain"][name], kept["fused"][name]) for name in kept["plain"])
    trace = load_trace(tmp_path / "fused" / "traces" / "epoch-001" / "batch-00.npz")
    assert trace.meta.source["backend"] == "fused"
    done = invoke(
        NOTATION, "mnist-5k", *SHORT, "--epochs", "2", "--backend", "plain", "--resume", "-o", tmp_path / "fused"
    )
    assert done.exit_code == 0, done.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    done = invoke(NOTATION, "mnist-5k", *SHORT, "--device", "cuda", "-o", tmp_path / "r")
    assert done.exit_code == 2
    assert "--device: expected a GPU that PyTorch can use, or cpu; got none found" in done.output
    assert not (tmp_path / "r").exists()


def test_a_network_of_colour_pictures_trains_on_digits_with_dropout(tmp_path):
    how = ["--size", "8,8", "--channels", "3", "--dropout-mask", "timestep"]
    done = invoke("4C3(Encoding)(BN)-MP2-D20-10FC", "mnist-5k", *SHORT, *how, "-o", tmp_path / "r")
    assert done.exit_code == 0, done.output
    trace = load_trace(tmp_path / "r" / "traces" / "epoch-001" / "batch-00.npz")
    trace.check()
    assert (trace.meta.version, trace.meta.input_shape) == (2, (3, 8, 8))
    assert trace.meta.dataset.endswith("grey in 3 channels, 8x8")
    assert trace.meta.source["dropout_mask"] == "timestep"
    assert trace.mask("drop1", "kept").shape[0] == 2
    red, green, blue = trace.input_analog()[0, 0]
    assert (red == green).all()
    assert (green == blue).all()


def test_a_finished_run_resumes_and_another_may_start_from_it(tmp_path):
    first = [NOTATION, "mnist-5k", *SHORT, "-o", tmp_path / "first"]
    assert invoke(*first).exit_code == 0
    assert invoke(*first, "--resume").exit_code == 0
    again = invoke(*first)
    assert again.exit_code == 2
    assert "holds a run already" in again.output
    second = [NOTATION, "mnist-5k", *SHORT, "--start-from", tmp_path / "first", "-o", tmp_path / "second"]
    assert invoke(*second).exit_code == 0
    source = load_trace(tmp_path / "second" / "traces" / "epoch-001" / "batch-00.npz").meta.source
    assert source["start_from"].endswith("first")


def test_a_finished_run_goes_on_to_more_epochs_and_says_where_its_rate_breaks(tmp_path):
    how = [NOTATION, "mnist-5k", *SHORT]
    for schedule in ("linear", "constant"):
        for name, epochs, resume in (("longer", 1, []), ("longer", 3, ["--resume"]), ("whole", 3, [])):
            folder = tmp_path / schedule / name
            folder.parent.mkdir(exist_ok=True)
            done = invoke(*how, "--epochs", epochs, "--schedule", schedule, *resume, "-o", folder)
            assert done.exit_code == 0, done.output
            said = "until iteration 3 the rate fell as for --epochs 1, from there as for --epochs 3: the run differs"
            assert (said in done.output) == (schedule == "linear" and resume != [])
        longer, whole = (tmp_path / schedule / name / "traces/epoch-003/batch-00.npz" for name in ("longer", "whole"))
        assert (longer.read_bytes() == whole.read_bytes()) == (schedule == "constant")
    fewer = invoke(*how, "--epochs", 2, "--schedule", "constant", "--resume", "-o", tmp_path / "constant/longer")
    assert (fewer.exit_code, len(fewer.stderr.splitlines())) == (2, 1)
    assert "longer: epochs: expected at least 3, as many as have begun; got 2" in fewer.stderr
    other = invoke(*how, "--epochs", 3, "--resume", "-o", tmp_path / "constant/longer")
    assert (other.exit_code, len(other.stderr.splitlines())) == (2, 1)
    assert "run.json: schedule: expected 'constant', as the run began; got 'linear'" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense!", "mnist-5k"], "nonsense!: no such network"),
        ([NOTATION, "mnist-6k"], "mnist-6k"),
        (
            [NOTATION, "mnist-5k", "--recipe", "stdp"],
            "training: recipe: expected one of bptt, ann, diet, hire, certified; got 'stdp'",
        ),
        (
            ["4C3(BN)-D20-10FC(Mean)", "mnist-5k", "--readout", "rate"],
            "fc1: mean_over_time: expected of the last layer, which passes its current on; got one that fires",
        ),
        (
            ["4C3-D20-10FC(Mean)", "mnist-5k", "--dropout-mask", "timestep"],
            "layer fc1: dropout mask: expected one a sample, for gate drop1 under a mean over time; got timestep",
        ),
        (["4C3-10FC", "saccade-mnist", "--channels", "3"], "channels: expected 2, its own: only grey images"),
        ([NOTATION, "mnist-5k", "--trace-epochs", "2"], "--trace-epochs: epoch: expected at most 1, the last; got 2"),
        ([NOTATION, "mnist-5k", "--trace-epochs", "first"], "expected epochs such as 0,2,last; got 'first'"),
        (
            [NOTATION, "mnist-5k", "--trace-samples", "9"],
            "samples: expected at most 8, the batch; got 9",
        ),
        ([NOTATION, "mnist-5k", "--window", "1"], "expected two numbers LOW,HIGH; got '1'"),
        ([NOTATION, "mnist-5k", "--size", "28"], "expected positive integers H,W; got '28'"),
        ([NOTATION, "mnist-5k", "--window", "1,0"], "window: expected low < high; got [1.0, 0.0]"),
        ([NOTATION, "mnist-5k", "--threshold", "1e39"], "neuron: expected finite numbers of float32; got [1e+39, 0.25"),
        ([NOTATION, "mnist-5k", "--start-from", "nowhere"], "nowhere: expected the folder of a training run"),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(tmp_path, arguments, message):
    done = invoke(*arguments, *SHORT, "-o", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "run").exists()


def test_values_too_large_for_float16_are_traced_in_float32_and_nothing_warns(tmp_path):
    run = tmp_path / "run"
    done = invoke("4C3-AP2-10FC", "mnist-5k", *SHORT, "--learning-rate", "1e7", "--trace-values", "-o", run)
    assert (done.exit_code, done.stderr) == (0, "")
    trace = load_trace(run / "traces" / "epoch-001" / "batch-00.npz")
    assert trace.values("conv1", "membrane").dtype == trace.values("conv1", "weight").dtype == "float32"
    assert CliRunner().invoke(main, ["verify", "h2learn", str(trace.path)]).exit_code == 0


def test_a_gradient_that_is_not_finite_in_a_traced_step_is_one_line_on_standard_error(tmp_path):
    large = ["--decay", "1e30", "--learning-rate", "1e30", "--trace-epochs", "0,last", "--trace-batches", "3"]
    done = invoke("4C3S2-4C3-AP2-10FC", "mnist-5k", *SHORT, *large, "--trace-values", "-o", tmp_path / "run")
    assert done.exit_code == 2
    assert done.stderr.startswith("h2sim: iteration 2: weights.conv1: gradient: expected finite values; got NaN or Inf")
    assert len(done.stderr.splitlines()) == 1


def test_without_torch_it_says_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_torch(name, *args, **kwargs):
        if name.startswith("h2sim.train.folder"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    done = invoke(NOTATION, "mnist-5k", *SHORT, "-o", tmp_path / "run")
    assert done.exit_code == 2
    assert (
        done.output
        == "h2sim: torch: expected the package, it comes with h2sim[train] (pip install 'h2sim[train]'); got none\n"
    )


def test_a_process_that_is_killed_leaves_whole_files_and_goes_on_to_the_same_bytes(tmp_path):
    arguments = [NOTATION, "mnist-5k", *SHORT, "--epochs", "80", "--trace-epochs", "1,last"]
    command = [sys.executable, "-c", "from h2sim.cli import main; main()", "train", *map(str, arguments)]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*command, "-o", str(killed)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 3"):  # the checkpoint of epoch 2 has waited for the trace by then
                process.kill()
    assert process.returncode == -signal.SIGKILL
    load_trace(killed / "traces" / "epoch-001" / "batch-00.npz").check()
    assert not (killed / "traces" / "epoch-080").exists()
    assert invoke(*arguments, "-o", killed, "--resume").exit_code == 0
    assert invoke(*arguments, "-o", whole).exit_code == 0
    for epoch in ("epoch-001", "epoch-080"):
        ours, theirs = (run / "traces" / epoch / "batch-00.npz" for run in (killed, whole))
        assert ours.read_bytes() == theirs.read_bytes()
