"""`trace` of a loader writes a trace of each batch; `run` gives their mean and interval."""

from __future__ import annotations

import numpy
import pytest
from torch.utils.data import DataLoader, TensorDataset

import h2sim
from h2sim import export
from h2sim.cli import main
from h2sim.errors import ExportError, OutputError
from tests.helpers.models import TARGETS, N, T, conv_pool_fc, mean_loss, spikes, torch


def samples(number):
    """A data set of so many samples: spikes (T, 2, 6, 6) and labels."""
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.rand(number, T, 2, 6, 6, generator=generator) < 0.3).float()
    return TensorDataset(inputs, torch.arange(number) % 3)


def in_time(model, inputs):
    """The model takes (T, N, ...), the loader gives (N, T, ...)."""
    return model(inputs.transpose(0, 1))


def test_a_trace_of_each_batch(tmp_path, capsys):
    loader = DataLoader(samples(9), batch_size=N)
    made = export.trace(conv_pool_fc(), loader, None, mean_loss, tmp_path / "run", forward=in_time, dataset="mine")
    assert [path.name for path in made.paths] == ["000.npz", "001.npz", "002.npz"]
    assert repr(made) == f"Exports(3 sub-batches in {tmp_path / 'run'}, 0 notes)"
    for number, path in enumerate(made.paths):
        ours = h2sim.load_trace(path)
        ours.check()
        batch = [samples(9)[place] for place in range(N * number, N * number + N)]
        inputs, labels = torch.stack([x for x, _ in batch]), torch.stack([label for _, label in batch])
        alone = export.trace(conv_pool_fc(), inputs, labels, mean_loss, forward=in_time, dataset="mine")
        assert ours.meta.source == alone.meta["source"]
        assert (ours.mask("net.0", "grad") == alone.members["net.0.grad"]).all()
    status = main(["run", "h2learn", *map(str, made.paths)], standalone_mode=False)
    assert not status
    assert "000.npz" in capsys.readouterr().out


def test_a_few_of_many_batches(tmp_path):
    pairs = ((spikes(2, 6, 6, seed=number), TARGETS) for number in range(10**9))
    made = export.trace(conv_pool_fc(), pairs, None, mean_loss, tmp_path, batches=2, values=False)
    assert len(made.paths) == 2


@pytest.mark.parametrize(
    ("loader", "options", "error", "why"),
    [
        ([], {}, ExportError, "^loader: batches: expected at least one; got none"),
        ([spikes(2, 6, 6)], {}, ExportError, r"^loader: batch 0: expected \(inputs, targets\); got Tensor"),
        ([(1, 2, 3)], {}, ExportError, r"^loader: batch 0: expected \(inputs, targets\); got 3 things"),
        ([], {"batches": 0}, ExportError, "^export: batches: expected a whole number of at least 1; got 0"),
        (
            [],
            {"targets": TARGETS},
            ExportError,
            r"^export: targets: expected None, because inputs \(list\) is a loader, which gives them; got Tensor",
        ),
        ([], {"path": None}, ExportError, "^export: path: expected a folder for the traces of a loader's batches"),
        (spikes(2, 6, 6), {"batches": 2}, ExportError, "^export: batches: expected a loader as inputs; got Tensor"),
    ],
)
def test_what_is_no_loader_is_one_line(loader, options, error, why, tmp_path):
    given = {"targets": None, "path": tmp_path / "out", **options}
    with pytest.raises(error, match=why):
        export.trace(conv_pool_fc(), loader, given.pop("targets"), mean_loss, given.pop("path"), **given)


def test_a_folder_that_holds_traces_is_not_mixed_with_others(tmp_path):
    pairs = [(spikes(2, 6, 6), TARGETS)]
    export.trace(conv_pool_fc(), pairs, None, mean_loss, tmp_path)
    with pytest.raises(OutputError, match=r"traces: expected a folder without any; got 000.npz in it"):
        export.trace(conv_pool_fc(), pairs, None, mean_loss, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        export.trace(conv_pool_fc(), pairs, None, mean_loss, tmp_path / "file" / "run")


def test_values_of_more_than_256_mib_are_told(monkeypatch, capsys):
    export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("h2sim.export.capture.MOST_QUIET_BYTES", 4096)
    export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss, values=False)
    assert capsys.readouterr().err == ""
    export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss)
    said = capsys.readouterr().err
    assert said.startswith("h2sim: note: export.trace: the trace keeps 0 MiB of values, which h2sim verify checks; ")
    assert "values=False keeps masks alone" in said


def test_progress_is_told_after_each_batch(tmp_path):
    told = []
    loader = DataLoader(samples(9), batch_size=N)
    made = [spikes(2, 6, 6), TARGETS]
    for inputs, batches, total in ((loader, None, 3), (loader, 2, 2), (iter([made] * 2), None, 0)):
        told.clear()
        forward = in_time if inputs is loader else None
        export.trace(conv_pool_fc(), inputs, None, mean_loss, tmp_path / f"{batches} {total}", forward=forward,
                     batches=batches, progress=lambda *what: told.append(what))  # fmt: skip
        assert told == [(f"{number:03d}.npz", number + 1, total) for number in range(total or 2)]


@pytest.mark.parametrize("inputs", ["a name", numpy.zeros((4, 3)), {"x": spikes(2, 6, 6)}])
def test_what_holds_no_batches_goes_to_the_model_as_it_is(inputs):
    class Says(torch.nn.Module):
        def forward(self, x):
            raise AssertionError(f"the model was given {type(x).__name__}")

    with pytest.raises(AssertionError, match=f"given {type(inputs).__name__}$"):
        export.trace(Says(), inputs, TARGETS, mean_loss)


def test_an_option_that_there_is_not_is_named_as_python_does():
    with pytest.raises(TypeError, match=r"^trace\(\) got an unexpected keyword argument 'treshold'"):
        export.trace(conv_pool_fc(), spikes(2, 6, 6), TARGETS, mean_loss, treshold=1)
